"""Group commit: one thread that writes, and everybody else waits for the sync.

Whatever is queued while one transaction is being synced forms the next one, so
many callers share a sync and a lone caller never waits for company. A caller is
answered after the sync, never before.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from sterling.kernel.append import Appender, Prepared, Receipt
from sterling.kernel.errors import EXIT_BROKEN, SterlingError

__all__ = ["Committer", "LedgerBusy", "LedgerClosed", "LedgerIo"]

BATCHES_MAX = 512
QUEUE_MAX = 4096
_ROOM_CHECK_S = 0.005
_ALIVE_CHECK_S = 1.0  # A batch queued while the thread was failing is noticed within this time.


class LedgerBusy(SterlingError):
    """The queue of batches is full."""

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


class Committer:
    """The committer thread of the process that holds the writer role.

    `after_commit(old_size, new_size)` runs in that thread when callers have been answered.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        appender: Appender,
        after_commit: Callable[[int, int], None],
    ) -> None:
        self._connection = connection
        self._appender = appender
        self._after_commit = after_commit
        self._queue: queue.SimpleQueue[tuple[Prepared, Future[Receipt]] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="sterling-committer", daemon=True)
        self._thread.start()

    @property
    def has_failed(self) -> bool:
        """Whether an I/O error closed this committer for good."""
        return self._failure is not None

    def submit(self, prepared: Prepared, wait_ms: int) -> Receipt:
        """Queue a batch and wait until it is durable or refused.

        Errors: LedgerBusy, LedgerIo, LedgerClosed, and whatever refused the batch.
        """
        future: Future[Receipt] = Future()
        self._refuse_if_closed()
        deadline = time.monotonic() + wait_ms / 1000
        while self._queue.qsize() >= QUEUE_MAX:
            if time.monotonic() >= deadline:
                raise LedgerBusy(f"expected room within {wait_ms} ms, found the queue full")
            time.sleep(_ROOM_CHECK_S)
        self._queue.put((prepared, future))
        while True:
            try:
                return future.result(timeout=_ALIVE_CHECK_S)
            except TimeoutError:
                if not self._thread.is_alive() and not future.done():
                    self._refuse_if_closed()
                    raise LedgerClosed("expected an open ledger, found it closed") from None

    def close(self) -> None:
        """Write what is queued, then stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _refuse_if_closed(self) -> None:
        if self._failure is not None:
            raise LedgerClosed(f"expected an open ledger, found it closed after: {self._failure}")

    def _work(self) -> None:
        while True:
            group = self._take()
            if group is None:
                return
            try:
                self._commit(group)
            except (sqlite3.Error, OSError, SterlingError) as problem:
                self._fail(problem, group)
                return

    def _take(self) -> list[tuple[Prepared, Future[Receipt]]] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < BATCHES_MAX:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._queue.put(None)
                break
            group.append(item)
        return group

    def _commit(self, group: list[tuple[Prepared, Future[Receipt]]]) -> None:
        before = self._appender.size
        answers: list[tuple[Future[Receipt], Receipt | SterlingError]] = []
        self._connection.execute("BEGIN IMMEDIATE")
        for prepared, future in group:
            try:
                answers.append((future, self._appender.apply(prepared)))
            except SterlingError as refusal:
                answers.append((future, refusal))
        self._connection.execute("COMMIT")
        after = self._appender.size
        for future, answer in answers:
            if isinstance(answer, Receipt):
                future.set_result(answer)
            else:
                future.set_exception(answer)
        self._after_commit(before, after)

    def _fail(self, problem: BaseException, group: list[tuple[Prepared, Future[Receipt]]]) -> None:
        """After an I/O error trust nothing: stop acknowledging, answer everybody with the error."""
        self._failure = problem
        error = (
            problem
            if isinstance(problem, SterlingError)
            else LedgerIo(f"expected a durable write, found: {problem}")
        )
        waiting = [future for _, future in group]
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                waiting.append(item[1])
        for future in waiting:
            if not future.done():
                future.set_exception(error)
