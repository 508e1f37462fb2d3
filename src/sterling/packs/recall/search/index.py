"""The index of one home: what ingest, the drain and questions look things up in.

It lies in `HOME/index/recall.db`, or for an encrypted home in memory alone, and
holds nothing that the records do not say; `catch_up` reads the records it has not
seen, `rebuild` makes it anew beside the old one and swaps, `check` compares it
with a fresh one row by row. An index that belongs to another history of the
ledger is rebuilt, never patched.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.locks import Role
from sterling.kernel.records import Record
from sterling.packs.recall.pixels.manifest import Place, placed_in
from sterling.packs.recall.search.words import skeleton, words_of

__all__ = ["IndexAltered", "IndexBehind", "IndexManifest", "RecallIndex", "check", "open_index", "rebuild"]

INDEX_VERSION = "2"
_FILE = "recall.db"
_WAIT_MS = 600_000
_TABLES = ("sessions", "contexts", "frames", "tiles", "ticks", "stage1", "documents", "checks")


class IndexBehind(SterlingError):
    """The index cannot be brought up to what was recorded."""

    code = "recall.index-behind"
    hint = "Run `sterling recall index rebuild`."
    exit = EXIT_CANNOT_JUDGE


class IndexAltered(SterlingError):
    """The index holds other rows than the records give."""

    code = "recall.index-altered"
    hint = "Run `sterling recall index rebuild`; records are not touched by it."
    exit = EXIT_CANNOT_JUDGE


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """How far the index has come: ledger entries looked at, their last hash, records taken."""

    entries: int
    head: str
    records: int

    def as_json(self) -> dict[str, Json]:
        return {"entries": self.entries, "head": self.head, "records": self.records}


class RecallIndex:
    """An open index. Reading needs no home; `catch_up` does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def manifest(self) -> IndexManifest:
        """How far this index has come."""
        rows = dict(self.connection.execute("SELECT name, value FROM meta").fetchall())
        return IndexManifest(int(rows["entries"]), str(rows["head"]), int(rows["records"]))

    def tile_place(self, digest: bytes) -> Place | None:
        """Where history keeps the tile with this hash."""
        row = self.connection.execute("SELECT bundle, place FROM tiles WHERE hash = ?", (digest,)).fetchone()
        return None if row is None else Place(digest, str(row[0]), int(row[1]))

    def frame_of(self, frame_hash: str) -> str:
        """The record of the frame with this hash, or ''."""
        row = self.connection.execute(
            "SELECT record FROM frames WHERE frame_hash = ?", (frame_hash,)
        ).fetchone()
        return "" if row is None else str(row[0])

    def catch_up(self, home: Home) -> IndexManifest:
        """Take in every record that was written since; one transaction. Errors: IndexBehind."""
        try:
            return self._catch_up(home)
        except sqlite3.Error as problem:
            raise IndexBehind(f"expected an index that can be written, found: {problem}") from problem

    def _catch_up(self, home: Home) -> IndexManifest:
        size = home.ledger.size()
        if size == self.manifest().entries:
            return self.manifest()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            before = self.manifest()  # Another process may have come first.
            taken = before.records
            for contract, take in _TAKERS.items():
                for record in home.records.read(contract, after=before.entries - 1):
                    take(self.connection, home, record)
                    taken += 1
            last = home.ledger.entry(size - 1)
            assert last is not None, "a ledger with entries has a last one"
            _write_manifest(self.connection, IndexManifest(size, last.hash.hex(), taken))
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # A signal may come just after the commit.
                self.connection.execute("ROLLBACK")
            raise
        return self.manifest()

    def digest(self) -> str:
        """SHA-256 over all rows of all tables in key order."""
        digest = hashlib.sha256()
        for table in _TABLES:
            for row in _rows(self.connection, table):
                digest.update(repr((table, row)).encode("utf-8"))
        return digest.hexdigest()


