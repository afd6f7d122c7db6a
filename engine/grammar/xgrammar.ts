// @mlc-ai/web-xgrammar, loaded as often as wanted: each load is a WebAssembly memory of its own.
//
// It is a UMD file in a package that calls itself ESM, so neither import nor require can load it; it says
// what is wrong with a grammar on its console and then aborts; its memory grows to 2 GiB and never shrinks;
// and it makes a promise and two copies for each mask, which take as long as a mask of 2,048 tokens. Hence
// it is compiled here as CommonJS, with a console and a WebAssembly of ours in place of the global ones, and
// with a method of ours for masks.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { compileFunction } from 'node:vm';

/** What is used of the library's interface (lib/xgrammar.d.ts). */
export interface Disposable {
  dispose(): void;
}
export type TokenizerInfo = Disposable;
export type CompiledGrammar = Disposable;
export interface GrammarCompiler extends Disposable {
  compileGrammar(grammar: Disposable): Promise<CompiledGrammar>;
}
export interface GrammarMatcher extends Disposable {
  /** False when the grammar does not allow the token. */
  acceptToken(tokenId: number): boolean;
  /** Takes back as many of the newest tokens. */
  rollBack(numTokens: number): void;
  /** mask: [ceil(vocabSize / 32)], bit i % 32 of word i / 32: token i is allowed. */
  writeNextTokenBitmask(mask: Uint32Array): void;
}

interface Library {
  Grammar: {
    fromEBNF(text: string): Promise<Disposable>;
    fromStructuralTag(json: string): Promise<Disposable>;
  };
  TokenizerInfo: {
    createTokenizerInfo(
      vocabulary: readonly string[],
      type: 'byte_level',
      prependsSpace: boolean,
      vocabSize: number,
      stopTokenIds: number[],
    ): Promise<TokenizerInfo>;
  };
  GrammarCompiler: {
    createGrammarCompiler(tokenizer: TokenizerInfo, isCached: boolean): Promise<GrammarCompiler>;
  };
  GrammarMatcher: { createGrammarMatcher(grammar: CompiledGrammar): Promise<GrammarMatcher> };
}

export interface Xgrammar extends Library {
  /** What the library said last before it aborted: its words for the client, without its own places. */
  takeComplaint(): string | null;
}

const file = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar');
let source: string | null = null;

const maskMethod = 'async getNextTokenBitmask() {';
/** Goes before it, in the same class. */
const ownMaskMethod = `writeNextTokenBitmask(mask) {
  const words = this.handle.GetNextTokenBitmask(this.vocab_size);
  mask.set(binding.vecIntToView(words));
  words.delete();
}
`;

function readSource(): string {
  const text = readFileSync(file, 'utf8').replaceAll('import(', 'importModule(');
  if (!text.includes(maskMethod)) throw new Error(`${file} has no ${maskMethod}: is it another version?`);
  return text.replace(maskMethod, `${ownMaskMethod}${maskMethod}`);
}

/** An instance whose memory may grow to so many bytes; what needs more aborts. */
export function loadXgrammar(maxMemoryBytes: number): Xgrammar {
  source ??= readSource();
  const said: string[] = [];
  const say = (...parts: unknown[]) => said.push(parts.join(' '));
  const module = { exports: {} as Library };
  const scope = {
    exports: module.exports,
    module,
    require: createRequire(file),
    __filename: file,
    console: { log: say, warn: say, error: say },
    WebAssembly: boundedWebAssembly(maxMemoryBytes),
    // import() itself is not to be had in code that is compiled like this.
    importModule: (name: string) => import(name),
  };
  compileFunction(source, Object.keys(scope), { filename: file })(...Object.values(scope));
  return {
    ...module.exports,
    takeComplaint() {
      const complaint = said.map(inPlainWords).find((text) => text !== null) ?? null;
      said.length = 0;
      return complaint;
    },
  };
}

interface Memory {
  buffer: ArrayBuffer;
  grow(pages: number): number;
}
interface WebAssemblyObject {
  Memory: new (...parameters: never[]) => Memory;
  instantiate(bytes: unknown, imports: unknown): Promise<{ instance: { exports: object } }>;
}

const pageBytes = 65_536;

/** The instance's memory refuses to grow beyond the bound, as it would at the end of all memory. */
function boundedWebAssembly(maxBytes: number): object {
  const { WebAssembly: own } = globalThis as unknown as { WebAssembly: WebAssemblyObject };
  const instantiate: WebAssemblyObject['instantiate'] = async (bytes, imports) => {
    const result = await own.instantiate(bytes, imports);
    for (const memory of Object.values(result.instance.exports)) {
      if (!(memory instanceof own.Memory)) continue;
      const grow = memory.grow.bind(memory);
      memory.grow = (pages) => {
        if (memory.buffer.byteLength + pages * pageBytes > maxBytes) throw new RangeError('out of memory');
        return grow(pages);
      };
    }
    return result;
  };
  return Object.create(own, { instantiate: { value: instantiate } });
}

/** "[FATAL] /path/grammar_parser.cc:102: EBNF lexer error at line 1: ..." -> what comes after the path. */
function inPlainWords(line: string): string | null {
  const match = /^\[FATAL\] \S+:\d+: (?:Check failed: \(.*?\) is (?:false|true): ?)?(.*)$/s.exec(line);
  const text = match?.[1].trim() ?? '';
  return text === '' ? null : text.slice(0, 300);
}
