"""Tables derived from entries, rebuilt in memory and compared with what the database holds.

One pass over one snapshot: the chain is recomputed on the way, so a difference
in a table is the table's own. Memory stays flat, because each rebuilt row is
compared at once. Rebuilding says what is wrong; it never mends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel import merkle
from sterling.kernel.canonical import parse_canonical
from sterling.kernel.chain import Entry, verify
from sterling.kernel.store_sqlite import connect_reader, record_row

__all__ = ["PROJECTIONS", "Rebuilt", "rebuild"]

PROJECTIONS = ("nodes", "records", "leases", "submissions")


@dataclass(slots=True)
class Rebuilt:
    """What the entries say: their number, the wished root, and the first difference of each table."""

    size: int = 0
    root: bytes | None = None
    different: dict[str, str] = field(default_factory=dict)

    def differs(self, table: str, how: str) -> None:
        """Remember the first difference of a table."""
        self.different.setdefault(table, f"table {table}: {how}")


def rebuild(database: Path, *, root_at: int = 0) -> Rebuilt:
    """Rebuild every projection; `root` is the one over the first `root_at` entries, if there are so many.

    Errors: ChainBroken at the first entry that does not follow, and SQLite's own.
    """
    with closing(connect_reader(database)) as connection:
        connection.execute("BEGIN")
        return _Rebuilding(connection, root_at).run()


class _Rebuilding:
    def __init__(self, connection: sqlite3.Connection, root_at: int) -> None:
        self._connection, self._root_at, self._found = connection, root_at, Rebuilt()
        self._newest: dict[int, tuple[int, bytes]] = {}  # The newest full subtree of each level.
        self._nodes = self._records = 0
        self._tokens: dict[str, int] = {}

    def run(self) -> Rebuilt:
        verify(self._entries())
        for table, expected in (("nodes", self._nodes), ("records", self._records)):
            (count,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            if count != expected:
                self._found.differs(table, f"expected {expected} rows, found {count}")
        held = dict(self._connection.execute("SELECT name, token FROM leases").fetchall())
        if held != self._tokens:
            wrong = sorted(n for n in held.keys() | self._tokens if held.get(n) != self._tokens.get(n))
            self._found.differs("leases", f"{wrong[0]!r:.80} has another token than the entries say")
        self._compare_submissions()
        return self._found

    def _entries(self) -> Iterator[Entry]:
        rows = self._connection.execute(
            'SELECT "index", hash, previous, kind, contract, body FROM entries ORDER BY "index"'
        )
        for index, digest, previous, kind, contract, body in rows:
            entry = Entry(index, previous, digest, body)
            yield entry  # What follows happens once the chain has taken the entry.
            self._grow(entry)
            if kind in ("record.put", "lease.acquired", "lease.taken-over"):
                payload = parse_canonical(bytes(body))["payload"]
                if kind == "record.put":
                    self._compare_record(index, contract, str(payload["id"]), str(payload["hash"]))
                else:
                    self._tokens[str(payload["name"])] = int(payload["token"])
            self._found.size = index + 1

    def _grow(self, entry: Entry) -> None:
        for level, position, digest in merkle.grow(entry.index, merkle.leaf_hash(entry.hash), self._node):
            self._nodes += 1
            self._newest[level] = (position, digest)
            row = self._connection.execute(
                "SELECT hash FROM nodes WHERE level = ? AND position = ?", (level, position)
            ).fetchone()
            if row is None or bytes(row[0]) != digest:
                self._found.differs("nodes", f"node {level}/{position} is not what the entries say")
        if entry.index + 1 == self._root_at:
            self._found.root = merkle.root(self._root_at, self._node)

    def _node(self, level: int, position: int) -> bytes:
        known, digest = self._newest[level]
        assert known == position, "a root needs the newest subtrees alone"
        return digest

    def _compare_record(self, index: int, contract: str, record_id: str, digest: str) -> None:
        self._records += 1
        if record_row(self._connection, record_id) != (bytes.fromhex(digest), contract, index):
            self._found.differs("records", f"{record_id!r:.80} is not what entry {index} says")

    def _compare_submissions(self) -> None:
        """Each submission covers entries that exist, and no entry belongs to two."""
        covered = 0
        for submission, first, last in self._connection.execute(
            "SELECT id, first, last FROM submissions ORDER BY first, last"
        ):
            if first < covered or last < first - 1 or last >= self._found.size:
                self._found.differs("submissions", f"{submission!r:.80} covers what it cannot have written")
            covered = max(covered, last + 1)
