"""Verifying a home: is this still what was written?

`verify_home` opens `ledger.db` read-only on its own, without a lock. It reads the
outside copies first and then takes one snapshot, so a running writer never
causes a false alarm. Evidence of tampering is a verdict, not an exception; only
a path where there is nothing to judge raises.

| verdict      | exit | meaning                                                      |
| ok           | 0    | everything holds and an outside copy vouches for it          |
| broken       | 3    | something disagrees; `first_bad` says where; wins over 4     |
| cannot-judge | 4    | the log agrees with itself, and nothing outside vouches      |
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sterling.kernel.anchors import Anchors, AnchorUnreadable, Mark, is_home_id
from sterling.kernel.blobs import Blobs, open_blobs
from sterling.kernel.canonical import Json
from sterling.kernel.chain import GENESIS
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.config import load_config
from sterling.kernel.errors import (
    EXIT_BROKEN,
    EXIT_CANNOT_JUDGE,
    EXIT_OK,
    EXIT_USAGE,
    SterlingError,
    all_errors,
)
from sterling.kernel.keys import load_public_key
from sterling.kernel.signing import Verifier, parse_verifier
from sterling.kernel.store_sqlite import StoreUnavailable
from sterling.kernel.verify_blobs import BlobCheck, archived_in
from sterling.kernel.verify_deep import DeepCheck
from sterling.kernel.verify_log import Broken, FirstBad, LogCheck, Outside, Progress, Row

__all__ = ["NotALedger", "Verification", "connect_untrusted", "verify_home"]

_MAGIC = b"SQLite format 3\x00"
_BUSY_OR_CLOSED = frozenset((3, 5, 6, 8, 14, 23))  # PERM BUSY LOCKED READONLY CANTOPEN AUTH
_COLUMNS = '"index", hash, previous, kind, contract, subject, run, at_us, body'


class NotALedger(SterlingError):
    """There is nothing at a path that could be verified."""

    code = "ledger.not-a-ledger"
    hint = "Name a home or its ledger.db: `sterling verify PATH`. `sterling init` makes a home."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying gave. `code` and `message` are empty when everything holds.

    `anchored_to` is the size that an outside copy vouches for (None: no copy), and
    `unanchored` how many entries came after it. `verified_to` is how many entries
    were checked before the first bad one. `losses` are what key holders gave up,
    `restored_at` the entries at which the outside copies were gone and began anew;
    both stay for ever.
    """

    verdict: str
    exit: int
    code: str
    message: str
    home_id: str
    size: int
    head: str
    anchored_to: int | None
    unanchored: int
    first_bad: FirstBad | None
    checkpoints: int
    blobs: dict[str, Json] | None
    losses: tuple[Json, ...]
    restored_at: tuple[int, ...]
    verified_to: int

    @property
    def hint(self) -> str:
        """The next step, from the error class that owns the code."""
        error = all_errors().get(self.code)
        return "" if error is None else error.hint

    def as_json(self) -> dict[str, Json]:
        """The `verify.result` document."""
        bad = None if self.first_bad is None else asdict(self.first_bad)
        fields = {name: getattr(self, name) for name in self.__slots__}
        lists = {"losses": list(self.losses), "restored_at": list(self.restored_at)}
        return fields | lists | {"first_bad": bad, "hint": self.hint}


def verify_home(
    path: Path,
    *,
    blobs: bool = False,
    deep: bool = False,
    anchors: Anchors | None = None,
    notes: Sequence[str] = (),
    pin: str | None = None,
    require_anchored: bool = False,
    anchored_up_to: int | None = None,
) -> Verification:
    """Verify a home, or the home around a `ledger.db`.

    `notes` are checkpoints brought from elsewhere, `pin` is a verifier string that
    is trusted instead of the pinned one. `blobs` hashes every stored byte again,
    `deep` checks records, contracts, leases and derived tables too. Outside copies
    of more than `anchored_up_to` entries are left out; only a recovery may ask that.

    Errors: NotALedger when nothing here is or was a ledger, VerifierInvalid for a bad pin,
            StoreUnavailable when the file cannot be opened for now.
    """
    trusted = None if pin is None else parse_verifier(pin)
    home, database = _locate(path)
    remembered = _remembered(home)
    lost = _lost_ledger(path, home, database, remembered)
    if lost is not None:
        return _broken(Progress(), remembered or "", lost)
    try:
        home_id = _read_home_id(database)
    except Broken as found:
        return _broken(Progress(), remembered or "", found.first_bad)
    outside, problem = _read_outside(home, home_id, anchors, trusted, notes)
    if anchored_up_to is not None:
        outside = replace(outside, up_to=anchored_up_to)
    stored = _blobs_of(home)
    blob_check = BlobCheck(stored) if blobs else None
    deep_check = DeepCheck(stored) if deep else None
    try:
        progress, deep_bad = _pass(database, home_id, outside, stored, blob_check, deep_check)
    except Broken as found:
        return _broken(Progress(), home_id, found.first_bad)
    bad = progress.first_bad
    if bad is None and remembered not in (None, home_id) and not outside.anchored:
        message = f"an anchor remembers {remembered} at this path, found {home_id}"
        bad = FirstBad(0, max(0, progress.size - 1), "integrity.forked", message)
    bad = bad or deep_bad
    blob_report = None
    if blob_check is not None and bad is None:
        bad = blob_check.run()
        blob_report = blob_check.report()
    if bad is not None:
        return _broken(progress, home_id, bad, blob_report)
    problem = problem or _doubt(progress, outside, trusted)
    if not problem and deep_check is not None:
        problem = deep_check.unjudged
    if not problem and require_anchored:
        problem = _unanchored(progress)
    code = "integrity.no-anchor"
    if not problem and blob_check is not None:
        code, problem = blob_check.doubt()
    if problem:
        judged = ("cannot-judge", EXIT_CANNOT_JUDGE, code, problem)
    else:
        judged = ("ok", EXIT_OK, "", "")
    return _verification(progress, home_id, *judged, blob_report)


