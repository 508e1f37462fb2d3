-- The tables of one home. Only `entries` is evidence; the others are derived from it
-- or carry its proofs, and each can be rebuilt by reading the entries in order.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE entries (
    "index" INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    previous BLOB NOT NULL,
    kind TEXT NOT NULL,
    contract TEXT NOT NULL,
    subject TEXT NOT NULL,
    run TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX entries_by_kind ON entries (kind, "index");
CREATE INDEX entries_by_contract ON entries (contract, "index") WHERE contract <> '';
CREATE INDEX entries_by_subject ON entries (subject, "index") WHERE subject <> '';
CREATE INDEX entries_by_run ON entries (run, "index") WHERE run <> '';

CREATE TRIGGER entries_are_never_updated BEFORE UPDATE ON entries
BEGIN
    SELECT RAISE(ABORT, 'an entry is never changed');
END;

CREATE TRIGGER entries_are_never_deleted BEFORE DELETE ON entries
BEGIN
    SELECT RAISE(ABORT, 'an entry is never deleted');
END;

CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    level INTEGER NOT NULL,
    position INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE records (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    contract TEXT NOT NULL,
    entry INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    holder TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_started INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    acquired_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    renewals INTEGER NOT NULL,
    host TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE INDEX leases_held ON leases (name) WHERE holder <> '';

CREATE TABLE effects (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    adapter TEXT NOT NULL,
    order_key TEXT NOT NULL,
    blob TEXT NOT NULL,
    requires TEXT NOT NULL,
    position INTEGER NOT NULL,
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL,
    due_us INTEGER NOT NULL,
    newest INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX effects_open ON effects (order_key, position) WHERE state NOT IN ('done', 'abandoned');
