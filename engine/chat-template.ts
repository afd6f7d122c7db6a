// The model's chat template: found in its folder, rendered with @huggingface/jinja. The template language
// reaches nothing but the values it is given.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { isObject, type JsonObject, readJsonObject } from './json-fields.ts';
import { type ChatPrompt, PromptError } from './prompt.ts';

export interface TemplateSource {
  /** Jinja text; null when the model has none. */
  template: string | null;
  /** bos_token, eos_token and the like, as tokenizer_config.json spells them. */
  specialTokens: Record<string, string>;
}

/** An override wins over chat_template.jinja, which wins over tokenizer_config.json. */
export async function readTemplate(modelPath: string, override: string | null): Promise<TemplateSource> {
  const configPath = join(modelPath, 'tokenizer_config.json');
  const config = existsSync(configPath) ? await readJsonObject(configPath) : {};
  const filePath = join(modelPath, 'chat_template.jinja');
  const ownFile = existsSync(filePath) ? await readFile(filePath, 'utf8') : null;
  return { template: override ?? ownFile ?? configured(config), specialTokens: specialTokens(config) };
}

/** A string, or a list of named templates of which `default` is the one for chat. */
function configured({ chat_template: template }: JsonObject): string | null {
  if (typeof template === 'string') return template;
  if (!Array.isArray(template)) return null;
  const named = template.find((entry) => isObject(entry) && entry.name === 'default');
  return typeof named?.template === 'string' ? named.template : null;
}

function specialTokens(config: JsonObject): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
    const value = config[name];
    if (typeof value === 'string') tokens[name] = value;
    else if (isObject(value) && typeof value.content === 'string') tokens[name] = value.content;
  }
  return tokens;
}

export class ChatTemplate {
  readonly #template: Template;
  readonly #specialTokens: Record<string, string>;

  /** Throws PromptError when the text is not a template. */
  constructor(text: string, tokens: Record<string, string>) {
    this.#specialTokens = tokens;
    try {
      this.#template = new Template(text);
    } catch (error) {
      throw new PromptError(`the chat template is not valid: ${(error as Error).message}`);
    }
  }

  render(prompt: ChatPrompt): string {
    const { messages, continueFinalMessage } = prompt;
    let text: string;
    try {
      text = this.#template.render({
        ...this.#specialTokens,
        ...prompt.templateVariables,
        messages,
        ...(prompt.tools === undefined ? {} : { tools: prompt.tools }),
        ...(prompt.documents === undefined ? {} : { documents: prompt.documents }),
        add_generation_prompt: prompt.addGenerationPrompt,
      });
    } catch (error) {
      throw new PromptError(`the chat template refused the messages: ${(error as Error).message}`);
    }
    return continueFinalMessage ? untilFinalMessage(text, messages.at(-1)?.content) : text;
  }
}

/** Cuts the text after the last message's content, so that the answer continues it (as transformers does). */
function untilFinalMessage(text: string, content: unknown): string {
  const final = typeof content === 'string' ? content.trim() : '';
  const at = final === '' ? -1 : text.lastIndexOf(final);
  if (at < 0) {
    throw new PromptError(
      'continue_final_message needs a last message whose text the chat template writes out',
    );
  }
  return text.slice(0, at + final.length);
}
