"""One pass over the queue: ask the governor, write down, act.

The pass takes the next job in fair order, asks for a lease, writes the window
with the lease before the job starts, and starts it in a worker. While jobs run
it reads live signals, charges every lease at least every second, asks those to
stop that must stop and kills those that did not. Each job gets one dispatch,
written with the window that it left behind, so a restart finds the same books.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sterling.kernel.batch import Batch, FenceHolds
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home
from sterling.kernel.leases import Lease as HomeLease
from sterling.runtime import budgets, governor
from sterling.runtime.budgets import HEARTBEAT_US, POLL_US, Limits, Position, Window
from sterling.runtime.dispatches import (
    Dispatch,
    History,
    Job,
    JobEnd,
    JobSource,
    after_stop,
    fold_history,
    held_back,
)
from sterling.runtime.engine import Engine, TaskEnd
from sterling.runtime.governor import Admission, JobRequest, Origin, StopKind, Weight
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import Mode, ModeVerdict, choose_mode, mode_document, rows_that_hold
from sterling.runtime.queue import WEIGHTS, FairQueue, Waiting
from sterling.runtime.reasons import Reason, sentence_of
from sterling.runtime.signals import Signals, State, signals_document
from sterling.runtime.window_store import position_now, write_window

__all__ = ["Pass", "PassTerms"]

MODE_SUBJECT = "runtime.mode"
_TOGETHER = 256
_ESTIMATE_FACTOR = 4  # A grant that is too short kills work; one too long only reserves for a moment.
_TRANSIENT = (Reason.BUDGET_CONCURRENCY, Reason.MEMORY_TOKENS, Reason.GPU_SLOT)
SIGNALS_SUBJECT = "runtime.signals"


@dataclass(frozen=True, slots=True)
class PassTerms:
    """What a pass is given. `look` reads live signals, `limit` bounds how many jobs are tried.

    `settings_now` reads the settings again with every look; the size of a window counts from the next pass.
    At most `found_at_once` jobs are queued at a time; when they are done, the pass ends if it `gives_way`.
    """

    id: str
    is_forced: bool
    settings: GovernorSettings
    look: Callable[[], Signals]
    limit: int | None = None
    on_dispatch: Callable[[Dispatch], None] | None = None
    settings_now: Callable[[], GovernorSettings] | None = None
    found_at_once: int = 256
    gives_way: Callable[[], bool] | None = None


@dataclass(slots=True)
class _Running:
    """A job in a worker. `scratch` is its folder, gone when it ended."""

    waiting: Waiting
    job: Job
    source: JobSource
    history: History
    admission: Admission
    scratch: tempfile.TemporaryDirectory[str]
    is_asked: bool = False
    is_killed: bool = False
    stop_reason: str = ""


@dataclass(slots=True)
class _Queued:
    job: Job
    source: JobSource
    history: History


@dataclass(slots=True)
class _Books:
    """The window, where the home stands in time, and what was read last."""

    window: Window
    position: Position
    signals: Signals
    mode: ModeVerdict
    looked_us: int
    written_us: int


class Pass:
    """One pass. `carry_out` returns when nothing more can be started and nothing runs."""

    def __init__(
        self,
        home: Home,
        sources: Sequence[JobSource],
        terms: PassTerms,
        engine: Engine,
        lease: HomeLease,
        window: Window,
        position: Position,
        finish: dict[str, int],
    ) -> None:
        self._home, self._sources, self._terms, self._engine = home, sources, terms, engine
        self._lease, self._renewed_us = lease, position.position_us
        self._limits: Limits = budgets.limits_of(terms.settings)
        signals = terms.look()
        now_us = position.position_us
        verdict = choose_mode(signals, terms.settings)
        self._books = _Books(window, position, signals, verdict, now_us, now_us)
        self._queue = FairQueue(finish)
        self._queued: dict[str, _Queued] = {}
        self._running: dict[str, _Running] = {}
        self._seen: set[str] = set()
        self.given_up: list[tuple[Job, JobEnd]] = []
        self.dispatches: list[Dispatch] = []
        self.first_mode = verdict
        self._pending: list[tuple[Dispatch, str]] = []
        self._standing: tuple[tuple[int, ...], tuple[State, ...]] | None = None
        self._signals_hash = ""

    @property
    def window(self) -> Window:
        return self._books.window

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def position(self) -> Position:
        return self._books.position

    @property
    def finish(self) -> dict[str, int]:
        return self._queue.finish

    def carry_out(self) -> None:
        """Run until nothing more can be started and nothing runs; on an exception close what is open."""
        self._tell_look(None)
        try:
            while True:
                if not self._queued and not self._running and not self._fetch():
                    return
                self._tick()
                self._start_ready()
                for event in self._engine.poll(self._patience_us()):
                    if event.end is not None:
                        self._finish(event.end)
        except BaseException:
            self._abandon()
            raise

    # Finding work

    def _fetch(self) -> bool:
        """Queue what is due and was not tried in this pass; whether there was any."""
        found = False
        if self._seen and self._terms.gives_way is not None and self._terms.gives_way():
            return False
        for source in self._sources:
            for job in source.due(self._home, len(self._seen) + self._terms.found_at_once):
                if job.key in self._seen or self._is_full():
                    continue
                self._seen.add(job.key)
                found = self._enqueue(job, source) or found
        return found

    def _is_full(self) -> bool:
        tried = len(self.dispatches) + len(self._queued) + len(self._running)
        return self._terms.limit is not None and tried >= self._terms.limit

    def _enqueue(self, job: Job, source: JobSource) -> bool:
        """Queue a job, or settle it at once where history or its size forbids; whether it is new work."""
        entries = self._home.ledger.read(kind="runtime.dispatch", subject=_subject(job))
        history = fold_history(entry.payload for entry in entries)
        held = held_back(history, self._books.window.index, asked=self._terms.is_forced)
        if held is not None and held.end == "given_up":
            self.given_up.append((job, held))
            return False
        if held is not None:
            self._write(job, held)
            return True
        never = governor.never_fits(self._request(job), self._terms.settings)
        if never is not None:
            self._write(job, JobEnd("failed", str(never), sentence_of(never)))
            return True
        flow = f"{job.pack}/{self._origin}"
        weight = WEIGHTS[self._origin]
        band = 0 if history.has_yielded else 1
        self._queue.add(Waiting(band, len(self._seen), job.key, flow, weight))
        self._queued[job.key] = _Queued(job, source, history)
        return True

    # Starting

    def _start_ready(self) -> None:
        """Start what may start; refusals of one look are written together."""
        try:
            self._start_admitted()
        finally:
            self._flush()

    def _start_admitted(self) -> None:
        while self._queued and self._engine.slots() > 0:
            waiting = self._queue.peek()
            assert waiting is not None, "every queued job waits in the queue"
            queued = self._queued[waiting.key]
            admission, window = governor.admit(
                self._books.window,
                self._request(queued.job),
                self._books.signals,
                self._terms.settings,
                self._now_us,
            )
            if not admission.admitted and admission.reason in _TRANSIENT and self._running:
                return
            self._queue.take()
            del self._queued[waiting.key]
            if not admission.admitted:
                self._write(queued.job, _refusal(admission), later=True)
                continue
            self._books.window = window
            self._save()
            self._start(waiting, queued, admission)

    def _start(self, waiting: Waiting, queued: _Queued, admission: Admission) -> None:
        """Start an admitted job; a cause to stop that came meanwhile gives the lease back unused."""
        scratch = tempfile.TemporaryDirectory(prefix="sterling-job-")
        try:
            task = queued.source.start(queued.job)
        except SterlingError as problem:
            scratch.cleanup()
            self._close_lease(admission, used=True)
            self._write(queued.job, JobEnd("failed", problem.code, problem.message), admission)
            return
        self._tick(look=True)
        if admission.lease is not None and not self._books.mode.is_heavy:
            scratch.cleanup()
            self._close_lease(admission, used=False)
            reason = self._books.mode.reason
            self._write(
                queued.job, JobEnd("preempted_before_start", str(reason), sentence_of(reason)), admission
            )
            return
        if task.out_dir == Path():
            task = replace(task, out_dir=Path(scratch.name))
        task = replace(task, key=queued.job.key)
        self._running[queued.job.key] = _Running(
            waiting, queued.job, queued.source, queued.history, admission, scratch
        )
        self._queue.begin(waiting, admission.granted_us)
        self._engine.submit(task)

    def _request(self, job: Job) -> JobRequest:
        return JobRequest(
            job=job.key,
            kind=job.kind,
            weight=Weight(job.weight),
            origin=Origin(self._origin),
            estimate_us=job.estimate_ms * 1000 * _ESTIMATE_FACTOR,
            least_slice_us=job.least_slice_ms * 1000,
            memory_bytes=job.memory_bytes,
            gpu=job.gpu,
            dispatch=f"{self._terms.id}/{job.key}",
        )

    # While jobs run

    def _tick(self, *, look: bool = False) -> None:
        """Move the clock, charge the leases, read signals when they are due, stop what must stop."""
        books = self._books
        books.position = position_now(books.position, self._home.clock)
        window, _ = budgets.advance(books.window, self._limits, self._now_us)
        books.window = budgets.charge(window, self._limits, self._now_us)
        if look or self._now_us - books.looked_us >= POLL_US:
            if self._terms.settings_now is not None:
                self._terms = replace(self._terms, settings=self._terms.settings_now())
            books.signals, books.looked_us = self._terms.look(), self._now_us
            before, books.mode = books.mode, choose_mode(books.signals, self._terms.settings)
            self._tell_look(before.mode)
        for running in self._running.values():
            self._stop_if_due(running)
        if self._running and self._now_us - books.written_us >= HEARTBEAT_US:
            self._save()

    def _stop_if_due(self, running: _Running) -> None:
        lease = running.admission.lease and self._books.window.lease(running.admission.lease.id)
        if not lease:
            return
        verdict = governor.stop_verdict(
            self._books.window, lease, self._books.signals, self._terms.settings, self._now_us
        )
        self._books.window = governor.remember(self._books.window, lease.id, verdict)
        running.stop_reason = str(verdict.reason or running.stop_reason)
        if verdict.kind is StopKind.ASK and not running.is_asked:
            running.is_asked = True
            self._engine.ask_stop(running.job.key)
        elif verdict.kind is StopKind.KILL and not running.is_killed:
            running.is_killed = True
            self._engine.kill(running.job.key)

    def _patience_us(self) -> int:
        """How long to wait for an event: to the next look, or to the moment a stop is due."""
        due = [self._books.looked_us + POLL_US]
        for running in self._running.values():
            lease = running.admission.lease and self._books.window.lease(running.admission.lease.id)
            if lease and lease.stop is not None:
                due.append(lease.stop.kill_us if running.is_asked else lease.stop.ask_us)
            elif lease:
                due.append(lease.started_us + lease.granted_us)
        return max(1_000, min(due) - self._now_us)

    # Ending

    def _finish(self, end: TaskEnd) -> None:
        running = self._running.pop(end.key)
        self._tick()
        granted_us = running.admission.granted_us
        charged_us = self._close_lease(running.admission, used=True)
        self._queue.end(running.waiting, granted_us, charged_us)
        ended = self._judge(running, end)
        running.scratch.cleanup()
        self._write(running.job, ended, running.admission, charged_us, end, forced=running.is_killed)

    def _judge(self, running: _Running, end: TaskEnd) -> JobEnd:
        """What the end means for the job: stopped is a yield, anything else is for its source to say."""
        if end.end == "stopped":
            return after_stop(running.history, running.stop_reason or str(self._books.mode.reason))
        try:
            return running.source.accept(self._home, running.job, end)
        except SterlingError as problem:
            because = f"What it gave was refused: {problem.code}: {problem.message}"
            return JobEnd("failed", "step.invalid-result", because)

    def _close_lease(self, admission: Admission, *, used: bool) -> int:
        """Close the lease of an admission; returns what it was charged, in microseconds."""
        if admission.lease is None:
            return 0
        self._tick()
        window = budgets.close(self._books.window, self._limits, admission.lease.id, self._now_us, used=used)
        self._books.window = window
        return max(0, self._now_us - admission.lease.started_us) if used else 0

    def _abandon(self) -> None:
        """The pass is being torn down: kill what runs, close its leases, say so in its dispatches."""
        running, self._running = list(self._running.values()), {}
        self._engine.close()
        for one in running:
            one.scratch.cleanup()
            charged_us = self._close_lease(one.admission, used=True)
            ended = JobEnd("yielded", "run.interrupted", "The pass was stopped; it is queued again.")
            self._write(one.job, ended, one.admission, charged_us, forced=True)

    # Writing

    def _write(
        self,
        job: Job,
        ended: JobEnd,
        admission: Admission | None = None,
        charged_us: int = 0,
        end: TaskEnd | None = None,
        *,
        forced: bool = False,
        later: bool = False,
    ) -> None:
        """One dispatch, durable together with the window it leaves; `later` waits for `_flush`."""
        dispatch = Dispatch(
            run_pass=self._terms.id,
            job=job.key,
            kind=job.kind,
            flow=f"{job.pack}/{self._origin}",
            origin=self._origin,
            weight=job.weight,
            end=ended.end,
            reason=ended.reason,
            because=ended.because,
            mode=str(self._books.mode.mode),
            window=self._books.window.index,
            granted_ms=0 if admission is None else admission.granted_us // 1000,
            charged_ms=charged_us // 1000,
            forced=forced,
            walls=() if end is None else end.walls,
            rss_max=0 if end is None else end.rss_max,
        )
        self.dispatches.append(dispatch)
        if self._terms.on_dispatch is not None:
            self._terms.on_dispatch(dispatch)
        self._pending.append((dispatch, _subject(job)))
        if not later or len(self._pending) >= _TOGETHER:
            self._flush(with_window=admission is not None)

    def _flush(self, *, with_window: bool = False) -> None:
        """Make the dispatches that wait durable."""
        if not self._pending:
            return
        batch = self._batch()
        for dispatch, subject in self._pending:
            batch.append("runtime.dispatch", dispatch.as_json(), subject=subject)
        if with_window:
            write_window(batch, self._books.window, self._limits, self._books.position)
            self._books.written_us = self._now_us
        self._home.ledger.commit(batch)
        self._pending.clear()

    def _save(self) -> None:
        batch = self._batch()
        write_window(batch, self._books.window, self._limits, self._books.position)
        self._home.ledger.commit(batch)
        self._books.written_us = self._now_us

    def _tell_look(self, before: Mode | None) -> None:
        """Write the signals when another row of the mode table holds or a signal got lost or came back,
        and the mode when it is another one."""
        books, batch = self._books, self._batch()
        rows = rows_that_hold(books.signals, self._terms.settings)
        standing = (rows, tuple(reading.state for reading in books.signals.readings))
        if standing != self._standing:
            self._standing = standing
            document = signals_document(books.signals)
            self._signals_hash = address_of(canonical_bytes(document))
            batch.append("runtime.signals", document, subject=SIGNALS_SUBJECT)
        if before is not books.mode.mode:
            told = mode_document(before, books.mode, at_us=self._now_us, signals=self._signals_hash)
            batch.append("runtime.mode", told, subject=MODE_SUBJECT)
        if batch.drafts:
            self._home.ledger.commit(batch)

    def _batch(self) -> Batch:
        """A batch under the conductor's lease, which is renewed well before it ends."""
        if self._now_us - self._renewed_us > self._lease.ttl_us // 3:
            self._lease = self._home.leases.renew(self._lease)
            self._renewed_us = self._now_us
        batch = Batch()
        batch.require(FenceHolds(self._lease.name, self._lease.token))
        return batch

    @property
    def _now_us(self) -> int:
        return self._books.position.position_us

    @property
    def _origin(self) -> str:
        return "forced" if self._terms.is_forced else "drain"


def _subject(job: Job) -> str:
    return f"job/{job.key}"


def _refusal(admission: Admission) -> JobEnd:
    words = [sentence_of(admission.reason), *(sentence_of(reason) for reason in admission.because)]
    return JobEnd("not_admitted", str(admission.reason), " ".join(words))
