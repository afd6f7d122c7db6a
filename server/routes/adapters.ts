// POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them.

import type { FastifyInstance } from 'fastify';
import { ModelError } from '../../engine/engine.ts';
import type { Context } from '../context.ts';
import { ApiError } from '../errors.ts';
import {
  type LoadAdapterRequest,
  loadAdapterRequest,
  type UnloadAdapterRequest,
  unloadAdapterRequest,
} from '../schemas.ts';

/** Only with options.allowRuntimeLora: a client that may load adapters may name folders of this machine. */
export function adapterRoutes(app: FastifyInstance, { engine, options }: Context): void {
  app.post('/v1/load_lora_adapter', { schema: { body: loadAdapterRequest } }, async (request) => {
    const { lora_name: name, lora_path: path } = request.body as LoadAdapterRequest;
    if (options.servedModelNames.includes(name)) {
      throw new ApiError(
        'invalid_value',
        `lora_name: found ${name}, which names the model itself`,
        'lora_name',
      );
    }
    try {
      await engine.loadAdapter(name, path);
    } catch (error) {
      if (error instanceof ModelError)
        throw new ApiError('invalid_value', `lora_path: ${error.message}`, 'lora_path');
      throw error;
    }
    return { status: 'ok', lora_name: name };
  });

  app.post('/v1/unload_lora_adapter', { schema: { body: unloadAdapterRequest } }, async (request) => {
    const { lora_name: name } = request.body as UnloadAdapterRequest;
    if (!engine.unloadAdapter(name)) {
      throw new ApiError(
        'model_not_found',
        `lora_name: found ${JSON.stringify(name)}, which is not loaded`,
        'lora_name',
      );
    }
    return { status: 'ok', lora_name: name };
  });
}
