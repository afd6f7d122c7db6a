// A worker of the grammar pool: compiles one grammar after another, to find out whether it can be done, how
// long it takes and what may come first. A grammar that takes too long ends the worker; nothing else
// depends on it.

import Tinypool from 'tinypool';
import { nowMs } from '../clock.ts';
import {
  allowsMoreThan,
  type GrammarRequest,
  type GrammarSource,
  maskWords,
  type Vocabulary,
} from './grammar.ts';
import { GrammarChecker, GrammarCompiler, maxInstanceBytes } from './grammar-compiler.ts';
import { GrammarError } from './grammar-error.ts';
import { toSource } from './grammar-source.ts';

/** Errors cross threads as plain data, so that the client's can be told from ours. */
export type CompileResult =
  | { source: GrammarSource; firstMask: Uint32Array; compileMs: number }
  | { error: string };

const vocabulary = Tinypool.workerData as Vocabulary;
const checker = new GrammarChecker();
let compiler: Promise<GrammarCompiler> | null = null;

/** request: a GrammarRequest as JSON. */
export default async function compile(request: string): Promise<CompileResult> {
  try {
    const source = toSource(JSON.parse(request) as GrammarRequest);
    await checker.check(source);
    compiler ??= GrammarCompiler.open(vocabulary);
    return { source, ...(await firstMaskOf(await compiler, source)) };
  } catch (error) {
    if (error instanceof GrammarError) return { error: error.message };
    throw error;
  }
}

async function firstMaskOf(compiler: GrammarCompiler, source: GrammarSource) {
  const startMs = nowMs();
  try {
    const grammar = await compiler.compile(source);
    const compileMs = nowMs() - startMs;
    const matcher = await compiler.match(grammar);
    const firstMask = new Uint32Array(new SharedArrayBuffer(4 * maskWords(vocabulary.vocabSize)));
    matcher.writeNextTokenBitmask(firstMask);
    matcher.dispose();
    grammar.dispose();
    if (!allowsMoreThan(firstMask, vocabulary.stopTokenIds)) {
      throw new GrammarError('no text but the empty one can begin with it');
    }
    return { firstMask, compileMs };
  } catch (error) {
    if (error instanceof GrammarError) throw error;
    drop();
    throw new GrammarError(`compiling it needs more than ${maxInstanceBytes >> 20} MiB`);
  }
}

/** After an abort the instance's memory means nothing. */
function drop(): void {
  compiler = null;
}
