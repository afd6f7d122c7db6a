// The thread that makes an encoder's tokens: one input after another.

import Tinypool from 'tinypool';
import { Tokenizer } from 'tokenizers';
import type { EncoderInput, TokenizeTask } from './encoder-messages.ts';

const tokenizer = Tokenizer.fromString(Tinypool.workerData as string);

export default async function tokenize(task: TokenizeTask): Promise<EncoderInput> {
  const { text, pair, maxTokens, truncationSide, addSpecialTokens } = task;
  if (maxTokens === null) tokenizer.disableTruncation();
  else tokenizer.setTruncation(maxTokens, { direction: truncationSide });
  const encoding = await tokenizer.encode(text, pair, { addSpecialTokens });
  const tokenIds = Int32Array.from(encoding.getIds());
  const typeIds = Uint8Array.from(encoding.getTypeIds());
  return Tinypool.move({
    [Tinypool.transferableSymbol]: [tokenIds.buffer, typeIds.buffer],
    [Tinypool.valueSymbol]: { tokenIds, typeIds },
  } as never) as unknown as EncoderInput;
}
