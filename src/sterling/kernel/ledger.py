"""The public face of the ledger: one way in, a few ways to look.

`commit` returns when the batch is durable. The first commit of a process takes
the writer role of the home and keeps it until `close`; a second process that
wants to write is refused by name. Readers need no role.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from sterling.kernel import chain, merkle
from sterling.kernel.anchors import Anchors
from sterling.kernel.append import Appender, Prepared, Receipt
from sterling.kernel.batch import Actor, Batch, Draft
from sterling.kernel.blobs import BlobAbsent, Blobs
from sterling.kernel.canonical import Json, TooLarge, canonical_bytes, parse_canonical
from sterling.kernel.checkpoint import Checkpoint, origin_of, sign_note
from sterling.kernel.clock import Clock
from sterling.kernel.contracts import Contracts
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.group import Committer, LedgerClosed
from sterling.kernel.locks import Role
from sterling.kernel.signing import Signer
from sterling.kernel.store_sqlite import (
    EntryRow,
    connect_reader,
    connect_writer,
    newest_row,
    read_node,
    read_rows,
    read_size,
)

__all__ = ["Ledger", "LedgerTailMissing", "Receipt", "StoredEntry", "checkpoint_every"]

checkpoint_every = 256
PAYLOAD_BYTES_MAX = 32 * 1024


class LedgerTailMissing(SterlingError):
    """The log is shorter than, or other than, what its anchor remembers."""

    code = "integrity.tail-missing"
    hint = "Do not write. Run `sterling verify`, then restore the newest backup."
    exit = EXIT_BROKEN


class SignerSource(Protocol):
    """Gives the key that signs checkpoints, loaded when it is first needed."""

    def __call__(self) -> Signer: ...


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as read: its place in the chain and its parsed body."""

    index: int
    hash: bytes
    previous: bytes
    kind: str
    contract: str
    subject: str
    run: str
    at_us: int
    body: bytes
    step: str = ""
    actor: Actor = field(default=Actor("program", "sterling"))
    payload: Json = None


