"""Where two histories part: the first entry that is not the same in both.

For a home and its backup, or two copies of one home. Rows are compared as they
are stored; whether either history holds is for `verify` to say. Nothing is
trusted: a file may hold anything in any cell.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from sterling.kernel.chain import GENESIS
from sterling.kernel.verify import NotALedger, connect_untrusted
from sterling.kernel.verify_log import Broken

__all__ = ["Difference", "History", "first_difference"]

_COLUMNS = ("index", "hash", "previous", "kind", "contract", "subject", "run", "at_us", "body")
_QUERY = 'SELECT "index", hash, previous, kind, contract, subject, run, at_us, body FROM entries'


@dataclass(frozen=True, slots=True)
class History:
    """One side: how many entries it has, and the stored hash of the newest."""

    size: int
    head: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`index` is the first entry that differs or that only one side has (None: they are equal).

    `columns` are what differs there; empty when one history is the beginning of the other.
    """

    index: int | None
    columns: tuple[str, ...]
    a: History
    b: History

    @property
    def relation(self) -> str:
        """`equal`, `a-begins-b`, `b-begins-a` or `parted`."""
        if self.index is None:
            return "equal"
        if self.columns:
            return "parted"
        return "a-begins-b" if self.a.size < self.b.size else "b-begins-a"


def first_difference(a: Path, b: Path) -> Difference:
    """Compare two homes, `ledger.db` files or backups of one.

    Errors: NotALedger when a path holds no entries that can be read, StoreUnavailable.
    Cost:   one pass over both, memory flat.
    """
    with closing(_open(a)) as first, closing(_open(b)) as second:
        histories = _history(first), _history(second)
        rows = (each.execute(f'{_QUERY} ORDER BY "index"') for each in (first, second))
        try:
            for left, right in zip_longest(*rows):
                if left == right:
                    continue
                if left is None or right is None:
                    return Difference((left or right)[0], (), *histories)
                names = zip(_COLUMNS, left, right, strict=True)
                differing = tuple(name for name, mine, other in names if mine != other)
                return Difference(min(left[0], right[0]), differing, *histories)
        except (sqlite3.DatabaseError, TypeError) as problem:
            raise NotALedger(f"expected entries to compare, found: {problem}") from problem
    return Difference(None, (), *histories)


def _open(path: Path) -> sqlite3.Connection:
    file = path / "ledger.db" if path.is_dir() else path
    if not file.is_file():
        raise NotALedger(f"expected a home or a ledger.db, found none at {path}", path=str(path))
    try:
        connection = connect_untrusted(file)
    except Broken as problem:
        raise NotALedger(f"expected a ledger at {path}, found: {problem.first_bad.message}") from problem
    connection.execute("BEGIN")
    return connection


def _history(connection: sqlite3.Connection) -> History:
    try:
        row = connection.execute(f'{_QUERY} ORDER BY "index" DESC LIMIT 1').fetchone()
        size = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
    except sqlite3.DatabaseError as problem:
        raise NotALedger(f"expected a table of entries, found: {problem}") from problem
    head = GENESIS if row is None else row[1]
    return History(size, head.hex() if isinstance(head, bytes) else "")
