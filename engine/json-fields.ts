// Reading untrusted JSON objects field by field, with errors that name the file, the field, what was found
// and what is allowed.

import { readFile } from 'node:fs/promises';
import { ModelError } from './model-error.ts';

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Shows a value in an error without letting a file fill the terminal. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

export async function readJsonObject(path: string): Promise<JsonObject> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new ModelError(`${path} cannot be read: ${(error as Error).message}`);
  }
  return parseJsonObject(text, path);
}

/** `path` is where the text is from, for errors. */
export function parseJsonObject(text: string, path: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ModelError(`${path} is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new ModelError(`${path} holds ${shown(value)}, expected an object`);
  return value;
}

/** One object of a file, read with ranges checked. */
export class Fields {
  readonly #object: JsonObject;
  readonly #where: string;

  constructor(object: JsonObject, where: string) {
    this.#object = object;
    this.#where = where;
  }

  get(name: string): unknown {
    return this.#object[name] ?? undefined;
  }

  fail(name: string, allowed: string): never {
    throw new ModelError(`${this.#where}: ${name} is ${shown(this.#object[name])}, allowed: ${allowed}`);
  }

  /** A whole number in [low, high]; `fallback` when absent or null, which is an error without one. */
  integer(name: string, low: number, high: number, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
    return this.fail(name, `a whole number from ${low} to ${high}`);
  }

  number(name: string, low: number, high: number, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value === 'number' && value >= low && value <= high) return value;
    return this.fail(name, `a number from ${low} to ${high}`);
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name) ?? fallback;
    return typeof value === 'boolean' ? value : this.fail(name, 'true or false');
  }

  text(name: string, fallback?: string): string {
    const value = this.get(name) ?? fallback;
    return typeof value === 'string' ? value : this.fail(name, 'a string');
  }
}
