// What clients may send to /v1/files and /v1/batches.

import Type, { type Static } from 'typebox';
import { accepted, maybe } from '../schemas.ts';
import { endpointUrls } from './endpoints.ts';

const oneOf = <T extends string>(names: readonly T[]) =>
  Type.Unsafe<T>(Type.Union(names.map((name) => Type.Literal(name))));
const id = Type.String({ minLength: 1, maxLength: 100 });

const expiresAfter = Type.Object({
  anchor: Type.Literal('created_at'),
  seconds: Type.Integer({ minimum: 3600, maximum: 2_592_000, description: 'From one hour to 30 days.' }),
});

const purposes = ['assistants', 'batch', 'fine-tune', 'vision', 'user_data', 'evals'] as const;

/** The form's fields beside its file: purpose, expires_after[anchor], expires_after[seconds]. */
export const uploadFields = Type.Object({
  purpose: oneOf(purposes),
  expires_after: Type.Optional(expiresAfter),
});

export const uploadForm = Type.Object({
  file: Type.Unsafe<string>({ type: 'string', format: 'binary', description: 'At most --max-file-size.' }),
  ...uploadFields.properties,
});

export const filesQuery = Type.Object({
  after: Type.Optional(id),
  limit: Type.Integer({ minimum: 1, maximum: 10_000, default: 10_000 }),
  order: Type.Union([Type.Literal('asc'), Type.Literal('desc')], { default: 'desc' }),
  purpose: Type.Optional(Type.String({ maxLength: 100 })),
});

export const batchRequest = Type.Object({
  input_file_id: id,
  endpoint: oneOf(endpointUrls),
  completion_window: Type.Literal('24h'),
  metadata: accepted.metadata,
  output_expires_after: maybe(expiresAfter),
});

export const batchesQuery = Type.Object({
  after: Type.Optional(id),
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
});

export const idParams = Type.Object({ id: Type.String({ maxLength: 1000 }) });

export type UploadFields = Static<typeof uploadFields>;
export type FilesQuery = Static<typeof filesQuery>;
export type BatchRequest = Static<typeof batchRequest>;
export type BatchesQuery = Static<typeof batchesQuery>;
export type IdParams = Static<typeof idParams>;
