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
  status: ResponseObject['status'];
  response: string;
  input: string;
  events: string | null;
}

export class ResponseStore {
  readonly #database: Database;
  readonly #maxBytes: number;
  /** What is stored, by owner. */
  #numBytes: Map<string, number>;

  /**
   * `maxBytes` for everything stored. The oldest of the owner who has most makes room for the newest, so that
   * nobody loses what fits an equal share.
   */
  constructor(database: Database, maxBytes: number) {
    this.#database = database;
    this.#maxBytes = maxBytes;
    this.#numBytes = this.#sums();
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
      this.#count(owner, size);
      this.#remove('created_at < ?', Math.floor(Date.now() / 1000) - maxAgeSeconds);
      this.#makeRoom(response.id);
    });
    try {
      write();
    } catch (error) {
      this.#numBytes = this.#sums();
      throw error;
    }
  }

  /** One that does not run. */
  find(owner: string, id: string): StoredResponse | null {
    const row = this.#database
      .prepare('SELECT status, response, input, events FROM responses WHERE id = ? AND owner = ?')
      .get(id, owner) as Row | undefined;
    if (row === undefined) return null;
    const response = JSON.parse(row.response) as ResponseObject;
    // Said when it is asked for: a start that has to write would fail on a full disk.
    if (row.status === 'queued' || row.status === 'in_progress') {
      const message = 'the server ended while this ran, or had no room for how it ended';
      Object.assign(response, { status: 'failed', error: { code: 'server_error', message } });
    }
    const events = row.events === null ? null : JSON.parse(row.events);
    return { response, input: JSON.parse(row.input), events };
  }

  /** The newest of this id, from the input or output of a stored response. */
  findItem(owner: string, itemId: string): Item | null {
    const row = this.#database
      .prepare(
        `SELECT response, input FROM responses JOIN response_items ON response_id = id
         WHERE item_id = ? AND owner = ? ORDER BY created_at DESC LIMIT 1`,
      )
      .get(itemId, owner) as Pick<Row, 'response' | 'input'> | undefined;
    if (row === undefined) return null;
    const { output } = JSON.parse(row.response) as ResponseObject;
    const items: Item[] = [...(JSON.parse(row.input) as Item[]), ...output];
    return items.findLast(({ id }) => id === itemId) ?? null;
  }

  /** True when there was one. */
  delete(owner: string, id: string): boolean {
    return this.#remove('id = ? AND owner = ?', id, owner) > 0;
  }

  #count(owner: string, numBytes: number): void {
    this.#numBytes.set(owner, (this.#numBytes.get(owner) ?? 0) + numBytes);
  }

  #remove(condition: string, ...values: Array<string | number>): number {
    const removed = this.#database
      .prepare(`DELETE FROM responses WHERE ${condition} RETURNING owner, size`)
      .all(...values) as Array<{ owner: string; size: number }>;
    for (const { owner, size } of removed) this.#count(owner, -size);
    return removed.length;
  }

  #makeRoom(newestId: string): void {
    const oldestOf = this.#database
      .prepare('SELECT id FROM responses WHERE owner = ? AND id <> ? ORDER BY created_at, rowid LIMIT 1')
      .pluck();
    for (;;) {
      const owners = [...this.#numBytes].sort(([, a], [, b]) => b - a);
      if (owners.reduce((sum, [, numBytes]) => sum + numBytes, 0) <= this.#maxBytes) return;
      const id = oldestOf.get(owners[0][0], newestId) as string | undefined;
      if (id === undefined) return;
      this.#remove('id = ?', id);
    }
  }

  #sums(): Map<string, number> {
    const rows = this.#database.prepare('SELECT owner, sum(size) FROM responses GROUP BY owner').raw().all();
    return new Map(rows as Array<[owner: string, numBytes: number]>);
  }
}
