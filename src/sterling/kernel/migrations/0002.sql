-- From home version 1 to 2. Only tables around the entries change; entry bytes never do.

ALTER TABLE submissions RENAME TO submissions_of_1;
CREATE TABLE submissions (
    id TEXT PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO submissions (id, first, last) SELECT id, first, last FROM submissions_of_1;
DROP TABLE submissions_of_1;
-- The host of a lease's holder; empty is this host.
ALTER TABLE leases ADD COLUMN host TEXT NOT NULL DEFAULT '';
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