class Ledger:
    """The ledger of one home."""

    def __init__(
        self,
        path: Path,
        *,
        home_id: str,
        role: Role,
        blobs: Blobs,
        contracts: Contracts,
        anchors: Anchors,
        signer: SignerSource,
        clock: Clock,
        wait_ms: int,
        read_only: bool,
    ) -> None:
        self._path, self._home_id, self._role = path, home_id, role
        self._blobs, self._contracts, self._anchors = blobs, contracts, anchors
        self._signer, self._clock, self._wait_ms = signer, clock, wait_ms
        self._read_only = read_only
        self._local = threading.local()
        self._opening = threading.Lock()
        self._noting = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._appender: Appender | None = None
        self._committer: Committer | None = None
        self._noted_size = 0

    # Writing

    def commit(self, batch: Batch) -> Receipt:
        """Write a batch durably, all or nothing.

        Errors: record.invalid (a payload breaks its contract), blob.absent,
                ledger.precondition, lease.*, home.role-taken, ledger.busy, ledger.io.
        Cost:   one disk sync, shared with whatever else is queued.
        """
        if self._read_only:
            raise LedgerClosed("expected a home opened for writing, found it opened read-only")
        prepared = Prepared(batch, tuple(self._prepare(draft) for draft in batch.drafts))
        return self._open_writer().submit(prepared, self._wait_ms)

    def checkpoint(self) -> str:
        """Sign, store and anchor a note over everything durable; returns the note.

        The newest note is returned unchanged when it already covers everything.
        """
        if self._read_only:
            raise LedgerClosed("expected a home opened for writing, found it opened read-only")
        if not self._anchors.exists():
            self._anchors.restore_pin(
                self._signer().verifier(origin_of(self._home_id)), self._path.parent.resolve()
            )
            batch = Batch()
            batch.append("anchor.restored", {"home_id": self._home_id})
            self.commit(batch)
        self._open_writer()
        return self._write_note()

    def close(self) -> None:
        """Checkpoint what is new and give the writer role back.

        The writer's connection goes last, so that SQLite folds its log into `ledger.db`.
        """
        if self._committer is not None and not self._committer.has_failed and self.size() > self._noted_size:
            self.checkpoint()
        reader = getattr(self._local, "reader", None)
        if reader is not None:
            reader.close()
            self._local.reader = None
        if self._connection is not None:
            self._connection.close()
            self._committer = self._appender = self._connection = None
        self._role.release()

    # Looking

    def read(
        self,
        *,
        kind: str | None = None,
        contract: str | None = None,
        subject: str | None = None,
        run: str | None = None,
        after: int = -1,
    ) -> Iterator[StoredEntry]:
        """Entries in order that match every filter; `contract` finds records by type."""
        where = {"kind": kind, "contract": contract, "subject": subject, "run": run}
        given = {column: value for column, value in where.items() if value is not None}
        for row in read_rows(self._reader(), given, after=after):
            yield self._stored(row)

    def entry(self, index: int) -> StoredEntry | None:
        """The entry at an index, or None."""
        row = next(read_rows(self._reader(), {}, after=index - 1, until=index + 1), None)
        return None if row is None else self._stored(row)

    def newest(self, subject: str) -> StoredEntry | None:
        """The newest entry about a subject, or None."""
        row = newest_row(self._reader(), subject)
        return None if row is None else self._stored(row)

    def size(self) -> int:
        return read_size(self._reader())[0]

    def head(self) -> bytes:
        return read_size(self._reader())[1]

    def root(self, size: int | None = None) -> bytes:
        """The Merkle root over the first `size` entries."""
        return merkle.root(self.size() if size is None else size, self._node)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The RFC 6962 proof that an entry is among the first `size`."""
        return merkle.inclusion(index, self.size() if size is None else size, self._node)

    def newest_note(self) -> str | None:
        """The newest stored checkpoint, or None."""
        row = self._reader().execute("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def connection(self) -> sqlite3.Connection:
        """This thread's read-only connection, for the kernel's own modules."""
        return self._reader()

    # Inside

    def _prepare(self, draft: Draft) -> tuple[Draft, bytes]:
        if draft.kind in ("record.put", "record.again"):
            floats = self._contracts.get(str(draft.payload["contract"])).has_numbers
        else:
            self._contracts.validate(draft.kind, draft.payload)
            floats = self._contracts.get(draft.kind).has_numbers
        for address in _blobs_named(draft.payload):
            if not self._blobs.has(address):
                raise BlobAbsent(f"expected a durable blob at {address}, found none", address=address)
        payload = canonical_bytes(draft.payload, floats=floats)
        if len(payload) > PAYLOAD_BYTES_MAX and draft.kind == "record.put":
            raise TooLarge(
                f"expected a record's sources within {PAYLOAD_BYTES_MAX} bytes, found {len(payload)}"
            )
        if len(payload) > PAYLOAD_BYTES_MAX:
            spilled = {"blob": self._blobs.put(payload), "size_bytes": len(payload)}
            return replace(draft, payload=spilled), canonical_bytes(spilled)
        return draft, payload

    def _open_writer(self) -> Committer:
        with self._opening:
            if self._committer is None:
                self._role.take(wait_ms=self._wait_ms)
                try:
                    self._connection = connect_writer(self._path)
                    self._check_tail()
                    self._appender = Appender(self._connection, self._clock)
                    self._committer = Committer(self._connection, self._appender, self._after_commit)
                except BaseException:
                    self._role.release()
                    raise
            return self._committer

    def _check_tail(self) -> None:
        """Refuse to write on a log that lost its tail or whose newest segment does not follow."""
        assert self._connection is not None
        row = self._connection.execute("SELECT max(size) FROM checkpoints").fetchone()
        self._noted_size = int(row[0] or 0)
        size = read_size(self._connection)[0]
        anchored = self._anchors.latest_size()
        if anchored is not None and anchored > size:
            raise LedgerTailMissing(
                f"expected at least {anchored} entries (anchored), found {size}",
                anchored=anchored,
                found=size,
            )
        first = max(0, self._noted_size - 1)
        rows = list(read_rows(self._connection, {}, after=first - 1))
        if rows:
            entries = [chain.Entry(row[0], row[2], row[1], row[8]) for row in rows]
            chain.verify(entries, first=first, previous=entries[0].previous)

    def _after_commit(self, before: int, after: int) -> None:
        if after // checkpoint_every > before // checkpoint_every:
            self._write_note()

    def _write_note(self) -> str:
        with self._noting:
            return self._write_note_alone()

    def _write_note_alone(self) -> str:
        reader = connect_reader(self._path)
        try:
            size = read_size(reader)[0]
            row = reader.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).fetchone()
            if row is not None:
                note = str(row[0])
            else:
                root = merkle.root(size, lambda level, position: read_node(reader, level, position))
                note = sign_note(Checkpoint(origin_of(self._home_id), size, root), self._signer())
                self._store_note(size, note)
        finally:
            reader.close()
        self._anchors.append(note)
        self._noted_size = max(self._noted_size, size)
        return note

    def _store_note(self, size: int, note: str) -> None:
        """Write the note through a connection of its own; SQLite orders it with the committer's work."""
        connection = connect_writer(self._path)
        try:
            connection.execute("INSERT OR IGNORE INTO checkpoints (size, note) VALUES (?, ?)", (size, note))
        finally:
            connection.close()

    def _reader(self) -> sqlite3.Connection:
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = connect_reader(self._path)
        return reader

    def _node(self, level: int, position: int) -> bytes:
        return read_node(self._reader(), level, position)

    def _stored(self, row: EntryRow) -> StoredEntry:
        index, digest, previous, kind, contract, subject, run, at_us, body = row
        parsed = parse_canonical(bytes(body))
        payload = parsed["payload"]
        if kind not in ("record.put", "record.again") and set(payload) == {"blob", "size_bytes"}:
            payload = parse_canonical(self._blobs.get(payload["blob"]), limit=payload["size_bytes"])
        actor = Actor(str(parsed["actor"]["type"]), str(parsed["actor"]["id"]))
        return StoredEntry(
            index,
            bytes(digest),
            bytes(previous),
            kind,
            contract,
            subject,
            run,
            at_us,
            bytes(body),
            str(parsed.get("step", "")),
            actor,
            payload,
        )


def _blobs_named(value: Json) -> Iterator[str]:
    """Every address under a key named `blob`, or in a list under `blobs`, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "blob" and isinstance(item, str):
                yield item
            elif key == "blobs" and isinstance(item, list):
                yield from (str(address) for address in item)
            else:
                yield from _blobs_named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _blobs_named(item)
