// Log-probabilities in the three shapes clients know.

import type { EngineApi, TokenLogprobs } from '../engine/engine.ts';

/** JSON has no infinities: vLLM's floor stands for them. */
const finite = (logprob: number) => Math.max(-9999, Number.isNaN(logprob) ? -9999 : logprob);

/** What a token is called: its text, or its id as vLLM writes it, which no other token shares. */
const nameOf = (tokenId: number, text: string, asIds: boolean) => (asIds ? `token_id:${tokenId}` : text);

/** choices[].logprobs.content of chat completions. */
export function chatLogprobs(engine: EngineApi, tokens: readonly TokenLogprobs[], asIds = false): object[] {
  const entry = (tokenId: number, logprob: number) => {
    const { text, bytes } = engine.tokenText(tokenId);
    return { token: nameOf(tokenId, text, asIds), logprob: finite(logprob), bytes: Array.from(bytes) };
  };
  return tokens.map((token) => ({
    ...entry(token.tokenId, token.logprob),
    top_logprobs: token.topTokenIds.map((id, i) => entry(id, token.topLogprobs[i])),
  }));
}

export interface TextLogprobs {
  tokens: string[];
  token_logprobs: Array<number | null>;
  top_logprobs: Array<Record<string, number> | null>;
  text_offset: number[];
}

/**
 * choices[].logprobs of text completions. A null stands for the first token of the prompt, which nothing
 * predicts.
 */
export function textLogprobs(
  engine: EngineApi,
  tokens: ReadonlyArray<TokenLogprobs | { tokenId: number; logprob: null }>,
  firstOffset: number,
  asIds = false,
): TextLogprobs {
  const out: TextLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  let offset = firstOffset;
  for (const token of tokens) {
    const { text } = engine.tokenText(token.tokenId);
    const name = nameOf(token.tokenId, text, asIds);
    out.tokens.push(name);
    out.text_offset.push(offset);
    offset += text.length;
    if (token.logprob === null) {
      out.token_logprobs.push(null);
      out.top_logprobs.push(null);
      continue;
    }
    const top: Record<string, number> = {};
    // Different ids may have the same text (incomplete characters); the likeliest speaks for them.
    token.topTokenIds.forEach((id, i) => {
      top[nameOf(id, engine.tokenText(id).text, asIds)] ??= finite(token.topLogprobs[i]);
    });
    top[name] ??= finite(token.logprob);
    out.token_logprobs.push(finite(token.logprob));
    out.top_logprobs.push(top);
  }
  return out;
}

/** vLLM's prompt_logprobs: per position null or token id -> what is known of it. */
export function promptLogprobs(engine: EngineApi, tokens: readonly TokenLogprobs[]): Array<object | null> {
  return [
    null,
    ...tokens.map((token) => {
      const entry = (id: number, logprob: number, rank: number) => ({
        logprob: finite(logprob),
        rank,
        decoded_token: engine.tokenText(id).text,
      });
      const byId: Record<string, object> = {};
      token.topTokenIds.forEach((id, i) => {
        byId[id] = entry(id, token.topLogprobs[i], i + 1);
      });
      byId[token.tokenId] = entry(token.tokenId, token.logprob, token.rank);
      return byId;
    }),
  ];
}
