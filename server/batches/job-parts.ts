// What every batch under way works with.

import type { FastifyBaseLogger } from 'fastify';
import type { Context } from '../context.ts';
import type { BatchStore } from '../store/batches.ts';
import type { FileStore } from '../store/files.ts';
import type { ResultCommits } from './result-commits.ts';
import type { Slots } from './slots.ts';

export interface JobParts {
  context: Context;
  batches: BatchStore;
  files: FileStore;
  slots: Slots;
  /** Inputs are validated one at a time. */
  validation: Slots;
  commits: ResultCommits;
  log: FastifyBaseLogger;
  now: () => number;
}
