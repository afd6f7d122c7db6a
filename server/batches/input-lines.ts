// A file cut into lines, chunk by chunk.

export interface InputLine {
  /** From 1, blank ones counted. */
  number: number;
  /** Of the line in the file, in bytes, without its end. */
  start: number;
  length: number;
  /** Null when it is longer than it may be. */
  bytes: Buffer | null;
}

const newline = 0x0a;
const carriageReturn = 0x0d;
const byteOrderMark = Buffer.from('\ufeff');

/** Lines end in \n or \r\n, the last one also with the file. Never holds more than maxBytes and a chunk. */
export async function* inputLines(
  chunks: AsyncIterable<Buffer>,
  maxBytes: number,
): AsyncGenerator<InputLine[]> {
  let number = 0;
  let start = 0;
  let length = 0;
  let parts: Buffer[] = [];
  const grow = (part: Buffer) => {
    length += part.length;
    if (length > maxBytes) parts = [];
    else parts.push(part);
  };
  const end = (): InputLine => {
    number++;
    const line = length > maxBytes ? { number, start, length, bytes: null } : trimmed(number, start, parts);
    start += length + 1;
    length = 0;
    parts = [];
    return line;
  };
  for await (const chunk of chunks) {
    const lines: InputLine[] = [];
    let from = 0;
    for (let to = chunk.indexOf(newline); to >= 0; to = chunk.indexOf(newline, from)) {
      grow(chunk.subarray(from, to));
      lines.push(end());
      from = to + 1;
    }
    grow(chunk.subarray(from));
    yield lines;
  }
  if (length > 0) yield [end()];
}

/** Without a mark at the beginning of the file and the first half of a \r\n. */
function trimmed(number: number, start: number, parts: Buffer[]): InputLine {
  let bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts);
  const skipped = start === 0 && bytes.subarray(0, 3).equals(byteOrderMark) ? 3 : 0;
  bytes = bytes.subarray(skipped, bytes.at(-1) === carriageReturn ? -1 : undefined);
  return { number, start: start + skipped, length: bytes.length, bytes };
}
