"""Group commit without a thread and without a server: whoever has the turn writes for all who wait.

A caller queues its batch and waits for this process's turn. With it, and its
batch not yet written, it leads: it takes the turn among processes (`turn.py`),
and everything queued so far, here and in other processes, becomes one
transaction. After the sync each batch has its answer. A leader that cannot have
the turn leaves its group for the process that has it. While one group is synced
the next gathers, so many callers share a sync and a lone caller waits for nobody.
A caller is answered after the sync, never before (ADR 3).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sterling.kernel import wire
from sterling.kernel.append import Prepared, Receipt
from sterling.kernel.batch import Batch
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.turn import Request, Turn, Waiting

__all__ = ["Answer", "Committer", "LedgerBusy", "LedgerClosed", "LedgerIo", "Writer"]

BATCHES_MAX = 512
QUEUE_MAX = 4096

Answer = Receipt | SterlingError


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
    """The ledger was opened for reading only."""

    code = "ledger.read-only"
    hint = "Start the command again; `sterling verify` says whether the ledger holds."


class Writer(Protocol):
    """The store as the leader uses it; every call is made with the turn in hand."""

    def ready(self) -> None:
        """Open what is closed, and read again what another process changed."""

    def write(self, group: list[Prepared]) -> list[Answer]:
        """Write the group in one durable transaction. Errors: sqlite3.Error, OSError, refusals of all."""

    def judged(self, submission: str) -> Answer | None:
        """What the log says became of a batch: its receipt, or its refusal; None when it says nothing."""

    def drop(self, problem: BaseException) -> None:
        """After a failed write: trust nothing, close everything."""


@dataclass(slots=True)
class _Ticket:
    prepared: Prepared
    answer: Answer | None = None


@dataclass(slots=True)
class _Theirs:
    """What another process left: the batches that can be written, and the refusals of the others."""

    request: Request
    group: list[Prepared]
    answers: dict[str, Answer]


class Committer:
    """The one way in which this process writes. `prepare` checks a batch that another process left."""

    def __init__(self, turn: Turn, writer: Writer, prepare: Callable[[Batch], Prepared]) -> None:
        self._turn, self._writer, self._prepare = turn, writer, prepare
        self._waiting: deque[_Ticket] = deque()
        self._mine = threading.Lock()

    def submit(self, prepared: Prepared, wait_ms: int) -> Receipt:
        """Write a batch durably, together with whatever else waits.

        Errors: LedgerBusy, LedgerIo, and whatever refused the batch.
        """
        if len(self._waiting) >= QUEUE_MAX:
            raise LedgerBusy(f"expected at most {QUEUE_MAX} waiting batches, found the queue full")
        deadline = time.monotonic() + wait_ms / 1000
        ticket = _Ticket(prepared)
        self._waiting.append(ticket)
        self._take_mine(ticket, wait_ms)
        try:
            while ticket.answer is None:
                self._lead(deadline, wait_ms)
        finally:
            self._mine.release()
        if isinstance(ticket.answer, SterlingError):
            raise ticket.answer
        return ticket.answer

    def _take_mine(self, ticket: _Ticket, wait_ms: int) -> None:
        if self._mine.acquire(timeout=wait_ms / 1000):
            return
        try:
            self._waiting.remove(ticket)
        except ValueError:
            self._mine.acquire()  # A leader is writing it: its answer is on the way.
            return
        raise _busy(wait_ms)

    def _lead(self, deadline: float, wait_ms: int) -> None:
        """Get one group written, here or by another process. Interrupted, put back what has no answer."""
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCHES_MAX))]
        try:
            if self._turn.try_take():
                self._write(group)
            else:
                self._ask(group, deadline, wait_ms)
        finally:
            self._waiting.extendleft(ticket for ticket in reversed(group) if ticket.answer is None)

    def _write(self, group: list[_Ticket]) -> None:
        """With the turn in hand, write this group and what other processes left."""
        try:
            others = self._read_requests()
            everything = [ticket.prepared for ticket in group]
            for theirs in others:
                everything += theirs.group
            answers = iter(self._write_all(everything))
            for ticket in group:
                ticket.answer = next(answers)
            for theirs in others:
                for prepared in theirs.group:
                    theirs.answers[prepared.batch.submission] = next(answers)
                self._turn.answer(theirs.request, wire.encode_answers(theirs.answers))
        finally:
            self._turn.give()

    def _write_all(self, everything: list[Prepared]) -> list[Answer]:
        """Write; after an I/O error start again from what is durable, once, then refuse."""
        try:
            try:
                self._writer.ready()
                return self._writer.write(everything)
            except (sqlite3.Error, OSError) as problem:
                self._writer.drop(problem)
                self._writer.ready()
                return self._writer.write(everything)
        except (sqlite3.Error, OSError) as problem:
            self._writer.drop(problem)
            refusal: SterlingError = LedgerIo(f"expected a durable write, found: {problem}")
        except SterlingError as problem:
            refusal = problem
        return [refusal] * len(everything)

    def _read_requests(self) -> list[_Theirs]:
        """What others left, checked as if it were ours; what is wrong is answered, not written."""
        found = []
        for request in self._turn.requests():
            theirs = _Theirs(request, [], {})
            try:
                batches = wire.decode(request.data)
            except wire.WireInvalid:
                continue  # Nobody to answer: these bytes are not ours.
            for batch in batches:
                try:
                    theirs.group.append(self._prepare(batch))
                except SterlingError as refusal:
                    theirs.answers[batch.submission] = refusal
            found.append(theirs)
        return found

    def _ask(self, group: list[_Ticket], deadline: float, wait_ms: int) -> None:
        """Leave the group to the process that has the turn; take the turn if that one leaves it."""
        waiting = self._turn.ask(wire.encode([ticket.prepared.batch for ticket in group]))
        while True:
            heard = waiting.wait()
            if heard is not None:
                answers = wire.decode_answers(heard)
                for ticket in group:
                    ticket.answer = answers.get(ticket.prepared.batch.submission, ticket.answer)
                if all(ticket.answer is not None for ticket in group):
                    return
            if self._turn.try_take():
                self._take_back(group, waiting)
                return
            if time.monotonic() > deadline and waiting.withdraw():
                for ticket in group:
                    ticket.answer = _busy(wait_ms)
                return

    def _take_back(self, group: list[_Ticket], waiting: Waiting) -> None:
        """With the turn in hand after all: read what became of claimed batches, write the others.

        A refused lease operation leaves an entry that names no batch: that batch is judged again.
        """
        try:
            if not waiting.withdraw():
                self._writer.ready()
                for ticket in group:
                    ticket.answer = ticket.answer or self._writer.judged(ticket.prepared.batch.submission)
        except BaseException:
            self._turn.give()
            raise
        self._write([ticket for ticket in group if ticket.answer is None])


def _busy(wait_ms: int) -> LedgerBusy:
    return LedgerBusy(f"expected the turn to write within {wait_ms} ms, found the ledger busy")
