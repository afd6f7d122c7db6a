// Stored responses: what each was made from and what came of it. A row has the whole conversation before it,
// so that deleting one response takes nothing from another.

import type { Item } from '../responses/input-items.ts';
import type { ResponseObject } from '../responses/response-object.ts';
import type { ResponseEvent } from '../responses/response-run.ts';
import { checkRoom, type Database } from './database.ts';

/** As long as OpenAI keeps them. */
const maxAgeSeconds = 30 * 24 * 3600;

export interface StoredResponse {
  response: ResponseObject;
  input: Item[];
  /** Null unless it was created to be streamed from the background, and ended. */
  events: ResponseEvent[] | null;
}

interface Row {
  response: string;
  input: string;
  events: string | null;
}

export class ResponseStore {
  readonly #database: Database;
  readonly #maxBytes: number;
  #numBytes: number;

  /** `maxBytes` for everything stored; the oldest makes room for the newest. */
  constructor(database: Database, maxBytes: number) {
    this.#database = database;
    this.#maxBytes = maxBytes;
    this.#endInterrupted();
    this.#numBytes = this.#sum();
  }

  /** Adds it, or what has become of it. The items after the first `numEarlier` are its own. */
  save(owner: string, { response, input, events }: StoredResponse, numEarlier: number): void {
    checkRoom(this.#database);
    const row = [response, input, events].map((value) => (value === null ? null : JSON.stringify(value)));
    const size = row.reduce((sum, text) => sum + Buffer.byteLength(text ?? ''), 0);
    const write = this.#database.transaction(() => {
      this.#remove('id = ?', response.id);
      this.#database
        .prepare('INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
        .run(response.id, owner, response.created_at, response.status, size, ...row);
      const insert = this.#database.prepare('INSERT OR IGNORE INTO response_items VALUES (?, ?)');
      for (const { id } of [...input.slice(numEarlier), ...response.output]) insert.run(id, response.id);
      this.#numBytes += size;
      this.#remove('created_at < ?', Math.floor(Date.now() / 1000) - maxAgeSeconds);
      this.#makeRoom(response.id);
    });
    const numBytesBefore = this.#numBytes;
    try {
      write();
    } catch (error) {
      this.#numBytes = numBytesBefore;
      throw error;
    }
  }

  find(owner: string, id: string): StoredResponse | null {
    const row = this.#database
      .prepare('SELECT response, input, events FROM responses WHERE id = ? AND owner = ?')
      .get(id, owner) as Row | undefined;
    if (row === undefined) return null;
    const { response, input, events } = row;
    return {
      response: JSON.parse(response),
      input: JSON.parse(input),
      events: events === null ? null : JSON.parse(events),
    };
  }

  /** The newest of this id, from the input or output of a stored response. */
  findItem(owner: string, itemId: string): Item | null {
    const row = this.#database
      .prepare(
        `SELECT response, input, NULL AS events FROM responses JOIN response_items ON response_id = id
         WHERE item_id = ? AND owner = ? ORDER BY created_at DESC LIMIT 1`,
      )
      .get(itemId, owner) as Row | undefined;
    if (row === undefined) return null;
    const { output } = JSON.parse(row.response) as ResponseObject;
    const items: Item[] = [...(JSON.parse(row.input) as Item[]), ...output];
    return items.findLast(({ id }) => id === itemId) ?? null;
  }

  /** True when there was one. */
  delete(owner: string, id: string): boolean {
    return this.#remove('id = ? AND owner = ?', id, owner) > 0;
  }

  #remove(condition: string, ...values: Array<string | number>): number {
    const sizes = this.#database
      .prepare(`DELETE FROM responses WHERE ${condition} RETURNING size`)
      .pluck()
      .all(...values) as number[];
    for (const size of sizes) this.#numBytes -= size;
    return sizes.length;
  }

  #makeRoom(newestId: string): void {
    const oldest = this.#database
      .prepare('SELECT id FROM responses WHERE id <> ? ORDER BY created_at, rowid LIMIT 1')
      .pluck();
    while (this.#numBytes > this.#maxBytes) {
      const id = oldest.get(newestId) as string | undefined;
      if (id === undefined) return;
      this.#remove('id = ?', id);
    }
  }

  /** What ran when the server before this one ended will never go on. */
  #endInterrupted(): void {
    const error = JSON.stringify({ code: 'server_error', message: 'the server ended while this ran' });
    this.#database
      .prepare(
        `UPDATE responses
         SET status = 'failed', response = json_set(response, '$.status', 'failed', '$.error', json(?))
         WHERE status IN ('queued', 'in_progress')`,
      )
      .run(error);
  }

  #sum(): number {
    return this.#database.prepare('SELECT coalesce(sum(size), 0) FROM responses').pluck().get() as number;
  }
}
