// The items of a realtime session, in their order and within limits.

import { ApiError } from '../errors.ts';
import type { Item } from '../responses/input-items.ts';
import { shown } from '../validation.ts';

const maxItems = 10_000;

export class RealtimeConversation {
  readonly #maxBytes: number;
  readonly #items: Item[] = [];
  #numBytes = 0;

  /** `maxBytes`: of its items as JSON, together. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  /**
   * After the item of this id, `root` for the beginning, null for the end. Returns the id of what it stands
   * after. Throws for an id that is there, or a place that is not, or when there is no room.
   */
  insert(item: Item, previousId: string | null): string | null {
    if (this.find(item.id) !== null)
      throw new ApiError(
        'invalid_value',
        `item.id: found ${shown(item.id)}, which is there already`,
        'item.id',
      );
    const at = this.#placeAfter(previousId);
    if (this.#items.length >= maxItems || this.#numBytes + sizeOf(item) > this.#maxBytes) {
      throw new ApiError(
        'invalid_value',
        `item: found no room in the conversation, allowed: ${maxItems} items and ${this.#maxBytes} bytes`,
        'item',
      );
    }
    this.#put(item, at);
    return this.#items[at - 1]?.id ?? null;
  }

  /** What a response made: as long as its own limits let it be. */
  append(items: readonly Item[]): void {
    for (const item of items) this.#put(item, this.#items.length);
  }

  find(id: string): Item | null {
    return this.#items.find((item) => item.id === id) ?? null;
  }

  /** Throws when there is none. */
  get(id: string): Item {
    const item = this.find(id);
    if (item !== null) return item;
    throw new ApiError(
      'invalid_value',
      `item_id: found ${shown(id)}, which is not in the conversation`,
      'item_id',
    );
  }

  delete(id: string): void {
    const item = this.get(id);
    this.#items.splice(this.#items.indexOf(item), 1);
    this.#numBytes -= sizeOf(item);
  }

  #placeAfter(previousId: string | null): number {
    if (previousId === null) return this.#items.length;
    if (previousId === 'root') return 0;
    const at = this.#items.findIndex(({ id }) => id === previousId);
    if (at >= 0) return at + 1;
    const field = 'previous_item_id';
    throw new ApiError(
      'invalid_value',
      `${field}: found ${shown(previousId)}, which is not in the conversation`,
      field,
    );
  }

  #put(item: Item, at: number): void {
    this.#items.splice(at, 0, item);
    this.#numBytes += sizeOf(item);
  }
}

const sizeOf = (item: Item) => JSON.stringify(item).length;
