// `quire eval perplexity MODEL --text FILE`

import { existsSync, readFileSync } from 'node:fs';
import { Engine } from '../../engine/engine.ts';
import { resolveModel } from '../../engine/hub.ts';
import { measurePerplexity } from '../../engine/perplexity.ts';
import { helpOf, type Option, OptionError, readOptions } from '../options.ts';
import { Progress } from './progress.ts';

const wholeNumber = { type: 'integer', low: 1, high: 1 << 20 } as const;

const perplexityOptions: readonly Option[] = [
  { group: 'Text', name: 'text', kind: { type: 'text' }, fallback: null, help: 'UTF-8 file to predict; needed' },
  { group: 'Text', name: 'window', kind: wholeNumber, fallback: 512, help: 'tokens of context, cut to what the model has' },
  { group: 'Text', name: 'stride', kind: wholeNumber, fallback: null, help: 'tokens by which windows advance; default half a window' },
  { group: 'Engine', name: 'quantization', kind: { type: 'choice', values: ['none', 'auto', 'int8'] }, fallback: 'none', help: 'as `quire serve` has it; none judges the weights of the file' },
  { group: 'Engine', name: 'cpu-activations', kind: { type: 'choice', values: ['f32', 'int8'] }, fallback: 'f32', help: 'as `quire serve` has it; f32 judges the weights alone' },
  { group: 'Engine', name: 'threads', kind: { type: 'integer', low: 1, high: 1024 }, fallback: null, help: 'threads that compute; default one per core that the process may use, or that its container is granted' },
]; // biome-ignore format: one option a line

export const perplexityHelp = () =>
  helpOf(
    'quire eval perplexity MODEL --text FILE [flags]',
    'Says how well MODEL, a folder or a Hub id, predicts a text: perplexity per token, and bits per byte.',
    perplexityOptions,
    false,
  );

export async function runPerplexity(args: readonly string[]): Promise<number> {
  const { model, values } = readOptions(args, {}, perplexityOptions);
  const file = values.text as string | null;
  if (model === null || file === null) throw new OptionError('eval perplexity needs MODEL and --text FILE');
  if (!existsSync(file)) throw new OptionError(`--text: ${file} does not exist`);
  const folder = await resolveModel(model, process.env, (line) => process.stderr.write(line));
  const engine = await Engine.open({
    model: folder,
    // Keys and values in full, so that the weights alone are judged.
    kvCacheDtype: 'float32',
    maxNumSeqs: 1,
    quantization: values.quantization as 'none',
    cpuActivations: values['cpu-activations'] as 'f32',
    threads: values.threads as number | null,
  });
  const progress = new Progress('windows');
  try {
    const window = Math.min(values.window as number, engine.description.maxModelLen - 1);
    const stride = Math.min((values.stride as number | null) ?? Math.ceil(window / 2), window);
    const text = readFileSync(file, 'utf8');
    const result = await measurePerplexity(engine, text, { window, stride }, (done, total) =>
      progress.show(done, total),
    );
    progress.stop();
    process.stdout.write(
      `${model}: perplexity ${result.perplexity.toFixed(4)}, ${result.bitsPerByte.toFixed(4)} bits per byte ` +
        `(${result.numTokens} tokens, ${result.numBytes} bytes, window ${window}, stride ${stride})\n`,
    );
    return 0;
  } finally {
    progress.stop();
    await engine.close();
  }
}
