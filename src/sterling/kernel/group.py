"""Group commit without a thread of its own: whoever has the turn writes for all who wait.

A caller queues its batch and waits for the turn. With the turn, and its batch
not yet written, it leads: everything queued so far becomes one transaction, and
after the sync each batch of the group has its answer. While one leader syncs,
the next group gathers, so many callers share a sync and a lone caller waits for
nobody. A caller is answered after the sync, never before (ADR 3).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sterling.kernel.append import Appender, Prepared, Receipt
from sterling.kernel.errors import EXIT_BROKEN, SterlingError

__all__ = ["Committer", "LedgerBusy", "LedgerClosed", "LedgerIo"]

BATCHES_MAX = 512
QUEUE_MAX = 4096


class LedgerBusy(SterlingError):
    """The queue of batches is full, or the turn did not come in time."""

    code = "ledger.busy"
    hint = "Try again in a moment; nothing was written. See `sterling status`."


class LedgerIo(SterlingError):
    """The disk refused a write or a sync."""

    code = "ledger.io"
    hint = "Check the disk and its free space, then run `sterling verify`. Nothing unacknowledged counts."
    exit = EXIT_BROKEN


class LedgerClosed(SterlingError):
    """The ledger was closed, or closed itself after an error."""

    code = "ledger.read-only"
    hint = "Start the command again; `sterling verify` says whether the ledger holds."


@dataclass(slots=True)
class _Ticket:
    prepared: Prepared
    answer: Receipt | SterlingError | None = None


class Committer:
    """The one place where the process that holds the writer role writes.

    `after_commit(old_size, new_size)` runs in the leader when the group is durable.
    """

    def __init__(
        self, connection: sqlite3.Connection, appender: Appender, after_commit: Callable[[int, int], None]
    ) -> None:
        self._connection = connection
        self._appender = appender
        self._after_commit = after_commit
        self._waiting: deque[_Ticket] = deque()
        self._turn = threading.Lock()
        self._failure: BaseException | None = None

    @property
    def has_failed(self) -> bool:
        """Whether an I/O error closed this committer for good."""
        return self._failure is not None

    def submit(self, prepared: Prepared, wait_ms: int) -> Receipt:
        """Write a batch durably, together with whatever else waits.

        Errors: LedgerBusy, LedgerIo, LedgerClosed, and whatever refused the batch.
        """
        self._refuse_if_closed()
        if len(self._waiting) >= QUEUE_MAX:
            raise LedgerBusy(f"expected at most {QUEUE_MAX} waiting batches, found the queue full")
        ticket = _Ticket(prepared)
        self._waiting.append(ticket)
        self._take_turn(ticket, wait_ms)
        try:
            while ticket.answer is None:
                self._refuse_if_closed()
                self._lead()
        finally:
            self._turn.release()
        if isinstance(ticket.answer, SterlingError):
            raise ticket.answer
        return ticket.answer

    def _take_turn(self, ticket: _Ticket, wait_ms: int) -> None:
        if self._turn.acquire(timeout=wait_ms / 1000):
            return
        try:
            self._waiting.remove(ticket)
        except ValueError:
            self._turn.acquire()  # A leader is writing it: its answer is on the way.
            return
        raise LedgerBusy(f"expected the turn within {wait_ms} ms, found the ledger busy")

    def _refuse_if_closed(self) -> None:
        if self._failure is not None:
            raise LedgerClosed(f"expected an open ledger, found it closed after: {self._failure}")

    def _lead(self) -> None:
        """Write one group. Interrupted by a signal, put the group back for the next leader."""
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCHES_MAX))]
        before = self._appender.size
        try:
            answers = self._write(group)
        except (sqlite3.Error, OSError) as problem:
            self._fail(problem, group)
            return
        except BaseException:
            self._undo(group)
            raise
        for ticket, answer in zip(group, answers, strict=True):
            ticket.answer = answer
        self._after_commit(before, self._appender.size)

    def _write(self, group: list[_Ticket]) -> list[Receipt | SterlingError]:
        answers: list[Receipt | SterlingError] = []
        self._connection.execute("BEGIN IMMEDIATE")
        for ticket in group:
            try:
                answers.append(self._appender.apply(ticket.prepared))
            except SterlingError as refusal:
                answers.append(refusal)
        self._connection.execute("COMMIT")
        return answers

    def _undo(self, group: list[_Ticket]) -> None:
        """Back to what is durable; a batch that did commit is known by its submission id."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._appender.reload()
        self._waiting.extendleft(reversed(group))

    def _fail(self, problem: BaseException, group: list[_Ticket]) -> None:
        """After an I/O error trust nothing: answer everybody with it and never write again."""
        self._failure = problem
        while self._waiting:
            group.append(self._waiting.popleft())
        for ticket in group:
            ticket.answer = LedgerIo(f"expected a durable write, found: {problem}")
