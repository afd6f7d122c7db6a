// What a text may be asked to match, and what becomes of it on the way to the samplers.

/** What a caller asks for. */
export type GrammarRequest =
  | { type: 'json_schema'; schema: unknown }
  /** Any JSON object. */
  | { type: 'json_object' }
  /** ECMAScript's syntax; the whole text matches. */
  | { type: 'regex'; pattern: string }
  /** One of these texts. */
  | { type: 'choice'; choices: readonly string[] }
  /** xgrammar's EBNF, with a rule `root`. */
  | { type: 'ebnf'; grammar: string }
  /** Free text in which tags begin parts that follow a schema or grammar; xgrammar's format. */
  | { type: 'structural_tag'; tag: unknown };

/** The same in the two forms that are compiled. */
export interface GrammarSource {
  type: 'ebnf' | 'structural_tag';
  text: string;
}

/** Matcher threads: cheap grammars are apart from those that take long to compile or to match. */
export const lightLane = 0;
export const heavyLane = 1;
export const numLanes = 2;

/** Drafted tokens of a request that a matcher follows in one step, each for a mask. */
export const maxDraftMasks = 8;

/** A grammar that was compiled once, as Engine.generate takes it. */
export interface Grammar {
  /** Hash of what was asked for. */
  key: string;
  source: GrammarSource;
  /**
   * [ceil(vocabSize / 32)] over shared memory: bit i % 32 of word i / 32 is set when token i may come first.
   */
  firstMask: Uint32Array;
  lane: number;
}

/** The tokenizer as xgrammar sees it. */
export interface Vocabulary {
  /** The bytes of each token in GPT-2's alphabet; empty for tokens that no grammar may use. */
  tokens: readonly string[];
  /** Logits of the model; ids beyond `tokens` are never allowed. */
  vocabSize: number;
  /** End-of-sequence tokens, allowed where the grammar is complete. */
  stopTokenIds: readonly number[];
}

/** Words of one mask. */
export function maskWords(vocabSize: number): number {
  return Math.ceil(vocabSize / 32);
}

/** The mask, and one token more. */
export function withToken(mask: Uint32Array, tokenId: number): Uint32Array {
  const wider = mask.slice();
  wider[tokenId >> 5] |= 1 << (tokenId & 31);
  return wider;
}

export function allows(mask: Uint32Array, tokenId: number): boolean {
  return ((mask[tokenId >> 5] >>> (tokenId & 31)) & 1) === 1;
}

/** Whether the mask allows a token besides these. */
export function allowsMoreThan(mask: Uint32Array, tokenIds: readonly number[]): boolean {
  for (let word = 0; word < mask.length; word++) {
    if (mask[word] === 0) continue;
    let rest = mask[word];
    for (const id of tokenIds) if (id >> 5 === word) rest &= ~(1 << (id & 31));
    if (rest !== 0) return true;
  }
  return false;
}
