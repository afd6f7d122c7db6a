// What clients may send to /v1/responses as a WebSocket.

import type { Static } from 'typebox';
import { responseRequest } from '../responses/schemas.ts';
import { flag, maybe, text } from '../schemas.ts';
import { validatorOf } from '../validation.ts';
import { message } from './messages.ts';

const streamId = maybe(text(1000));

export const responseMessages = {
  'response.create': message('response.create', {
    ...responseRequest.properties,
    stream_id: streamId,
    generate: maybe(flag),
  }),
  'response.cancel': message('response.cancel', {
    stream_id: streamId,
    response_id: maybe(text(1000)),
  }),
};

export const responseTypes = Object.keys(responseMessages);

export const validateCreate = validatorOf(responseMessages['response.create']);
export const validateCancel = validatorOf(responseMessages['response.cancel']);

export type CreateMessage = Static<(typeof responseMessages)['response.create']>;
export type CancelMessage = Static<(typeof responseMessages)['response.cancel']>;
