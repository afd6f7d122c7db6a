// The engine thread. It opens the model, then turns the loop and never yields to its event loop: it sleeps on
// a counter in shared memory when there is nothing to do. No console here: a thread that never yields cannot
// flush it.

import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { nowMs } from './clock.ts';
import { EngineLoop } from './engine-loop.ts';
import { Matchers } from './grammar/matchers.ts';
import type { EngineThreadOptions, FromEngine, ToEngine } from './messages.ts';
import { type NativeModel, openNativeModel } from './native.ts';
import { NullModel } from './null-model.ts';
import type { Drafter } from './speculation/drafter.ts';
import { makeDrafter, openDraftModel } from './speculation/open-drafter.ts';

const inboxWord = 0;
const heartbeatWord = 1;
/** How long the idle thread sleeps at most, so that its heartbeat goes on. */
const idleSleepMs = 200;
/** Share of available memory that the KV cache takes unless told otherwise. */
const defaultMemoryShare = 0.4;
/** KV blocks of the null model, which have no bytes. */
const nullModelBlocks = 1 << 16;

const { port, options } = workerData as { port: MessagePort; options: EngineThreadOptions };
const signals = new Int32Array(options.signals);
const blocksPerSeq = Math.ceil(options.maxModelLen / options.blockSize);

/** Both compute in turns, so one set of threads is enough for them. */
function openModel(draftModel: NativeModel | null): NativeModel {
  if (options.model === null)
    return new NullModel({ ...options, maxBlocksPerSeq: blocksPerSeq }, options.nullStepMs);
  return openNativeModel(options.model.config, options.model.files, options.model.options, draftModel);
}

/** What the KV cache may take: of a GPU nearly all that is left, of the host's memory a part. */
function availableBytes({ memory }: NativeModel): number {
  if (memory.totalBytes === 0) return process.availableMemory() * defaultMemoryShare;
  return Math.max(0, memory.freeBytes - memory.totalBytes * (1 - options.gpuMemoryUtilization));
}

/** KV blocks that requests may use, each of so many bytes; the null block comes on top. */
function countBlocks(model: NativeModel, kvBytesPerBlock: number): number {
  if (options.numBlocksOverride !== null) return options.numBlocksOverride;
  if (kvBytesPerBlock === 0) return nullModelBlocks;
  const asked = options.kvCacheBytes ?? availableBytes(model);
  const fitting = Math.floor(asked / kvBytesPerBlock) - 1;
  const useful = blocksPerSeq * options.maxNumSeqs;
  const numBlocks = options.kvCacheBytes === null ? Math.min(fitting, useful) : fitting;
  if (numBlocks < blocksPerSeq) {
    const needed = (blocksPerSeq + 1) * kvBytesPerBlock;
    const giver =
      options.kvCacheBytes === null && model.memory.totalBytes > 0
        ? '--gpu-memory-utilization'
        : '--kv-cache-memory';
    const fits = Math.max(0, numBlocks) * options.blockSize;
    throw new Error(
      `the KV cache has ${Math.floor(asked)} bytes and one request of ${options.maxModelLen} tokens needs ${needed}: ` +
        `give more with ${giver}, or set --max-model-len to ${fits} or less`,
    );
  }
  return numBlocks;
}

function memoryOf({ memory }: NativeModel, drafter: Drafter | null): Drafter['memory'] {
  return {
    weightBytes: memory.weightBytes + (drafter?.memory.weightBytes ?? 0),
    kvBytesPerBlock: memory.kvBytesPerBlock + (drafter?.memory.kvBytesPerBlock ?? 0),
  };
}

function post(message: FromEngine): void {
  port.postMessage(message);
}

function start(): EngineLoop {
  const startMs = nowMs();
  // First, so that the model finds on a GPU what it leaves free.
  const draftModel = openDraftModel(options);
  const model = openModel(draftModel);
  const drafter = makeDrafter(options, draftModel);
  const { weightBytes, kvBytesPerBlock } = memoryOf(model, drafter);
  const numBlocks = countBlocks(model, kvBytesPerBlock);
  model.allocateKvCache(numBlocks + 1);
  drafter?.allocateKvCache(numBlocks + 1);
  post({
    type: 'ready',
    description: model.description,
    openMs: nowMs() - startMs,
    packedCaches: [model, draftModel].flatMap((opened) => opened?.packedCache ?? []),
    weightBytes,
    kvCacheBytes: (numBlocks + 1) * kvBytesPerBlock,
    numBlocks,
    blockSize: options.blockSize,
    maxModelLen: options.maxModelLen,
  });
  const matchers = new Matchers(signals, options.vocabSize);
  const maxDraftedRequests = options.speculation?.disableByBatchSize ?? Number.POSITIVE_INFINITY;
  const loopOptions = { ...options, numBlocks: numBlocks + 1, maxDraftedRequests };
  return new EngineLoop(model, loopOptions, matchers, nowMs, drafter);
}

/** Hands every waiting message to the loop; false when one says stop. */
function drain(loop: EngineLoop): boolean {
  for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
    const message = next.message as ToEngine;
    if (message.type === 'stop') return false;
    loop.handle(message);
  }
  return true;
}

function run(): void {
  const loop = start();
  for (;;) {
    Atomics.add(signals, heartbeatWord, 1);
    // The counter is read before the messages: one that comes in between makes the wait below return at once.
    const seen = Atomics.load(signals, inboxWord);
    if (!drain(loop)) return;
    const output = loop.hasWork ? loop.step() : null;
    if (output !== null) post(output);
    else Atomics.wait(signals, inboxWord, seen, idleSleepMs);
  }
}

try {
  run();
} catch (error) {
  post({ type: 'fatal', message: error instanceof Error ? error.message : String(error) });
}
port.close();
