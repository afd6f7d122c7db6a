import type { AppOptions } from '../../server/context.ts';

/** An application for tests: everyone comes in, nothing is logged. */
export const testAppOptions: AppOptions = {
  servedModelNames: ['test', 'org/other-name'],
  encoders: new Map(),
  apiKeys: [],
  maxQueuedRequests: 100,
  maxConnections: 1000,
  maxWebSockets: 100,
  bodyLimitBytes: 1_000_000,
  bodyTimeoutMs: 60_000,
  ssePingIntervalMs: 5000,
  heartbeatTimeoutMs: 60_000,
  allowedOrigins: [],
  allowedHosts: null,
  allowRuntimeLora: false,
  enableAdmin: false,
  storePath: null,
  responsesLimitBytes: 10_000_000,
  maxStoreBytes: 50_000_000,
  maxFileBytes: 5_000_000,
  toolCallParser: 'auto',
  reasoningParser: 'auto',
  metrics: { contentType: 'text/plain', render: async () => '' },
  version: '0.0.0-test',
  logger: null,
};
