// What every batch under way works with.

import type { FastifyBaseLogger } from 'fastify';
import type { Context } from '../context.ts';
import type { Responses } from '../responses/responses.ts';
import type { BatchStore } from '../store/batches.ts';
import type { FileStore } from '../store/files.ts';
import type { LineCommits } from './line-commits.ts';
import type { Slots } from './slots.ts';

export interface JobParts {
  context: Context;
  responses: Responses;
  batches: BatchStore;
  files: FileStore;
  slots: Slots;
  /** Inputs are validated one at a time. */
  validation: Slots;
  commits: LineCommits;
  log: FastifyBaseLogger;
  now: () => number;
}
