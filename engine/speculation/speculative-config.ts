// How drafts are made: what --speculative-config says, in camelCase.

export type SpeculativeConfig = PromptLookupConfig | DraftModelConfig;

interface AnySpeculation {
  /** Tokens of a draft, 1..maxSpeculativeTokens. */
  numSpeculativeTokens: number;
  /** While more requests than this run, nothing is guessed; without it there is no such number. */
  disableByBatchSize?: number | undefined;
}

/** n-gram speculation: the text so far is where the next tokens are looked up. */
export interface PromptLookupConfig extends AnySpeculation {
  method: 'ngram';
  /** Tokens that the end of the text must have in common with an earlier place: wanted, and at least. */
  promptLookupMax: number;
  promptLookupMin: number;
}

/** A second model guesses. */
export interface DraftModelConfig extends AnySpeculation {
  method: 'draft_model';
  /** Its folder. Its tokens must be the main model's. */
  model: string;
  /** Longer requests are not drafted for; null is as far as the draft model goes. */
  maxModelLen: number | null;
}

export const maxSpeculativeTokens = 64;
