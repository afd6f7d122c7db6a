// A worker of the prompt pool: chat template and tokenizer, loaded once, then one prompt after another.

import Tinypool from 'tinypool';
import { Tokenizer } from 'tokenizers';
import { ChatTemplate, type TemplateSource } from './chat-template.ts';
import { type ChatPrompt, PromptError, type Truncation } from './prompt.ts';
import { readTokenizerSync, type TokenizerFile } from './tokenizer-file.ts';

export interface PromptWorkerData {
  tokenizer: TokenizerFile;
  source: TemplateSource;
}

export type PromptTask =
  | { type: 'text'; text: string; addSpecialTokens: boolean; truncation?: Truncation }
  | { type: 'chat'; prompt: ChatPrompt };

/** Errors cross threads as plain data, so that the client's can be told from ours. */
export type PromptResult = { tokenIds: Int32Array; text: string } | { error: string };

const { source, tokenizer: file } = Tinypool.workerData as PromptWorkerData;
const tokenizer = Tokenizer.fromString(readTokenizerSync(file));
let template: ChatTemplate | null = null;

function render(prompt: ChatPrompt): string {
  if (source.template === null) {
    throw new PromptError(
      'the model has no chat template: give one with --chat-template, or use /v1/completions',
    );
  }
  template ??= new ChatTemplate(source.template, source.specialTokens);
  return template.render(prompt);
}

/** Nothing is cut unasked, whatever tokenizer.json says. */
function truncateTo(truncation: Truncation | undefined): void {
  if (truncation === undefined) tokenizer.disableTruncation();
  else tokenizer.setTruncation(truncation.maxTokens, { direction: truncation.side });
}

export default async function encode(task: PromptTask): Promise<PromptResult> {
  try {
    const text = task.type === 'text' ? task.text : render(task.prompt);
    const addSpecialTokens = task.type === 'text' ? task.addSpecialTokens : task.prompt.addSpecialTokens;
    truncateTo(task.type === 'text' ? task.truncation : undefined);
    const encoding = await tokenizer.encode(text, null, { addSpecialTokens });
    const tokenIds = Int32Array.from(encoding.getIds());
    // Handed over, not copied: a long prompt has hundreds of kilobytes of ids.
    return Tinypool.move({
      [Tinypool.transferableSymbol]: [tokenIds.buffer],
      [Tinypool.valueSymbol]: { tokenIds, text },
    } as never) as unknown as PromptResult;
  } catch (error) {
    if (error instanceof PromptError) return { error: error.message };
    throw error;
  }
}
