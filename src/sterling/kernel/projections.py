"""Tables derived from entries, compared with what the entries say.

`compare_tables` is what both a deep verification and the doctor go by. `rebuild`
recomputes the chain and its tree as well, in one snapshot, so a difference in a
table is the table's own. Rows of entries are compared as they are read; only
names of leases and effects are held. Comparing says what is wrong; it never mends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel import effect_table, merkle
from sterling.kernel.canonical import Json, parse_canonical
from sterling.kernel.chain import Entry, verify
from sterling.kernel.effect_table import EffectRow, EffectState
from sterling.kernel.store_sqlite import connect_reader, record_row

__all__ = ["PROJECTIONS", "Rebuilt", "compare_tables", "rebuild", "rebuild_effects"]

PROJECTIONS = ("nodes", "records", "leases", "submissions", "effects")


@dataclass(slots=True)
class Rebuilt:
    """What the entries say: their number, the wished root, and the first difference of each table."""

    size: int = 0
    root: bytes | None = None
    different: dict[str, str] = field(default_factory=dict)


def rebuild(database: Path, *, root_at: int = 0) -> Rebuilt:
    """Rebuild every projection; `root` is the one over the first `root_at` entries, if there are so many.

    Errors: ChainBroken at the first entry that does not follow, and SQLite's own.
    """
    with closing(connect_reader(database)) as connection:
        connection.execute("BEGIN")
        growing = _Growing(connection, root_at)
        verify(growing.entries())
        growing.compare_count()
        found = growing.found
        found.different |= compare_tables(connection, found.size)
        return found


def compare_tables(connection: sqlite3.Connection, size: int) -> dict[str, str]:
    """The first difference of each table but `nodes` from what the first `size` entries say, in words."""
    comparisons = {
        "records": _compare_records,
        "leases": _compare_leases,
        "submissions": lambda connection: _compare_submissions(connection, size),
        "effects": _compare_effects,
    }
    different: dict[str, str] = {}
    for table, compare in comparisons.items():
        try:
            how = compare(connection)
        except (KeyError, TypeError, ValueError) as problem:
            how = f"an entry does not say what it holds: {problem!r:.100}"
        if how:
            different[table] = f"table {table}: {how}"
    return different


def rebuild_effects(connection: sqlite3.Connection) -> dict[str, EffectRow]:
    """The table of effects as the entries give it, by id, in the order in which they were put."""
    rows: dict[str, EffectRow] = {}
    for index, kind, _, effect, payload in _said(connection, *(f"effect.{state}" for state in EffectState)):
        state = EffectState(kind.partition(".")[2])
        rows[effect] = effect_table.fold(rows.get(effect), index, state, effect, payload)
    return rows


def _said(connection: sqlite3.Connection, *kinds: str) -> Iterator[tuple[int, str, str, str, Json]]:
    """Index, kind, contract, subject and payload of the entries of these kinds, in order."""
    marks = ", ".join("?" * len(kinds))
    query = f'SELECT "index", kind, contract, subject, body FROM entries WHERE kind IN ({marks})'
    for index, kind, contract, subject, body in connection.execute(f'{query} ORDER BY "index"', kinds):
        yield index, kind, contract, subject, parse_canonical(bytes(body))["payload"]


def _compare_records(connection: sqlite3.Connection) -> str:
    expected = 0
    for index, _, contract, _, payload in _said(connection, "record.put"):
        expected += 1
        if record_row(connection, payload["id"]) != (bytes.fromhex(payload["hash"]), contract, index):
            return f"{payload['id']!r:.80} is not what entry {index} says"
    return _miscounted(connection, "records", expected)


def _compare_leases(connection: sqlite3.Connection) -> str:
    said = _said(connection, "lease.acquired", "lease.taken-over")
    tokens = {payload["name"]: payload["token"] for *_, payload in said}
    held = dict(connection.execute("SELECT name, token FROM leases").fetchall())
    wrong = sorted(name for name in held.keys() | tokens if held.get(name) != tokens.get(name))
    return f"{wrong[0]!r:.80} has another token than the entries say" if wrong else ""


def _compare_submissions(connection: sqlite3.Connection, size: int) -> str:
    """Each submission covers entries that exist, and no entry belongs to two."""
    covered = 0
    for submission, first, last in connection.execute(
        "SELECT id, first, last FROM submissions ORDER BY first, last"
    ):
        if first < covered or last < first - 1 or last >= size:
            return f"{submission!r:.80} covers entries that it cannot have written"
        covered = max(covered, last + 1)
    return ""


def _compare_effects(connection: sqlite3.Connection) -> str:
    said = rebuild_effects(connection)
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'effects'").fetchone():
        return "it is missing" if said else ""  # Homes of version 1 have none.
    rows = connection.execute(f"SELECT {effect_table.COLUMNS} FROM effects")
    held = {row[0]: EffectRow(*row) for row in rows}
    wrong = sorted(effect for effect in held.keys() | said if held.get(effect) != said.get(effect))
    return f"{wrong[0]!r:.80} is not what the entries say" if wrong else ""


def _miscounted(connection: sqlite3.Connection, table: str, expected: int) -> str:
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return "" if count == expected else f"expected {expected} rows, found {count}"


class _Growing:
    """The tree grown again while the chain is read, each new node compared with its row."""

    def __init__(self, connection: sqlite3.Connection, root_at: int) -> None:
        self.found = Rebuilt()
        self._connection, self._root_at, self._nodes = connection, root_at, 0
        self._newest: dict[int, tuple[int, bytes]] = {}  # The newest full subtree of each level.

    def entries(self) -> Iterator[Entry]:
        rows = self._connection.execute('SELECT "index", hash, previous, body FROM entries ORDER BY "index"')
        for index, digest, previous, body in rows:
            entry = Entry(index, previous, digest, body)
            yield entry  # What follows happens once the chain has taken the entry.
            self._grow(entry)
            self.found.size = index + 1

    def compare_count(self) -> None:
        how = _miscounted(self._connection, "nodes", self._nodes)
        if how:
            self.found.different.setdefault("nodes", f"table nodes: {how}")

    def _grow(self, entry: Entry) -> None:
        for level, position, digest in merkle.grow(entry.index, merkle.leaf_hash(entry.hash), self._node):
            self._nodes += 1
            self._newest[level] = (position, digest)
            row = self._connection.execute(
                "SELECT hash FROM nodes WHERE level = ? AND position = ?", (level, position)
            ).fetchone()
            if row is None or bytes(row[0]) != digest:
                how = f"table nodes: node {level}/{position} is not what the entries say"
                self.found.different.setdefault("nodes", how)
        if entry.index + 1 == self._root_at:
            self.found.root = merkle.root(self._root_at, self._node)

    def _node(self, level: int, position: int) -> bytes:
        known, digest = self._newest[level]
        assert known == position, "a root needs the newest subtrees alone"
        return digest
