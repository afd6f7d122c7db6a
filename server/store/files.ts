// Files that clients upload, and those that batches make. Content is kept in chunks, so that neither
// reading nor writing a large file holds the HTTP thread for long.
//
// There is one way for a file not to be there: it has expired. One that is still being written has expired
// until its last byte is in, one that its owner deletes expires at once. sweep() frees what has expired,
// piece by piece, except what a batch under way still reads or writes; after a power cut too.

import { randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { checkRoom, type Database } from './database.ts';
import { fromOf, type Page, type PageQuery, pageOf } from './page.ts';

export interface StoredFile {
  id: string;
  bytes: number;
  /** Seconds since the epoch, as all times of the store. */
  created_at: number;
  /** Null is never. */
  expires_at: number | null;
  filename: string;
  purpose: string;
}

export interface NewFile {
  owner: string;
  filename: string;
  purpose: string;
}

const chunkBytes = 256 * 1024;
/** Chunks that one statement frees. */
const sweptChunks = 16;
/** `expires_at` of a file that is still being written. */
const unfinished = 0;

const columns = 'id, bytes, created_at, expires_at, filename, purpose';
const isThere = '(expires_at IS NULL OR expires_at > @now)';

export class FileStore {
  readonly #database: Database;
  readonly #now: () => number;
  /** Uploads under way in this process. */
  readonly #uploads = new Set<string>();
  #sweeping: Promise<void> | null = null;
  #isClosed = false;

  constructor(database: Database, now: () => number) {
    this.#database = database;
    this.#now = now;
  }

  find(owner: string, id: string): StoredFile | null {
    const sql = `SELECT ${columns} FROM files WHERE id = @id AND owner = @owner AND ${isThere}`;
    const found = this.#database.prepare(sql).get({ id, owner, now: this.#now() });
    return (found as StoredFile | undefined) ?? null;
  }

  /** Null when the page is to come after what is no file of the owner. A null purpose is any. */
  list(owner: string, purpose: string | null, page: PageQuery): Page<StoredFile> | null {
    const from = fromOf(this.#database, 'files', owner, page);
    if (from === null) return null;
    const sql = `SELECT ${columns} FROM files WHERE owner = @owner AND ${isThere} AND ${from.condition}
      AND (@purpose IS NULL OR purpose = @purpose) ORDER BY seq ${page.order} LIMIT @limit + 1`;
    const values = { owner, purpose, now: this.#now(), seq: from.seq, limit: page.limit };
    return pageOf(this.#database.prepare(sql).all(values) as StoredFile[], page.limit);
  }

  /** Throws when the store is full (isFull). The file is there once finish() says so. */
  create({ owner, filename, purpose }: NewFile): string {
    const id = `file-${randomBytes(16).toString('hex')}`;
    this.#database
      .prepare(
        `INSERT INTO files (id, owner, filename, purpose, bytes, created_at, expires_at)
           VALUES (?, ?, ?, ?, 0, ?, ${unfinished})`,
      )
      .run(id, owner, filename, purpose, this.#now());
    return id;
  }

  /** Adds to the end of a file that create() began. */
  append(id: string, content: Buffer): void {
    this.#database.transaction(() => {
      this.#database
        .prepare('INSERT INTO file_chunks SELECT id, bytes, ? FROM files WHERE id = ?')
        .run(content, id);
      this.#database.prepare('UPDATE files SET bytes = bytes + ? WHERE id = ?').run(content.length, id);
    })();
  }

  finish(id: string, purpose: string, lifetime: number | null): void {
    const now = this.#now();
    this.#database
      .prepare('UPDATE files SET purpose = ?, created_at = ?, expires_at = ? WHERE id = ?')
      .run(purpose, now, lifetime === null ? null : now + lifetime, id);
  }

  /**
   * A whole upload. Throws what the source throws, and when the store is full. `settle` is asked at the
   * end, since the fields of a form may come after its file; what it throws refuses the file.
   */
  async upload(
    file: NewFile,
    source: AsyncIterable<Buffer>,
    settle: () => Promise<{ purpose: string; lifetime: number | null }>,
  ): Promise<string> {
    const id = this.create(file);
    this.#uploads.add(id);
    try {
      for await (const chunk of inChunks(source)) {
        checkRoom(this.#database);
        this.append(id, chunk);
      }
      const { purpose, lifetime } = await settle();
      this.finish(id, purpose, lifetime);
      return id;
    } catch (error) {
      // It has never been there: the sweep frees it.
      this.sweepSoon();
      throw error;
    } finally {
      this.#uploads.delete(id);
    }
  }

  /** False when the owner has no such file. */
  remove(owner: string, id: string): boolean {
    if (this.find(owner, id) === null) return false;
    this.#database.prepare('UPDATE files SET expires_at = ? WHERE id = ?').run(this.#now(), id);
    this.sweepSoon();
    return true;
  }

  /** The content, chunk by chunk, for readers of any pace. Throws when the file goes meanwhile. */
  async *read(id: string): AsyncGenerator<Buffer> {
    const size = this.#sizeOf(id);
    for (let start = 0; start < size; ) {
      const chunk = this.#database
        .prepare('SELECT content FROM file_chunks WHERE file_id = ? AND start = ?')
        .pluck()
        .get(id, start) as Buffer | undefined;
      if (chunk === undefined) throw new Error(`file ${id} went while it was read`);
      yield chunk;
      start += chunk.length;
      await setImmediate();
    }
  }

  /** Bytes [start, start + length), which the file must have. */
  readRange(id: string, start: number, length: number): Buffer {
    const rows = this.#database
      .prepare(
        `SELECT start, content FROM file_chunks WHERE file_id = @id AND start < @end AND start >=
           (SELECT max(start) FROM file_chunks WHERE file_id = @id AND start <= @start) ORDER BY start`,
      )
      .all({ id, start, end: start + length }) as Array<{ start: number; content: Buffer }>;
    const parts = rows.map((row) =>
      row.content.subarray(Math.max(0, start - row.start), start + length - row.start),
    );
    const bytes = Buffer.concat(parts);
    if (bytes.length !== length) throw new Error(`file ${id} has no ${length} bytes at ${start}`);
    return bytes;
  }

  /** Frees what has expired. One sweep runs at a time; resolves when nothing is left to free. */
  sweep(): Promise<void> {
    const before = this.#sweeping ?? Promise.resolve();
    const sweeping = before.catch(() => {}).then(() => this.#sweep());
    this.#sweeping = sweeping;
    return sweeping;
  }

  /** Sweeps in the background. What fails is left to the next sweep. */
  sweepSoon(): void {
    this.sweep().catch(() => {});
  }

  close(): void {
    this.#isClosed = true;
  }

  async #sweep(): Promise<void> {
    const expired = this.#isClosed ? [] : this.#expired();
    for (const id of expired) {
      for (;;) {
        if (this.#isClosed) return;
        const { changes } = this.#database
          .prepare(
            `DELETE FROM file_chunks WHERE rowid IN
               (SELECT rowid FROM file_chunks WHERE file_id = ? LIMIT ${sweptChunks})`,
          )
          .run(id);
        if (changes === 0) break;
        await setImmediate();
      }
      this.#database.prepare('DELETE FROM files WHERE id = ?').run(id);
    }
  }

  #expired(): string[] {
    const ids = this.#database
      .prepare(
        `SELECT id FROM files WHERE expires_at <= ? AND NOT EXISTS
           (SELECT 1 FROM batches WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
              AND files.id IN (input_file_id, output_file_id, error_file_id))`,
      )
      .pluck()
      .all(this.#now()) as string[];
    return ids.filter((id) => !this.#uploads.has(id));
  }

  #sizeOf(id: string): number {
    return (this.#database.prepare('SELECT bytes FROM files WHERE id = ?').pluck().get(id) ?? 0) as number;
  }
}

/** The same bytes in pieces of at least chunkBytes, except the last. */
async function* inChunks(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const part of source) {
    parts.push(part);
    length += part.length;
    if (length < chunkBytes) continue;
    yield Buffer.concat(parts);
    parts = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(parts);
}
