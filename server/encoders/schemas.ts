// What clients may send to encoders: OpenAI's fields, vLLM's extras, Cohere's and Jina's names, each with
// its limit.

import Type, { type Static } from 'typebox';
import { flag, maxTextLength, maxTokenId, maybe, oneOf, text, tokenIds } from '../schemas.ts';

/** OpenAI's limit. */
export const maxInputs = 2048;

const oneText = text(maxTextLength);
const texts = Type.Array(oneText, { minItems: 1, maxItems: maxInputs });

const shared = {
  model: maybe(text(1000)),
  user: maybe(text(10_000)),
  priority: maybe(
    Type.Integer({
      minimum: -(2 ** 31),
      maximum: maxTokenId,
      description: 'Lower is served earlier, by the language model; others take it without effect.',
    }),
  ),
  truncate_prompt_tokens: maybe(
    Type.Integer({
      minimum: -1,
      maximum: maxTokenId,
      description: 'Tokens of an input that are kept; -1 keeps as many as the model takes.',
    }),
  ),
  truncation_side: maybe(
    Type.Unsafe<'left' | 'right'>({
      ...oneOf('left', 'right'),
      description: 'The end that goes; default right.',
    }),
  ),
};

/**
 * Lists may be longer here than sourcesOf lets them be, which says so: of a union a validator can only say
 * that nothing fits.
 */
const list = { minItems: 1, maxItems: 1_000_000, description: `At most ${maxInputs}.` };
const input = Type.Union([oneText, Type.Array(oneText, list), tokenIds, Type.Array(tokenIds, list)]);
const activation = maybe(flag);

export const embeddingRequest = Type.Object({
  ...shared,
  input,
  encoding_format: maybe(oneOf('float', 'base64')),
  dimensions: maybe(
    Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'Numbers of an embedding that are kept.' }),
  ),
  add_special_tokens: maybe(flag),
  normalize: maybe(Type.Boolean({ description: 'To length 1; default as the model’s files say.' })),
  use_activation: maybe(Type.Boolean({ description: 'The newer name of normalize.' })),
  prompt_name: maybe(
    Type.String({ maxLength: 1000, description: 'A prompt of the model that goes before each text.' }),
  ),
  embed_dtype: maybe(Type.Literal('float32')),
  endianness: maybe(oneOf('native', 'little')),
});

const document = Type.Union([oneText, Type.Object({ text: oneText })]);

export const rerankRequest = Type.Object({
  ...shared,
  query: oneText,
  documents: Type.Array(document, { minItems: 1, maxItems: maxInputs }),
  top_n: maybe(
    Type.Integer({ minimum: 0, maximum: maxTokenId, description: 'Results at most; 0 is all of them.' }),
  ),
  return_documents: maybe(flag),
  use_activation: activation,
});

const oneOrMany = maybe(Type.Union([oneText, texts]));

export const scoreRequest = Type.Object({
  ...shared,
  text_1: oneOrMany,
  text_2: oneOrMany,
  queries: oneOrMany,
  items: oneOrMany,
  documents: oneOrMany,
  use_activation: activation,
});

export const classifyRequest = Type.Object({
  ...shared,
  input,
  add_special_tokens: maybe(flag),
  use_activation: activation,
});

const textPart = Type.Object({ type: Type.Literal('text'), text: oneText });

export const moderationRequest = Type.Object({
  model: maybe(text(1000)),
  input: Type.Union([oneText, Type.Array(oneText, list), Type.Array(textPart, list)]),
});

export type EmbeddingRequest = Static<typeof embeddingRequest>;
export type RerankRequest = Static<typeof rerankRequest>;
export type ScoreRequest = Static<typeof scoreRequest>;
export type ClassifyRequest = Static<typeof classifyRequest>;
export type ModerationRequest = Static<typeof moderationRequest>;
export type InputField = EmbeddingRequest['input'];
export type TruncationFields = Pick<RerankRequest, 'truncate_prompt_tokens' | 'truncation_side'>;
