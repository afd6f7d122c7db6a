// What each token id stands for, as bytes: the tokenizer's vocabulary turned around once, for all
// detokenizers.
//
// Three kinds of vocabularies exist, told apart by tokenizer.json's decoder: byte-level BPE (every character
// of a token stands for one byte, GPT-2's alphabet), SentencePiece with byte fallback (▁ is a space, <0x0A>
// is a byte), and WordPiece (## continues a word, everything else starts one).

import { isObject, type JsonObject, shown } from './json-fields.ts';
import { ModelError } from './model-error.ts';
import { type Vocabulary, vocabularyOf } from './vocabulary.ts';

type VocabularyKind = 'byte-level' | 'sentencepiece' | 'wordpiece';

/** GPT-2's alphabet: printable bytes stand for themselves, the others for characters from U+0100 on. */
export function characterOfByte(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(isPrintable ? byte : next++);
  });
}

function decodersOf(decoder: unknown): JsonObject[] {
  if (!isObject(decoder)) return [];
  return decoder.type === 'Sequence' && Array.isArray(decoder.decoders) ? decoder.decoders : [decoder];
}

export class TokenBytes {
  /** As the vocabulary spells them; the made bytes are kept beside them, since most are never needed. */
  readonly #tokens: ReadonlyArray<string | undefined>;
  readonly #bytes: Array<Uint8Array | undefined>;
  readonly #toBytes: (token: string) => Uint8Array;
  readonly #special: ReadonlySet<number>;
  /** Ids of the tokens that were added to the vocabulary, by their text. */
  readonly #added: ReadonlyMap<string, number>;
  readonly #kind: VocabularyKind;
  /** The decoder takes one space off the front of a whole text. */
  readonly stripsFirstSpace: boolean;

  private constructor(
    kind: VocabularyKind,
    tokens: ReadonlyArray<string | undefined>,
    toBytes: (token: string) => Uint8Array,
    addedBytes: Array<Uint8Array | undefined>,
    special: ReadonlySet<number>,
    added: ReadonlyMap<string, number>,
    strips: boolean,
  ) {
    this.#kind = kind;
    this.#tokens = tokens;
    this.#toBytes = toBytes;
    this.#bytes = addedBytes;
    this.#special = special;
    this.#added = added;
    this.stripsFirstSpace = strips;
  }

  /**
   * `taken`: its vocabulary, where the object has none. Throws ModelError when the tokenizer is of a kind that
   * is not supported. `path` is for errors.
   */
  static fromJson(tokenizer: JsonObject, path: string, taken: Vocabulary | null = null): TokenBytes {
    const decoders = decodersOf(tokenizer.decoder);
    const types = decoders.map(({ type }) => type);
    const kind: VocabularyKind | null = types.includes('ByteLevel')
      ? 'byte-level'
      : types.includes('WordPiece')
        ? 'wordpiece'
        : types.includes('ByteFallback') || types.includes('Metaspace')
          ? 'sentencepiece'
          : null;
    if (kind === null) {
      throw new ModelError(
        `${path}: decoder ${shown(tokenizer.decoder)} is not supported, supported are ByteLevel, ByteFallback, Metaspace, WordPiece`,
      );
    }
    const tokens = taken ?? vocabularyOf(tokenizer.model, path);
    const bytes: Array<Uint8Array | undefined> = [];
    const toBytes = tokenBytesOf(kind, decoders);
    const special = new Set<number>();
    const ids = new Map<string, number>();
    const encoder = new TextEncoder();
    for (const added of Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []) {
      if (!isObject(added) || typeof added.content !== 'string' || typeof added.id !== 'number') continue;
      // WordPiece puts a space before added tokens too; elsewhere they stand for themselves.
      tokens[added.id] = added.content;
      bytes[added.id] = kind === 'wordpiece' ? toBytes(added.content) : encoder.encode(added.content);
      if (added.special === true) special.add(added.id);
      ids.set(added.content, added.id);
    }
    const strips = decoders.some(
      ({ type, content, start, prepend_scheme: scheme }) =>
        (type === 'Strip' && content === ' ' && start === 1) || (type === 'Metaspace' && scheme !== 'never'),
    );
    return new TokenBytes(kind, tokens, toBytes, bytes, special, ids, strips && kind === 'sentencepiece');
  }

