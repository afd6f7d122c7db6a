// `quire quantize MODEL OUT --method awq --calibration FILE`

import { existsSync, readFileSync } from 'node:fs';
import { defaultThreads } from '../../engine/cpu-cores.ts';
import { encodeFile } from '../../engine/encode-file.ts';
import { resolveModel } from '../../engine/hub.ts';
import { quantizeModel } from '../../engine/quantize/quantize-model.ts';
import { helpOf, type Option, OptionError, readOptions } from '../options.ts';
import { Progress } from './progress.ts';

const quantizeOptions: readonly Option[] = [
  { group: 'Method', name: 'method', kind: { type: 'choice', values: ['awq', 'rtn'] }, fallback: 'awq', help: 'awq scales and clips by what a calibration text activates; rtn only rounds' },
  { group: 'Method', name: 'bits', kind: { type: 'choice', values: ['4'] }, fallback: '4', help: 'bits of a weight' },
  { group: 'Method', name: 'group-size', kind: { type: 'choice', values: ['32', '64', '128'] }, fallback: '128', help: 'weights that share a scale and a zero' },
  { group: 'Method', name: 'calibration', kind: { type: 'text' }, fallback: null, help: 'UTF-8 file of text like what the model will meet; needed by awq' },
  { group: 'Method', name: 'calibration-tokens', kind: { type: 'integer', low: 16, high: 65_536 }, fallback: 2048, help: 'tokens of it at most, read in windows of 512' },
  { group: 'Engine', name: 'threads', kind: { type: 'integer', low: 1, high: 1024 }, fallback: null, help: 'threads that compute; default one per core that the process may use, or that its container is granted' },
]; // biome-ignore format: one option a line

export const quantizeHelp = () =>
  helpOf(
    'quire quantize MODEL OUT [flags]',
    'Writes MODEL, a folder or a Hub id, with 4-bit linear layers to the new folder OUT, in the layout of AutoAWQ.\n' +
      'Broken off, the same command goes on where it stopped.',
    quantizeOptions,
    false,
  );

export async function runQuantize(args: readonly string[]): Promise<number> {
  const [model, out, ...flags] = args;
  if (model === undefined || out === undefined || model.startsWith('-') || out.startsWith('-')) {
    throw new OptionError('quantize needs MODEL and OUT first');
  }
  const { model: extra, values } = readOptions(flags, {}, quantizeOptions);
  if (extra !== null) throw new OptionError(`quantize: found ${extra} after MODEL and OUT`);
  const method = values.method as 'awq' | 'rtn';
  const file = values.calibration as string | null;
  if (method === 'awq' && file === null) throw new OptionError('--method awq needs --calibration FILE');
  if (file !== null && !existsSync(file)) throw new OptionError(`--calibration: ${file} does not exist`);
  const folder = await resolveModel(model, process.env, (line) => process.stderr.write(line));
  const calibration =
    method === 'rtn' || file === null
      ? null
      : await encodeFile(folder, readFileSync(file, 'utf8'), values['calibration-tokens'] as number);
  const progress = new Progress('layers');
  const threads = (values.threads as number | null) ?? defaultThreads();
  const groupSize = Number(values['group-size']) as 128;
  try {
    const { notConverted } = await quantizeModel(
      folder,
      out,
      { method, groupSize, calibration, threads },
      (done, total) => progress.show(done, total),
    );
    progress.stop();
    if (notConverted.length > 0) {
      process.stdout.write(
        `not quantised, because they do not fit groups of ${groupSize}: ${notConverted.join(', ')}\n`,
      );
    }
    process.stdout.write(`${model} in 4 bits is in ${out}: quire serve ${out}\n`);
    return 0;
  } finally {
    progress.stop();
  }
}
