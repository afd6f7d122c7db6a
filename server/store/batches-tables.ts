// The tables of files.ts and batches.ts, apart from them because the database makes them. Times are seconds
// since the epoch.

export const batchesSchema = `
  CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
  ) STRICT;
  CREATE INDEX files_of_owner ON files (owner, seq);
  CREATE INDEX files_by_expiry ON files (expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE file_chunks (
    file_id TEXT NOT NULL REFERENCES files (id),
    start INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (file_id, start)
  ) STRICT;
  CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    key_salt TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata TEXT,
    output_lifetime INTEGER NOT NULL,
    status TEXT NOT NULL,
    errors TEXT,
    model TEXT,
    output_file_id TEXT,
    error_file_id TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    in_progress_at INTEGER,
    finalizing_at INTEGER,
    completed_at INTEGER,
    failed_at INTEGER,
    expired_at INTEGER,
    cancelling_at INTEGER,
    cancelled_at INTEGER,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX batches_of_owner ON batches (owner, seq);
  CREATE INDEX batches_by_status ON batches (status);
  CREATE TABLE batch_lines (
    batch INTEGER NOT NULL REFERENCES batches (seq),
    line INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    sequences INTEGER NOT NULL,
    PRIMARY KEY (batch, line)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE batch_results (
    batch INTEGER NOT NULL,
    line INTEGER NOT NULL,
    is_error INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (batch, line),
    FOREIGN KEY (batch, line) REFERENCES batch_lines (batch, line) ON DELETE CASCADE
  ) STRICT;
`;

/** How often a line was begun and neither ended nor given up in order: its server ended under it. */
export const lineStartsSchema = 'ALTER TABLE batch_lines ADD COLUMN starts INTEGER NOT NULL DEFAULT 0;';
