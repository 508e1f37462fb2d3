"""The SQLite store of one home: its connections and its queries.

WAL, `synchronous=FULL`, STRICT tables. One process owns the only read-write
connection; readers are `query_only`. Nothing here knows what an entry means.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sterling.kernel.chain import Entry
from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError

__all__ = [
    "HOME_VERSION",
    "ROW_COLUMNS",
    "EntryRow",
    "StoreUnavailable",
    "StoreUnreadable",
    "connect_reader",
    "connect_writer",
    "create_store",
    "insert_entry",
    "newest_row",
    "read_meta",
    "read_node",
    "read_rows",
    "read_size",
    "record_row",
    "refusal_body",
    "require_tables",
    "submission_row",
]

HOME_VERSION = 2
ROW_COLUMNS = '"index", hash, previous, kind, contract, subject, run, at_us, body'
_PAGE_ROWS = 512

EntryRow = tuple[int, bytes, bytes, str, str, str, str, int, bytes]

_TABLES = frozenset(
    {"checkpoints", "effects", "entries", "leases", "meta", "nodes", "records", "submissions"}
)
_OLD_VERSIONS = frozenset(str(version) for version in range(1, HOME_VERSION))


class StoreUnavailable(SterlingError):
    """The database cannot be opened."""

    code = "store.unavailable"
    hint = "Check the folder and its permissions, then run `sterling status`."
    exit = EXIT_USAGE


class StoreUnreadable(SterlingError):
    """The database file is not what SQLite wrote."""

    code = "store.unreadable"
    hint = "Restore `ledger.db` from a backup, then run `sterling verify`."
    exit = EXIT_BROKEN


def create_store(path: Path, home_id: str, *, demo: bool) -> None:
    """Make the tables of a new home."""
    connection = connect_writer(path)
    connection.executescript("BEGIN IMMEDIATE;\n" + _schema() + "COMMIT;")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO meta (name, value) VALUES (?, ?)",
        [("home_id", home_id), ("home_version", str(HOME_VERSION)), ("demo", "1" if demo else "0")],
    )
    connection.execute("COMMIT")
    connection.close()


def connect_writer(path: Path) -> sqlite3.Connection:
    """The read-write connection; the caller holds the writer role and uses it from one thread at a time."""
    connection = _open(f"file:{_quoted(path)}?mode=rwc", check_same_thread=False)
    _guarded(connection, "PRAGMA journal_mode=WAL")
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000", "wal_autocheckpoint=2000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; works while a writer is at work, and on homes of older versions.

    Where the folder cannot be written, SQLite cannot make the file that readers share with writers.
    Nobody here writes there either, so without a write-ahead log the database is read as it lies.
    """
    uri = f"file:{_quoted(path)}?mode=ro"
    try:
        connection = _open_guarded(uri)
    except StoreUnreadable:
        if os.access(path.parent, os.W_OK) or _has_journal(path):
            raise
        connection = _open_guarded(uri + "&immutable=1")
    try:
        _show_as_newest(connection)
    except sqlite3.DatabaseError as problem:
        connection.close()
        raise StoreUnreadable(f"expected the tables of a ledger, found: {problem}") from problem
    connection.execute("PRAGMA query_only=ON")
    return connection


