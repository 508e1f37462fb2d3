"""A day on a virtual clock: recorded signals through the same deciders that run the machine.

Signals are looked at every 250 ms and queued jobs every 2 s, as the conductor
does. Between two looks every job ends, is asked and is killed at its exact
microsecond. Nothing here decides: modes, admissions and stops come from
`modes`, `budgets` and `governor`; the simulation only plays the machine and the
jobs. It reads no clock and uses no randomness, so the same input gives the same
bytes.

Attended jobs come first, then forced ones, then the rest, each in the order of
their times; the fair order of the queue is not played. A job that stops when
asked keeps its progress, a killed one loses the progress of its last lease.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.runtime import budgets, governor
from sterling.runtime.budgets import Limits, Window
from sterling.runtime.governor import Origin, StopKind, Weight
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import MODE_TABLE_VERSION, ModeVerdict, choose_mode
from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Signals, fuse
from sterling.runtime.simulate_input import Recorded, SignalsLine, SimulatedJob

__all__ = ["PASS_US", "TICK_US", "Report", "SpanTooLong", "simulate"]

TICK_US = budgets.POLL_US
PASS_US = 2_000_000
_SPAN_US_MAX = 31 * 24 * 3600 * 1_000_000

# Refusals that do not depend on the job, so one answer serves every job of an origin.
_SHARED = frozenset(
    {
        Reason.BUDGET_EXHAUSTED,
        Reason.BUDGET_RESERVED,
        Reason.BUDGET_JOBS_EXHAUSTED,
        Reason.BUDGET_CONCURRENCY,
        Reason.SWITCH_UNREADABLE,
    }
)


class SpanTooLong(SterlingError):
    """Recorded signals that span more time than one simulation plays."""

    code = "simulate.span-too-long"
    hint = "Cut the file into months; `sterling governor simulate --help` shows a line."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Report:
    """What happened, in order of time, and its sums."""

    events: tuple[dict[str, Any], ...]
    summary: dict[str, Any]


@dataclass(slots=True)
class _Queued:
    """A job that waits or runs. `left_us` is its work to do; `refused` the last reason given."""

    job: SimulatedJob
    left_us: int
    dispatches: int = 0
    refused: str = ""


@dataclass(slots=True)
class _Running:
    """One dispatch: since when it runs, and when it was asked to stop."""

    queued: _Queued
    lease_id: str
    since_us: int
    asked_us: int | None = None
    frozen: bool = False

    @property
    def ends_us(self) -> int:
        return self.since_us + self.queued.left_us

    @property
    def stops_us(self) -> int | None:
        """When it stops because it was asked."""
        stops_in_us = self.queued.job.stops_in_us
        if self.asked_us is None or stops_in_us is None:
            return None
        return self.asked_us + stops_in_us


def simulate(
    lines: Iterable[SignalsLine], settings: GovernorSettings, jobs: Sequence[SimulatedJob] = ()
) -> Report:
    """Play the lines from the first one's time to the last one's.

    Errors: SpanTooLong; whatever reading the lines raises.
    """
    feed = iter(lines)
    coming = next(feed, None)
    assert coming is not None, "a simulation needs a line"
    now_us = start_us = coming.at_us
    recorded = Recorded()
    play = _Play(settings, jobs, start_us)
    read = 0
    while True:
        while coming is not None and coming.at_us <= now_us:
            recorded.take(coming)
            read += 1
            coming = next(feed, None)
            if coming is not None and coming.at_us - start_us > _SPAN_US_MAX:
                raise SpanTooLong(f"expected at most 31 days, found line {read + 1} beyond them")
        play.look(recorded, now_us)
        if coming is None:
            return play.report(start_us, now_us, read)
        play.pass_time(now_us, now_us + TICK_US)
        now_us += TICK_US


class _Play:
    """The state of the played machine."""

    def __init__(self, settings: GovernorSettings, jobs: Sequence[SimulatedJob], start_us: int) -> None:
        self._settings = settings
        self._limits: Limits = budgets.limits_of(settings)
        self._window: Window = budgets.first_window(self._limits, start_us)
        due = [(start_us if job.at_us is None else job.at_us, place) for place, job in enumerate(jobs)]
        self._future = [(at_us, _Queued(jobs[place], jobs[place].run_us)) for at_us, place in sorted(due)]
        self._next = 0
        self._queue: list[_Queued] = []
        self._running: list[_Running] = []
        self._signals: Signals | None = None
        self._mode: ModeVerdict | None = None
        self._mode_us: dict[str, int] = {}
        self._mode_since_us = start_us
        self._pass_us = start_us
        self._events: list[dict[str, Any]] = []
        self._ends: dict[str, int] = {}
        self._ticks = 0

    def look(self, recorded: Recorded, now_us: int) -> None:
        """One tick: read the signals, choose the mode, stop what must stop, start what may start."""
        self._ticks += 1
        self._roll(now_us)
        self._signals = fuse(
            recorded.readings(now_us), now_us, self._settings, query_intent=recorded.query_intent
        )
        verdict = choose_mode(self._signals, self._settings)
        if verdict != self._mode:
            self._change_mode(verdict, now_us)
        if self._running:
            self._supervise(now_us)
        if now_us >= self._pass_us:
            self._pass(now_us)
            self._pass_us = now_us + PASS_US

    def pass_time(self, from_us: int, until_us: int) -> None:
        """Play the jobs up to, and not including, the next look."""
        while self._running:
            moments = [moment for running in self._running for moment in self._moments(running)]
            due = [moment for moment in moments if from_us < moment < until_us]
            if not due:
                return
            from_us = min(due)
            self._roll(from_us)
            self._supervise(from_us)

    def report(self, start_us: int, end_us: int, lines: int) -> Report:
        self._count_mode(end_us)
        window = budgets.charge(self._window, self._limits, end_us)
        self._note(end_us, "window", **_window_row(window))
        summary = {
            "lines": lines,
            "ticks": self._ticks,
            "start_us": start_us,
            "end_us": end_us,
            "mode_table_version": MODE_TABLE_VERSION,
            "workers_max": self._limits.in_flight_max,
            "budget_us": self._limits.budget_us,
            "mode_us": dict(sorted(self._mode_us.items())),
            "ends": dict(sorted(self._ends.items())),
            "queued": len(self._queue) + len(self._future) - self._next,
            "running": len(self._running),
        }
        return Report(tuple(self._events), summary)

    def _note(self, now_us: int, event: str, **rows: Any) -> None:
        self._events.append({"at_us": now_us, "event": event, **rows})

    def _roll(self, now_us: int) -> None:
        self._window, closed = budgets.advance(self._window, self._limits, now_us)
        for window in closed:
            self._note(window.charged_us, "window", **_window_row(window))

    def _change_mode(self, verdict: ModeVerdict, now_us: int) -> None:
        before = self._mode
        if before is not None:
            self._count_mode(now_us)
        self._mode = verdict
        self._mode_since_us = now_us
        self._note(
            now_us,
            "mode",
            **{"from": "" if before is None else str(before.mode)},
            to=str(verdict.mode),
            reason=str(verdict.reason),
            row=verdict.row,
            because=[str(reason) for reason in verdict.because],
        )

    def _count_mode(self, now_us: int) -> None:
        assert self._mode is not None, "a simulation looks before it reports"
        name = str(self._mode.mode)
        self._mode_us[name] = self._mode_us.get(name, 0) + now_us - self._mode_since_us
        self._mode_since_us = now_us

    def _pass(self, now_us: int) -> None:
        """Queue what is due, then ask for every waiting job once."""
        while self._next < len(self._future) and self._future[self._next][0] <= now_us:
            self._queue.append(self._future[self._next][1])
            self._next += 1
        shared: dict[tuple[Origin, Weight], str] = {}
        waiting, self._queue = sorted(self._queue, key=_rank), []
        for queued in waiting:
            request = queued.job.request
            known = shared.get((request.origin, request.weight))
            reason = known or self._try(queued, now_us)
            # A light job of another kind may run where this one may not.
            if request.weight is Weight.HEAVY and (reason in _SHARED or reason.startswith("mode.")):
                shared[(request.origin, request.weight)] = reason
            self._refuse(queued, reason, now_us)

    def _refuse(self, queued: _Queued, reason: str, now_us: int) -> None:
        if not reason:
            return
        if reason == Reason.BUDGET_NEVER_FITS:
            self._end(queued.job.request.job, "failed", reason, 0, now_us)
            return
        self._queue.append(queued)
        if reason != queued.refused:
            queued.refused = reason
            self._note(now_us, "not_admitted", job=queued.job.request.job, reason=reason)

    def _try(self, queued: _Queued, now_us: int) -> str:
        """Ask for one job; returns why it was refused, or nothing if it runs or has run."""
        assert self._signals is not None, "a pass follows a look"
        request = queued.job.request
        refused = governor.never_fits(request, self._settings)
        if refused is not None:
            return str(refused)
        asked = replace(request, dispatch=f"{request.job}#{queued.dispatches + 1}")
        admission, self._window = governor.admit(self._window, asked, self._signals, self._settings, now_us)
        if not admission.admitted:
            return str(admission.reason)
        queued.dispatches += 1
        queued.refused = ""
        self._note(
            now_us,
            "lease",
            job=request.job,
            granted_us=admission.granted_us,
            mode=str(admission.mode),
            reason=str(admission.reason),
        )
        if admission.lease is None:
            self._end(request.job, "completed", "ok", 0, now_us)
            return ""
        self._running.append(_Running(queued, admission.lease.id, now_us))
        return ""

    def _moments(self, running: _Running) -> list[int]:
        """Times at which something can happen to a running job without a look."""
        if running.frozen:
            return []
        lease = self._window.lease(running.lease_id)
        assert lease is not None, "a running job holds a lease"
        moments = [running.ends_us]
        if running.stops_us is not None:
            moments.append(running.stops_us)
        if lease.granted_us:
            moments.append(lease.started_us + lease.granted_us)
        if lease.stop is not None:
            moments += [lease.stop.ask_us, lease.stop.kill_us]
        return moments

    def _supervise(self, now_us: int) -> None:
        """Play every running job at this moment: its end, its answer to a stop, the stop itself."""
        running, self._running = self._running, []
        for place in running:
            if self._step(place, now_us):
                self._running.append(place)

    def _step(self, running: _Running, now_us: int) -> bool:
        """Whether the job goes on running."""
        if running.frozen:
            self._renew(running, now_us)
            return True
        if now_us >= running.ends_us:
            self._close(running, "completed", "ok", now_us)
            return False
        lease = self._window.lease(running.lease_id)
        assert lease is not None and self._signals is not None, "a running job holds a lease"
        if running.stops_us is not None and now_us >= running.stops_us:
            reason = "" if lease.stop is None else str(lease.stop.reason)
            self._yield(running, reason, now_us)
            return False
        if lease.whole and lease.stop is None and now_us >= lease.started_us + lease.granted_us:
            self._renew(running, now_us)
            lease = self._window.lease(running.lease_id) or lease
        verdict = governor.stop_verdict(self._window, lease, self._signals, self._settings, now_us)
        self._window = governor.remember(self._window, running.lease_id, verdict)
        return self._act(running, verdict, now_us)

    def _act(self, running: _Running, verdict: governor.StopVerdict, now_us: int) -> bool:
        reason = "" if verdict.reason is None else str(verdict.reason)
        if verdict.kind is StopKind.KILL:
            self._close(running, "yielded", reason, now_us, forced=True)
            self._queue.append(running.queued)
            return False
        if verdict.kind is StopKind.FREEZE:
            running.queued.left_us -= now_us - running.since_us
            running.frozen, running.asked_us = True, None
            self._window = budgets.freeze(self._window, self._limits, running.lease_id, now_us)
            self._note(now_us, "freeze", job=running.queued.job.request.job, reason=reason)
            return True
        if verdict.kind is StopKind.ASK and running.asked_us is None:
            running.asked_us = now_us
            self._note(now_us, "ask", job=running.queued.job.request.job, reason=reason)
            if running.stops_us == now_us:
                self._yield(running, reason, now_us)
                return False
        return True

    def _renew(self, running: _Running, now_us: int) -> None:
        """Ask for the next grant of a whole job; a frozen one thaws with it."""
        assert self._signals is not None, "a renewal follows a look"
        answer, self._window = governor.renew(
            self._window, running.lease_id, self._signals, self._settings, now_us
        )
        if not answer.admitted:
            return
        job = running.queued.job.request.job
        if running.frozen:
            running.frozen, running.since_us = False, now_us
            self._note(now_us, "thaw", job=job, granted_us=answer.granted_us)
        else:
            self._note(now_us, "renew", job=job, granted_us=answer.granted_us)

    def _yield(self, running: _Running, reason: str, now_us: int) -> None:
        running.queued.left_us -= now_us - running.since_us
        self._close(running, "yielded", reason, now_us)
        self._queue.append(running.queued)

    def _close(self, running: _Running, end: str, reason: str, now_us: int, *, forced: bool = False) -> None:
        self._window = budgets.close(self._window, self._limits, running.lease_id, now_us)
        charged_us = now_us - running.since_us
        self._end(running.queued.job.request.job, end, reason, charged_us, now_us, forced=forced)

    def _end(
        self, job: str, end: str, reason: str, charged_us: int, now_us: int, *, forced: bool = False
    ) -> None:
        self._ends[end] = self._ends.get(end, 0) + 1
        self._note(now_us, "end", job=job, end=end, reason=reason, charged_us=charged_us, forced=forced)


def _rank(queued: _Queued) -> int:
    """People who wait come first; among equals the order of the queue stays."""
    return tuple(Origin)[::-1].index(queued.job.request.origin)


def _window_row(window: Window) -> dict[str, Any]:
    return {
        "index": window.index,
        "budget_us": window.budget_us,
        "debt_us": window.debt_us,
        "spent_us": window.spent_us,
        "spent_query_us": window.spent_query_us,
        "attended_us": window.attended_us,
        "reserved_us": window.reserved_us,
        "jobs": window.jobs,
    }
