// From what a person names to a folder on disk: a path, or a Hub id that is downloaded into the standard
// Hugging Face cache (models--org--name/{blobs,refs,snapshots}), shared with Python's tools.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { HubModel, Notify } from './hub-download.ts';
import { ModelError } from './model-error.ts';

type Environment = NodeJS.ProcessEnv;

export function cacheFolder(env: Environment): string {
  if (env.HF_HUB_CACHE) return env.HF_HUB_CACHE;
  const home =
    env.HF_HOME || join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'huggingface');
  return join(home, 'hub');
}

async function readToken(env: Environment): Promise<string | undefined> {
  const path = env.HF_TOKEN_PATH || join(dirname(cacheFolder(env)), 'token');
  const text = env.HF_TOKEN || (existsSync(path) ? await readFile(path, 'utf8') : '');
  const token = text.trim();
  if (token !== '' && !token.startsWith('hf_')) {
    throw new ModelError(`${env.HF_TOKEN ? 'HF_TOKEN' : path}: a token of the Hub begins with hf_`);
  }
  return token || undefined;
}

/** A folder for `named`. Throws ModelError when it is neither a folder nor a model that can be had. */
export async function resolveModel(named: string, env: Environment, notify: Notify): Promise<string> {
  if (existsSync(named)) return named;
  const match = /^([\w.-]+(?:\/[\w.-]+)?)(?:@([\w./-]+))?$/.exec(named);
  if (match === null || /^[./~]/.test(named) || named.split('/').some((part) => /^\.+$/.test(part))) {
    throw new ModelError(`${named} is not a folder, and not a Hub id such as Qwen/Qwen2.5-0.5B-Instruct`);
  }
  const [, name, revision = 'main'] = match;
  const model: HubModel = {
    name,
    revision,
    hubUrl: (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
    token: await readToken(env),
    folder: join(cacheFolder(env), `models--${name.replaceAll('/', '--')}`),
  };
  if (env.HF_HUB_OFFLINE === '1' || env.HF_HUB_OFFLINE?.toLowerCase() === 'true') {
    const cached = await cachedSnapshot(model);
    if (cached !== null) return cached;
    throw new ModelError(
      `${named} is not in the cache ${model.folder} and HF_HUB_OFFLINE forbids downloading it`,
    );
  }
  try {
    // What downloads is loaded when it is needed: most starts find a folder.
    const { download } = await import('./hub-download.ts');
    return await download(model, notify);
  } catch (error) {
    if (error instanceof ModelError) throw error;
    const cause = explain(error as Error & { statusCode?: number }, model);
    const cached = cause.isFinal ? null : await cachedSnapshot(model);
    if (cached === null) throw new ModelError(cause.message);
    notify(`${model.hubUrl} cannot be reached, using the cached ${name}\n`);
    return cached;
  }
}

/** The snapshot that the revision's ref names (or the revision itself), when its config is there. */
async function cachedSnapshot({ folder, revision }: HubModel): Promise<string | null> {
  const ref = join(folder, 'refs', revision);
  const commit = existsSync(ref) ? (await readFile(ref, 'utf8')).trim() : revision;
  const snapshot = join(folder, 'snapshots', commit);
  // Written last, so that a snapshot with it is complete.
  return existsSync(join(snapshot, 'config.json')) ? snapshot : null;
}

function explain(
  error: Error & { statusCode?: number },
  { name, hubUrl, token }: HubModel,
): { message: string; isFinal: boolean } {
  switch (error.statusCode) {
    case 401:
    case 403:
      return {
        isFinal: true,
        message: token
          ? `${hubUrl} refuses ${name} to the given token: check HF_TOKEN and the model's terms`
          : `${hubUrl} wants a token for ${name} (it may not exist): set HF_TOKEN`,
      };
    case 404:
      return { isFinal: true, message: `${hubUrl} has no model ${name}: check the name and the revision` };
    default: {
      const reason = (error.cause as Error | undefined)?.message || error.message;
      return {
        isFinal: false,
        message: `${name} is not in the cache and ${hubUrl} cannot be reached: ${reason}`,
      };
    }
  }
}
