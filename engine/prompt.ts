// What a prompt is made of, and what can be wrong with it.

/** A message as the chat template sees it; content forms are already validated by the caller. */
export interface ChatMessage {
  role: string;
  content: unknown;
  [field: string]: unknown;
}

export interface ChatPrompt {
  messages: ChatMessage[];
  tools?: unknown[];
  documents?: unknown[];
  addGenerationPrompt: boolean;
  continueFinalMessage: boolean;
  /** Extra variables for the template (chat_template_kwargs). */
  templateVariables?: Record<string, unknown>;
  /** Chat templates write their own BOS, so this is false by default. */
  addSpecialTokens: boolean;
}

export interface EncodedPrompt {
  tokenIds: Int32Array;
  /** The rendered text for chat prompts, the given text otherwise. */
  text: string;
}

/** How a text that is too long is cut. */
export interface Truncation {
  /** Tokens that are left, special ones included. */
  maxTokens: number;
  /** The end that goes. */
  side: 'left' | 'right';
}

/**
 * The client's error: a template that raised, that is missing, or that ran out of time. The message is for
 * the client.
 */
export class PromptError extends Error {
  override name = 'PromptError';
}
