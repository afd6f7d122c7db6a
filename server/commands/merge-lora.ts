// `quire merge-lora BASE ADAPTER OUT`

import { resolveModel } from '../../engine/hub.ts';
import { mergeLora } from '../../engine/merge-lora.ts';
import { OptionError } from '../options.ts';
import { Progress } from './progress.ts';

export const mergeLoraHelp = `Usage: quire merge-lora BASE ADAPTER OUT

Writes the model BASE (a folder or a Hub id), with the LoRA adapter of the folder ADAPTER merged into its
weights, to the new folder OUT, in the form and the files of BASE.
`;

export async function runMergeLora(args: readonly string[]): Promise<number> {
  const [base, adapter, out] = args;
  if (args.length !== 3 || args.some((arg) => arg.startsWith('-'))) {
    throw new OptionError(`merge-lora: found ${args.length} arguments, allowed: BASE ADAPTER OUT`);
  }
  const folder = await resolveModel(base, process.env, (line) => process.stderr.write(line));
  const progress = new Progress('tensors');
  try {
    await mergeLora(folder, adapter, out, (done, total, name) => progress.show(done, total, name));
  } finally {
    progress.stop();
  }
  process.stdout.write(`${base} with ${adapter} is in ${out}: quire serve ${out}\n`);
  return 0;
}
