// Which encoder a request is for, the language model among them, and what every request for one passes.

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { EncoderApi, EncoderDescription } from '../../engine/engine.ts';
import { type Caller, callerOf } from '../caller.ts';
import { admit, type Context, findModel } from '../context.ts';
import { ApiError } from '../errors.ts';
import { DecoderEmbedder, describeDecoder } from './decoder-embedder.ts';
import type { EmbeddingRequest } from './schemas.ts';

/** What a route needs of an encoder. */
export interface Need {
  fits(description: EncoderDescription): boolean;
  /** Taken first where a request names no model. */
  prefers?(description: EncoderDescription): boolean;
  /** In words. */
  what: string;
}

export const anEmbedder: Need = { fits: ({ kind }) => kind === 'embedder', what: 'an embedder' };
export const aClassifier: Need = {
  fits: ({ kind }) => kind === 'classifier',
  prefers: ({ size }) => size > 1,
  what: 'a classifier',
};
export const aScorer: Need = {
  fits: ({ kind, size }) => kind === 'embedder' || size === 1,
  prefers: ({ kind }) => kind === 'classifier',
  what: 'a cross-encoder with one label, or an embedder',
};

export interface Found {
  /** The model's name in answers. */
  model: string;
  description: EncoderDescription;
  /** Null for the language model, with or without an adapter. */
  encoder: EncoderApi | null;
  adapter: string | null;
}

export interface Admitted {
  /** The model's name in answers. */
  model: string;
  encoder: EncoderApi;
}

type Asking = Pick<EmbeddingRequest, 'model' | 'priority'>;

/** Throws when the server cannot take the request now, or has no such model. */
export function admitToEncoder(context: Context, caller: Caller, body: Asking, need: Need): Admitted {
  const { model, encoder, adapter } = findEncoder(context, body.model, need);
  if (encoder === null) {
    admit(context, model, caller);
    return { model, encoder: new DecoderEmbedder(context.engine, adapter, caller, body.priority) };
  }
  if (context.isDraining()) throw new ApiError('draining', 'the server is shutting down');
  return { model, encoder };
}

/** Throws when there is no such model. Without a name it is the first that fits, the language model last. */
export function findEncoder(context: Context, model: string | null | undefined, need: Need): Found {
  const { fits, what } = need;
  if (model == null) {
    const first = firstThatFits(context, need);
    if (first !== undefined) return first;
    throw new ApiError(
      'model_not_found',
      `model: ${what} is needed and none is served, --embedding-model NAME=FOLDER adds one`,
      'model',
    );
  }
  const found = named(context, model);
  if (fits(found.description)) return found;
  const { kind, size } = found.description;
  const labels = kind === 'classifier' ? ` with ${size} labels` : '';
  throw new ApiError(
    'unsupported_value',
    `model: ${model} is ${kind === 'embedder' ? 'an' : 'a'} ${kind}${labels}, needed: ${what}`,
    'model',
  );
}

function firstThatFits(context: Context, { fits, prefers }: Need): Found | undefined {
  const served = [...context.options.encoders.keys(), context.options.servedModelNames[0]];
  const fitting = served.map((name) => named(context, name)).filter(({ description }) => fits(description));
  return fitting.find(({ description }) => prefers?.(description) ?? true) ?? fitting[0];
}

function named(context: Context, name: string): Found {
  const { engine, options } = context;
  const encoder = options.encoders.get(name);
  if (encoder !== undefined) return { model: name, description: encoder.description, encoder, adapter: null };
  if (!options.servedModelNames.includes(name) && !engine.adapters.has(name)) {
    const served = [...options.encoders.keys(), ...options.servedModelNames, ...engine.adapters.keys()];
    const found = JSON.stringify(name.slice(0, 200));
    throw new ApiError(
      'model_not_found',
      `model: found ${found}, served here: ${served.join(', ')}`,
      'model',
    );
  }
  const { model, adapter } = findModel(context, name);
  return { model, description: describeDecoder(engine, adapter), encoder: null, adapter };
}

/** What a route does for a caller; nothing is answered when the caller has gone. */
export async function answered(
  request: FastifyRequest,
  reply: FastifyReply,
  work: (caller: Caller) => Promise<object | string>,
): Promise<unknown> {
  const caller = callerOf(request, reply);
  try {
    return await work(caller);
  } catch (error) {
    if (caller.signal.aborted) return reply.hijack();
    throw error;
  }
}
