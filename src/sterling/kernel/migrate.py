"""Moving a home to the version of this program.

Migrations are numbered SQL files, one a version, forward only. They change the
tables around the entries and never an entry's bytes: after the statements, and
before they count, the whole chain is computed again from what is stored and
must end in the head it had. Statements, version and the entry that tells of
them are one transaction, so a home killed at any point is of the old version or
of the new one.

A copy of the old database, verified on its own, stays beside the new one as
`ledger.db.v<N>`. Nobody else writes meanwhile: the roles `migrate` and `writer`
are held.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from sterling.kernel import chain
from sterling.kernel.append import Appender, Prepared
from sterling.kernel.batch import Batch, Draft
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.clock import Clock, SystemClock
from sterling.kernel.contracts import load_contracts
from sterling.kernel.durable import sync_folder
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.hashing import hash_file
from sterling.kernel.home import open_home
from sterling.kernel.locks import Role
from sterling.kernel.store_sqlite import (
    HOME_VERSION,
    connect_reader,
    connect_writer,
    read_meta,
    read_rows,
    read_size,
)
from sterling.kernel.verify import verify_home

__all__ = ["Migrated", "NotMigrated", "migrate_home", "statements_of"]

_FOLDER = Path(__file__).parent / "migrations"


class NotMigrated(SterlingError):
    """A home whose ledger does not hold, or whose disk refused; it is as it was."""

    code = "home.not-migrated"
    hint = "The home is as it was. Run `sterling verify`, and look at the disk's free space."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done. Where nothing was to do, the versions are equal and `entry` is -1."""

    home_id: str
    before: int
    after: int
    size: int
    head: str
    head_before: str
    backup: str = ""
    backup_sha256: str = ""
    entry: int = -1


def migrate_home(path: Path, *, clock: Clock | None = None) -> Migrated:
    """Move a home to `HOME_VERSION`, or find it there already.

    Errors: what opening it raises (home.*, config.*), home.role-taken, home.not-migrated.
    Cost:   one copy of the database and two passes over its entries.
    """
    with open_home(path, read_only=True) as home:
        home_id, wait_ms = home.id, int(home.config.get("store.wait_ms_max"))
    try:
        done = _migrate(path, home_id, wait_ms, clock or SystemClock())
    except (sqlite3.Error, OSError) as problem:
        raise NotMigrated(f"expected home version {HOME_VERSION}, found: {problem}") from problem
    if done.entry < 0:
        return done
    with open_home(path, clock=clock) as home:
        home.ledger.checkpoint()
        return replace(done, size=home.ledger.size(), head=home.ledger.head().hex())


def statements_of(number: int) -> Iterator[str]:
    """The statements of one migration, in order."""
    gathered = ""
    for line in (_FOLDER / f"{number:04}.sql").read_text(encoding="utf-8").splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered.strip()
            gathered = ""
    rest = [line for line in gathered.splitlines() if line.strip() and not line.startswith("--")]
    assert not rest, f"migration {number} ends within a statement: {rest[0]}"


def _migrate(path: Path, home_id: str, wait_ms: int, clock: Clock) -> Migrated:
    """Copy and move while nobody else writes."""
    with ExitStack() as held:
        for name in ("migrate", "writer"):
            role = Role(path / "run", name)
            role.take(wait_ms=wait_ms if name == "writer" else 0)
            held.callback(role.release)
        version, size, head = _state(path / "ledger.db")
        done = Migrated(home_id, version, HOME_VERSION, size, head.hex(), head.hex())
        if version == HOME_VERSION:
            return done
        backup = _back_up(path, version, (size, head.hex()))
        digest = hash_file(backup)
        payload = {"from": version, "to": HOME_VERSION, "head_before": head.hex(), "backup_sha256": digest}
        draft = Draft("home.migrated", payload, subject=home_id)
        entry = _move(path / "ledger.db", draft, head, clock)
        return replace(done, backup=str(backup), backup_sha256=digest, entry=entry)


def _state(database: Path) -> tuple[int, int, bytes]:
    """Version, size and head."""
    with closing(connect_reader(database)) as connection:
        size, head, _ = read_size(connection)
        return int(read_meta(connection, "home_version") or 0), size, head


def _back_up(path: Path, version: int, expected: tuple[int, str]) -> Path:
    """A copy of the database that verifies, under its final name.

    It grows alone in a folder, so that what is verified there is the copy and nothing else.
    """
    folder = path / "run" / "migrate"
    folder.mkdir(mode=0o700, exist_ok=True)
    copy, backup = folder / "ledger.db", path / f"ledger.db.v{version}"
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    with closing(connect_reader(path / "ledger.db")) as source, closing(sqlite3.connect(copy)) as target:
        target.execute("PRAGMA journal_mode=OFF")
        source.backup(target)
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode=DELETE")  # One file, without a log beside it.
    found = verify_home(folder)
    if found.verdict == "broken" or (found.size, found.head) != expected:
        why = found.message or f"head {found.head}"
        raise NotMigrated(f"expected a copy of {expected[0]} entries that holds, found {found.size}: {why}")
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(copy, backup)
    sync_folder(path)
    return backup


def _move(database: Path, told: Draft, head: bytes, clock: Clock) -> int:
    """Run what lies between the versions, in one transaction with the entry that tells of it."""
    load_contracts().validate(told.kind, told.payload)
    with closing(connect_writer(database)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for number in range(told.payload["from"] + 1, HOME_VERSION + 1):
            for statement in statements_of(number):
                connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'home_version'", (str(HOME_VERSION),))
        _check_entries(connection, head)
        prepared = Prepared(Batch(drafts=[told]), ((told, canonical_bytes(told.payload)),))
        receipt = Appender(connection, clock).apply(prepared)
        connection.execute("COMMIT")
        return receipt.last


def _check_entries(connection: sqlite3.Connection, head: bytes) -> None:
    """Refuse statements after which the chain, computed again, ends in another head."""
    rows = read_rows(connection, {}, after=-1)
    try:
        found = chain.verify(chain.Entry(row[0], bytes(row[2]), bytes(row[1]), bytes(row[8])) for row in rows)
    except (chain.ChainBroken, chain.EntryAltered) as problem:
        raise NotMigrated(f"expected the entries as they were, found {problem.message}") from problem
    if found != head:
        raise NotMigrated(f"expected head {head.hex()} as before, found {found.hex()}")
