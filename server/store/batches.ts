// Batches, the lines of their input, and the results of lines until they are in a file.
//
// The state machine is the column `status`; every move of it is one statement that names the state it
// leaves. That a line is done is that it has a row in batch_results, which is committed once; finalising
// moves rows of lines and results into the files, in order and in pieces, so that what a power cut leaves
// is always a beginning of the file and the lines that are not in it.

import { randomBytes } from 'node:crypto';
import { checkRoom, type Database } from './database.ts';
import type { FileStore } from './files.ts';
import { fromOf, type Page, type PageQuery, pageOf } from './page.ts';

export type BatchStatus =
  | 'validating'
  | 'in_progress'
  | 'finalizing'
  | 'cancelling'
  | 'completed'
  | 'failed'
  | 'expired'
  | 'cancelled';

export interface BatchRow {
  seq: number;
  id: string;
  owner: string;
  key_salt: string;
  endpoint: string;
  input_file_id: string;
  completion_window: string;
  /** JSON, or null. */
  metadata: string | null;
  /** Seconds that the output and error files live. */
  output_lifetime: number;
  status: BatchStatus;
  /** JSON of BatchError[], or null. */
  errors: string | null;
  /** Of the first line. */
  model: string | null;
  output_file_id: string | null;
  error_file_id: string | null;
  created_at: number;
  expires_at: number;
  in_progress_at: number | null;
  finalizing_at: number | null;
  completed_at: number | null;
  failed_at: number | null;
  expired_at: number | null;
  cancelling_at: number | null;
  cancelled_at: number | null;
  total: number;
  completed: number;
  failed: number;
  input_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  reasoning_tokens: number;
}

export interface BatchError {
  code: string;
  message: string;
  /** Of the input, from 1; null for the whole of it. */
  line: number | null;
  param: string | null;
}

export type NewBatch = Pick<
  BatchRow,
  'owner' | 'key_salt' | 'endpoint' | 'input_file_id' | 'completion_window' | 'metadata' | 'output_lifetime'
>;

export interface BatchLine {
  line: number;
  custom_id: string;
  /** Bytes of the input file. */
  start: number;
  length: number;
  /** Sequences of the engine that it takes at once. */
  sequences: number;
}

/** A line that has no result yet. */
export interface PendingLine extends BatchLine {
  /** Times that it was begun before, and its server ended under it. */
  starts: number;
}

export interface LineUsage {
  inputTokens: number;
  cachedTokens: number;
  outputTokens: number;
  reasoningTokens: number;
}

export interface LineResult {
  line: number;
  isError: boolean;
  /** The line of the output or error file, without its end. */
  content: string;
  usage: LineUsage | null;
}

/** What becomes of a line: it begins, it is given up to begin again later, or it has its result. */
export type LineChange = { batch: number } & ({ line: number; starts: 1 | -1 } | { result: LineResult });

/** The line of the error file for one that never ran. */
export type UnrunLine = (customId: string) => string;

const windowSeconds = 24 * 3600;
const keptSeconds = 30 * 24 * 3600;
/** What one transaction moves or deletes at most. */
const maxPieceLines = 500;
const maxPieceChars = 256 * 1024;
const isOpen = "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')";

export class BatchStore {
  readonly #database: Database;
  readonly #files: FileStore;
  readonly #now: () => number;

  constructor(database: Database, files: FileStore, now: () => number) {
    this.#database = database;
    this.#files = files;
    this.#now = now;
  }

