// How drafts are made: what --speculative-config says, in camelCase.

export type SpeculativeConfig = PromptLookupConfig;

/** n-gram speculation: the text so far is where the next tokens are looked up. */
export interface PromptLookupConfig {
  method: 'ngram';
  /** Tokens of a draft, 1..maxSpeculativeTokens. */
  numSpeculativeTokens: number;
  /** Tokens that the end of the text must have in common with an earlier place: wanted, and at least. */
  promptLookupMax: number;
  promptLookupMin: number;
}

export const maxSpeculativeTokens = 64;
