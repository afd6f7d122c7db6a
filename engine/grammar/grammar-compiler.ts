// One xgrammar instance with the model's vocabulary.

import type { GrammarSource, Vocabulary } from './grammar.ts';
import { GrammarError } from './grammar-error.ts';
import { type CompiledGrammar, type GrammarMatcher, loadXgrammar, type Xgrammar } from './xgrammar.ts';

/** Memory that one instance may come to. */
export const maxInstanceBytes = 1 << 30;

export class GrammarCompiler {
  readonly #xgrammar: Xgrammar;
  readonly #compiler: import('./xgrammar.ts').GrammarCompiler;

  private constructor(xgrammar: Xgrammar, compiler: import('./xgrammar.ts').GrammarCompiler) {
    this.#xgrammar = xgrammar;
    this.#compiler = compiler;
  }

  static async open({ tokens, vocabSize, stopTokenIds }: Vocabulary): Promise<GrammarCompiler> {
    const xgrammar = loadXgrammar(maxInstanceBytes);
    const stops = [...stopTokenIds];
    const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
      tokens,
      'byte_level',
      false,
      vocabSize,
      stops,
    );
    return new GrammarCompiler(xgrammar, await xgrammar.GrammarCompiler.createGrammarCompiler(info, false));
  }

  /** Throws what xgrammar aborts with, after which the instance is not to be used again. */
  async compile(source: GrammarSource): Promise<CompiledGrammar> {
    const grammar = await parse(this.#xgrammar, source);
    try {
      return await this.#compiler.compileGrammar(grammar);
    } finally {
      grammar.dispose();
    }
  }

  match(grammar: CompiledGrammar): Promise<GrammarMatcher> {
    return this.#xgrammar.GrammarMatcher.createGrammarMatcher(grammar);
  }
}

function parse(xgrammar: Xgrammar, { type, text }: GrammarSource) {
  return type === 'ebnf' ? xgrammar.Grammar.fromEBNF(text) : xgrammar.Grammar.fromStructuralTag(text);
}

/**
 * Says whether a source can be read at all, on an instance without a vocabulary, which is quick to replace:
 * it aborts at every mistake.
 */
export class GrammarChecker {
  #xgrammar: Xgrammar | null = null;

  /** Throws GrammarError with xgrammar's reason. */
  async check(source: GrammarSource): Promise<void> {
    const xgrammar = this.#xgrammar ?? loadXgrammar(maxInstanceBytes);
    this.#xgrammar = xgrammar;
    try {
      (await parse(xgrammar, source)).dispose();
    } catch {
      // It aborts, or throws a C++ exception that cannot be read: either way the instance is of no use any
      // more.
      this.#xgrammar = null;
      throw new GrammarError(xgrammar.takeComplaint() ?? 'it is not valid');
    }
  }
}