@contextmanager
def open_index(home: Home, *, catch_up: bool = True) -> Iterator[RecallIndex]:
    """The index of a home, brought up to date unless told otherwise.

    Errors: IndexBehind when it is absent, old or behind and cannot be written.
    """
    if home.is_encrypted:
        yield _in_memory(home)
        return
    path = home.path / "index" / _FILE
    try:
        if not _fits(path, home):
            if home.read_only:
                raise IndexBehind("expected an index of this home, found none or another's")
            _make(path, home)
        connection = _connect(path)
    except (sqlite3.Error, OSError) as problem:
        raise IndexBehind(f"expected a readable index at {path}, found: {problem}") from problem
    try:
        index = RecallIndex(connection)
        if catch_up and not home.read_only:
            index.catch_up(home)
        yield index
    finally:
        connection.close()


def _make(path: Path, home: Home) -> None:
    """Rebuild, unless another process just did: a file swapped under a reader is lost to it."""
    role = Role(home.path / "run", "index")
    role.take(wait_ms=_WAIT_MS)
    try:
        if not _fits(path, home):
            rebuild(home)
    finally:
        role.release()


def rebuild(home: Home) -> IndexManifest:
    """Make the index anew from the records, beside the old one, and swap it in whole."""
    if home.is_encrypted:
        return _in_memory(home).manifest()
    folder = home.path / "index"
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / f".{_FILE}.{os.getpid()}.incoming"
    connection = _create(fresh)
    try:
        manifest = RecallIndex(connection).catch_up(home)
    finally:
        connection.close()
    fresh.replace(folder / _FILE)
    return manifest


def check(home: Home) -> IndexManifest:
    """Compare the index with one made anew in memory.

    Errors: IndexBehind; IndexAltered naming the first table and row that differ.
    """
    with open_index(home) as index:
        manifest = index.manifest()
        if manifest.entries != home.ledger.size():
            raise IndexBehind(
                f"expected {home.ledger.size()} entries in the index, found {manifest.entries}",
                expected=home.ledger.size(),
                found=manifest.entries,
            )
        fresh = _create(None)
        try:
            RecallIndex(fresh).catch_up(home)
            for table in _TABLES:
                with closing(_rows(fresh, table)) as wanted, closing(_rows(index.connection, table)) as found:
                    _compare(table, wanted, found)
            index.connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
            index.connection.execute("INSERT INTO grams (grams) VALUES ('integrity-check')")
        except sqlite3.DatabaseError as problem:
            raise IndexAltered(f"expected a sound index, found: {problem}") from problem
        finally:
            fresh.close()
        return manifest


def _compare(table: str, expected: Iterator[tuple[Json, ...]], found: Iterator[tuple[Json, ...]]) -> None:
    while True:
        wanted, here = next(expected, None), next(found, None)
        if wanted != here:
            named = (wanted or here or ("",))[0]
            key = named.hex() if isinstance(named, bytes) else str(named)
            raise IndexAltered(
                f"{table}: expected the row {key} as the records give it", table=table, row=key
            )
        if wanted is None:
            return


def _rows(connection: sqlite3.Connection, table: str) -> Generator[tuple[Json, ...], None, None]:
    yield from connection.execute(f"SELECT * FROM {table} ORDER BY 1")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute(
        "PRAGMA synchronous = NORMAL"
    )  # Rebuildable: losing its tail costs time, not evidence.
    return connection


def _create(path: Path | None) -> sqlite3.Connection:
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
        connection = _connect(path)
    connection.executescript((Path(__file__).parent / "schema.sql").read_text(encoding="utf-8"))
    connection.execute("INSERT INTO meta VALUES ('version', ?)", (INDEX_VERSION,))
    _write_manifest(connection, IndexManifest(0, "", 0))
    return connection


def _in_memory(home: Home) -> RecallIndex:
    """The index of an encrypted home: made for each use, so that no word of a screen reaches the disk."""
    index = RecallIndex(_create(None))
    index.connection.execute("PRAGMA temp_store = MEMORY")
    index.catch_up(home)
    return index


