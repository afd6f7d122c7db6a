// POST /tokenize and /detokenize, as vLLM has them.

import type { FastifyInstance } from 'fastify';
import { toChatPrompt } from '../chat-prompt.ts';
import { usedTools } from '../chat-tools.ts';
import { admit, type Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import {
  type DetokenizeRequest,
  detokenizeRequest,
  type TokenizeRequest,
  tokenizeRequest,
} from '../schemas.ts';

export function tokenizeRoutes(app: FastifyInstance, context: Context): void {
  const { engine, answerFormat } = context;

  app.post('/tokenize', { schema: { body: tokenizeRequest } }, async (request) => {
    const body = request.body as TokenizeRequest;
    admit(context, body.model);
    if ((body.prompt == null) === (body.messages == null)) {
      throw new ApiError(
        'invalid_value',
        'prompt: found both or neither of prompt and messages, allowed: one of them',
        'prompt',
      );
    }
    const { tokenIds } =
      body.messages != null
        ? await engine.encodeChat(
            toChatPrompt({ ...body, messages: body.messages }, usedTools(body), answerFormat.tools?.callIds),
          )
        : await engine.encodeText(body.prompt as string, body.add_special_tokens ?? true);
    const tokens = Array.from(tokenIds);
    const strings = body.return_token_strs === true ? tokens.map((id) => engine.tokenText(id).text) : null;
    return {
      count: tokens.length,
      max_model_len: engine.description.maxModelLen,
      tokens,
      token_strs: strings,
    };
  });

  app.post('/detokenize', { schema: { body: detokenizeRequest } }, async (request) => {
    const body = request.body as DetokenizeRequest;
    admit(context, body.model);
    const { vocabSize } = engine.description;
    const outside = body.tokens.findIndex((id) => id >= vocabSize);
    if (outside >= 0) {
      const field = `tokens.${outside}`;
      throw new ApiError(
        'invalid_value',
        `${field}: found ${body.tokens[outside]}, allowed: 0 to ${vocabSize - 1}`,
        field,
      );
    }
    return { prompt: engine.decode(body.tokens, false) };
  });
}
