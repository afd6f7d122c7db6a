// The thread that an encoder's model runs on: onnxruntime's run() blocks the thread that calls it. Opens
// the model with the first task, then takes one padded batch after another.

import { InferenceSession, Tensor } from 'onnxruntime-node';
import Tinypool from 'tinypool';
import type { EncoderInput, OnnxOpened, OnnxOptions, OnnxOutputs, OnnxTask } from './encoder-messages.ts';
import { pool } from './pooling.ts';

const options = Tinypool.workerData as OnnxOptions;
const knownInputs = ['input_ids', 'attention_mask', 'token_type_ids'];

interface OpenSession {
  session: InferenceSession;
  output: string;
  /** The output has a vector for each token, which are pooled here. */
  isPerToken: boolean;
  opened: OnnxOpened;
}

let open: OpenSession | null = null;

async function openSession(): Promise<OpenSession> {
  const session = await InferenceSession.create(options.onnxPath, {
    executionProviders: ['cpu'],
    intraOpNumThreads: options.numThreads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    // Threads that spin between runs would take the cores from the language model.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  const unknown = session.inputNames.find((name) => !knownInputs.includes(name));
  if (unknown !== undefined)
    throw new Error(`it wants the input ${unknown}, known are ${knownInputs.join(', ')}`);
  // A pooled output first: it has gone through all that its exporter knew of.
  const output = ['logits', 'sentence_embedding', 'last_hidden_state', 'token_embeddings'].find((name) =>
    session.outputNames.includes(name),
  );
  if (output === undefined)
    throw new Error(
      `its outputs are ${session.outputNames.join(', ')}, one of logits, sentence_embedding, last_hidden_state, token_embeddings is needed`,
    );
  const probe = await runOn(session, output, [
    { tokenIds: Int32Array.of(0, 0), typeIds: Uint8Array.of(0, 0) },
  ]);
  const isPerToken = probe.dims.length === 3;
  const size = probe.dims[probe.dims.length - 1];
  if ((output === 'logits' && isPerToken) || size < 1)
    throw new Error(`its ${output} have the shape ${probe.dims}, expected one row for each input`);
  const kind = output === 'logits' ? 'classifier' : 'embedder';
  return { session, output, isPerToken, opened: { kind, size } };
}

/** [inputs, width], padded; of the type that the model declares. */
function feedsOf(session: InferenceSession, inputs: readonly EncoderInput[], width: number) {
  const ids = new Int32Array(inputs.length * width).fill(options.padTokenId);
  const mask = new Int32Array(ids.length);
  const types = new Int32Array(ids.length);
  inputs.forEach(({ tokenIds, typeIds }, row) => {
    ids.set(tokenIds, row * width);
    types.set(typeIds, row * width);
    mask.fill(1, row * width, row * width + tokenIds.length);
  });
  const values: Record<string, Int32Array> = { input_ids: ids, attention_mask: mask, token_type_ids: types };
  return Object.fromEntries(
    session.inputMetadata.map((input) => {
      const dims = [inputs.length, width];
      const isWide = !('type' in input) || input.type === 'int64';
      const tensor = isWide
        ? new Tensor('int64', BigInt64Array.from(values[input.name], BigInt), dims)
        : new Tensor('int32', values[input.name], dims);
      return [input.name, tensor];
    }),
  );
}

async function runOn(
  session: InferenceSession,
  output: string,
  inputs: readonly EncoderInput[],
): Promise<Tensor> {
  const width = Math.max(...inputs.map(({ tokenIds }) => tokenIds.length));
  const result = (await session.run(feedsOf(session, inputs, width), [output]))[output];
  if (result.type !== 'float32') throw new Error(`its ${output} are ${result.type}, allowed: float32`);
  return result;
}

async function run(inputs: readonly EncoderInput[]): Promise<OnnxOutputs> {
  open ??= await openSession();
  const { session, output, isPerToken, opened } = open;
  const result = await runOn(session, output, inputs);
  const values = result.data as Float32Array;
  if (!isPerToken) return Float32Array.from(values);
  const lengths = inputs.map(({ tokenIds }) => tokenIds.length);
  return pool(values, lengths, result.dims[1], opened.size, options.pooling);
}

export default async function work(task: OnnxTask): Promise<OnnxOpened | OnnxOutputs> {
  if (task.type === 'open') {
    open = await openSession();
    return open.opened;
  }
  const outputs = await run(task.inputs);
  return Tinypool.move(outputs as never) as unknown as OnnxOutputs;
}
