// Whether a text belongs to a grammar, as xgrammar sees it: one token for each byte.

import { GrammarCompiler } from '../../../engine/grammar/grammar-compiler.ts';
import { characterOfByte } from '../../../engine/token-bytes.ts';

const endToken = 256;
const compiler = await GrammarCompiler.open({
  tokens: [...characterOfByte(), ''],
  vocabSize: endToken + 1,
  stopTokenIds: [endToken],
});

export interface Acceptor {
  accepts(text: string): Promise<boolean>;
}

export async function acceptor(ebnf: string): Promise<Acceptor> {
  const grammar = await compiler.compile({ type: 'ebnf', text: ebnf });
  return {
    async accepts(text) {
      const matcher = await compiler.match(grammar);
      const isAccepted = Buffer.from(text).every((byte) => matcher.acceptToken(byte));
      const isWhole = isAccepted && matcher.acceptToken(endToken);
      matcher.dispose();
      return isWhole;
    },
  };
}
