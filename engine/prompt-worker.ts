// A worker of the prompt pool: chat template and tokenizer, loaded once, then one prompt after another.
// Merges of the tokenizer are loaded when they are needed (prompt-tokenizer.ts).

import Tinypool from 'tinypool';
import { ChatTemplate, type TemplateSource } from './chat-template.ts';
import { type ChatPrompt, type EncodedPrompt, PromptError, type Truncation } from './prompt.ts';
import { BrokenMergesError, PromptTokenizer } from './prompt-tokenizer.ts';
import type { TokenizerFile } from './tokenizer-file.ts';

export interface PromptWorkerData {
  tokenizer: TokenizerFile;
  source: TemplateSource;
}

export type PromptTask =
  | { type: 'text'; text: string; addSpecialTokens: boolean; truncation?: Truncation }
  | { type: 'chat'; prompt: ChatPrompt }
  /** Tries the tokenizer as far as it is loaded. */
  | { type: 'try' }
  | { type: 'merges' };

/** Errors cross threads as plain data, so that the client's can be told from ours. */
export type PromptResult = EncodedPrompt | { error: string } | { brokenMerges: string };

const { source, tokenizer: file } = Tinypool.workerData as PromptWorkerData;
const tokenizer = new PromptTokenizer(file);
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

async function encode(task: PromptTask): Promise<EncodedPrompt> {
  switch (task.type) {
    case 'text':
      return encodeText(task.text, task.addSpecialTokens, task.truncation);
    case 'chat':
      return encodeText(render(task.prompt), task.prompt.addSpecialTokens);
    case 'try':
      return encodeText(tokenizer.hasMerges ? 'quire' : '', true);
    case 'merges':
      tokenizer.readMerges();
      return encodeText('quire', true);
  }
}

async function encodeText(
  text: string,
  addSpecialTokens: boolean,
  truncation?: Truncation,
): Promise<EncodedPrompt> {
  return { tokenIds: Int32Array.from(await tokenizer.encode(text, addSpecialTokens, truncation)), text };
}

export default async function run(task: PromptTask): Promise<PromptResult> {
  try {
    const prompt = await encode(task);
    // Handed over, not copied: a long prompt has hundreds of kilobytes of ids.
    return Tinypool.move({
      [Tinypool.transferableSymbol]: [prompt.tokenIds.buffer],
      [Tinypool.valueSymbol]: prompt,
    } as never) as unknown as PromptResult;
  } catch (error) {
    if (error instanceof PromptError) return { error: error.message };
    if (error instanceof BrokenMergesError) return { brokenMerges: error.message };
    throw error;
  }
}