# Where it is


def _locate(path: Path) -> tuple[Path, Path]:
    """The home's folder and its database."""
    try:
        folder = path.is_dir()
    except OSError as problem:
        raise NotALedger(f"expected to look at {path}, found: {problem.strerror}") from problem
    return (path, path / "ledger.db") if folder or path.name != "ledger.db" else (path.parent, path)


def _remembered(home: Path) -> str | None:
    """The home id that an anchor remembers at this path."""
    try:
        return Anchors.remembered_homes().get(os.path.realpath(home))
    except OSError:
        return None  # A path that cannot be resolved is remembered by nobody.


def _lost_ledger(path: Path, home: Path, database: Path, remembered: str | None) -> FirstBad | None:
    """What is wrong when there is no database to read; None when there is one."""
    missing = FirstBad(0, None, "integrity.ledger-missing", f"expected a ledger at {database}, found none")
    if path.is_file() and path.name != "ledger.db":
        raise NotALedger(f"expected a home or its ledger.db, found another file: {path}")
    try:
        with database.open("rb") as file:
            start = file.read(len(_MAGIC))
    except (FileNotFoundError, NotADirectoryError):
        if remembered is not None or (home / "keys").is_dir() or (home / "blobs").is_dir():
            return missing
        raise NotALedger(f"expected a home at {path}, found no ledger.db", path=str(path)) from None
    except OSError as problem:
        raise NotALedger(f"expected to read {database}, found: {problem.strerror}") from problem
    if not start:
        return FirstBad(
            0, None, "integrity.ledger-missing", f"expected a ledger, found an empty file: {database}"
        )
    if start != _MAGIC:
        return FirstBad(
            0, None, "integrity.ledger-unreadable", "expected an SQLite database, found another file"
        )
    return None


def _read_home_id(database: Path) -> str:
    with closing(connect_untrusted(database)) as connection:
        try:
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            if "entries" not in tables:
                raise Broken(0, None, "integrity.ledger-missing", "the database holds no table of entries")
            row = connection.execute("SELECT value FROM meta WHERE name = 'home_id'").fetchone()
        except sqlite3.DatabaseError as problem:
            raise _unreadable(problem, 0) from problem
    if row is None or not isinstance(row[0], str) or not is_home_id(row[0]):
        raise Broken(0, None, "integrity.forked", "the database does not say which home it belongs to")
    return row[0]


def _blobs_of(home: Path) -> Blobs:
    """The stored bytes, also when the key or the settings of the home cannot be read."""
    stored = open_blobs(home / "blobs", without_key=True)
    try:
        places = load_config(home / "sterling.toml").get("archive.stores")
    except SterlingError:
        places = ()
    assert isinstance(places, tuple), "a list of folders"
    stored.stores = tuple(Path(place) for place in places)
    return stored


# What is outside


def _read_outside(
    home: Path, home_id: str, anchors: Anchors | None, trusted: Verifier | None, notes: Sequence[str]
) -> tuple[Outside, str]:
    """Everything that is known from outside, read before the log; and what could not be read."""
    place = anchors if anchors is not None else Anchors.open(home_id)
    problem, anchored, marks, verifier = "", list[str](), list[Mark](), trusted
    try:
        anchored, marks = place.history(), place.marks()
        pin = place.read_pin()
        if verifier is None and pin is not None:
            verifier = parse_verifier(pin.verifier)
    except AnchorUnreadable as found:
        problem = found.message
    if verifier is None:
        own = load_public_key(home / "keys", "ledger")
        verifier = None if own is None else Verifier(origin_of(home_id), own)
    return Outside(verifier, tuple(anchored), tuple(notes), tuple(marks)), problem


def _doubt(progress: Progress, outside: Outside, trusted: Verifier | None) -> str:
    """Why a log without faults still cannot be vouched for; empty when it can."""
    if progress.unread_anchors:
        return f"{len(progress.unread_anchors)} outside copies cannot be read: {progress.unread_anchors[0]}"
    if outside.verifier is None:
        return "nobody knows the key that signs its checkpoints"
    if progress.anchored_to is None:
        return "nothing outside vouches for its tail"
    return ""