  isSpecial(tokenId: number): boolean {
    return this.#special.has(tokenId);
  }

  /** Of a token that was added to the vocabulary as one piece of text, such as a mark of the chat format. */
  addedTokenId(text: string): number | undefined {
    return this.#added.get(text);
  }

  /**
   * Bytes the token adds to a text; `isFirst` when no text comes before it. Ids beyond the vocabulary add
   * none.
   */
  bytesOf(tokenId: number, isFirst: boolean): Uint8Array {
    const bytes = this.#bytesOf(tokenId);
    // A WordPiece word starts with a space unless the text starts with it.
    return this.#kind === 'wordpiece' && isFirst && bytes[0] === space ? bytes.subarray(1) : bytes;
  }

  #bytesOf(tokenId: number): Uint8Array {
    const known = this.#bytes[tokenId];
    if (known !== undefined) return known;
    const token = this.#tokens[tokenId];
    if (token === undefined) return noBytes;
    const bytes = this.#toBytes(token);
    this.#bytes[tokenId] = bytes;
    return bytes;
  }

  /**
   * The whole text, as the tokenizers library decodes it; bytes that are not UTF-8 become U+FFFD as the
   * Encoding standard has it.
   */
  decode(tokenIds: Iterable<number>, skipSpecialTokens: boolean): string {
    const parts: Uint8Array[] = [];
    for (const id of tokenIds) {
      if (skipSpecialTokens && this.#special.has(id)) continue;
      const bytes = this.bytesOf(id, parts.length === 0);
      if (bytes.length > 0) parts.push(bytes);
    }
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts));
    return this.stripsFirstSpace && text.startsWith(' ') ? text.slice(1) : text;
  }

  /**
   * Every token in GPT-2's alphabet, one character a byte. Empty are special tokens, which no grammar may
   * use, and tokens with bytes that UTF-8 never has.
   */
  inByteAlphabet(): string[] {
    const alphabet = characterOfByte();
    return Array.from({ length: this.#tokens.length }, (_, id) => {
      const bytes = this.#bytesOf(id);
      if (this.#special.has(id) || bytes.some(isNeverInUtf8)) return '';
      return Array.from(bytes, (byte) => alphabet[byte]).join('');
    });
  }

  /** The lowest id that stands for other bytes in the other vocabulary, of those that both have. */
  firstDifference(other: TokenBytes): number | null {
    const id = this.#tokens.findIndex((token, at) => {
      if (token === undefined || other.#tokens[at] === undefined) return false;
      return Buffer.compare(this.#bytesOf(at), other.#bytesOf(at)) !== 0;
    });
    return id < 0 ? null : id;
  }

  tokenText(tokenId: number): { text: string; bytes: Uint8Array } {
    const bytes = this.bytesOf(tokenId, false);
    return { text: new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), bytes };
  }
}

const isNeverInUtf8 = (byte: number) => byte === 0xc0 || byte === 0xc1 || byte > 0xf4;

const space = 0x20;
const noBytes = new Uint8Array(0);

/** What a WordPiece decoder with `cleanup` writes without the space before it. */
const closing = new Set(['.', '?', '!', ',', "n't", "'m", "'s", "'ve", "'re"]);

function tokenBytesOf(kind: VocabularyKind, decoders: readonly JsonObject[]): (token: string) => Uint8Array {
  const encoder = new TextEncoder();
  switch (kind) {
    case 'byte-level': {
      const byteOf = new Map(characterOfByte().map((character, byte) => [character, byte]));
      return (token) => {
        const bytes = Array.from(token, (character) => byteOf.get(character));
        // A token outside the alphabet was added as it stands.
        return bytes.includes(undefined) ? encoder.encode(token) : Uint8Array.from(bytes as number[]);
      };
    }
    case 'sentencepiece':
      return (token) => {
        const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
        return byte === null
          ? encoder.encode(token.replaceAll('\u2581', ' '))
          : Uint8Array.of(Number.parseInt(byte[1], 16));
      };
    case 'wordpiece': {
      const cleansUp = decoders.some(({ type, cleanup }) => type === 'WordPiece' && cleanup === true);
      return (token) => {
        if (token.startsWith('##')) return encoder.encode(token.slice(2));
        return encoder.encode(cleansUp && closing.has(token) ? token : ` ${token}`);
      };
    }
  }
}
