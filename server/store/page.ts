// One page of a list, as OpenAI pages: after an id, in the order of creation or its reverse.

import type { Database } from './database.ts';

export interface PageQuery {
  /** Id of the last object of the page before, or null for the first page. */
  after: string | null;
  limit: number;
  order: 'asc' | 'desc';
}

export interface Page<T> {
  rows: T[];
  hasMore: boolean;
}

/** Where a page begins, as a condition on `seq`. Null when `after` is no object of the owner. */
export function fromOf(
  database: Database,
  table: 'files' | 'batches',
  owner: string,
  { after, order }: PageQuery,
): { condition: string; seq: number } | null {
  const condition = order === 'asc' ? 'seq > @seq' : 'seq < @seq';
  if (after === null) return { condition, seq: order === 'asc' ? 0 : Number.MAX_SAFE_INTEGER };
  const sql = `SELECT seq FROM ${table} WHERE id = ? AND owner = ?`;
  const seq = database.prepare(sql).pluck().get(after, owner) as number | undefined;
  return seq === undefined ? null : { condition, seq };
}

/** Of limit + 1 rows that were asked for. */
export function pageOf<T>(rows: T[], limit: number): Page<T> {
  return { rows: rows.slice(0, limit), hasMore: rows.length > limit };
}

/** The answer that OpenAI's clients page through. */
export function listAnswer(objects: Array<{ id: string }>, hasMore: boolean): object {
  return {
    object: 'list',
    data: objects,
    first_id: objects.at(0)?.id ?? null,
    last_id: objects.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}
