// The tables of responses.ts, apart from it because the database makes them.

export const responsesSchema = `
  CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    -- Seconds since the epoch.
    created_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    -- Bytes of what follows.
    size INTEGER NOT NULL,
    -- JSON: the response, the items the model was given, and the events of a background stream or null.
    response TEXT NOT NULL,
    input TEXT NOT NULL,
    events TEXT
  ) STRICT;
  CREATE INDEX responses_by_age ON responses (created_at);
  -- Where to find an item that a client names by its id.
  CREATE TABLE response_items (
    item_id TEXT NOT NULL,
    response_id TEXT NOT NULL REFERENCES responses (id) ON DELETE CASCADE,
    PRIMARY KEY (item_id, response_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX response_items_by_response ON response_items (response_id);
`;

/** What makes room is the oldest of one owner. */
export const responsesByOwnerSchema = `
  CREATE INDEX responses_by_owner ON responses (owner, created_at);
`;
