// A tokenizer.json's merges are more than half of it, hundreds of thousands of them: text that would be
// parsed for nothing where only the vocabulary is needed, and where they are needed may have a slow form.

const [quote, backslash, opens, closes, comma, space] = Buffer.from('"\\[], ');
/** A name whose value is a list. In a string the quotes would be escaped. */
const key = Buffer.from('"merges"');
const beforeList = /^\s*:\s*\[/;

/** What stands instead of the inside of a list, and where its `]` is. */
interface Replacement {
  text: string;
  end: number;
}

/** The JSON text with empty lists in their place. What is no JSON stays none. */
export function withoutMerges(json: Buffer): string {
  return replaceMerges(json, emptied);
}

/**
 * The JSON text with merges `["a", "b"]` in the older form "a b", which is a third of the text and takes the
 * tokenizer half the time to read. As they are where that form does not say the same.
 */
export function withJoinedMerges(json: Buffer): string {
  return replaceMerges(json, joined);
}

/** `replace` gets where the inside of a list starts; null leaves the list. */
function replaceMerges(json: Buffer, replace: (json: Buffer, start: number) => Replacement | null): string {
  const parts: string[] = [];
  let kept = 0;
  for (let at = json.indexOf(key); at >= 0; at = json.indexOf(key, at + 1)) {
    const after = at + key.length;
    const match = beforeList.exec(json.toString('latin1', after, after + 32));
    if (match === null || json[at - 1] === backslash) continue;
    const start = after + match[0].length;
    const replacement = replace(json, start);
    if (replacement === null) continue;
    parts.push(json.toString('utf8', kept, start), replacement.text);
    kept = replacement.end;
    at = replacement.end;
  }
  return parts.join('') + json.toString('utf8', kept);
}

function emptied(json: Buffer, start: number): Replacement | null {
  let depth = 1;
  let inString = false;
  for (let at = start; at < json.length; at++) {
    const byte = json[at];
    if (byte === quote) inString = !inString;
    else if (inString) at += byte === backslash ? 1 : 0;
    else if (byte === opens) depth++;
    else if (byte === closes && --depth === 0) return { text: '', end: at };
  }
  return null;
}

/**
 * Null for anything but pairs, and for pairs that would be others when joined: a space in a token would
 * divide it, and the tokenizer passes over what begins with "#version", the first line of a merges.txt.
 */
function joined(json: Buffer, start: number): Replacement | null {
  // Each pair loses at least its brackets and quotes.
  const out = Buffer.allocUnsafe(json.length - start);
  let length = 0;
  let at = start;
  const take = (expected: number) => {
    while (json[at] <= space) at++;
    if (json[at] !== expected) return false;
    at++;
    return true;
  };
  const copyString = () => {
    if (!take(quote)) return false;
    for (; at < json.length && json[at] !== space; at++) {
      if (json[at] === quote) return take(quote);
      out[length++] = json[at];
      if (json[at] === backslash) out[length++] = json[++at];
    }
    return false;
  };
  for (;;) {
    out[length++] = quote;
    if (!take(opens) || !copyString() || !take(comma)) return null;
    out[length++] = space;
    if (!copyString() || !take(closes)) return null;
    out[length++] = quote;
    if (take(closes)) break;
    if (!take(comma)) return null;
    out[length++] = comma;
  }
  const pairs = out.subarray(0, length);
  if (pairs.includes('\\u0020') || pairs.includes('"#version')) return null;
  return { text: pairs.toString('utf8'), end: at - 1 };
}
