// Downloads a model's files from the Hub into its cache: what is there stays, and a file that was begun
// goes on where it stopped.

import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { mkdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { listFiles, modelInfo } from '@huggingface/hub';
import cliProgress from 'cli-progress';
import { ModelError } from './model-error.ts';

/** What a served model needs; nothing else of a repository is fetched. */
const wantedFiles =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json$|^chat_template\.jinja$|^model[\w.-]*\.safetensors(\.index\.json)?$/;

export type Notify = (line: string) => void;

export interface HubModel {
  name: string;
  revision: string;
  hubUrl: string;
  token: string | undefined;
  /** models--org--name in the cache. */
  folder: string;
}

interface HubFile {
  path: string;
  size: number;
  /** SHA-256 of large files; null for small ones, which git keeps. */
  sha256: string | null;
  /** Name of the blob in the cache. */
  etag: string;
}

/** Resolves with the snapshot's folder. Throws ModelError, and what `fetch` throws. */
export async function download(model: HubModel, notify: Notify): Promise<string> {
  const access = { hubUrl: model.hubUrl, ...(model.token ? { accessToken: model.token } : {}) };
  const info = await modelInfo({
    name: model.name,
    revision: model.revision,
    additionalFields: ['sha'],
    ...access,
  });
  const snapshot = join(model.folder, 'snapshots', info.sha);
  const files: HubFile[] = [];
  for await (const file of listFiles({ repo: model.name, revision: info.sha, recursive: false, ...access })) {
    if (file.type !== 'file' || !wantedFiles.test(file.path)) continue;
    files.push({
      path: file.path,
      size: file.size,
      sha256: file.lfs?.oid ?? null,
      etag: file.lfs?.oid ?? file.oid ?? file.path,
    });
  }
  if (!files.some(({ path }) => path.endsWith('.safetensors'))) {
    throw new ModelError(`${model.name} has no safetensors files, the only format that is read`);
  }
  const missing = files.filter(({ path }) => !existsSync(join(snapshot, path)));
  if (missing.length > 0) await fetchFiles(model, info.sha, snapshot, missing, notify);
  await mkdir(dirname(join(model.folder, 'refs', model.revision)), { recursive: true });
  await writeFile(join(model.folder, 'refs', model.revision), info.sha);
  return snapshot;
}

async function fetchFiles(
  model: HubModel,
  commit: string,
  snapshot: string,
  files: HubFile[],
  notify: Notify,
): Promise<void> {
  const total = files.reduce((sum, { size }) => sum + size, 0);
  notify(`downloading ${model.name} (${(total / 1e6).toFixed(1)} MB) to ${model.folder}\n`);
  const bar = new cliProgress.SingleBar(
    { format: '{bar} {percentage}% | {value}/{total} bytes | {eta} s left | {file}', stream: process.stderr },
    cliProgress.Presets.shades_classic,
  );
  bar.start(total, 0, { file: '' });
  try {
    // config.json comes last: where it is, everything is.
    const ordered = [...files].sort(
      (a, b) => Number(a.path === 'config.json') - Number(b.path === 'config.json'),
    );
    for (const file of ordered) {
      bar.update({ file: file.path });
      const blob = await fetchBlob(model, commit, file, (bytes) => bar.increment(bytes));
      const link = join(snapshot, file.path);
      await mkdir(dirname(link), { recursive: true });
      await symlink(relative(dirname(link), blob), link);
    }
  } finally {
    bar.stop();
  }
}

/** The file's content in the cache's blobs; an `.incomplete` one of an earlier try is continued. */
async function fetchBlob(
  model: HubModel,
  commit: string,
  file: HubFile,
  onBytes: (count: number) => void,
): Promise<string> {
  const blob = join(model.folder, 'blobs', file.etag);
  if (existsSync(blob)) {
    onBytes(file.size);
    return blob;
  }
  await mkdir(dirname(blob), { recursive: true });
  const incomplete = `${blob}.incomplete`;
  const have = await stat(incomplete).then(
    ({ size }) => size,
    () => 0,
  );
  const resumes = have > 0 && have < file.size;
  const answer = await fetch(`${model.hubUrl}/${model.name}/resolve/${commit}/${file.path}`, {
    headers: {
      ...(model.token ? { authorization: `Bearer ${model.token}` } : {}),
      ...(resumes ? { range: `bytes=${have}-` } : {}),
    },
  });
  if (!answer.ok || answer.body === null) {
    throw Object.assign(new Error(`status ${answer.status} for ${file.path}`), { statusCode: answer.status });
  }
  const continues = resumes && answer.status === 206;
  if (continues) onBytes(have);
  const body = Readable.fromWeb(answer.body as import('node:stream/web').ReadableStream);
  body.on('data', (chunk: Buffer) => onBytes(chunk.length));
  await pipeline(body, createWriteStream(incomplete, { flags: continues ? 'a' : 'w' }));
  await verify(incomplete, file, model);
  await rename(incomplete, blob);
  return blob;
}

async function verify(path: string, file: HubFile, { name }: HubModel): Promise<void> {
  const { size } = await stat(path);
  const hash = createHash('sha256');
  if (file.sha256 !== null) await pipeline(createReadStream(path), hash);
  if (size === file.size && (file.sha256 === null || hash.digest('hex') === file.sha256)) return;
  await rm(path);
  throw new ModelError(`${file.path} of ${name} arrived damaged (${size} of ${file.size} bytes): try again`);
}
