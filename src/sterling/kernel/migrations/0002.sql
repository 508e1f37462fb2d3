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
