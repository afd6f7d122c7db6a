// What clients may send to /v1/realtime: the text part of OpenAI's Realtime API.

import Type, { type Static } from 'typebox';
import { inputItem, responseRequest } from '../responses/schemas.ts';
import { accepted, maxTokenId, maybe, sampling, text } from '../schemas.ts';
import { validatorOf } from '../validation.ts';
import { message } from './messages.ts';

const { instructions, tools, tool_choice, parallel_tool_calls, reasoning } = responseRequest.properties;

/** Fields of a session that a response may set for itself. */
const answering = {
  instructions,
  tools,
  tool_choice,
  parallel_tool_calls,
  reasoning,
  temperature: sampling.temperature,
  max_output_tokens: maybe(
    Type.Union([Type.Integer({ minimum: 1, maximum: maxTokenId }), Type.Literal('inf')]),
  ),
  output_modalities: maybe(Type.Array(text(100), { minItems: 1, maxItems: 2 })),
  audio: maybe(Type.Unknown()),
};

const session = Type.Object({
  ...answering,
  type: maybe(text(100)),
  model: sampling.model,
});

const response = Type.Object({
  ...answering,
  conversation: maybe(Type.Union([Type.Literal('auto'), Type.Literal('none')])),
  input: maybe(Type.Array(inputItem, { maxItems: 10_000 })),
  metadata: accepted.metadata,
});

export const realtimeQuery = Type.Object({ model: Type.Optional(text(1000)) });

const itemId = text(1000);

export const realtimeMessages = {
  'session.update': message('session.update', { session }),
  'conversation.item.create': message('conversation.item.create', {
    item: inputItem,
    previous_item_id: maybe(itemId),
  }),
  'conversation.item.retrieve': message('conversation.item.retrieve', { item_id: itemId }),
  'conversation.item.delete': message('conversation.item.delete', { item_id: itemId }),
  'response.create': message('response.create', { response: maybe(response) }),
  'response.cancel': message('response.cancel', { response_id: maybe(itemId) }),
};

type Messages = typeof realtimeMessages;
export type RealtimeMessages = { [Name in keyof Messages]: Static<Messages[Name]> };
export type RealtimeQuery = Static<typeof realtimeQuery>;
export type SessionFields = Static<typeof session>;
export type AnsweringFields = Pick<SessionFields, keyof typeof answering>;
export type RealtimeResponseFields = Static<typeof response>;

export const answeringNames = Object.keys(answering) as Array<keyof typeof answering>;
export const realtimeTypes = Object.keys(realtimeMessages) as Array<keyof RealtimeMessages>;

export const realtimeValidators = new Map(
  Object.entries(realtimeMessages).map(([name, schema]) => [name, validatorOf(schema)]),
);
