// What every kind of message that clients send over a WebSocket has in common.

import Type, { type TProperties } from 'typebox';
import { text } from '../schemas.ts';

/** A message of this `type`, with fields of its own. */
export const message = <Name extends string, Fields extends TProperties>(type: Name, fields: Fields) =>
  Type.Object({
    type: Type.Literal(type),
    event_id: Type.Optional(text(512)),
    ...fields,
  });