def _unanchored(progress: Progress) -> str:
    """What no outside copy of its own time covers; empty when every entry is covered.

    Copies that were made after a restoration say nothing of what came before it:
    the log may have been written anew while there were none.
    """
    if progress.anchored_to != progress.size:
        count = progress.size - (progress.anchored_to or 0)
        return f"{count} entries came after the newest anchor"
    for restored in progress.restored_at:
        covered = max((size for size in progress.compared if size <= restored), default=0)
        if covered < restored:
            return (
                f"the copies outside began anew at entry {restored}, and none from before covers"
                f" entries {covered} to {restored - 1}"
            )
    return ""


# The pass


class _Snapshot:
    """The tables as they are at one moment; what a pass reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def take(self) -> None:
        """From here on nothing that a writer does is seen."""
        self._connection.execute("BEGIN")

    def entries(self) -> Iterator[Row]:
        return self._connection.execute(f'SELECT {_COLUMNS} FROM entries ORDER BY "index"')

    def nodes(self, level: int) -> Iterator[Row]:
        return self._connection.execute(
            "SELECT position, hash FROM nodes WHERE level = ? ORDER BY position", (level,)
        )

    def entry(self, index: int) -> Row | None:
        query = f'SELECT {_COLUMNS} FROM entries WHERE "index" = ?'
        row: Row | None = self._connection.execute(query, (index,)).fetchone()
        return row

    def node_count(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM nodes").fetchone()[0])

    def checkpoints(self) -> Iterator[Row]:
        return self._connection.execute("SELECT size, note FROM checkpoints ORDER BY size")


def _pass(
    database: Path,
    home_id: str,
    outside: Outside,
    stored: Blobs,
    blob_check: BlobCheck | None,
    deep_check: DeepCheck | None,
) -> tuple[Progress, FirstBad | None]:
    """Check the log in one snapshot; and, when it holds, what the deep check found."""
    observers = [check.observe for check in (blob_check, deep_check) if check is not None]

    def observe(index: int, body: dict[str, Json]) -> None:
        for each in observers:
            each(index, body)

    with closing(connect_untrusted(database)) as connection:
        source = _Snapshot(connection)
        check = LogCheck(source, home_id, outside, observe if observers else None)
        try:
            source.take()
            if observers:
                stored.whereabouts = archived_in(connection).get
            progress = check.run()
            if progress.first_bad is not None or deep_check is None:
                return progress, None
            return progress, deep_check.finish(connection, progress.size)
        except sqlite3.DatabaseError as problem:
            check.progress.first_bad = _unreadable(problem, check.progress.size).first_bad
            return check.progress, None


def connect_untrusted(database: Path) -> sqlite3.Connection:
    """A connection that cannot write and trusts nothing that the file says about itself.

    On media that cannot be written SQLite opens a log only as immutable, which is
    safe there when no write-ahead log lies beside it.

    Errors: StoreUnavailable; Broken when the file is no database.
    """
    quoted = str(database).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    beside = database.with_name(database.name + "-wal")
    modes = ["mode=ro"] if beside.exists() and beside.stat().st_size else ["mode=ro", "mode=ro&immutable=1"]
    problem: sqlite3.Error | None = None
    for mode in modes:
        try:
            return _connect_as(f"file:{quoted}?{mode}")
        except sqlite3.DatabaseError as found:
            problem = found
    assert problem is not None
    raise _unreadable(problem, 0) from problem


def _connect_as(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
    try:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _unreadable(problem: sqlite3.Error, low: int) -> Broken:
    """What a failed read says about the file.

    Errors: StoreUnavailable when it says nothing: the file is busy or may not be opened.
    """
    if (getattr(problem, "sqlite_errorcode", 0) or 0) & 0xFF in _BUSY_OR_CLOSED:
        raise StoreUnavailable(f"expected to read the ledger, found: {problem}") from problem
    return Broken(low, None, "integrity.ledger-unreadable", f"SQLite cannot read on: {problem}")


# The verdict


def _broken(
    progress: Progress, home_id: str, bad: FirstBad, blobs: dict[str, Json] | None = None
) -> Verification:
    return _verification(progress, home_id, "broken", EXIT_BROKEN, bad.code, bad.message, blobs, bad)


def _verification(
    progress: Progress,
    home_id: str,
    verdict: str,
    exit: int,
    code: str,
    message: str,
    blobs: dict[str, Json] | None,
    bad: FirstBad | None = None,
) -> Verification:
    anchored_to = progress.anchored_to
    return Verification(
        verdict=verdict,
        exit=exit,
        code=code,
        message=message,
        home_id=home_id,
        size=progress.size,
        head=progress.head.hex() if progress.size else GENESIS.hex(),
        anchored_to=anchored_to,
        unanchored=progress.size - (anchored_to or 0),
        first_bad=bad,
        checkpoints=progress.checkpoints,
        blobs=blobs,
        losses=tuple(progress.losses),
        restored_at=tuple(progress.restored_at),
        verified_to=progress.size,
    )