def read_meta(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def require_tables(connection: sqlite3.Connection) -> None:
    """Refuse a database that has lost a table. Errors: store.unreadable."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    missing = sorted(_TABLES - {str(row[0]) for row in rows})
    if missing:
        raise StoreUnreadable(f"expected the tables of a ledger, found none named {', '.join(missing)}")


def read_size(connection: sqlite3.Connection) -> tuple[int, bytes, int]:
    """How many entries there are, the newest hash and the newest time."""
    row = connection.execute(
        'SELECT "index", hash, at_us FROM entries ORDER BY "index" DESC LIMIT 1'
    ).fetchone()
    return (0, bytes(32), 0) if row is None else (int(row[0]) + 1, bytes(row[1]), int(row[2]))


def insert_entry(
    connection: sqlite3.Connection, entry: Entry, columns: tuple[str, str, str, str, int]
) -> None:
    """Append one row; `columns` are kind, contract, subject, run and time."""
    kind, contract, subject, run, at_us = columns
    connection.execute(
        f"INSERT INTO entries ({ROW_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (entry.index, entry.hash, entry.previous, kind, contract, subject, run, at_us, entry.body),
    )


def read_rows(
    connection: sqlite3.Connection, where: dict[str, str], *, after: int, until: int | None = None
) -> Iterator[EntryRow]:
    """Rows in index order whose columns equal `where`, fetched a page at a time.

    A page is one short query, so a reader never holds a snapshot open.
    """
    # The indexes leave out empty values, and SQLite uses them only for a query that says so too.
    tests = "".join(f" AND {column} = ? AND {column} <> ''" for column in where)
    limit = "" if until is None else ' AND "index" < ?'
    query = (
        f'SELECT {ROW_COLUMNS} FROM entries WHERE "index" > ?{tests}{limit} '
        f'ORDER BY "index" LIMIT {_PAGE_ROWS}'
    )
    last = after
    tail = () if until is None else (until,)
    while True:
        rows = connection.execute(query, (last, *where.values(), *tail)).fetchall()
        yield from rows
        if len(rows) < _PAGE_ROWS:
            return
        last = rows[-1][0]


def newest_row(connection: sqlite3.Connection, subject: str) -> EntryRow | None:
    row: EntryRow | None = connection.execute(
        f"SELECT {ROW_COLUMNS} FROM entries WHERE subject = ? AND subject <> '' "
        'ORDER BY "index" DESC LIMIT 1',
        (subject,),
    ).fetchone()
    return row


def read_node(connection: sqlite3.Connection, level: int, position: int) -> bytes:
    row = connection.execute(
        "SELECT hash FROM nodes WHERE level = ? AND position = ?", (level, position)
    ).fetchone()
    if row is None:
        raise StoreUnreadable(f"expected tree node {level}/{position}, found none")
    return bytes(row[0])


def record_row(connection: sqlite3.Connection, record_id: str) -> tuple[bytes, str, int] | None:
    """The hash, contract and entry index of a record, or None."""
    row: tuple[bytes, str, int] | None = connection.execute(
        "SELECT hash, contract, entry FROM records WHERE id = ?", (record_id,)
    ).fetchone()
    return row


def submission_row(connection: sqlite3.Connection, submission: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = connection.execute(
        "SELECT first, last FROM submissions WHERE id = ?", (submission,)
    ).fetchone()
    return row


def refusal_body(connection: sqlite3.Connection, submission: str) -> bytes | None:
    """The newest `write.refused` of a batch, or None. In a string the quotes would be escaped."""
    row = connection.execute(
        "SELECT body FROM entries WHERE kind = 'write.refused' AND kind <> '' AND instr(body, ?) "
        'ORDER BY "index" DESC LIMIT 1',
        (f'"submission":"{submission}"'.encode("ascii"),),
    ).fetchone()
    return None if row is None else bytes(row[0])


def _show_as_newest(connection: sqlite3.Connection) -> None:
    """Lay this version's tables over an older home's, in this connection's memory alone.

    A table that is missing there is empty; one with fewer columns has their defaults.
    """
    tables = {
        str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    if "meta" not in tables or read_meta(connection, "home_version") not in _OLD_VERSIONS:
        return
    newest = sqlite3.connect(":memory:")
    newest.executescript(_schema())
    for name, sql in newest.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"):
        found, wanted = _columns(connection, name), _columns(newest, name)
        if found == wanted:
            continue
        connection.execute(sql.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
        shared = ", ".join(f'"{column}"' for column in found if column in wanted)
        if shared:
            connection.execute(f"INSERT INTO temp.{name} ({shared}) SELECT {shared} FROM main.{name}")
    newest.close()


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA main.table_info({table})")]


def _schema() -> str:
    return (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _open(uri: str, *, check_same_thread: bool) -> sqlite3.Connection:
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=check_same_thread)
    except sqlite3.OperationalError as problem:
        raise StoreUnavailable(f"expected to open {uri}, found: {problem}") from problem


def _open_guarded(uri: str) -> sqlite3.Connection:
    connection = _open(uri, check_same_thread=True)
    _guarded(connection, "PRAGMA busy_timeout=5000")
    return connection


def _has_journal(path: Path) -> bool:
    """Whether a write-ahead log with something in it lies beside a database."""
    journal = path.with_name(path.name + "-wal")
    return journal.exists() and journal.stat().st_size > 0


def _guarded(connection: sqlite3.Connection, statement: str) -> None:
    """Run the first statement of a connection, the one that meets a file that is no database."""
    try:
        connection.execute(statement)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as problem:
        connection.close()
        raise StoreUnreadable(f"expected an SQLite database, found: {problem}") from problem
