// What the engine thread and a matcher thread share. Work goes over a port in order; answers come in shared
// memory, where the engine thread can wait for them.

import { type GrammarSource, maxDraftMasks } from './grammar.ts';

/**
 * One matcher stands for each row of the engine's block table. Closes come first, then opens, then
 * advances.
 */
export interface MatcherWork {
  closed: number[];
  opened: Array<{
    row: number;
    key: string;
    source: GrammarSource;
    /** Output so far, which the matcher catches up with. */
    tokenIds: Int32Array;
    /** Number of the answer; 0 when none is wanted. */
    ticket: number;
  }>;
  /** [row, ticket, numTokens, numDrafted, tokens, drafted tokens, ...] */
  advanced: Int32Array;
}

/** Words of the state before those of the rows. */
export const inboxWord = 0;
/** Row + 1 that is being worked on, 0 when idle. */
export const currentWord = 1;
/** Counts what was worked on. */
export const jobWord = 2;
/** 1 once the thread has its vocabulary. */
export const readyWord = 3;
/** 1 while the job is to compile a grammar. */
export const compilingWord = 4;
const firstRowWord = 5;

/** Ticket of the newest answer for the row. */
export const ticketWord = (row: number) => firstRowWord + 3 * row;
export const statusWord = (row: number) => firstRowWord + 3 * row + 1;
/** Drafted tokens that the grammar allows, and after each of which it allows more than the end. */
export const draftWord = (row: number) => firstRowWord + 3 * row + 2;
export const stateWords = (numRows: number) => firstRowWord + 3 * numRows;

/** Masks of a row: after what is known, and after each drafted token. */
export const masksPerRow = 1 + maxDraftMasks;

export const matcherStatus = {
  /** The mask allows tokens besides the end. */
  open: 0,
  /** Nothing may follow but the end. */
  complete: 1,
  /** A token was not allowed: a broken invariant. */
  failed: 2,
  /** As `open`, and it took so long that others should not wait behind it. */
  slow: 3,
} as const;

/** A matcher thread as the engine thread knows it. */
export interface MatcherLane {
  port: import('node:worker_threads').MessagePort;
  /** [stateWords] i32 */
  state: SharedArrayBuffer;
  /** [maxNumSeqs, masksPerRow, maskWords] u32; what no draft used takes no memory */
  masks: SharedArrayBuffer;
}
