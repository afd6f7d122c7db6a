/** Monotonic milliseconds, comparable across the threads of this process. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