  /** Throws when the store is full (isFull). */
  create(batch: NewBatch): BatchRow {
    checkRoom(this.#database);
    const id = `batch_${randomBytes(16).toString('hex')}`;
    const now = this.#now();
    this.#database
      .prepare(
        `INSERT INTO batches (id, owner, key_salt, endpoint, input_file_id, completion_window, metadata,
             output_lifetime, status, created_at, expires_at)
           VALUES (@id, @owner, @key_salt, @endpoint, @input_file_id, @completion_window, @metadata,
             @output_lifetime, 'validating', @now, @now + ${windowSeconds})`,
      )
      .run({ ...batch, id, now });
    return this.get(id);
  }

  get(id: string): BatchRow {
    const row = this.#database.prepare('SELECT * FROM batches WHERE id = ?').get(id);
    if (row === undefined) throw new Error(`there is no batch ${id}`);
    return row as BatchRow;
  }

  find(owner: string, id: string): BatchRow | null {
    const sql = 'SELECT * FROM batches WHERE id = ? AND owner = ?';
    return (this.#database.prepare(sql).get(id, owner) as BatchRow | undefined) ?? null;
  }

  /** Null when the page is to come after what is no batch of the owner. */
  list(owner: string, page: PageQuery): Page<BatchRow> | null {
    const from = fromOf(this.#database, 'batches', owner, page);
    if (from === null) return null;
    const sql = `SELECT * FROM batches WHERE owner = @owner AND ${from.condition}
      ORDER BY seq ${page.order} LIMIT @limit + 1`;
    const rows = this.#database.prepare(sql).all({ owner, seq: from.seq, limit: page.limit });
    return pageOf(rows as BatchRow[], page.limit);
  }

  /** Those that have not ended, oldest first. */
  open(): BatchRow[] {
    return this.#database.prepare(`SELECT * FROM batches WHERE ${isOpen} ORDER BY seq`).all() as BatchRow[];
  }

  addLines(batch: number, lines: readonly BatchLine[]): void {
    checkRoom(this.#database);
    const insert = this.#database.prepare(
      `INSERT INTO batch_lines (batch, line, custom_id, start, length, sequences)
         VALUES (@batch, @line, @custom_id, @start, @length, @sequences)`,
    );
    this.#database.transaction(() => {
      for (const line of lines) insert.run({ ...line, batch });
    })();
  }

  /** The next lines without a result, in order, behind `line`. */
  pending(batch: number, line: number, limit: number): PendingLine[] {
    return this.#database
      .prepare(
        `SELECT line, custom_id, start, length, sequences, starts
           FROM batch_lines l WHERE batch = ? AND line > ?
           AND NOT EXISTS (SELECT 1 FROM batch_results r WHERE r.batch = l.batch AND r.line = l.line)
           ORDER BY line LIMIT ?`,
      )
      .all(batch, line, limit) as PendingLine[];
  }

  /** Commits what becomes of lines, of any batches. One that has a result never runs again. */
  change(changes: readonly LineChange[]): void {
    // Only results are large. What makes files of them takes no more room than they had.
    if (changes.some((change) => 'result' in change)) checkRoom(this.#database);
    const start = this.#database.prepare(
      'UPDATE batch_lines SET starts = starts + ? WHERE batch = ? AND line = ?',
    );
    const insert = this.#database.prepare('INSERT INTO batch_results VALUES (?, ?, ?, ?)');
    const count = this.#database.prepare(
      `UPDATE batches SET completed = completed + ?, failed = failed + ?, input_tokens = input_tokens + ?,
         cached_tokens = cached_tokens + ?, output_tokens = output_tokens + ?,
         reasoning_tokens = reasoning_tokens + ? WHERE seq = ?`,
    );
    this.#database.transaction(() => {
      for (const change of changes) {
        const { batch } = change;
        if ('starts' in change) {
          start.run(change.starts, batch, change.line);
          continue;
        }
        const { line, isError, content, usage } = change.result;
        insert.run(batch, line, Number(isError), content);
        const tokens = [usage?.inputTokens, usage?.cachedTokens, usage?.outputTokens, usage?.reasoningTokens];
        count.run(Number(!isError), Number(isError), ...tokens.map((n) => n ?? 0), batch);
      }
    })();
  }

  /** validating -> in_progress, unless the batch was cancelled meanwhile. */
  begin(batch: number, total: number, model: string | null): void {
    const sql = `UPDATE batches SET status = 'in_progress', in_progress_at = ?, total = ?, model = ?
      WHERE seq = ? AND status = 'validating'`;
    this.#database.prepare(sql).run(this.#now(), total, model, batch);
  }

  /** -> cancelling. False when it is too late for that. */
  cancel(batch: number): boolean {
    const sql = `UPDATE batches SET status = 'cancelling', cancelling_at = ?
      WHERE seq = ? AND status IN ('validating', 'in_progress')`;
    return this.#database.prepare(sql).run(this.#now(), batch).changes === 1;
  }

  /** -> finalizing, unless it is being cancelled. Errors say that it could not go on. */
  finalize(batch: number, errors: readonly BatchError[] = []): void {
    this.#database
      .prepare(
        `UPDATE batches SET status = 'finalizing', finalizing_at = ?, errors = ?
           WHERE seq = ? AND status IN ('validating', 'in_progress')`,
      )
      .run(this.#now(), errors.length === 0 ? null : JSON.stringify(errors), batch);
  }

  /** validating -> failed: the input is not what it should be. */
  refuse(batch: number, errors: readonly BatchError[]): void {
    this.#database
      .prepare(
        `UPDATE batches SET status = 'failed', failed_at = ?, errors = ?
           WHERE seq = ? AND status = 'validating'`,
      )
      .run(this.#now(), JSON.stringify(errors), batch);
  }

  /**
   * Moves the next lines of a batch into its files, in one transaction. Lines without a result get an entry
   * by `unrun`, or none if it is null. False when no line is left.
   */
  moveLines({ seq, owner, id }: BatchRow, unrun: UnrunLine | null): boolean {
    return this.#database.transaction(() => {
      const lines = this.#nextLines(seq);
      if (lines.length === 0) return false;
      // Deleted before it is written again: what is freed here is room for what follows.
      this.#database
        .prepare('DELETE FROM batch_lines WHERE batch = ? AND line <= ?')
        .run(seq, lines[lines.length - 1].line);
      const outputs: string[] = [];
      const errors: string[] = [];
      for (const { custom_id, is_error, content } of lines) {
        if (content !== null) (is_error === 1 ? errors : outputs).push(content);
        else if (unrun !== null) errors.push(unrun(custom_id));
      }
      this.#append(id, owner, 'output', outputs);
      this.#append(id, owner, 'error', errors);
      return true;
    })();
  }

  /** -> completed, failed, expired or cancelled: the files are whole, and there to be read. */
  end(id: string, status: 'completed' | 'failed' | 'expired' | 'cancelled'): void {
    const { seq, output_file_id, error_file_id, output_lifetime } = this.get(id);
    this.#database.transaction(() => {
      for (const file of [output_file_id, error_file_id]) {
        if (file !== null) this.#files.finish(file, 'batch_output', output_lifetime);
      }
      this.#database
        .prepare(`UPDATE batches SET status = ?, ${status}_at = ? WHERE seq = ?`)
        .run(status, this.#now(), seq);
    })();
  }

  /** Drops the lines of a batch, a piece at a time. False when none is left. */
  dropLines(batch: number): boolean {
    const sql = `DELETE FROM batch_lines WHERE batch = @batch AND line IN
      (SELECT line FROM batch_lines WHERE batch = @batch LIMIT ${maxPieceLines})`;
    return this.#database.prepare(sql).run({ batch }).changes > 0;
  }

  /** Batches that have ended and still have lines. */
  leftovers(): number[] {
    const sql = `SELECT seq FROM batches WHERE NOT ${isOpen}
      AND EXISTS (SELECT 1 FROM batch_lines WHERE batch = seq)`;
    return this.#database.prepare(sql).pluck().all() as number[];
  }

  /** Forgets batches that ended long ago. */
  forgetOld(): void {
    const ended = 'coalesce(completed_at, failed_at, expired_at, cancelled_at)';
    this.#database
      .prepare(
        `DELETE FROM batches WHERE NOT ${isOpen} AND ${ended} < ?
           AND NOT EXISTS (SELECT 1 FROM batch_lines WHERE batch = seq)`,
      )
      .run(this.#now() - keptSeconds);
  }

  #nextLines(batch: number) {
    const rows = this.#database
      .prepare(
        `SELECT line, custom_id, is_error, content
           FROM batch_lines LEFT JOIN batch_results USING (batch, line)
           WHERE batch = ? ORDER BY line LIMIT ${maxPieceLines}`,
      )
      .iterate(batch) as IterableIterator<{
      line: number;
      custom_id: string;
      is_error: number | null;
      content: string | null;
    }>;
    const lines = [];
    let numChars = 0;
    for (const row of rows) {
      lines.push(row);
      numChars += (row.content ?? row.custom_id).length;
      if (numChars >= maxPieceChars) break;
    }
    return lines;
  }

  #append(id: string, owner: string, kind: 'output' | 'error', lines: readonly string[]): void {
    if (lines.length === 0) return;
    const column = `${kind}_file_id` as const;
    let file = this.get(id)[column];
    if (file === null) {
      file = this.#files.create({ owner, filename: `${id}_${kind}.jsonl`, purpose: 'batch_output' });
      this.#database.prepare(`UPDATE batches SET ${column} = ? WHERE id = ?`).run(file, id);
    }
    this.#files.append(file, Buffer.from(`${lines.join('\n')}\n`));
  }
}
