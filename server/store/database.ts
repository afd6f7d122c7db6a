// What clients store on the server: one SQLite database, in memory unless `--store PATH` names a file.
// Every subject has a file beside this one, which owns its tables; each statement runs at once, in a
// transaction, so that a power cut leaves what was committed and nothing else.

import { statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import Sqlite from 'better-sqlite3';
import { batchesSchema, lineStartsSchema } from './batches-tables.ts';
import { responsesByOwnerSchema, responsesSchema } from './responses-tables.ts';
import { StoreError } from './store-error.ts';

export type Database = Sqlite.Database;

/**
 * The schema, one step a version; steps are only ever added. `user_version` counts those a file has had.
 */
const migrations: readonly string[] = [
  responsesSchema,
  batchesSchema,
  lineStartsSchema,
  responsesByOwnerSchema,
];

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

/**
 * What SQLite says where there is no room: its own limit or a full disk, a quota or a limit on the size of
 * files, and no room for the index of its log.
 */
const fullCodes: readonly string[] = ['SQLITE_FULL', 'SQLITE_IOERR_WRITE', 'SQLITE_IOERR_SHMSIZE'];

/** Left free on the store's disk: where nothing can be written, nothing can be deleted either. */
const reservedBytes = 16 * 1024 * 1024;

class NoRoomError extends Error {}

/** Before what makes the store larger. Throws when only the reserve is left (isFull). */
export function checkRoom(database: Database): void {
  if (database.memory) return;
  const { bavail, bsize } = statfsSync(dirname(resolve(database.name)));
  const pragma = (name: string) => database.pragma(name, { simple: true }) as number;
  // Pages that were freed take what comes without more of the disk.
  const roomBytes = bavail * bsize + pragma('freelist_count') * pragma('page_size');
  if (roomBytes < reservedBytes) throw new NoRoomError(`the disk has room for ${roomBytes} bytes`);
}

/** The store has no room: its limit is reached, or the disk is full. What was tried has changed nothing. */
export function isFull(error: unknown): boolean {
  if (error instanceof NoRoomError) return true;
  return error instanceof Sqlite.SqliteError && fullCodes.includes(error.code);
}

function migrate(database: Database): void {
  const ofProgram = database.pragma('application_id', { simple: true }) as number;
  const version = database.pragma('user_version', { simple: true }) as number;
  const isNew = database.prepare('SELECT count(*) FROM sqlite_master').pluck().get() === 0;
  if (!isNew && ofProgram !== applicationId) throw new Error('it is a database of another program');
  if (version > migrations.length) {
    throw new Error(`it is of version ${version}, this server knows versions up to ${migrations.length}`);
  }
  // Nothing is written then: a full disk does not keep a server from starting.
  if (version === migrations.length) return;
  database.transaction(() => {
    for (const step of migrations.slice(version)) database.exec(step);
    database.pragma(`application_id = ${applicationId}`);
    database.pragma(`user_version = ${migrations.length}`);
  })();
}
