// GET /v1/models and /v1/models/:id

import type { FastifyInstance } from 'fastify';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import { modelParams } from '../schemas.ts';
import { listAnswer } from '../store/page.ts';

export function modelRoutes(app: FastifyInstance, { engine, options, startedAt }: Context): void {
  const describe = (id: string) => ({
    id,
    object: 'model',
    created: startedAt,
    owned_by: 'quire',
    root: engine.description.modelPath,
    parent: null,
    max_model_len: engine.description.maxModelLen,
    // What Anthropic's clients look for.
    type: 'model',
    display_name: id,
    created_at: new Date(1000 * startedAt).toISOString(),
  });

  const describeAny = (id: string) => {
    const adapter = engine.adapters.get(id);
    if (adapter !== undefined)
      return { ...describe(id), root: adapter.folder, parent: options.servedModelNames[0] };
    const encoder = options.encoders.get(id)?.description;
    if (encoder !== undefined)
      return { ...describe(id), root: encoder.folder, max_model_len: encoder.maxTokens };
    return options.servedModelNames.includes(id) ? describe(id) : null;
  };

  const allNames = () => [...options.servedModelNames, ...engine.adapters.keys(), ...options.encoders.keys()];

  app.get('/v1/models', async () =>
    listAnswer(
      allNames().flatMap((id) => describeAny(id) ?? []),
      false,
    ),
  );

  // Names may contain slashes, as Hub ids do.
  app.get('/v1/models/*', { schema: { params: modelParams } }, async (request) => {
    const id = (request.params as { '*': string })['*'];
    const model = describeAny(id);
    if (model === null) {
      const shown = JSON.stringify(id.slice(0, 200));
      throw new ApiError(
        'model_not_found',
        `model: found ${shown}, served: ${allNames().join(', ')}`,
        'model',
      );
    }
    return model;
  });
}
