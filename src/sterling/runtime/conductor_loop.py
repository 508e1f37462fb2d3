"""The conductor as a service: one a home, a tick every 250 ms, a pass every 2 s.

It holds the role by a lock and the lease `conductor` by a heartbeat. A tick reads
signals, tells a change of mode, and carries out passes that commands ask for. A
pass of its own begins only where it could start something: while nothing may run
and nothing has changed, no entry is written.

An error in a tick is an entry, counted, and answered by a longer wait; after five
in a row the watchdog calls the conductor in error, and it goes on trying. SIGTERM
and Ctrl-C end it in order: the pass is closed, the lease and the role are given
back, and the home's last checkpoint is written.

Waiting for due work, running it and admitting it are those of `run_once`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from sterling.kernel.batch import Batch, FenceHolds
from sterling.kernel.errors import SterlingError
from sterling.kernel.heartbeat import Heartbeat
from sterling.kernel.home import Home, HomeMissing, is_home
from sterling.kernel.lease_table import LeaseHeld
from sterling.kernel.leases import Lease
from sterling.kernel.liveness import process_name
from sterling.kernel.locks import Role
from sterling.runtime import budgets
from sterling.runtime.asked_passes import PassRefused, answer, is_waited_for, read_asked, refuse
from sterling.runtime.conductor import CONDUCTOR_LEASE, PassReport, first_look, live_settings, run_once
from sterling.runtime.conductor_process import CONDUCTOR_ROLE, Standing, end_orphans, write_standing
from sterling.runtime.dispatches import JobSource
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.interrupts import terminate_as_interrupt, uninterrupted
from sterling.runtime.left_open import close_left_open
from sterling.runtime.modes import Mode, ModeVerdict, choose_mode, mode_document
from sterling.runtime.reasons import Reason
from sterling.runtime.runs import recover_runs
from sterling.runtime.safe_mode import PROCESS_SUBJECT, LightOnly, SafeMode, enter_after_crashes, is_safe_mode
from sterling.runtime.scheduler import MODE_SUBJECT
from sterling.runtime.signal_sources import default_sources
from sterling.runtime.signals import Source, sample
from sterling.runtime.watchdog import Progress, Told, delay_after_failures_us, watch, worth_telling
from sterling.runtime.window_store import position_now, read_window

__all__ = ["serve"]

TICK_US = 250_000
PASS_US = 2_000_000
_LEASE_S = 30
_ROLE_WAIT_MS = 1_000  # A look at the lock, or the doctor's try of it, is over before that.
_KEEP_US = 30_000_000  # How often stale runs are looked for and a checkpoint is written.
_WATCH_S = 1.0
_DUE_LOOKED_AT = 256

Say = Callable[[str], None]
SourcesOf = Callable[[GovernorSettings], Sequence[Source]]


def serve(
    home: Home, jobs: Sequence[JobSource], *, say: Say, sources_of: SourcesOf = default_sources
) -> None:
    """Be the conductor of this home until SIGTERM or Ctrl-C, which end it in order.

    Raises:
        RoleTaken: another conductor is up; nothing was done.
    """
    role = Role(home.path / "run", CONDUCTOR_ROLE)
    role.take(wait_ms=_ROLE_WAIT_MS)
    try:
        with terminate_as_interrupt(), _Conductor(home, jobs, say, sources_of) as conductor:
            try:
                conductor.go_on()
            except KeyboardInterrupt:
                say("ending in order")
    finally:
        role.release()


class _Conductor:
    """The loop's state; everything in it can be lost without harm."""

    def __init__(self, home: Home, jobs: Sequence[JobSource], say: Say, sources_of: SourcesOf) -> None:
        self._home, self._jobs, self._say, self._sources_of = home, jobs, say, sources_of
        self._asked_after = home.ledger.size() - 1
        me = process_name(home.clock.boot_id())
        self.standing = Standing(me.pid, me.started_ticks, me.boot_id, home.clock.boot_us())
        self._heartbeat: Heartbeat | None = None
        self._watching = _Watching(home, self, say)
        self._settings_now = live_settings(home)
        self._sources: list[Source] = []
        self._sources_for: tuple[str, int] | None = None
        self._mode: Mode | None = None
        self._is_started = self._is_told = False
        self._failures_total = 0
        self._pass_us = self._keep_us = 0
        self._barren: object = None

    def __enter__(self) -> _Conductor:
        if enter_after_crashes(self._home):
            self._say("safe mode: no heavy work. Leave it: sterling up --leave-safe-mode --reason TEXT")
        write_standing(self._home.path, self.standing)
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give everything back, and say that it ended; a crash of ours says nothing, so that it counts."""
        with uninterrupted():
            self._watching.end()
            heartbeat, self._heartbeat = self._heartbeat, None
            if heartbeat is None:
                return
            heartbeat.__exit__(None, None, None)
            if not is_home(self._home.path):
                return
            if kind is None and self._is_started:
                ended = {"command": "conductor", "exit": 0}
                self._write("process.ended", ended, PROCESS_SUBJECT, fenced=False)
            held = self._home.leases.read(CONDUCTOR_LEASE)
            if held is not None and held.holder == heartbeat.lease.holder:
                self._home.leases.release(heartbeat.lease)

    def go_on(self) -> None:
        """Tick until a signal says otherwise, or the home is gone. Errors: home.missing."""
        while is_home(self._home.path):
            begun_us = self._now_us
            wait_us = TICK_US
            try:
                self._tick()
                self.standing = replace(self.standing, failures=0)
            except Exception as problem:  # noqa: BLE001 - told, counted, and answered by waiting; never swallowed.
                wait_us = self._note_failure(problem)
            time.sleep(max(0, begun_us + wait_us - self._now_us) / 1_000_000)
        raise HomeMissing(f"expected the home at {self._home.path}, found none", path=str(self._home.path))

    # One tick

    def _tick(self) -> None:
        lease = self._hold()
        if lease is None:
            return
        settings = self._settings_now()
        sources = self._sources_under(settings)
        verdict = choose_mode(sample(sources, self._home.clock, settings), settings)
        self._tell_mode(verdict)
        self._moved()
        for asked in list(read_asked(self._home, self._asked_after)):
            self._asked_after = asked.index
            if is_waited_for(self._home, asked):
                self._carry_out_asked(asked)
        if self._now_us >= self._pass_us:
            self._pass_us = self._now_us + PASS_US
            self._keep_house()
            self._carry_out_own(verdict)

    def _hold(self) -> Lease | None:
        """The lease, taken again when it was lost, as by a sleep of the machine; None while held."""
        heartbeat = self._heartbeat
        if heartbeat is not None:
            if not heartbeat.is_lost and self._now_us < heartbeat.lease.expires_us:
                return heartbeat.lease
            heartbeat.__exit__(None, None, None)
            self._heartbeat = None
            self._say("the lease was lost; taking it again")
        try:
            lease = self._home.leases.acquire(CONDUCTOR_LEASE, ttl_s=_LEASE_S)
        except LeaseHeld:
            self._moved()
            return None  # A pass that somebody started by hand; it ends by itself.
        self._heartbeat = Heartbeat(self._home.leases, lease, self._home.clock)
        self._heartbeat.__enter__()
        self._begin(lease)
        return lease

    def _begin(self, lease: Lease) -> None:
        """What follows from taking the lease: what the last holder left is closed, and the start is told."""
        for pid in end_orphans(self._home.id, self._home.clock.boot_id()):
            self._say(f"ended process {pid}, which a dead conductor had left")
        limits = budgets.limits_of(self._settings_now())
        for key in close_left_open(self._home, self._jobs, limits, lease)[2]:
            self._say(f"closed {key}, which a dead conductor had left open")
        if not self._is_started:
            started = {
                "command": "conductor",
                "pid": self.standing.pid,
                "boot": self.standing.boot_id,
            }
            self._write("process.started", started, PROCESS_SUBJECT)
            self._is_started = True

    def _sources_under(self, settings: GovernorSettings) -> list[Source]:
        wanted = (settings.activity_file, settings.stale_ms)
        if wanted != self._sources_for:
            self._sources, self._sources_for = list(self._sources_of(settings)), wanted
            first_look(self._sources, self._home, settings, time.sleep)
        return self._sources

    def _tell_mode(self, verdict: ModeVerdict) -> None:
        if verdict.mode is self._mode:
            return
        document = mode_document(self._mode, verdict, at_us=self._now_us)
        self._write("runtime.mode", document, MODE_SUBJECT)
        self._mode = verdict.mode

    # Passes

    def _carry_out_asked(self, asked: Any) -> None:
        try:
            if is_safe_mode(self._home):
                raise SafeMode("expected heavy work to be allowed, found the conductor in safe mode")
            report = self._run(
                self._jobs,
                force=asked.force,
                limit=asked.limit,
                overrides=asked.settings,
                intent=lambda: is_waited_for(self._home, asked),
            )
        except SterlingError as problem:
            refuse(self._home, asked, problem)
            if not problem.code.startswith(("config.", "governor.", "conductor.")):
                raise
        except Exception as problem:
            refuse(self._home, asked, PassRefused(f"{type(problem).__name__}: {problem}"))
            raise
        else:
            answer(self._home, asked, report)
            self._barren = None

    def _carry_out_own(self, verdict: ModeVerdict) -> None:
        """A pass, where one could start something that the last one could not."""
        jobs = [LightOnly(source) for source in self._jobs] if is_safe_mode(self._home) else self._jobs
        due = [job for source in jobs for job in source.due(self._home, _DUE_LOOKED_AT)]
        if not due or verdict.reason is Reason.MODE_FULLSCREEN:
            return
        keys = tuple(job.key for job in due if verdict.is_heavy or job.weight == "light")
        situation = (verdict.mode, verdict.reason, self._window_index(), keys)
        if situation == self._barren:
            return
        report = self._run(jobs, force=False, gives_way=self._is_asked)
        started = len(report.dispatches) - report.counts["not_admitted"]
        self._barren = None if started else situation

    def _run(self, jobs: Sequence[JobSource], **terms: Any) -> PassReport:
        assert self._heartbeat is not None, "a pass runs under the lease"
        return run_once(
            self._home,
            jobs,
            sources=self._sources,
            lease=self._heartbeat.lease,
            on_look=self._moved,
            on_dispatch=lambda dispatch: self._moved(),
            **terms,
        )

    def _is_asked(self) -> bool:
        return next(read_asked(self._home, self._asked_after), None) is not None

    def _window_index(self) -> int:
        limits = budgets.limits_of(self._settings_now())
        window, position = read_window(self._home.ledger, limits, self._home.clock)
        now_us = position_now(position, self._home.clock).position_us
        return budgets.advance(window, limits, now_us)[0].index

    # Housekeeping

    def _keep_house(self) -> None:
        """Now and then: close runs of dead processes, and checkpoint what is new."""
        if self._now_us < self._keep_us:
            return
        self._keep_us = self._now_us + _KEEP_US
        for run in recover_runs(self._home):
            self._say(f"closed {run}, which a process that died had left open")
        if self._home.anchors.latest_size() != self._home.ledger.size():
            self._home.ledger.checkpoint()

    def _note_failure(self, problem: Exception) -> int:
        """Write the error down; how long to wait. Where even that fails, the log says both."""
        failures = self.standing.failures + 1
        self.standing = replace(self.standing, failures=failures)
        self._failures_total += 1
        wait_us = delay_after_failures_us(failures)
        code = problem.code if isinstance(problem, SterlingError) and problem.code else type(problem).__name__
        payload = {
            "code": code,
            "message": str(problem)[:1000],
            "in_a_row": failures,
            "total": self._failures_total,
            "wait_us": wait_us,
        }
        self._say(f"tick failed ({failures} in a row): {code}: {problem}")
        try:
            self._write("conductor.tick-failed", payload, "conductor.tick", fenced=False)
        except SterlingError as refusal:
            self._say(f"and it could not be written: {refusal.code}: {refusal.message}")
        return wait_us

    def _moved(self) -> None:
        self.standing = replace(self.standing, progress_us=self._now_us)
        if self._heartbeat is not None:
            self._heartbeat.progress()

    def _write(self, kind: str, payload: dict[str, Any], subject: str, *, fenced: bool = True) -> None:
        batch = Batch(closing=kind == "process.ended")
        if fenced and self._heartbeat is not None:
            batch.require(FenceHolds(CONDUCTOR_LEASE, self._heartbeat.lease.token))
        batch.append(kind, payload, subject=subject)
        self._home.ledger.commit(batch)

    @property
    def _now_us(self) -> int:
        return self._home.clock.boot_us()


class _Watching:
    """A thread that looks at the conductor's progress once a second, and tells what is worth it."""

    def __init__(self, home: Home, conductor: _Conductor, say: Say) -> None:
        self._home, self._conductor, self._say = home, conductor, say
        self._ending = threading.Event()
        self._told = Told()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(_WATCH_S):
            try:
                self._look()
            except (SterlingError, OSError) as problem:
                self._say(f"the watchdog could not write: {problem}")

    def _look(self) -> None:
        standing, now_us = self._conductor.standing, self._home.clock.boot_us()
        write_standing(self._home.path, standing)
        state = watch(Progress(standing.started_us, standing.progress_us, standing.failures), now_us)
        told = worth_telling(self._told, state, now_us)
        if told is None:
            return
        batch = Batch()
        payload = {
            "state": str(state),
            "failures": standing.failures,
            "progress_us": standing.progress_us,
        }
        batch.append("conductor.state", payload, subject="conductor.state")
        self._home.ledger.commit(batch)
        self._told = told
