// How unevenly a model's input channels are filled: for each layer and each set of inputs, the largest channel's mean
// magnitude over the median's. What AWQ lives on (arXiv 2306.00978). Needs the build (npm run build:ts).
//
//   node scripts/channel-magnitudes.mjs MODEL TEXT

import { readFileSync } from 'node:fs';
import { encodeFile } from '../dist/engine/encode-file.js';
import { loadModel } from '../dist/engine/model-files.js';
import { Activations } from '../dist/engine/quantize/activations.js';

const [folder, text] = process.argv.slice(2);
const model = await loadModel(folder, { loadFormat: 'auto' });
const activations = new Activations(model, await encodeFile(folder, readFileSync(text, 'utf8'), 2048), 2);
for (let layer = 0; layer < model.config.numLayers; layer++) {
  activations.run(layer);
  const ratios = ['q_proj', 'o_proj', 'gate_proj', 'down_proj'].map((slot) => {
    const { cols, values } = activations.inputsOf(slot, 2048);
    const sums = new Float64Array(cols);
    values.forEach((value, i) => {
      sums[i % cols] += Math.abs(value);
    });
    sums.sort();
    return `${slot} ${(sums[cols - 1] / sums[cols >> 1]).toFixed(1)}`;
  });
  console.log(`layer ${layer}: ${ratios.join(', ')}`);
}
process.exit();
