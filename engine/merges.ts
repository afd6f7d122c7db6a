// A tokenizer.json's merges are half of it: hundreds of thousands of strings that would be made for nothing
// where only the vocabulary is needed.

const [quote, backslash, opens, closes] = Buffer.from('"\\[]');
/** A name whose value is a list. In a string the quotes would be escaped. */
const key = Buffer.from('"merges"');
const beforeList = /^\s*:\s*\[/;

/** The JSON text with empty lists in their place. What is no JSON stays none. */
export function withoutMerges(json: Buffer): string {
  const parts: string[] = [];
  let kept = 0;
  for (let at = json.indexOf(key); at >= 0; at = json.indexOf(key, at + 1)) {
    const after = at + key.length;
    const match = beforeList.exec(json.toString('latin1', after, after + 32));
    if (match === null || json[at - 1] === backslash) continue;
    const start = after + match[0].length;
    const end = endOfList(json, start);
    if (end < 0) break;
    parts.push(json.toString('utf8', kept, start));
    kept = end;
    at = end;
  }
  return parts.join('') + json.toString('utf8', kept);
}

/** Where the `]` is that closes a list of which `start` is inside; -1 when there is none. */
function endOfList(json: Buffer, start: number): number {
  let depth = 1;
  let inString = false;
  for (let at = start; at < json.length; at++) {
    const byte = json[at];
    if (byte === quote) inString = !inString;
    else if (inString) at += byte === backslash ? 1 : 0;
    else if (byte === opens) depth++;
    else if (byte === closes && --depth === 0) return at;
  }
  return -1;
}
