-- The index of one home: everything here is derived from records and can be rebuilt.
-- `position` in `meta` is the number of ledger entries that have been looked at.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    record TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, zone TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contexts (
    record TEXT PRIMARY KEY, app TEXT NOT NULL, title TEXT NOT NULL, url TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE frames (
    record TEXT PRIMARY KEY, frame_hash TEXT NOT NULL UNIQUE, entry INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tiles (
    hash BLOB PRIMARY KEY, bundle TEXT NOT NULL, place INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ticks (
    entry INTEGER PRIMARY KEY, record TEXT NOT NULL UNIQUE, session TEXT NOT NULL, stream TEXT NOT NULL,
    n INTEGER NOT NULL, at_us INTEGER NOT NULL, outcome TEXT NOT NULL, frame TEXT NOT NULL,
    context TEXT NOT NULL, item TEXT NOT NULL, code TEXT NOT NULL
) STRICT;
CREATE INDEX ticks_by_time ON ticks (at_us);
CREATE INDEX ticks_by_frame ON ticks (frame, at_us);
CREATE INDEX ticks_by_stream ON ticks (stream, n);
CREATE INDEX ticks_by_context ON ticks (context);

CREATE TABLE stage1 (frame TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- One row a state text; `places` holds its segments and word boxes as JSON.
CREATE TABLE documents (
    entry INTEGER PRIMARY KEY, record TEXT NOT NULL UNIQUE, state TEXT NOT NULL, frame TEXT NOT NULL,
    reading TEXT NOT NULL, body TEXT NOT NULL, places TEXT NOT NULL
) STRICT;
CREATE INDEX documents_by_frame ON documents (frame);

CREATE TABLE checks (
    record TEXT PRIMARY KEY, entry INTEGER NOT NULL, frame TEXT NOT NULL, reading TEXT NOT NULL,
    boxes TEXT NOT NULL, agreed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX checks_by_frame ON checks (frame);

-- `folded` holds the words under which look-alike characters are the same.
CREATE VIRTUAL TABLE words USING fts5 (body, folded, tokenize = "unicode61 remove_diacritics 2");
CREATE VIRTUAL TABLE grams USING fts5 (body, tokenize = "trigram");
CREATE VIRTUAL TABLE titles USING fts5 (context UNINDEXED, title, app, url,
    tokenize = "unicode61 remove_diacritics 2");
