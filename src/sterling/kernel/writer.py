"""Writing to the store of one home, for whoever has the turn.

A group of batches is one transaction, with the checkpoint that falls due in it;
the copy outside follows the commit, so an anchor never runs ahead of the log.
After an I/O error nothing is trusted: the connection is dropped, and the next
write opens the store again, checks its newest segment against checkpoint and
anchor, and says in an entry what happened.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sterling.kernel import merkle
from sterling.kernel.anchors import Anchors, AnchorUnwritable
from sterling.kernel.append import Appender, InForce, Prepared, Receipt
from sterling.kernel.ballast import Ballast
from sterling.kernel.batch import Batch, Draft
from sterling.kernel.canonical import parse_canonical
from sterling.kernel.checkpoint import Checkpoint, origin_of, sign_note
from sterling.kernel.clock import Clock
from sterling.kernel.errors import SterlingError
from sterling.kernel.group import Answer, LedgerBusy
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.keys import KeyUnusable
from sterling.kernel.signing import Signer
from sterling.kernel.signing_keys import follow_keys, read_first_keys, read_key_changes
from sterling.kernel.store_sqlite import connect_writer, refusal_body, submission_row
from sterling.kernel.verify_tail import check_tail
from sterling.kernel.wire import decode_error

__all__ = ["StorePressure", "StoreWriter", "checkpoint_every"]

checkpoint_every = 256
_CHECKPOINT_AGE_US = 10_000_000
_KEYS_HINT = "Nothing was written. Keys are changed by `sterling keys rotate` and `sterling keys revoke`."
_of_parents: list[sqlite3.Connection | None] = []  # A connection is never used, nor closed, after a fork.


class StorePressure(SterlingError):
    """The disk is full: only what closes open work is still written."""

    code = "store.pressure"
    hint = "Make room on the home's disk and run the command again. See `sterling status`."


class StoreWriter:
    """The read-write connection of this process. `prepare` checks an entry of the kernel's own."""

    def __init__(
        self,
        path: Path,
        home_id: str,
        anchors: Anchors,
        signer: Callable[[sqlite3.Connection], Signer],
        clock: Clock,
        lag: tuple[int, int],
        prepare: Callable[[Batch], Prepared],
        in_force: InForce | None = None,
    ) -> None:
        self._path, self._home_id, self._anchors, self._signer = path, home_id, anchors, signer
        self._clock, self._lag, self._prepare, self._in_force = clock, lag, prepare, in_force
        self._ballast = Ballast(path.parent / "ballast")
        self._connection: sqlite3.Connection | None = None
        self._appender: Appender | None = None
        self._version = 0
        self._noted_size, self._noted_us = 0, 0
        self._unanchored: tuple[str, int] | None = None  # The note that found no place, and since when.
        self._dropped = ""
        self._is_full = False
        self._pid = os.getpid()

    # What the committer asks for

    def ready(self) -> None:
        """Open what is closed; read again what another process changed.

        Errors: integrity.tail-missing, chain errors, anchor.*, store.*.
        """
        if self._pid != os.getpid():
            _of_parents.append(self._connection)
            self._connection, self._pid = None, os.getpid()
        if self._connection is None:
            self._open()
            return
        version = self._data_version()
        if version != self._version:
            self._look_again()
            self._version = version
        if self._is_full:
            self._regain_room()

    def write(self, group: list[Prepared]) -> list[Answer]:
        """Write the group durably. Errors: sqlite3.Error, OSError, anchor.*, keys.unusable, ledger.busy."""
        assert self._connection is not None and self._appender is not None
        self._keep_anchored()
        try:
            self._begin()
            answers = [self._apply(prepared, alone=len(group) == 1) for prepared in group]
            note = self._note(asked=any(prepared.batch.note for prepared in group))
            self._connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        problem = None if note is None else self._anchor(note)
        if problem is not None:
            asked = (prepared.batch.note for prepared in group)
            answers = [problem if wants else answer for wants, answer in zip(asked, answers, strict=True)]
        return answers

    def judged(self, submission: str) -> Answer | None:
        """What the log says became of a batch; None when nobody judged it, or its refusal names no batch."""
        assert self._connection is not None and self._appender is not None
        row = submission_row(self._connection, submission)
        if row is not None:
            return Receipt(row[0], row[1], self._appender.head)
        refusal = refusal_body(self._connection, submission)
        return None if refusal is None else decode_error(parse_canonical(refusal)["payload"])

    def drop(self, problem: BaseException) -> None:
        """After a failed write: close everything; a full disk gets the ballast."""
        self._dropped = str(problem)[:400]
        connection, self._connection, self._appender = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                self._dropped += " (and closing failed too)"
        if _is_full(problem):
            self._ballast.release()

    def is_noted(self) -> bool:
        """Whether a checkpoint covers everything that this process knows of."""
        return self._appender is None or self._noted_size == self._appender.size

    def close(self) -> None:
        """Give the connection back; SQLite folds its log into `ledger.db` when it was the last one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._appender = None

    # Inside

    def _open(self) -> None:
        connection = connect_writer(self._path)
        try:
            check_tail(connection, self._anchors)
            size = _newest_checkpoint(connection)
            self._appender = Appender(connection, self._clock, self._in_force, self._check_keys)
        except BaseException:
            connection.close()
            raise
        self._connection, self._noted_size = connection, size
        self._noted_us = self._clock.boot_us()
        self._version = self._data_version()
        if self._dropped:
            self._write_own("ledger.io-recovered", {"problem": self._dropped, "size": self._appender.size})
            self._dropped = ""
        self._regain_room()

    def _regain_room(self) -> None:
        """Whether the disk is full still; the ballast is refilled as soon as there is room."""
        self._is_full = self._ballast.is_released
        if self._is_full and self._ballast.refill():
            self._is_full = False
            self._write_own("ballast.refilled", {"size_bytes": self._ballast.size_bytes})

    def _write_own(self, kind: str, payload: dict[str, str | int]) -> None:
        """An entry about the store itself, in a transaction of its own."""
        assert self._connection is not None and self._appender is not None
        batch = Batch()
        batch.append(kind, payload)
        try:
            self._begin()
            self._appender.apply(self._prepare(batch))
            self._connection.execute("COMMIT")
        except BaseException as problem:
            self._undo()
            self.drop(problem)
            raise

    def _apply(self, prepared: Prepared, *, alone: bool) -> Answer:
        assert self._appender is not None
        if self._is_full and not prepared.batch.closing:
            return StorePressure("expected room on the home's disk, found it full; only open work is closed")
        try:
            return self._appender.apply(prepared, alone=alone)
        except SterlingError as refusal:
            return refusal

    def _check_keys(self, index: int, draft: Draft) -> None:
        """Refuse a change of keys that no verifier lets stand. Errors: KeyUnusable, AnchorUnreadable."""
        assert self._connection is not None
        pin = self._anchors.read_pin()
        first = read_first_keys(self._path.parent / "keys", None if pin is None else pin.verifier)
        try:
            history = follow_keys(self._connection, self._home_id, first)
            history.observe(index, draft.kind, draft.subject, draft.payload)
        except KeyUnknown as problem:
            raise KeyUnusable(problem.message, hint=_KEYS_HINT) from problem

    def _begin(self) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise LedgerBusy(f"expected to write, found {self._path.name} locked: {problem}") from problem
            raise

    def _undo(self) -> None:
        """Back to what is durable."""
        assert self._connection is not None
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._look_again()

    def _look_again(self) -> None:
        """Read size, head and checkpoint again: another process wrote, or a transaction did not end."""
        assert self._connection is not None and self._appender is not None
        self._appender.reload()
        self._noted_size = _newest_checkpoint(self._connection)

    def _data_version(self) -> int:
        assert self._connection is not None
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    # Checkpoints and their copies outside

    def _note(self, *, asked: bool) -> str | None:
        """The checkpoint that is due or asked for, in the open transaction; None when there is none."""
        assert self._connection is not None and self._appender is not None
        size = self._appender.size
        full = size // checkpoint_every > self._noted_size // checkpoint_every
        old = size > self._noted_size and self._clock.boot_us() - self._noted_us >= _CHECKPOINT_AGE_US
        if full or old or (asked and size > self._noted_size):
            return self._store_note()
        if not asked:
            return None
        row = self._connection.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).fetchone()
        return str(row[0])

    def _store_note(self) -> str:
        """Sign the root of everything, in the open transaction."""
        assert self._connection is not None and self._appender is not None
        size = self._appender.size
        root = merkle.root(size, self._appender.node)
        note = sign_note(Checkpoint(origin_of(self._home_id), size, root), self._signer(self._connection))
        self._connection.execute("INSERT INTO checkpoints (size, note) VALUES (?, ?)", (size, note))
        self._noted_size, self._noted_us = size, self._clock.boot_us()
        return note

    def _anchor(self, note: str) -> AnchorUnwritable | None:
        """Copy a note outside. One that finds no place now is tried again with every write."""
        assert self._connection is not None
        try:
            self._anchors.append(note, read_key_changes(self._connection, "ledger"))
        except AnchorUnwritable as problem:
            since = self._clock.boot_us() if self._unanchored is None else self._unanchored[1]
            self._unanchored = (note, since)
            return problem
        self._unanchored = None
        return None

    def _keep_anchored(self) -> None:
        """Refuse to write once the copy outside lags too far behind. Errors: AnchorUnwritable."""
        if self._unanchored is None:
            return
        assert self._appender is not None
        note, since_us = self._unanchored
        problem = self._anchor(note)
        lag = self._appender.size - (self._anchors.latest_size() or 0)
        entries_max, age_s_max = self._lag
        if problem and (lag > entries_max or self._clock.boot_us() - since_us > age_s_max * 1_000_000):
            raise problem


def _newest_checkpoint(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT max(size) FROM checkpoints").fetchone()[0] or 0)


def _is_full(problem: BaseException) -> bool:
    if isinstance(problem, sqlite3.Error):
        return (getattr(problem, "sqlite_errorcode", 0) or 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(problem, OSError) and problem.errno in (28, 122)
