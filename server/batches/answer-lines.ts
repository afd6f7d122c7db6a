// Lines of output and error files, in OpenAI's shape.

import { randomBytes } from 'node:crypto';
import type { LineUsage, UnrunLine } from '../store/batches.ts';

/** `requestId` names the request in the server's log. */
export function answerLine(customId: string, requestId: string, status: number, body: object): string {
  const response = { status_code: status, request_id: requestId, body };
  return JSON.stringify({ id: `batch_req_${requestId}`, custom_id: customId, response, error: null });
}

const reasons = {
  expired: {
    code: 'batch_expired',
    message: 'This request could not be executed before the completion window expired.',
  },
  cancelled: {
    code: 'batch_cancelled',
    message: 'This request was not executed before the batch was cancelled.',
  },
};

/** For a line that has no answer, because its batch ended first. */
export function unrunLine(why: keyof typeof reasons): UnrunLine {
  return (customId) => errorLine(customId, reasons[why]);
}

function errorLine(customId: string, error: { code: string; message: string }): string {
  const id = `batch_req_${randomBytes(16).toString('hex')}`;
  return JSON.stringify({ id, custom_id: customId, response: null, error });
}

const count = (value: unknown) => (typeof value === 'number' ? value : 0);

/** For a line under which the server ended every time. */
export function unfinishedLine(customId: string, starts: number): string {
  const message = `The server ended ${starts} times while this request ran. It was not run again.`;
  return errorLine(customId, { code: 'server_ended', message });
}

/** Of an answer by any endpoint: their names differ. */
export function usageOf(answer: object): LineUsage | null {
  const { usage } = answer as { usage?: Record<string, unknown> };
  if (typeof usage !== 'object' || usage === null) return null;
  const details = (...names: string[]) => names.map((name) => (usage[name] ?? {}) as Record<string, unknown>);
  const inputs = details('prompt_tokens_details', 'input_tokens_details');
  const outputs = details('completion_tokens_details', 'output_tokens_details');
  return {
    inputTokens: count(usage.prompt_tokens ?? usage.input_tokens),
    cachedTokens: count(inputs[0].cached_tokens ?? inputs[1].cached_tokens),
    outputTokens: count(usage.completion_tokens ?? usage.output_tokens),
    reasoningTokens: count(outputs[0].reasoning_tokens ?? outputs[1].reasoning_tokens),
  };
}
