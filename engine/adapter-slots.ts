// Which adapter is in which of the model's slots. All adapters stay in host memory; the slots hold those
// that run, and the ones used last.

import type { AdapterTensor } from './lora-adapter.ts';
import type { NativeModel } from './native.ts';
import type { Request } from './request.ts';

interface Adapter {
  tensors: AdapterTensor[];
  /** Null while it is only in host memory. */
  slot: number | null;
  /** Requests of its, waiting ones included; it stays in memory while there are any. */
  numRequests: number;
  /** Running ones; it stays in its slot while there are any. */
  numRunning: number;
  /** Unloaded by its owner: forgotten once its last request has ended. */
  isLeaving: boolean;
}

export class AdapterSlots {
  readonly #model: Pick<NativeModel, 'loadAdapter' | 'unloadAdapter'>;
  /** In the order of their last use, least recent first. */
  readonly #adapters = new Map<number, Adapter>();
  readonly #freeSlots: number[];

  constructor(model: Pick<NativeModel, 'loadAdapter' | 'unloadAdapter'>, numSlots: number) {
    this.#model = model;
    this.#freeSlots = Array.from({ length: numSlots }, (_, i) => numSlots - 1 - i);
  }

  add(id: number, tensors: AdapterTensor[]): void {
    this.#adapters.set(id, { tensors, slot: null, numRequests: 0, numRunning: 0, isLeaving: false });
  }

  remove(id: number): void {
    const adapter = this.#adapters.get(id);
    if (adapter === undefined) return;
    adapter.isLeaving = true;
    this.#forgetIfUnused(id, adapter);
  }

  /** A request for the adapter has come. */
  open(id: number): void {
    this.#of(id).numRequests++;
  }

  /** It has ended, wherever it was. */
  close(id: number): void {
    const adapter = this.#of(id);
    adapter.numRequests--;
    this.#forgetIfUnused(id, adapter);
  }

  /** The adapter could run if the requests of `without` did not: it is in a slot, or one can be had. */
  canUse(id: number, without: readonly Request[] = []): boolean {
    if (this.#of(id).slot !== null || this.#freeSlots.length > 0) return true;
    const leaving = new Map<number, number>();
    for (const { spec } of without) {
      if (spec.adapterId !== null) leaving.set(spec.adapterId, (leaving.get(spec.adapterId) ?? 0) + 1);
    }
    return [...this.#adapters].some(
      ([other, { slot, numRunning }]) => slot !== null && numRunning === (leaving.get(other) ?? 0),
    );
  }

  /** Brings the adapter into a slot for a request that begins to run; returns it. canUse(id) must hold. */
  use(id: number): number {
    const adapter = this.#of(id);
    adapter.slot ??= this.#takeSlot(adapter);
    adapter.numRunning++;
    this.#adapters.delete(id);
    this.#adapters.set(id, adapter);
    return adapter.slot;
  }

  /** A request that used the adapter runs no longer; it may wait again. */
  release(id: number): void {
    this.#of(id).numRunning--;
  }

  #of(id: number): Adapter {
    const adapter = this.#adapters.get(id);
    if (adapter === undefined) throw new Error(`adapter ${id} does not exist`);
    return adapter;
  }

  #takeSlot({ tensors }: Adapter): number {
    let slot = this.#freeSlots.pop();
    if (slot === undefined) {
      const evicted = this.#leastRecentUnused();
      if (evicted?.slot == null) throw new Error('no adapter slot is free');
      slot = evicted.slot;
      evicted.slot = null;
    }
    this.#model.loadAdapter(slot, tensors);
    return slot;
  }

  #leastRecentUnused(): Adapter | null {
    for (const adapter of this.#adapters.values()) {
      if (adapter.slot !== null && adapter.numRunning === 0) return adapter;
    }
    return null;
  }

  #forgetIfUnused(id: number, adapter: Adapter): void {
    if (!adapter.isLeaving || adapter.numRequests > 0) return;
    if (adapter.slot !== null) {
      this.#model.unloadAdapter(adapter.slot);
      this.#freeSlots.push(adapter.slot);
    }
    this.#adapters.delete(id);
  }
}
