// A matcher thread: the grammars' states of running requests, and the mask of tokens that each allows next.
// It sleeps on a counter in shared memory and never yields to its event loop once it runs; whoever finds it
// at one job for too long ends it.

import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { nowMs } from '../clock.ts';
import { allows, allowsMoreThan, type GrammarSource, maskWords, type Vocabulary } from './grammar.ts';
import { GrammarCompiler } from './grammar-compiler.ts';
import {
  compilingWord,
  currentWord,
  draftWord,
  inboxWord,
  jobWord,
  type MatcherLane,
  type MatcherWork,
  masksPerRow,
  matcherStatus,
  readyWord,
  statusWord,
  ticketWord,
} from './matcher-messages.ts';
import type { CompiledGrammar, GrammarMatcher } from './xgrammar.ts';

export interface MatcherThreadOptions extends MatcherLane {
  vocabulary: Vocabulary;
  /** The engine thread's own, whose first word wakes it. */
  engineSignals: SharedArrayBuffer;
}

/** Compiled grammars kept while no request uses them. */
const maxUnused = 32;
/** A mask that takes longer is called slow. */
const slowMs = 100;
/** A draft is followed no further when its masks, and the one before, take longer. */
const maxDraftMs = 10;
const noTokens = new Int32Array(0);
/** The engine thread is woken at least so often while answers come. */
const wakeIntervalMs = 0.5;

const options = workerData as MatcherThreadOptions;
const state = new Int32Array(options.state);
const masks = new Uint32Array(options.masks);
const engineSignals = new Int32Array(options.engineSignals);
const { vocabulary } = options;
const words = maskWords(vocabulary.vocabSize);

interface Kept {
  grammar: CompiledGrammar;
  numUsers: number;
}
interface Open {
  matcher: GrammarMatcher;
  kept: Kept;
}

/** By key, in the order of their last use. */
const grammars = new Map<string, Kept>();
const open = new Map<number, Open>();
let lastWakeMs = 0;

async function compiled(compiler: GrammarCompiler, key: string, source: GrammarSource) {
  const kept = grammars.get(key) ?? (await compileNow(compiler, source));
  grammars.delete(key);
  grammars.set(key, kept);
  const unused = [...grammars].filter(([other, { numUsers }]) => numUsers === 0 && other !== key);
  for (const [old, { grammar }] of unused.slice(0, Math.max(0, unused.length - maxUnused))) {
    grammars.delete(old);
    grammar.dispose();
  }
  return kept;
}

async function compileNow(compiler: GrammarCompiler, source: GrammarSource): Promise<Kept> {
  Atomics.store(state, compilingWord, 1);
  const grammar = await compiler.compile(source);
  Atomics.store(state, compilingWord, 0);
  return { grammar, numUsers: 0 };
}

function close(row: number): void {
  const closed = open.get(row);
  if (closed === undefined) return;
  open.delete(row);
  closed.matcher.dispose();
  closed.kept.numUsers--;
}

/** Marks what is worked on, so that a thread that does not come back can be blamed on one request. */
function begin(row: number): void {
  Atomics.store(state, currentWord, row + 1);
  Atomics.add(state, jobWord, 1);
}

function answer(
  row: number,
  ticket: number,
  matcher: GrammarMatcher,
  isAccepted: boolean,
  drafted: Int32Array,
): void {
  let status: number = matcherStatus.failed;
  let numDrafted = 0;
  if (isAccepted) {
    const startMs = nowMs();
    status = matcherStatus.complete;
    if (makeMask(matcher, row, 0)) {
      const isSlow = nowMs() - startMs > slowMs;
      status = isSlow ? matcherStatus.slow : matcherStatus.open;
      // The heavy lane's thread may not have been needed before.
      if (isSlow) parentPort?.postMessage('slow');
      else numDrafted = follow(matcher, row, drafted, startMs);
    }
  }
  Atomics.store(state, draftWord(row), numDrafted);
  Atomics.store(state, statusWord(row), status);
  Atomics.store(state, ticketWord(row), ticket);
  if (nowMs() - lastWakeMs > wakeIntervalMs) wakeEngine();
}

function maskOf(row: number, numDrafted: number): Uint32Array {
  const start = (row * masksPerRow + numDrafted) * words;
  return masks.subarray(start, start + words);
}

/** Whether it allows more than the end. */
function makeMask(matcher: GrammarMatcher, row: number, numDrafted: number): boolean {
  const mask = maskOf(row, numDrafted);
  matcher.writeNextTokenBitmask(mask);
  return allowsMoreThan(mask, vocabulary.stopTokenIds);
}

/**
 * Makes the masks after drafted tokens, as far as the grammar allows them and does not end: where it does,
 * the token that completes it is left to be sampled. Leaves the matcher as it was.
 */
function follow(matcher: GrammarMatcher, row: number, drafted: Int32Array, startMs: number): number {
  let numAccepted = 0;
  let numOpen = 0;
  for (const tokenId of drafted) {
    const isAllowed = allows(maskOf(row, numOpen), tokenId) && !vocabulary.stopTokenIds.includes(tokenId);
    if (!isAllowed || nowMs() - startMs > maxDraftMs) break;
    if (!matcher.acceptToken(tokenId)) break;
    numAccepted++;
    if (!makeMask(matcher, row, numOpen + 1)) break;
    numOpen++;
  }
  if (numAccepted > 0) matcher.rollBack(numAccepted);
  return numOpen;
}

function wakeEngine(): void {
  Atomics.add(engineSignals, 0, 1);
  Atomics.notify(engineSignals, 0);
  lastWakeMs = nowMs();
}

async function take(compiler: GrammarCompiler, { closed, opened, advanced }: MatcherWork): Promise<void> {
  for (const row of closed) close(row);
  for (const { row, key, source, tokenIds, ticket } of opened) {
    begin(row);
    close(row);
    const kept = await compiled(compiler, key, source);
    kept.numUsers++;
    const matcher = await compiler.match(kept.grammar);
    open.set(row, { matcher, kept });
    const isAccepted = tokenIds.every((id) => matcher.acceptToken(id));
    if (ticket !== 0) answer(row, ticket, matcher, isAccepted, noTokens);
  }
  for (let i = 0; i < advanced.length; ) {
    const [row, ticket, numTokens, numDrafted] = advanced.subarray(i, i + 4);
    const tokenIds = advanced.subarray(i + 4, i + 4 + numTokens);
    i += 4 + numTokens + numDrafted;
    const { matcher } = open.get(row) ?? {};
    if (matcher === undefined) throw new Error(`row ${row} has no matcher`);
    begin(row);
    const isAccepted = tokenIds.every((id) => matcher.acceptToken(id));
    answer(row, ticket, matcher, isAccepted, advanced.subarray(i - numDrafted, i));
  }
  Atomics.store(state, currentWord, 0);
  if (opened.length + advanced.length > 0) wakeEngine();
}

const compiler = await GrammarCompiler.open(vocabulary);
Atomics.store(state, readyWord, 1);
for (;;) {
  // The counter is read before the messages: one that comes in between makes the wait return at once.
  const seen = Atomics.load(state, inboxWord);
  for (
    let next = receiveMessageOnPort(options.port);
    next !== undefined;
    next = receiveMessageOnPort(options.port)
  ) {
    await take(compiler, next.message as MatcherWork);
  }
  Atomics.wait(state, inboxWord, seen);
}
