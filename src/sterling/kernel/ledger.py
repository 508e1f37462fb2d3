"""The public face of the ledger: one way in, a few ways to look.

`commit` returns when the batch is durable. Any number of processes may write; they
pass the turn among them (`turn.py`). Readers wait for nobody.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from sterling.kernel import merkle
from sterling.kernel.anchors import Anchors
from sterling.kernel.append import InForce, PreconditionFailed, Prepared, Receipt
from sterling.kernel.batch import Actor, Batch, Draft
from sterling.kernel.blobs import Archived, BlobNotDurable, Blobs
from sterling.kernel.canonical import Json, TooLarge, canonical_bytes, parse_canonical
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.clock import Clock
from sterling.kernel.contracts import Contracts
from sterling.kernel.group import Committer, LedgerClosed
from sterling.kernel.keys import load_public_key
from sterling.kernel.signing import Signer, verifier_text
from sterling.kernel.store_sqlite import (
    EntryRow,
    connect_reader,
    newest_row,
    read_node,
    read_rows,
    read_size,
)
from sterling.kernel.turn import Turn
from sterling.kernel.writer import StoreWriter, checkpoint_every

__all__ = ["Ledger", "PreconditionFailed", "Receipt", "StoredEntry", "checkpoint_every"]

PAYLOAD_BYTES_MAX = 32 * 1024


class SignerSource(Protocol):
    """Gives the key that signs checkpoints over what a connection sees."""

    def __call__(self, connection: sqlite3.Connection) -> Signer: ...


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
        blobs: Blobs,
        contracts: Contracts,
        anchors: Anchors,
        signer: SignerSource,
        clock: Clock,
        wait_ms: int,
        lag: tuple[int, int],
        read_only: bool,
        in_force: InForce | None = None,
    ) -> None:
        self._path, self._home_id = path, home_id
        self._blobs, self._contracts, self._anchors = blobs, contracts, anchors
        self._signer, self._wait_ms, self._read_only = signer, wait_ms, read_only
        self._local = threading.local()
        self._turn = Turn(path.parent / "run")
        self._writer = StoreWriter(path, home_id, anchors, signer, clock, lag, self._prepare_batch, in_force)
        self._committer = Committer(self._turn, self._writer, self._prepare_batch)

    # Writing

    def commit(self, batch: Batch) -> Receipt:
        """Write a batch durably, all or nothing.

        Errors: record.invalid (a payload breaks its contract), ledger.precondition,
                blob.not-durable, lease.*, ledger.busy, ledger.io, store.pressure, anchor.unwritable.
        Cost:   one disk sync, shared with whatever else is queued, here and in other processes.
        """
        if self._read_only:
            raise LedgerClosed("expected a home opened for writing, found it opened read-only")
        prepared = self._prepare_batch(batch)
        if noted := self._blobs.take_quarantined():
            notes = Batch()
            for note in noted:
                notes.append("blob.quarantined", note, subject=note["address"])
            self.commit(notes)
        return self._committer.submit(prepared, self._wait_ms)

    def checkpoint(self) -> str:
        """Sign, store and anchor a note over everything durable; returns the note.

        The newest note is returned unchanged when it already covers everything.
        """
        if self._read_only:
            raise LedgerClosed("expected a home opened for writing, found it opened read-only")
        if not self._anchors.exists():
            folder = self._path.parent
            first = load_public_key(folder / "keys", "ledger") or self._signer(self._reader()).public_key
            self._anchors.restore_pin(verifier_text(origin_of(self._home_id), first), folder.resolve())
            self.commit(Batch(drafts=[Draft("anchor.restored", {"home_id": self._home_id})]))
        self.commit(Batch(note=True))
        note = self.newest_note()
        assert note is not None
        return note

    def close(self) -> None:
        """Checkpoint what is new and close every connection of this thread and the writer."""
        try:
            if not self._writer.is_noted():
                self.checkpoint()
        finally:
            reader = getattr(self._local, "reader", None)
            if reader is not None:
                reader.close()
                self._local.reader = None
            self._writer.close()
            self._turn.close()

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

    def whereabouts(self, address: str) -> Archived | None:
        """The archive that a blob was moved to, as the newest entry about it says."""
        found: Archived | None = None
        for entry in self.read(subject=address):
            if entry.kind == "blob.archived":
                found = Archived(str(entry.payload["store"]), str(entry.payload["place"]))
            elif entry.kind == "blob.restored":
                found = None
        return found

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
            floats, sensitive = self._contracts.get(str(draft.payload["contract"])).has_numbers, False
        else:
            known = self._contracts.get(self._contracts.validate(draft.kind, draft.payload))
            floats, sensitive = known.has_numbers, known.sensitive
        payload = canonical_bytes(draft.payload, floats=floats)
        if b'"blob' in payload:
            for address in _blobs_named(draft.payload):
                if not self._blobs.has(address):
                    raise BlobNotDurable(f"expected a durable blob at {address}, found none", address=address)
        if len(payload) > PAYLOAD_BYTES_MAX and draft.kind == "record.put":
            raise TooLarge(
                f"expected a record's sources within {PAYLOAD_BYTES_MAX} bytes, found {len(payload)}"
            )
        if len(payload) > PAYLOAD_BYTES_MAX or sensitive:
            spilled = {"blob": self._blobs.put(payload), "size_bytes": len(payload)}
            return replace(draft, payload=spilled), canonical_bytes(spilled)
        return draft, payload

    def _prepare_batch(self, batch: Batch) -> Prepared:
        return Prepared(batch, tuple(self._prepare(draft) for draft in batch.drafts))

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
