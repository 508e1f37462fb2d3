"""The conductor: carries out waiting work when the machine allows it.

`run_once` is one pass: read the signals, find due work, run what the governor
admits in worker processes, and say of every job how it ended or why it waits.
Forcing a pass sets the intent of a person and nothing else: the mode table, the
budget and the limits stay as they are.

One conductor works on a home at a time; it holds the lease `conductor`, and
every entry it writes carries that fence. What a dead one left open is charged
and closed first, so a restart refills nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.config_watch import ConfigWatch
from sterling.kernel.home import Home
from sterling.kernel.ids import random_id
from sterling.runtime import budgets
from sterling.runtime.budgets import Position, Window
from sterling.runtime.dispatches import DISPATCH_ENDS, Dispatch, Job, JobEnd, JobSource
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.explain import observe
from sterling.runtime.governor_settings import GovernorSettings, SettingRefused
from sterling.runtime.interrupts import terminate_as_interrupt
from sterling.runtime.modes import MODE_TABLE_VERSION
from sterling.runtime.scheduler import Pass, PassTerms
from sterling.runtime.signal_sources import default_sources
from sterling.runtime.signals import Signal, Source, sample
from sterling.runtime.window_store import position_now, read_window, write_window

__all__ = [
    "CONDUCTOR_LEASE",
    "Dispatch",
    "Job",
    "JobEnd",
    "JobSource",
    "PassReport",
    "live_settings",
    "run_once",
]

CONDUCTOR_LEASE = "conductor"
PASS_SUBJECT = "runtime.pass"


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass did. `left` counts jobs that still wait, `given_up` those that failed for good."""

    id: str
    mode: str
    reason: str
    heavy_allowed: bool
    is_forced: bool
    dispatches: tuple[Dispatch, ...]
    given_up: tuple[tuple[Job, JobEnd], ...]
    counts: dict[str, int]
    left: int
    window: dict[str, Any]

    @property
    def exit_status(self) -> int:
        """0 nothing admissible is left, 1 a job failed, 4 work is left that was not admitted."""
        if self.counts["failed"] or self.given_up:
            return 1
        return 4 if self.left else 0


def run_once(
    home: Home,
    jobs: Sequence[JobSource],
    *,
    force: bool,
    limit: int | None = None,
    sources: Sequence[Source] | None = None,
    pause: Callable[[float], None] = time.sleep,
    on_dispatch: Callable[[Dispatch], None] | None = None,
) -> PassReport:
    """One pass over the due work of these job sources. `sources` are where signals come from.

    `on_dispatch` is told of each job as it ends, or is not admitted.

    Raises:
        SterlingError: lease.held when another conductor works on this home;
            config.* and governor.setting-refused for settings.
    """
    settings_now = live_settings(home)
    settings = settings_now()
    limits = budgets.limits_of(settings)
    asked = default_sources(settings) if sources is None else list(sources)
    _first_look(asked, home, settings, pause)
    pass_id = random_id("pass")
    terms = PassTerms(
        id=pass_id,
        is_forced=force,
        settings=settings,
        look=lambda: sample(asked, home.clock, settings, query_intent=force),
        limit=limit,
        on_dispatch=on_dispatch,
        settings_now=settings_now,
    )
    lease = home.leases.acquire(CONDUCTOR_LEASE)
    try:
        window, position = _open_window(home, limits)
        with terminate_as_interrupt(), LocalEngine(settings.workers) as engine:
            one = Pass(home, jobs, terms, engine, lease, window, position, _finish_tags(home))
            one.carry_out()
        report = _report(one, terms)
        _write_report(home, one, report)
    finally:
        held = home.leases.read(CONDUCTOR_LEASE)
        if held is not None and held.holder == lease.holder:
            home.leases.release(lease)
    return report


def live_settings(home: Home) -> Callable[[], GovernorSettings]:
    """The settings as the file says them at each call; a bad file keeps the last and admits nothing."""
    watch = ConfigWatch(home)
    good = GovernorSettings.from_config(home.config)

    def now() -> GovernorSettings:
        nonlocal good
        config = watch.look()
        try:
            good = GovernorSettings.from_config(config)
        except SettingRefused:
            return replace(good, readable=False)
        return replace(good, readable=watch.refusal is None)

    return now


def _first_look(
    sources: Sequence[Source], home: Home, settings: GovernorSettings, pause: Callable[[float], None]
) -> None:
    """Ask the sources until they can be believed: processor use needs a second between two looks."""
    if sample(sources, home.clock, settings).doubts(Signal.CPU_OTHER_BP):
        observe(sources, home.clock, settings, pause)


def _open_window(home: Home, limits: budgets.Limits) -> tuple[Window, Position]:
    """The window to go on with. Leases that a dead conductor left open are charged and closed."""
    window, position = read_window(home.ledger, limits, home.clock)
    position = position_now(position, home.clock)
    if not window.leases:
        return window, position
    recovered, _ = budgets.recover(window, limits, position.position_us)
    batch = Batch()
    write_window(batch, recovered, limits, position)
    home.ledger.commit(batch)
    return recovered, position


def _finish_tags(home: Home) -> dict[str, int]:
    entry = home.ledger.newest(PASS_SUBJECT)
    return {} if entry is None else dict(entry.payload["flows"])


def _report(one: Pass, terms: PassTerms) -> PassReport:
    ends = Counter(dispatch.end for dispatch in one.dispatches)
    waiting = sum(ends[end] for end in ("not_admitted", "preempted_before_start", "yielded"))
    return PassReport(
        id=terms.id,
        mode=str(one.first_mode.mode),
        reason=str(one.first_mode.reason),
        heavy_allowed=one.first_mode.is_heavy,
        is_forced=terms.is_forced,
        dispatches=tuple(one.dispatches),
        given_up=tuple(one.given_up),
        counts={end: ends[end] for end in DISPATCH_ENDS},
        left=waiting,
        window=budgets.window_document(one.window, one.limits, one.position),
    )


def _write_report(home: Home, one: Pass, report: PassReport) -> None:
    batch = Batch()
    payload = {
        "counts": report.counts,
        "flows": one.finish,
        "forced": report.is_forced,
        "given_up": len(report.given_up),
        "heavy_allowed": report.heavy_allowed,
        "left": report.left,
        "mode": report.mode,
        "mode_table_version": MODE_TABLE_VERSION,
        "pass": report.id,
        "queued": len(report.dispatches),
        "reason": report.reason,
        "window": one.window.index,
    }
    batch.append("runtime.pass", payload, subject=PASS_SUBJECT)
    write_window(batch, one.window, one.limits, one.position)
    home.ledger.commit(batch)
