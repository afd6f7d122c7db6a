// What clients store on the server: one SQLite database, in memory unless `--store PATH` names a file.
// Every subject has a file beside this one, which owns its tables; each statement runs at once, in a
// transaction, so that a power cut leaves what was committed and nothing else.

import Sqlite from 'better-sqlite3';
import { batchesSchema, lineStartsSchema } from './batches-tables.ts';
import { responsesSchema } from './responses-tables.ts';
import { StoreError } from './store-error.ts';

export type Database = Sqlite.Database;

/**
 * The schema, one step a version; steps are only ever added. `user_version` counts those a file has had.
 */
const migrations: readonly string[] = [responsesSchema, batchesSchema, lineStartsSchema];

/** "quir": other programs' databases are left alone. */
const applicationId = 0x71756972;

/**
 * Opens or creates the store, and brings an older one up to date. Null is memory. What would make it larger
 * than maxBytes fails as on a full disk (isFull). Throws StoreError.
 */
export function openDatabase(path: string | null, maxBytes: number): Database {
  let database: Database | null = null;
  try {
    database = new Sqlite(path ?? ':memory:', { timeout: 5000 });
    // FULL: what an answer says is stored is on the disk before it says so.
    for (const setting of ['journal_mode = WAL', 'synchronous = FULL', 'foreign_keys = ON']) {
      database.pragma(setting);
    }
    migrate(database);
    const pageSize = database.pragma('page_size', { simple: true }) as number;
    database.pragma(`max_page_count = ${Math.max(1, Math.floor(maxBytes / pageSize))}`);
    return database;
  } catch (error) {
    database?.close();
    throw new StoreError(`--store: cannot use ${path ?? 'memory'}: ${(error as Error).message}`);
  }
}

/** The store has no room: its limit is reached, or the disk is full. What was tried has changed nothing. */
export function isFull(error: unknown): boolean {
  return error instanceof Sqlite.SqliteError && error.code === 'SQLITE_FULL';
}

function migrate(database: Database): void {
  const ofProgram = database.pragma('application_id', { simple: true }) as number;
  const version = database.pragma('user_version', { simple: true }) as number;
  const isNew = database.prepare('SELECT count(*) FROM sqlite_master').pluck().get() === 0;
  if (!isNew && ofProgram !== applicationId) throw new Error('it is a database of another program');
  if (version > migrations.length) {
    throw new Error(`it is of version ${version}, this server knows versions up to ${migrations.length}`);
  }
  database.transaction(() => {
    for (const step of migrations.slice(version)) database.exec(step);
    database.pragma(`application_id = ${applicationId}`);
    database.pragma(`user_version = ${migrations.length}`);
  })();
}
