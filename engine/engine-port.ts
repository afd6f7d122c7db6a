// The HTTP thread's end of the engine thread: starts it, posts to it, hears from it, and knows when it has
// died.

import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { nowMs } from './clock.ts';
import type { MatcherLane } from './grammar/matcher-messages.ts';
import type { AdapterTensor } from './lora-adapter.ts';
import type {
  ControlAction,
  EngineRequest,
  EngineThreadOptions,
  FromEngine,
  StepOutput,
  ToEngine,
} from './messages.ts';

/** Words of EngineThreadOptions.signals. */
const inboxWord = 0;
const heartbeatWord = 1;
const signalWords = 4;

/** How often the heartbeat is looked at; its age is known to within this. */
const heartbeatSampleMs = 250;

export type EngineReady = Extract<FromEngine, { type: 'ready' }>;

export class EnginePort {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #signals: Int32Array;
  readonly #heartbeatTimer: NodeJS.Timeout;
  readonly #exited: Promise<void>;
  #lastHeartbeat = 0;
  #lastHeartbeatMs = nowMs();
  #closing = false;
  /** Set when the thread is gone; a broken invariant's own message when it had one. */
  #cause: Error | null = null;
  #onReady: ((ready: EngineReady) => void) | null = null;
  #onDeath: ((cause: Error) => void) | null = null;
  readonly #onStep: (output: StepOutput) => void;
  readonly died: Promise<Error>;

  private constructor(
    options: Omit<EngineThreadOptions, 'signals'>,
    entry: URL,
    onStep: (output: StepOutput) => void,
  ) {
    const signals = new SharedArrayBuffer(signalWords * 4);
    this.#signals = new Int32Array(signals);
    this.#onStep = onStep;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.died = new Promise((resolve) => {
      this.#onDeath = resolve;
    });
    this.#worker = new Worker(entry, {
      workerData: { port: port2, options: { ...options, signals } },
      transferList: [port2],
      name: 'quire-engine',
    });
    this.#port.on('message', (message: FromEngine) => this.#receive(message));
    this.#worker.on('error', (error) => this.#die(error));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        // A message posted just before the exit may still be on its way to this thread; hear it first.
        setImmediate(() => {
          this.#die(new Error(`the engine thread ended with code ${code}`));
          resolve();
        });
      });
    });
    this.#heartbeatTimer = setInterval(() => this.#sampleHeartbeat(), heartbeatSampleMs).unref();
  }

  /** Starts the thread and waits until its model is loaded. Rejects with the cause in one line. */
  static async start(
    options: Omit<EngineThreadOptions, 'signals'>,
    entry: URL,
    onStep: (output: StepOutput) => void,
  ): Promise<{ port: EnginePort; ready: EngineReady }> {
    const port = new EnginePort(options, entry, onStep);
    const ready = await Promise.race([
      new Promise<EngineReady>((resolve) => {
        port.#onReady = resolve;
      }),
      port.died.then((cause) => Promise.reject(cause)),
    ]);
    return { port, ready };
  }

  add(request: EngineRequest): void {
    this.#post({ type: 'add', request }, [request.promptTokenIds.buffer as ArrayBuffer]);
  }

  abort(handles: number[]): void {
    this.#post({ type: 'abort', handles });
  }

  addAdapter(id: number, tensors: AdapterTensor[]): void {
    this.#post(
      { type: 'addAdapter', id, tensors },
      tensors.flatMap(({ a, b }) => [a.buffer as ArrayBuffer, b.buffer as ArrayBuffer]),
    );
  }

  removeAdapter(id: number): void {
    this.#post({ type: 'removeAdapter', id });
  }

  /** [0] is the inbox counter that the engine thread sleeps on. */
  get signals(): SharedArrayBuffer {
    return this.#signals.buffer as SharedArrayBuffer;
  }

  setMatcherLane(lane: number, thread: MatcherLane | null): void {
    this.#post({ type: 'matcherLane', lane, thread }, thread === null ? [] : [thread.port]);
  }

  control(id: number, action: ControlAction): void {
    this.#post({ type: 'control', id, action });
  }

  /** Milliseconds since the step loop last turned; null when the thread is gone. */
  heartbeatAgeMs(): number | null {
    if (this.#cause !== null) return null;
    this.#sampleHeartbeat();
    return nowMs() - this.#lastHeartbeatMs;
  }

  /** Ends the thread after the step it is in. */
  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#heartbeatTimer);
    this.#post({ type: 'stop' });
    await this.#exited;
    this.#port.close();
  }

  #post(message: ToEngine, transfer: (ArrayBuffer | MessagePort)[] = []): void {
    if (this.#cause !== null) return;
    this.#port.postMessage(message, transfer);
    Atomics.add(this.#signals, inboxWord, 1);
    Atomics.notify(this.#signals, inboxWord);
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case 'step':
        this.#onStep(message);
        return;
      case 'ready':
        this.#onReady?.(message);
        return;
      case 'fatal':
        this.#die(new Error(message.message));
        return;
    }
  }

  #sampleHeartbeat(): void {
    const heartbeat = Atomics.load(this.#signals, heartbeatWord);
    if (heartbeat === this.#lastHeartbeat) return;
    this.#lastHeartbeat = heartbeat;
    this.#lastHeartbeatMs = nowMs();
  }

  #die(cause: Error): void {
    if (this.#cause !== null) return;
    this.#cause = cause;
    clearInterval(this.#heartbeatTimer);
    // An asked-for end is no death.
    if (!this.#closing) this.#onDeath?.(cause);
  }
}
