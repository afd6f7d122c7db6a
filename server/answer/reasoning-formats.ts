// How models mark what they reason before they answer. Names are those of vLLM's --reasoning-parser.

export interface ReasoningFormat {
  /** Any of them begins the reasoning, at the start of the answer. */
  opens: readonly string[];
  /** Any of them ends it. */
  closes: readonly string[];
  /** What the model writes between that and its answer; nothing by default. */
  lead?: string;
  /** The answer begins with reasoning whether or not a mark says so. */
  isImplied?: boolean;
}

const think: ReasoningFormat = { opens: ['<think>'], closes: ['</think>'], lead: '\n\n' };

export const reasoningFormats = {
  /** https://huggingface.co/Qwen/Qwen3-8B: the model or its template writes <think>. */
  qwen3: think,
  /** https://huggingface.co/deepseek-ai/DeepSeek-R1: it always reasons, and may leave out <think>. */
  deepseek_r1: { ...think, isImplied: true },
  /** https://huggingface.co/ibm-granite/granite-3.2-8b-instruct */
  granite: {
    opens: ['Here is my thought process:', "Here's my thought process:"],
    closes: ['Here is my response:', "Here's my response:"],
  },
  /** https://huggingface.co/mistralai/Magistral-Small-2509 */
  mistral: { opens: ['[THINK]'], closes: ['[/THINK]'] },
} satisfies Record<string, ReasoningFormat>;
