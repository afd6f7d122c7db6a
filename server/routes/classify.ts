// POST /v1/classify (vLLM's shape) and /v1/moderations (OpenAI's), by a classifier.

import type { FastifyInstance } from 'fastify';
import type { EncoderApi } from '../../engine/engine.ts';
import type { Caller } from '../caller.ts';
import type { Context } from '../context.ts';
import { aClassifier, admitToEncoder, answered } from '../encoders/admission.ts';
import { encodeInputs, encoderUsage, numTokensOf, runEncoder, sourcesOf } from '../encoders/inputs.ts';
import {
  type ClassifyRequest,
  classifyRequest,
  type ModerationRequest,
  moderationRequest,
} from '../encoders/schemas.ts';
import { activated } from '../encoders/scores.ts';

export function classifyRoutes(app: FastifyInstance, context: Context): void {
  for (const path of ['/v1/classify', '/classify']) {
    app.post(path, { schema: { body: classifyRequest } }, (request, reply) =>
      answered(request, reply, (caller) => classify(context, caller, request.body as ClassifyRequest)),
    );
  }
  app.post('/v1/moderations', { schema: { body: moderationRequest } }, (request, reply) =>
    answered(request, reply, (caller) => moderation(context, caller, request.body as ModerationRequest)),
  );
}

interface Classified {
  /** Of each input, a number for each label. */
  probs: number[][];
  numTokens: number;
}

async function probsOf(
  encoder: EncoderApi,
  body: Omit<ClassifyRequest, 'model'>,
  signal: AbortSignal,
): Promise<Classified> {
  const inputs = await encodeInputs(encoder, sourcesOf(body.input, ''), body, signal);
  const outputs = await runEncoder(encoder, inputs, signal);
  return {
    probs: outputs.map((logits) => activated(logits, encoder, body.use_activation)),
    numTokens: numTokensOf(inputs),
  };
}

async function classify(context: Context, caller: Caller, body: ClassifyRequest): Promise<object> {
  const { model, encoder } = admitToEncoder(context, caller, body, aClassifier);
  const { probs, numTokens } = await probsOf(encoder, body, caller.signal);
  const { labels } = encoder.description;
  return {
    id: `classify-${caller.id}`,
    object: 'list',
    created: Math.floor(Date.now() / 1000),
    model,
    data: probs.map((own, index) => ({
      index,
      label: labels[own.indexOf(Math.max(...own))],
      probs: own,
      num_classes: own.length,
    })),
    usage: encoderUsage(numTokens),
  };
}

/** Labels with which classifiers say that there is nothing to flag. */
const harmless =
  /^(safe|ok|okay|none|neutral|normal|clean|benign|harmless|acceptable|not?[-_ ].+|non[-_ ].+)$/i;

export async function moderation(context: Context, caller: Caller, body: ModerationRequest): Promise<object> {
  const { model, encoder } = admitToEncoder(context, caller, body, aClassifier);
  const input =
    typeof body.input === 'string'
      ? body.input
      : body.input.map((one) => (typeof one === 'string' ? one : one.text));
  // As OpenAI's models, classifiers judge what they can read of a long text.
  const { probs } = await probsOf(encoder, { input, truncate_prompt_tokens: -1 }, caller.signal);
  const { labels } = encoder.description;
  const results = probs.map((own) => {
    const categories = Object.fromEntries(
      labels.map((label, i) => [label, own[i] >= 0.5 && !harmless.test(label)]),
    );
    return {
      flagged: Object.values(categories).includes(true),
      categories,
      category_scores: Object.fromEntries(labels.map((label, i) => [label, own[i]])),
    };
  });
  return { id: `modr-${caller.id}`, model, results };
}
