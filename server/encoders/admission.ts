// Which encoder a request is for, and what every request for one passes.

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { EncoderApi, EncoderDescription } from '../../engine/engine.ts';
import { type Caller, callerOf } from '../caller.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';

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

export interface Admitted {
  /** The model's name in answers. */
  model: string;
  encoder: EncoderApi;
}

/** Throws when the server cannot take the request now, or has no such model. */
export function admitToEncoder(context: Context, model: string | null | undefined, need: Need): Admitted {
  const admitted = findEncoder(context, model, need);
  if (context.isDraining()) throw new ApiError('draining', 'the server is shutting down');
  return admitted;
}

/** Throws when there is no such model. Without a name it is the first that fits. */
export function findEncoder(
  { options }: Context,
  model: string | null | undefined,
  { fits, prefers, what }: Need,
): Admitted {
  const { encoders } = options;
  if (model == null) {
    const fitting = [...encoders].filter(([, { description }]) => fits(description));
    const first = fitting.find(([, { description }]) => prefers?.(description) ?? true) ?? fitting[0];
    if (first !== undefined) return { model: first[0], encoder: first[1] };
    throw new ApiError(
      'model_not_found',
      `model: ${what} is needed and none is served, --embedding-model NAME=FOLDER adds one`,
      'model',
    );
  }
  const encoder = encoders.get(model);
  if (encoder === undefined) {
    const served = [...encoders.keys()].join(', ') || 'none (--embedding-model NAME=FOLDER adds one)';
    const found = JSON.stringify(model.slice(0, 200));
    throw new ApiError('model_not_found', `model: found ${found}, served here: ${served}`, 'model');
  }
  if (fits(encoder.description)) return { model, encoder };
  const { kind, size } = encoder.description;
  const labels = kind === 'classifier' ? ` with ${size} labels` : '';
  throw new ApiError(
    'unsupported_value',
    `model: ${model} is ${kind === 'embedder' ? 'an' : 'a'} ${kind}${labels}, needed: ${what}`,
    'model',
  );
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
