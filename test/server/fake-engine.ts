// An engine without a model: what it answers is set by the test.

import type {
  CompletionDelta,
  EmbedRequest,
  EngineApi,
  EngineDescription,
  EngineHealth,
  GenerateRequest,
  StepStats,
} from '../../engine/engine.ts';

const description: EngineDescription = {
  modelPath: '/models/fake',
  architecture: 'FakeForCausalLM',
  kernels: 'none',
  vocabSize: 256,
  hiddenSize: 4,
  maxModelLen: 1000,
  maxNumSeqs: 4,
  maxLogprobs: 20,
  blockSize: 16,
  numBlocks: 100,
  weightBytes: 0,
  kvCacheBytes: 0,
  chatTemplate: '',
  defaultSampling: {},
};

export class FakeEngine implements EngineApi {
  readonly description = description;
  stats = { numRunning: 0, numWaiting: 0 } as StepStats;
  healthNow: EngineHealth = { status: 'ok', heartbeatAgeMs: 1 };
  readonly died = new Promise<Error>(() => {});
  /** What every request is answered with. */
  answer: (request: GenerateRequest) => AsyncIterable<CompletionDelta> = async function* () {};
  readonly requests: GenerateRequest[] = [];
  /** Of every prompt. */
  embed = async ({ promptTokenIds }: EmbedRequest) => Float32Array.of(3, 4, 0, promptTokenIds.length - 1);

  encodeText = async (text: string) => ({ text, tokenIds: Int32Array.from(Buffer.from(text)) });
  encodeChat = async () => ({ text: 'chat', tokenIds: Int32Array.of(1, 2, 3) });
  decode = (tokenIds: Iterable<number>) => Buffer.from([...tokenIds]).toString();
  tokenText = (id: number) => ({ text: String.fromCharCode(id), bytes: Uint8Array.of(id) });
  compileGrammar: EngineApi['compileGrammar'] = async () => {
    throw new Error('the fake engine has no grammars');
  };
  abort = () => 0;
  control = { ask: async () => {}, isPaused: false, isSleeping: false };
  readonly adapters = new Map();
  loadAdapter = async () => {};
  unloadAdapter = () => false;
  adaptersInUse = () => ({ running: [], waiting: [] });
  close = async () => {};
  health = () => this.healthNow;

  generate(request: GenerateRequest): AsyncIterable<CompletionDelta> {
    this.requests.push(request);
    return this.answer(request);
  }
}

export function delta(text: string, finishReason: CompletionDelta['finishReason'] = null): CompletionDelta {
  return {
    index: 0,
    text,
    tokenIds: [...Buffer.from(text)],
    logprobs: null,
    textLengths: [...text].map(({ length }) => length),
    promptLogprobs: null,
    finishReason,
    stopReason: null,
    numCachedTokens: 0,
  };
}
