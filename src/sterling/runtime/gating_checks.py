"""The gating half of the heavy-path gate: what must be let in, kept out and stopped, and when.

Each check plays passes and compares them with numbers that are written here a
second time, on purpose: a check that asked the tables of the governor what is
right would agree with any of their faults. Times are microseconds after the
start of a pass; signals are looked at every 250 ms, and the person comes or the
load rises at one second, so that is when the cause is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sterling.runtime import governor
from sterling.runtime.governor import JobRequest, Origin, Weight
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.reasons import Reason, hint_of
from sterling.runtime.rehearsal import IDLE, Played, ProbeJob, Rehearsal
from sterling.runtime.signals import Reading, Signal, fuse

__all__ = ["GATING_CHECKS", "Check", "Regressed"]

CAUSE_US = 1_000_000
GRACE_US = 150_000
DEADLINE_US = 500_000
SETTINGS = GovernorSettings(workers_max=2)
ONE = replace(SETTINGS, workers_max=1, budget_ms=1_000, query_floor_bp=0)
AWAY: Mapping[Signal, Any] = {}
HERE: Mapping[Signal, Any] = {Signal.IDLE_MS: 0, Signal.ACTIVE: True}

FORBIDDING: tuple[tuple[str, Mapping[Signal, Any], int, bool], ...] = (
    ("mode.fullscreen", {Signal.FULLSCREEN: True}, 0, True),
    ("mode.cpu-pressure", {Signal.CPU_OTHER_BP: 5_000}, GRACE_US, True),
    ("mode.ram-pressure", {Signal.RAM_USED_BP: 8_500}, GRACE_US, True),
    ("mode.power-low", {Signal.POWER: "battery", Signal.CHARGE_BP: 2_999}, GRACE_US, True),
    ("mode.user-active", HERE, GRACE_US, False),
    ("mode.on-battery", {Signal.POWER: "battery", Signal.CHARGE_BP: 3_000}, GRACE_US, False),
    ("mode.idle-threshold", {Signal.IDLE_MS: 44_999}, GRACE_US, False),
)
"""Reason, signals, time from cause to asking, and whether it also stands against a person's question."""

_ALLOWED: tuple[Mapping[Signal, Any], ...] = (
    {Signal.CPU_OTHER_BP: 4_999},
    {Signal.RAM_USED_BP: 8_499},
    {Signal.IDLE_MS: 45_000},
)


class Regressed(Exception):
    """A check found other than what it must."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the gating half."""

    id: str
    sentence: str
    look: Callable[[Rehearsal], None]


def _same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise Regressed(f"{what}: expected {expected}, found {found}")


def _ended(played: Played, name: str, end: str, reason: str) -> None:
    _same(f"end of {name}", (end, reason), played.end_of(name))


def _refused(played: Played, name: str, reason: str) -> None:
    """Not admitted, for this reason, in words, and it never ran."""
    _ended(played, name, "not_admitted", reason)
    _same(f"{name} ran", False, name in played.began)
    because = played.dispatches[name].because
    if not because.strip() or not hint_of(Reason(reason)).strip():
        raise Regressed(f"{reason}: expected a sentence and a hint, found none")


def forced_while_active(stage: Rehearsal) -> None:
    """A forced run completes while the person works, with a grant, in USER_QUERY."""
    line = ((0, HERE), (250_000, AWAY), (500_000, HERE))
    played = stage.play([ProbeJob("a", 1_000)], line, forced=True)
    _ended(played, "a", "completed", "ok")
    _same("requests to stop", {}, played.asked)
    _same("modes", ((0, "USER_QUERY", "mode.query-intent"),), played.modes)
    one = played.dispatches["a"]
    _same("origin and grant", ("forced", 30_000, 1_000), (one.origin, one.granted_ms, one.charged_ms))


def forced_denied(stage: Rehearsal) -> None:
    """Forcing passes neither a full screen nor pressure nor a low battery, and passes all else."""
    for reason, signals, _, stands in FORBIDDING:
        played = stage.play([ProbeJob("a")], ((0, signals),), forced=True)
        if stands:
            _refused(played, "a", reason)
        else:
            _ended(played, "a", "completed", "ok")


def idle_denied(stage: Rehearsal) -> None:
    """Idle work is refused for each reason of the mode table, and let in right below each limit."""
    for reason, signals, _, _ in FORBIDDING:
        played = stage.play([ProbeJob("a"), ProbeJob("b")], ((0, signals),))
        for name in ("a", "b"):
            _refused(played, name, reason)
        _same("modes", ((0, "ACTIVE_CAPTURE_ONLY", reason),), played.modes)
        _same("job slots", 0, played.window.jobs)
    for signals in _ALLOWED:
        played = stage.play([ProbeJob("a")], ((0, signals),))
        _ended(played, "a", "completed", "ok")
        _same("modes", ((0, "IDLE_DRAIN", "mode.idle-window"),), played.modes)


