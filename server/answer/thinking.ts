// Where the reasoning of an answer ends, for the engine: thinking_token_budget ends it, and what an answer
// must match holds only after it.

import { allows, type EngineApi, type Grammar, type ReasoningParams } from '../../engine/engine.ts';
import { ApiError } from '../errors.ts';
import type { AnswerContext, AnswerFormat } from './formats.ts';
import { harmonyThinking } from './harmony.ts';

export interface Thinking {
  /** Tokens of reasoning at most, or null. */
  budget: number | null;
  grammar: Grammar | null;
  promptEnd: AnswerContext['promptEnd'];
  readsCalls: boolean;
}

/**
 * Null when the engine need not know, when there is no reasoning, and when its marks are mere words, which
 * can be cut into tokens in more ways than one: a grammar then holds the whole answer, and a budget is
 * refused.
 */
export async function reasoningParams(
  engine: EngineApi,
  format: AnswerFormat,
  { budget, grammar, promptEnd, readsCalls }: Thinking,
): Promise<ReasoningParams | null> {
  const marks = marksOfReasoning(format);
  if (marks === null) {
    if (budget !== null) refuse(budget, 'models that reason (--reasoning-parser)');
    return null;
  }
  if ((budget === null && grammar === null) || promptEnd === 'after reasoning') return null;
  const tokensOf = async (text: string) => Array.from((await engine.encodeText(text, false)).tokenIds);
  const [startTokenIds, endTokenIds, closing] = await Promise.all(
    [marks.open, marks.close, marks.close + marks.lead].map(tokensOf),
  );
  if (endTokenIds.length !== 1 || closing[0] !== endTokenIds[0]) {
    if (budget !== null) refuse(budget, 'models that end reasoning with a token of its own');
    return null;
  }
  const isInside = promptEnd === 'in reasoning' || marks.isImplied;
  // A grammar and the first of several tokens could both mean the same text.
  if (grammar !== null && !isInside && !marks.isRequired && startTokenIds.length !== 1) return null;
  const calls = readsCalls && format.tools?.endsReasoning === true ? format.tools.opens : [];
  const callTokenIds = (await Promise.all(calls.map(tokensOf)))
    .filter((tokenIds) => tokenIds.length === 1)
    .map(([tokenId]) => tokenId)
    .filter((tokenId) => grammar === null || allows(grammar.firstMask, tokenId));
  return {
    maxTokens: budget,
    isInside,
    isRequired: marks.isRequired,
    startTokenIds,
    endTokenIds,
    leadTokenIds: closing.slice(1),
    callTokenIds,
  };
}

function marksOfReasoning({ reasoning, isHarmony }: AnswerFormat) {
  if (isHarmony) return { ...harmonyThinking, isRequired: true, isImplied: false };
  if (reasoning === null) return null;
  const { opens, closes, lead = '', isImplied = false } = reasoning;
  return { open: opens[0], close: closes[0], lead, isRequired: false, isImplied };
}

function refuse(budget: number, supported: string): never {
  const field = 'thinking_token_budget';
  throw new ApiError('unsupported_value', `${field}: found ${budget}, supported: ${supported}`, field);
}