def _fits(path: Path, home: Home) -> bool:
    """Whether this is an index of our version over a part of this very ledger."""
    if not path.is_file():
        return False
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False
    if rows.get("version") != INDEX_VERSION or not str(rows.get("entries", "")).isdigit():
        return False
    entries = int(rows["entries"])
    last = home.ledger.entry(entries - 1) if entries else None
    return entries == 0 or (last is not None and last.hash.hex() == rows.get("head"))


def _write_manifest(connection: sqlite3.Connection, manifest: IndexManifest) -> None:
    values = {"entries": str(manifest.entries), "head": manifest.head, "records": str(manifest.records)}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", sorted(values.items()))


# One function a contract: what the index keeps of a record.


def _take_session(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    document = record.document
    row = (record.id, document["source"], document["name"], document["zone"])
    connection.execute("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?)", row)


def _take_context(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    document = record.document
    row = (record.id, document["app"], document["title"], document["url"])
    if connection.execute("INSERT OR IGNORE INTO contexts VALUES (?, ?, ?, ?)", row).rowcount:
        values = (record.id, document["title"], document["app"], document["url"])
        connection.execute("INSERT INTO titles (context, title, app, url) VALUES (?, ?, ?, ?)", values)


def _take_frame(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    document = record.document
    row = (record.id, document["frame_hash"], record.entry, document["width"], document["height"])
    connection.execute("INSERT OR IGNORE INTO frames VALUES (?, ?, ?, ?, ?)", row)
    placed = placed_in(home.blobs.get(document["manifest"]))
    rows = [(digest, place.bundle, place.offset) for digest, (place, _, _) in sorted(placed.items())]
    connection.executemany("INSERT OR IGNORE INTO tiles VALUES (?, ?, ?)", rows)


def _take_tick(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    document = record.document
    row = (
        record.entry,
        record.id,
        *(document[name] for name in ("session", "stream", "n", "at_us", "outcome")),
        *(document[name] or "" for name in ("frame", "context", "item", "code")),
    )
    connection.execute("INSERT OR IGNORE INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def _take_stage1(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    states = {check["state"] for check in record.document["checks"]}
    state = "failed" if "failed" in states else "complete"
    connection.execute("INSERT OR REPLACE INTO stage1 VALUES (?, ?)", (record.document["frame"], state))


def _take_state_text(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    document = record.document
    state = home.records.get(document["state"]).document
    places = {
        "segments": [
            [line["row"], line["block"], *line["box"], line["start"], line["end"], line["confidence_bp"]]
            for line in state["lines"]
        ],
        "spans": document["spans"],
    }
    body = str(document["text"])
    row = (
        record.entry,
        record.id,
        document["state"],
        state["frame"],
        state["text"],
        body,
        json.dumps(places, separators=(",", ":")),
    )
    if not connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", row).rowcount:
        return
    folded = " ".join(skeleton(word.normal) for word in words_of(body))
    connection.execute(
        "INSERT INTO words (rowid, body, folded) VALUES (?, ?, ?)", (record.entry, body, folded)
    )
    connection.execute("INSERT INTO grams (rowid, body) VALUES (?, ?)", (record.entry, body))


def _take_agreement(connection: sqlite3.Connection, home: Home, record: Record) -> None:
    document = record.document
    boxes = json.dumps(document["boxes"], separators=(",", ":"))
    agreed = int(document["verdict"] == "agreed")
    row = (record.id, record.entry, document["frame"], document["a"], boxes, agreed)
    connection.execute("INSERT OR IGNORE INTO checks VALUES (?, ?, ?, ?, ?, ?)", row)


_TAKERS: dict[str, Callable[[sqlite3.Connection, Home, Record], None]] = {
    "recall.session": _take_session,
    "recall.context": _take_context,
    "recall.frame": _take_frame,
    "recall.tick": _take_tick,
    "recall.stage1": _take_stage1,
    "recall.state-text": _take_state_text,
    "recall.agreement": _take_agreement,
}