def stops_on_time(stage: Rehearsal) -> None:
    """Each cause asks after its grace, ends what does not listen at the deadline, and no stop is longer."""
    for reason, signals, wait_us, _ in FORBIDDING:
        jobs = [ProbeJob("deaf", 10_000, None), ProbeJob("heeds", 10_000, 20)]
        played = stage.play(jobs, ((0, AWAY), (CAUSE_US, signals)))
        asked_us = CAUSE_US + wait_us
        _same(f"{reason}: asked", {"deaf": asked_us, "heeds": asked_us}, played.asked)
        _same(f"{reason}: killed", {"deaf": CAUSE_US + DEADLINE_US}, played.killed)
        for name in ("deaf", "heeds"):
            _ended(played, name, "yielded", reason)
        took_us = played.dispatches["heeds"].charged_ms * 1000 - CAUSE_US
        if took_us > 3 * GRACE_US:
            raise Regressed(f"{reason}: expected a stop within {3 * GRACE_US} us, found {took_us} us")
        forced = {name: one.forced for name, one in played.dispatches.items()}
        _same(f"{reason}: ended by force", {"deaf": True, "heeds": False}, forced)


def fullscreen_at_once(stage: Rehearsal) -> None:
    """A full screen stops a forced run at once, whatever the grace."""
    slow = replace(SETTINGS, grace_ms=10_000, suspend_deadline_ms=20_000)
    line = ((0, HERE), (CAUSE_US, {**HERE, Signal.FULLSCREEN: True}))
    played = stage.play([ProbeJob("a", 60_000)], line, settings=slow, forced=True)
    _same("asked", {"a": CAUSE_US}, played.asked)
    _ended(played, "a", "yielded", "mode.fullscreen")


def stops_stand(stage: Rehearsal) -> None:
    """A stop that was asked stands when its cause goes; one that was not asked goes with it."""
    slow = replace(SETTINGS, grace_ms=400, suspend_deadline_ms=1_400)
    short = ((0, AWAY), (CAUSE_US, HERE), (CAUSE_US + 250_000, AWAY))
    played = stage.play([ProbeJob("a", 3_000)], short, settings=slow)
    _same("asked", {}, played.asked)
    _ended(played, "a", "completed", "ok")
    played = stage.play([ProbeJob("a", 9_000, None)], short)
    _same("killed", {"a": CAUSE_US + DEADLINE_US}, played.killed)
    changing = ((0, AWAY), (CAUSE_US, HERE), (CAUSE_US + 250_000, {Signal.IDLE_MS: 10_000}))
    played = stage.play([ProbeJob("a", 9_000, None)], changing, settings=slow)
    _same("asked", {"a": CAUSE_US + 400_000}, played.asked)
    _same("killed", {"a": CAUSE_US + 1_400_000}, played.killed)


def grant_used(stage: Rehearsal) -> None:
    """A job that uses up its own grant is stopped like any other, and charged to the microsecond."""
    played = stage.play([ProbeJob("a", 9_000, None, estimate_ms=250)])
    _same("granted", 1_000, played.dispatches["a"].granted_ms)
    _same("asked", {"a": 1_000_000 + GRACE_US}, played.asked)
    _same("killed", {"a": 1_000_000 + DEADLINE_US}, played.killed)
    _ended(played, "a", "yielded", "budget.grant-used")
    _same("spent", 1_500_000, played.window.spent_us)


