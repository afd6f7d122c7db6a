// A draft model for tests: the weights and the tokenizer of another, and a config with which it says nearly
// the same. Its guesses are mostly right and now and then wrong.

import { mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The folder, which the caller removes. Positions turn faster than the model has learned. */
export function nearCopy(model: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'quire-near-'));
  for (const name of readdirSync(model)) {
    if (name !== 'config.json') symlinkSync(join(model, name), join(folder, name));
  }
  const config = JSON.parse(readFileSync(join(model, 'config.json'), 'utf8'));
  const rope = { rope_theta: 7000 };
  const changed =
    'rope_parameters' in config ? { rope_parameters: { ...config.rope_parameters, ...rope } } : rope;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...changed }));
  return folder;
}
