// The models that are served, as Ollama describes models.

import { createHash } from 'node:crypto';
import type { Context } from '../context.ts';

const tag = ':latest';

/** The name as it is served, of one with or without ":latest". */
export function servedName({ engine, options }: Context, name: string): string {
  const isServed = (one: string) =>
    options.servedModelNames.includes(one) || engine.adapters.has(one) || options.encoders.has(one);
  const short = name.endsWith(tag) ? name.slice(0, -tag.length) : name;
  return !isServed(name) && isServed(short) ? short : name;
}

const tagged = (name: string) => (name.includes(':') ? name : `${name}${tag}`);

const familyOf = ({ engine }: Context) =>
  engine.description.architecture.replace(/For[A-Z].*$/, '').toLowerCase();

const timeOf = (seconds: number) => new Date(seconds * 1000).toISOString();

function details(context: Context): object {
  const family = familyOf(context);
  return {
    parent_model: '',
    format: 'safetensors',
    family,
    families: [family],
    parameter_size: '',
    quantization_level: '',
  };
}

/** A line of /api/tags. All names are names of one model, or of adapters on it. */
function describe(context: Context, name: string) {
  const { engine, startedAt } = context;
  const folder = engine.adapters.get(name)?.folder ?? engine.description.modelPath;
  return {
    name: tagged(name),
    model: tagged(name),
    modified_at: timeOf(startedAt),
    size: engine.description.weightBytes,
    digest: createHash('sha256').update(folder).digest('hex'),
    details: details(context),
  };
}

export function describeAll(context: Context) {
  const names = [...context.options.servedModelNames, ...context.engine.adapters.keys()];
  return names.map((name) => describe(context, name));
}

/** What is loaded stays, so it expires when no clock goes on. */
export function describeRunning(context: Context): object[] {
  const { kernels, weightBytes, maxModelLen } = context.engine.description;
  return describeAll(context).map(({ modified_at: _, ...model }) => ({
    ...model,
    expires_at: '9999-12-31T23:59:59Z',
    size_vram: kernels.startsWith('cuda') ? weightBytes : 0,
    context_length: maxModelLen,
  }));
}

export function describeInFull(context: Context): object {
  const { engine, answerFormat, startedAt } = context;
  const { chatTemplate, defaultSampling, maxModelLen, vocabSize } = engine.description;
  const family = familyOf(context);
  const { isHarmony, tools, reasoning } = answerFormat;
  return {
    license: '',
    modelfile: '',
    parameters: parameters(defaultSampling),
    template: chatTemplate ?? '',
    system: '',
    details: details(context),
    model_info: {
      'general.architecture': family,
      [`${family}.context_length`]: maxModelLen,
      [`${family}.vocab_size`]: vocabSize,
    },
    capabilities: [
      'completion',
      ...(isHarmony || tools !== null ? ['tools'] : []),
      ...(isHarmony || reasoning !== null ? ['thinking'] : []),
    ],
    modified_at: timeOf(startedAt),
  };
}

/** The model's own defaults, under the names of Ollama's options. */
function parameters(defaults: Context['engine']['description']['defaultSampling']): string {
  const named: Array<[string, unknown]> = [
    ['temperature', defaults.temperature],
    ['top_k', defaults.topK],
    ['top_p', defaults.topP],
    ['min_p', defaults.minP],
    ['repeat_penalty', defaults.repetitionPenalty],
  ];
  return named.flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${value}`])).join('\n');
}