def exhausted(stage: Rehearsal) -> None:
    """An empty budget stops what runs, refuses the rest, and the next window pays the debt."""
    jobs = [ProbeJob("a", 9_000, None), ProbeJob("b")]
    played = stage.play(jobs, settings=ONE)
    _same("killed", {"a": 1_000_000 + DEADLINE_US}, played.killed)
    _ended(played, "a", "yielded", "budget.exhausted")
    _refused(played, "b", "budget.exhausted")
    _refused(stage.play([ProbeJob("c")], settings=ONE, keep=True, forced=True), "c", "budget.exhausted")
    now_us, window_us = stage.clock.boot_us(), ONE.window_ms * 1000
    stage.clock.advance((now_us // window_us + 1) * window_us - now_us)
    again = stage.play([ProbeJob("d")], settings=ONE, keep=True)
    _same("debt and grant", (500_000, 500), (again.window.debt_us, again.dispatches["d"].granted_ms))
    _ended(again, "d", "completed", "ok")


def reserved(stage: Rehearsal) -> None:
    """Idle work leaves the share of questions alone, is stopped where it begins, and questions get it."""
    floor = replace(ONE, query_floor_bp=2_500)
    played = stage.play([ProbeJob("a", 9_000), ProbeJob("b")], settings=floor)
    _same("granted", 750, played.dispatches["a"].granted_ms)
    _same("asked", {"a": 750_000 + GRACE_US}, played.asked)
    _ended(played, "a", "yielded", "budget.reserved")
    _refused(played, "b", "budget.reserved")
    forced = stage.play([ProbeJob("c", 50)], settings=floor, keep=True, forced=True)
    _ended(forced, "c", "completed", "ok")
    _same("granted", 100, forced.dispatches["c"].granted_ms)


def job_slots(stage: Rehearsal) -> None:
    """A window starts so many jobs and no more; one slot is kept for questions."""
    two = replace(ONE, jobs_max=2)
    played = stage.play([ProbeJob(name, 10, estimate_ms=10) for name in "abc"], settings=two)
    _refused(played, "c", "budget.jobs-exhausted")
    kept = replace(two, query_floor_bp=2_500)
    played = stage.play([ProbeJob(name, 10, estimate_ms=10) for name in "ab"], settings=kept)
    _refused(played, "b", "budget.jobs-exhausted")
    forced = stage.play([ProbeJob("c", 10)], settings=kept, keep=True, forced=True)
    _ended(forced, "c", "completed", "ok")


def concurrency(stage: Rehearsal) -> None:
    """No more jobs run at once than the cap, and one refused at the cap says so."""
    played = stage.play([ProbeJob(name, 400) for name in "abcde"])
    _same("jobs at once", 2, played.peak)
    _same("begins", [0, 0, 400_000, 400_000, 800_000], sorted(played.began.values()))
    held = [JobRequest(f"own/{name}", origin=Origin.ATTENDED) for name in "ab"]
    played = stage.play([ProbeJob("a")], held=held)
    _refused(played, "a", "budget.concurrency")
    _ended(stage.play([ProbeJob("a")], held=held[:1]), "a", "completed", "ok")


def tokens(stage: Rehearsal) -> None:
    """Declared memory and the one graphics slot are not given twice; an unknown GPU is given to nobody."""
    small = replace(SETTINGS, memory_tree_bytes=1_000)
    held = [JobRequest("own/a", origin=Origin.ATTENDED, memory_bytes=600, gpu=True)]
    jobs = [ProbeJob("over", memory_bytes=401), ProbeJob("fits", memory_bytes=400)]
    played = stage.play(jobs[:1], settings=small, held=held)
    _refused(played, "over", "memory.tokens")
    _ended(stage.play(jobs[1:], settings=small, held=held), "fits", "completed", "ok")
    graphics = [ProbeJob("a", gpu=True)]
    _refused(stage.play(graphics), "a", "signal.gpu-missing")
    seen = ((0, {Signal.GPU_BUSY_BP: 0}),)
    _refused(stage.play(graphics, seen, held=held), "a", "gpu.slot")
    _ended(stage.play(graphics, seen), "a", "completed", "ok")


def sizes(stage: Rehearsal) -> None:
    """A job too large for what is left waits; one too large for any window fails at once."""
    jobs = [
        ProbeJob("a", 300, estimate_ms=100),
        ProbeJob("b", least_slice_ms=800),
        ProbeJob("c", least_slice_ms=1_001),
    ]
    played = stage.play(jobs, settings=ONE)
    _refused(played, "b", "budget.too-small-now")
    _ended(played, "c", "failed", "budget.never-fits")
    _same("c ran", False, "c" in played.began)


def switch_off(stage: Rehearsal) -> None:
    """With user_query_heavy off a forced run waits like any other, and one that runs is stopped."""
    off = replace(SETTINGS, user_query_heavy=False)
    played = stage.play([ProbeJob("a")], ((0, HERE),), settings=off, forced=True)
    _refused(played, "a", "mode.user-active")
    if "user_query_heavy" not in played.dispatches["a"].because:
        raise Regressed("expected the switch to be named, found " + played.dispatches["a"].because)
    played = stage.play([ProbeJob("a")], settings=off, forced=True)
    _same("modes", ((0, "IDLE_DRAIN", "mode.idle-window"),), played.modes)
    turned = stage.play(
        [ProbeJob("a", 9_000)],
        ((0, HERE),),
        forced=True,
        settings_at=lambda gone_us: off if gone_us >= CAUSE_US else SETTINGS,
    )
    _same("asked", {"a": CAUSE_US + GRACE_US}, turned.asked)
    _ended(turned, "a", "yielded", "mode.user-active")
    _ended(stage.play([ProbeJob("a")], ((0, HERE),), forced=True), "a", "completed", "ok")


def settings_unreadable(stage: Rehearsal) -> None:
    """While the settings cannot be read nothing heavy starts, and what runs is stopped."""
    lost = replace(SETTINGS, workers_max=1, readable=False)
    one = replace(SETTINGS, workers_max=1)
    played = stage.play(
        [ProbeJob("a", 9_000, None), ProbeJob("b")],
        settings=one,
        settings_at=lambda gone_us: lost if gone_us >= CAUSE_US else one,
    )
    _same("asked", {"a": CAUSE_US + GRACE_US}, played.asked)
    _same("killed", {"a": CAUSE_US + DEADLINE_US}, played.killed)
    _ended(played, "a", "yielded", "switch.unreadable")
    _refused(played, "b", "switch.unreadable")
    _refused(stage.play([ProbeJob("a")], settings=lost, forced=True), "a", "switch.unreadable")


def before_start(stage: Rehearsal) -> None:
    """A cause between grant and start gives the lease back; the grant is on the books before the start."""
    line: dict[Signal, Any] = dict(AWAY)
    books: list[int] = []

    def begin(job: ProbeJob) -> None:
        entry = stage.home.ledger.newest("runtime.window")
        books.append(-1 if entry is None else len(entry.payload["leases"]))
        if job.name == "late":
            line.update(HERE)

    played = stage.play([ProbeJob("a", 100)], ((0, line),), on_start=begin)
    _same("leases on the books when a job starts", [1], books)
    _ended(played, "a", "completed", "ok")
    played = stage.play([ProbeJob("late", 9_000)], ((0, line),), on_start=begin)
    _ended(played, "late", "preempted_before_start", "mode.user-active")
    _same("begins", {}, played.began)
    _same("slots and leases", (0, 0), (played.window.jobs, played.window.in_flight))


def books(stage: Rehearsal) -> None:
    """What runs is charged, what is granted is reserved, what is not spent returns."""
    wide = replace(ONE, workers_max=2)
    played = stage.play([ProbeJob("a", 400), ProbeJob("b", 300)], settings=replace(wide, job_ms_max=600))
    grants = {name: one.granted_ms for name, one in played.dispatches.items()}
    _same("grants", {"a": 600, "b": 400}, grants)
    charged = {name: one.charged_ms for name, one in played.dispatches.items()}
    _same("charges", {"a": 400, "b": 300}, charged)
    _same("spent and reserved", (700_000, 0), (played.window.spent_us, played.window.reserved_us))
    _same("job slots", 2, played.window.jobs)
    again = stage.play([ProbeJob("c", 100)], settings=wide, keep=True)
    _same("granted", 300, again.dispatches["c"].granted_ms)


def light_and_attended(stage: Rehearsal) -> None:
    """Light work of the closed list runs in every mode, no other does; attended work always runs."""
    now_us = stage.clock.boot_us()
    values = {**IDLE, **HERE, Signal.FULLSCREEN: True}
    signals = fuse([Reading(name, value, "fed", now_us) for name, value in values.items()], now_us, SETTINGS)
    window = stage.play([]).window
    asked = {
        "answer": JobRequest("l", kind="answer", weight=Weight.LIGHT),
        "other": JobRequest("l", kind="other", weight=Weight.LIGHT),
        "attended": JobRequest("l", origin=Origin.ATTENDED),
    }
    found = {
        name: governor.admit(window, request, signals, SETTINGS, stage.clock.boot_us())[0].admitted
        for name, request in asked.items()
    }
    _same("admitted on a full screen", {"answer": True, "other": False, "attended": True}, found)


def _check(look: Callable[[Rehearsal], None]) -> Check:
    assert look.__doc__, "a check says what it looks at"
    return Check("gating." + look.__name__.replace("_", "-"), look.__doc__, look)


GATING_CHECKS: tuple[Check, ...] = tuple(
    _check(look)
    for look in (
        forced_while_active,
        forced_denied,
        idle_denied,
        stops_on_time,
        fullscreen_at_once,
        stops_stand,
        grant_used,
        exhausted,
        reserved,
        job_slots,
        concurrency,
        tokens,
        sizes,
        switch_off,
        settings_unreadable,
        before_start,
        books,
        light_and_attended,
    )
)
