// /v1/files: upload, list, one, its content, delete.

import { Readable } from 'node:stream';
import multipart, { type Multipart, type MultipartFile } from '@fastify/multipart';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import {
  type FilesQuery,
  filesQuery,
  type IdParams,
  idParams,
  type UploadFields,
  uploadFields,
  uploadForm,
} from '../batches/schemas.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import type { FileStore, StoredFile } from '../store/files.ts';
import { listAnswer } from '../store/page.ts';
import { checked, shown, validatorOf } from '../validation.ts';

const maxFilenameLength = 255;
/** OpenAI's: other files stay until they are deleted. */
const batchLifetime = 30 * 24 * 3600;
const formLimits = { files: 1, fields: 10, fieldNameSize: 100, fieldSize: 1000, headerPairs: 20 };
const validateFields = validatorOf(uploadFields, 'form');

export async function fileRoutes(app: FastifyInstance, context: Context, files: FileStore): Promise<void> {
  // In a scope of its own: no other route takes forms.
  await app.register(async (scope) => {
    await scope.register(multipart, { limits: { ...formLimits, fileSize: context.options.maxFileBytes } });
    uploadRoute(scope, context, files);
  });
  readingRoutes(app, files);
}

function uploadRoute(app: FastifyInstance, { options, isDraining }: Context, files: FileStore): void {
  const schema = { consumes: ['multipart/form-data'], body: uploadForm };
  // The form is read part by part below; there is no body to validate before.
  const validatorCompiler = () => () => true;
  app.post('/v1/files', { schema, validatorCompiler, config: { isUpload: true } }, async (request) => {
    if (!request.isMultipart()) {
      throw new ApiError('unsupported_media_type', 'content-type: allowed: multipart/form-data');
    }
    if (isDraining()) throw new ApiError('draining', 'the server is shutting down');
    try {
      return fileObject(await receive(request, files, options.maxFileBytes));
    } finally {
      // What nobody reads any more would keep the client from reading the answer.
      request.raw.unpipe();
      request.raw.resume();
    }
  });
}

async function receive(request: FastifyRequest, files: FileStore, maxBytes: number): Promise<StoredFile> {
  const { owner } = request;
  const parts = request.parts();
  const fields = new Map<string, string>();
  const part = await nextFile(parts, fields);
  if (part === null)
    throw new ApiError('invalid_value', 'file is missing, expected a file in the form', 'file');
  const filename = part.filename.slice(0, maxFilenameLength);
  const source = bytesOf(part);
  const id = await files.upload({ owner, filename, purpose: 'user_data' }, source, async () => {
    if (part.file.truncated) {
      throw new ApiError(
        'body_too_large',
        `file: it is larger than ${maxBytes} bytes (--max-file-size)`,
        'file',
      );
    }
    // The fields after the file; a second file is against the limits.
    await nextFile(parts, fields);
    return settled(fields);
  });
  const file = files.find(owner, id);
  if (file === null) throw new Error(`file ${id} is not there after its upload`);
  return file;
}

/** Reads fields up to the next file; null at the end of the form. */
async function nextFile(
  parts: AsyncIterator<Multipart>,
  fields: Map<string, string>,
): Promise<MultipartFile | null> {
  for (;;) {
    const { done, value: part } = await parts.next().catch(refuseForm);
    if (done) return null;
    if (part.type === 'file') {
      if (part.fieldname === 'file') return part;
      throw new ApiError('invalid_value', `${shown(part.fieldname)}: found a file, allowed: file`, 'file');
    }
    if (part.valueTruncated) {
      throw new ApiError(
        'invalid_value',
        `${part.fieldname}: found more than ${formLimits.fieldSize} bytes`,
        part.fieldname,
      );
    }
    if (part.fieldname === 'file') {
      throw new ApiError('invalid_value', 'file: found a field, expected a file with a filename', 'file');
    }
    fields.set(part.fieldname, String(part.value));
  }
}

async function* bytesOf({ file }: MultipartFile): AsyncGenerator<Buffer> {
  try {
    for await (const bytes of file) yield bytes;
  } catch (error) {
    refuseForm(error);
  }
}

/** Whatever is wrong with a form came from the client. */
function refuseForm(error: unknown): never {
  throw new ApiError('invalid_value', `the form cannot be read: ${(error as Error).message}`);
}

function settled(fields: ReadonlyMap<string, string>): { purpose: string; lifetime: number | null } {
  const anchor = fields.get('expires_after[anchor]');
  const seconds = fields.get('expires_after[seconds]');
  const { purpose, expires_after } = checked<UploadFields>(validateFields, {
    ...(fields.has('purpose') ? { purpose: fields.get('purpose') } : {}),
    ...(anchor === undefined && seconds === undefined ? {} : { expires_after: present({ anchor, seconds }) }),
  });
  return { purpose, lifetime: expires_after?.seconds ?? (purpose === 'batch' ? batchLifetime : null) };
}

/** Without the fields that are undefined, which a validator would take for there. */
function present(fields: Record<string, unknown>): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function readingRoutes(app: FastifyInstance, files: FileStore): void {
  app.get('/v1/files', { schema: { querystring: filesQuery } }, async (request) => {
    const { after, purpose, ...query } = request.query as FilesQuery;
    const page = files.list(request.owner, purpose ?? null, { ...query, after: after ?? null });
    if (page === null) {
      throw new ApiError('invalid_value', `after: found ${shown(after)}, allowed: the id of a file`, 'after');
    }
    return listAnswer(page.rows.map(fileObject), page.hasMore);
  });

  const schema = { params: idParams };
  const get = ({ owner, params }: FastifyRequest): StoredFile => {
    const { id } = params as IdParams;
    return files.find(owner, id) ?? refuseId(id);
  };

  app.get('/v1/files/:id', { schema }, async (request) => fileObject(get(request)));

  app.get('/v1/files/:id/content', { schema }, async (request, reply) => {
    const { id, bytes, filename } = get(request);
    // Never shown by a browser as a page of this server.
    reply.headers({
      'content-type': 'application/octet-stream',
      'content-length': bytes,
      'content-disposition': `attachment; filename*=UTF-8''${inHeader(filename)}`,
      'x-content-type-options': 'nosniff',
    });
    return reply.send(Readable.from(files.read(id)));
  });

  app.delete('/v1/files/:id', { schema }, async (request) => {
    const { id } = request.params as IdParams;
    if (!files.remove(request.owner, id)) refuseId(id);
    return { id, object: 'file', deleted: true };
  });
}

function refuseId(id: string): never {
  throw new ApiError('file_not_found', `id: found ${shown(id)}, which is no file`, 'id');
}

const inHeader = (text: string) =>
  encodeURIComponent(text).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);

function fileObject(file: StoredFile): { id: string } {
  return { ...file, object: 'file', status: 'processed', status_details: null } as { id: string };
}
