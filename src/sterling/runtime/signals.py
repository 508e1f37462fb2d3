"""Signals: timed readings of the machine and its person, and how several become one.

A reading knows its source, its time and its state. `fuse` takes every reading
that the sources gave and decides one value per signal by `FUSION`. What is not
fresh is never guessed in favour of work: a missing, stale or unreadable signal
counts as the value of the table's last column, so it can only keep heavy work
off. The one exception is power, because a desktop has no battery to read.

Nothing here reads a clock or a file: sources and the clock are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.reasons import Reason

__all__ = [
    "FUSION",
    "HOST_STALE_US",
    "SCORE_ACTIVE_BP",
    "FusionRow",
    "Reading",
    "Signal",
    "Signals",
    "Source",
    "State",
    "SteadyClock",
    "freshen",
    "fuse",
    "missing",
    "sample",
    "signals_document",
]

HOST_STALE_US = 1_000_000
SCORE_ACTIVE_BP = 5_000
_FULL_BP = 10_000

Value = int | bool | str | None


class Signal(StrEnum):
    """What is read. `active` and `activity_score_bp` also come from the activity file."""

    IDLE_MS = "idle_ms"
    ACTIVE = "active"
    ACTIVITY_SCORE_BP = "activity_score_bp"
    FULLSCREEN = "fullscreen"
    CPU_OTHER_BP = "cpu_other_bp"
    RAM_USED_BP = "ram_used_bp"
    STALL_BP = "stall_bp"
    GPU_BUSY_BP = "gpu_busy_bp"
    POWER = "power"
    CHARGE_BP = "charge_bp"


class State(StrEnum):
    """How far a reading can be believed."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one signal from one source at one time of the steady clock.

    `code` says why a reading is not fresh, where the source knows.
    """

    signal: Signal
    value: Value
    source: str
    read_us: int
    state: State = State.FRESH
    code: str = ""


@dataclass(frozen=True, slots=True)
class FusionRow:
    """How readings of one signal become one: the words of the documentation, under test."""

    signal: Signal
    rule: str
    not_fresh: str


FUSION: tuple[FusionRow, ...] = (
    FusionRow(Signal.IDLE_MS, "least idle wins", "0, and active"),
    FusionRow(Signal.ACTIVE, "any says yes", "yes"),
    FusionRow(Signal.FULLSCREEN, "any fresh yes", "no, but active is yes"),
    FusionRow(Signal.CPU_OTHER_BP, "greatest wins", "treated as at the limit"),
    FusionRow(Signal.RAM_USED_BP, "greatest wins", "treated as at the limit"),
    FusionRow(Signal.STALL_BP, "greatest wins", "not used"),
    FusionRow(Signal.GPU_BUSY_BP, "greatest wins", "GPU jobs not admitted"),
    FusionRow(Signal.POWER, "battery wins", "mains"),
    FusionRow(Signal.CHARGE_BP, "least charge wins", "an unreadable battery counts as low"),
)

_HOST = frozenset({Signal.CPU_OTHER_BP, Signal.RAM_USED_BP, Signal.STALL_BP, Signal.GPU_BUSY_BP})


@dataclass(frozen=True, slots=True)
class Signals:
    """What the deciders are told: one decided value per signal, already failed closed.

    `readings` holds one reading per signal in the order of `FUSION`: the one that
    decided, with its source and state, for people to look at.
    """

    at_us: int
    idle_ms: int
    active: bool
    fullscreen: bool
    cpu_other_bp: int
    ram_used_bp: int
    stall_bp: int | None
    gpu_busy_bp: int | None
    on_battery: bool
    charge_bp: int
    query_intent: bool = False
    readings: tuple[Reading, ...] = ()

    def reading(self, signal: Signal) -> Reading | None:
        """The reading that decided this signal, if `fuse` made these signals."""
        for reading in self.readings:
            if reading.signal is signal:
                return reading
        return None

    def doubts(self, *signals: Signal) -> tuple[Reason, ...]:
        """Why these signals are not known, as reasons; empty when all are fresh."""
        found: list[Reason] = []
        for reading in self.readings:
            if reading.signal in signals and reading.state is not State.FRESH:
                reason = _doubt(reading)
                if reason not in found:
                    found.append(reason)
        return tuple(found)


class SteadyClock(Protocol):
    """The part of a clock that readings need."""

    def boot_us(self) -> int: ...

    def wall_us(self) -> int: ...


class Source(Protocol):
    """One place that readings come from. It answers with states and never raises for the world."""

    def read(self, clock: SteadyClock) -> Sequence[Reading]: ...


def sample(
    sources: Iterable[Source],
    clock: SteadyClock,
    settings: GovernorSettings | None = None,
    *,
    query_intent: bool = False,
) -> Signals:
    """Ask every source once and fuse what they say."""
    readings = [reading for source in sources for reading in source.read(clock)]
    return fuse(readings, clock.boot_us(), settings or GovernorSettings(), query_intent=query_intent)


def missing(signal: Signal, source: str, now_us: int, code: str = Reason.SIGNAL_MISSING) -> Reading:
    """A reading that says this source has nothing for this signal."""
    return Reading(signal, None, source, now_us, State.MISSING, code)


def freshen(reading: Reading, now_us: int, settings: GovernorSettings) -> Reading:
    """The reading as it stands now: stale when too old, or when it claims to come from later.

    Host readings (processors, memory, stalls, graphics) age in one second, all
    others in `stale_ms`.
    """
    if reading.state is not State.FRESH:
        return reading
    limit_us = HOST_STALE_US if reading.signal in _HOST else settings.stale_ms * 1000
    if 0 <= now_us - reading.read_us <= limit_us:
        return reading
    return replace(reading, state=State.STALE, code=Reason.SIGNAL_STALE)


def fuse(
    readings: Iterable[Reading],
    now_us: int,
    settings: GovernorSettings,
    *,
    query_intent: bool = False,
) -> Signals:
    """One value per signal from all readings, by `FUSION`."""
    groups: dict[Signal, list[Reading]] = {}
    for reading in readings:
        groups.setdefault(reading.signal, []).append(freshen(reading, now_us, settings))

    idle = _least(groups, Signal.IDLE_MS, now_us, otherwise=0)
    screen = _fullscreen(groups, now_us)
    active = _active(groups, idle, screen, now_us, settings)
    cpu = _greatest(groups, Signal.CPU_OTHER_BP, now_us, otherwise=_FULL_BP)
    ram = _greatest(groups, Signal.RAM_USED_BP, now_us, otherwise=_FULL_BP)
    stall = _greatest(groups, Signal.STALL_BP, now_us, otherwise=None)
    gpu = _greatest(groups, Signal.GPU_BUSY_BP, now_us, otherwise=None)
    power, charge = _power(groups, now_us)
    return Signals(
        at_us=now_us,
        idle_ms=_number(idle),
        active=bool(active.value),
        fullscreen=bool(screen.value),
        cpu_other_bp=_number(cpu),
        ram_used_bp=_number(ram),
        stall_bp=None if stall.value is None else _number(stall),
        gpu_busy_bp=None if gpu.value is None else _number(gpu),
        on_battery=power.value == "battery",
        charge_bp=_number(charge),
        query_intent=query_intent,
        readings=(idle, active, screen, cpu, ram, stall, gpu, power, charge),
    )


def signals_document(signals: Signals) -> dict[str, Any]:
    """The `runtime.signals` document; a simulation reads the same shape back.

    A signal that is not fresh is null, and `states` says in which way.
    """
    document: dict[str, Any] = {"at_us": signals.at_us, "query_intent": signals.query_intent}
    states: dict[str, str] = {}
    origins: dict[str, str] = {}
    for reading in signals.readings:
        fresh = reading.state is State.FRESH
        document[str(reading.signal)] = reading.value if fresh else None
        origins[str(reading.signal)] = reading.source
        if not fresh:
            states[str(reading.signal)] = str(reading.state)
    return document | {"sources": origins, "states": states}


def _doubt(reading: Reading) -> Reason:
    if reading.state is State.STALE:
        return Reason.SIGNAL_STALE
    if reading.state is State.MISSING:
        if reading.code == Reason.SIGNAL_NO_FULLSCREEN_SOURCE:
            return Reason.SIGNAL_NO_FULLSCREEN_SOURCE
        return Reason.SIGNAL_MISSING
    if reading.code.startswith("activity."):
        return Reason.SIGNAL_FILE_UNREADABLE
    return Reason.SIGNAL_UNREADABLE


def _number(reading: Reading) -> int:
    assert isinstance(reading.value, int), f"{reading.signal} decided as {reading.value!r}"
    return int(reading.value)


_Groups = Mapping[Signal, Sequence[Reading]]


def _fresh(groups: _Groups, signal: Signal) -> list[Reading]:
    return [reading for reading in groups.get(signal, ()) if reading.state is State.FRESH]


def _nothing_fresh(groups: _Groups, signal: Signal, now_us: int, value: Value) -> Reading:
    """The fail-closed value, carrying the state nearest to being readable."""
    for state in (State.UNREADABLE, State.STALE, State.MISSING):
        for reading in groups.get(signal, ()):
            if reading.state is state:
                return replace(reading, value=value)
    return replace(missing(signal, "none", now_us), value=value)


def _least(groups: _Groups, signal: Signal, now_us: int, *, otherwise: Value) -> Reading:
    fresh = _fresh(groups, signal)
    if not fresh:
        return _nothing_fresh(groups, signal, now_us, otherwise)
    return min(fresh, key=_number)


def _greatest(groups: _Groups, signal: Signal, now_us: int, *, otherwise: Value) -> Reading:
    fresh = _fresh(groups, signal)
    if not fresh:
        return _nothing_fresh(groups, signal, now_us, otherwise)
    return max(fresh, key=_number)


def _fullscreen(groups: _Groups, now_us: int) -> Reading:
    fresh = _fresh(groups, Signal.FULLSCREEN)
    if not fresh:
        return _nothing_fresh(groups, Signal.FULLSCREEN, now_us, False)
    return next((reading for reading in fresh if reading.value is True), fresh[0])


def _active(
    groups: _Groups, idle: Reading, screen: Reading, now_us: int, settings: GovernorSettings
) -> Reading:
    """Yes when any source says so, when one cannot be read, or when idle or full-screen is not known."""
    for doubtful in (idle, screen):
        if doubtful.state is not State.FRESH:
            return replace(doubtful, signal=Signal.ACTIVE, value=True)
    for reading in groups.get(Signal.ACTIVE, ()):
        if reading.state is State.UNREADABLE:
            return replace(reading, value=True)
    for reading in _fresh(groups, Signal.ACTIVE):
        if reading.value is True:
            return reading
    for reading in _fresh(groups, Signal.ACTIVITY_SCORE_BP):
        if _number(reading) >= SCORE_ACTIVE_BP:
            return replace(reading, signal=Signal.ACTIVE, value=True)
    return replace(idle, signal=Signal.ACTIVE, value=_number(idle) < settings.active_ms)


def _power(groups: _Groups, now_us: int) -> tuple[Reading, Reading]:
    """Battery if any source says so; its charge is 0, hence low, where that source cannot tell it."""
    broken = [reading for reading in groups.get(Signal.POWER, ()) if reading.state is State.UNREADABLE]
    fresh = _fresh(groups, Signal.POWER)
    batteries = [reading for reading in fresh if reading.value == "battery"]
    if broken:
        return replace(broken[0], value="battery"), replace(broken[0], signal=Signal.CHARGE_BP, value=0)
    if not batteries:
        power = fresh[0] if fresh else _nothing_fresh(groups, Signal.POWER, now_us, "mains")
        return power, _least(groups, Signal.CHARGE_BP, now_us, otherwise=_FULL_BP)
    charges = {reading.source: reading for reading in _fresh(groups, Signal.CHARGE_BP)}
    known = [
        charges.get(battery.source)
        or Reading(Signal.CHARGE_BP, 0, battery.source, now_us, State.UNREADABLE, Reason.SIGNAL_UNREADABLE)
        for battery in batteries
    ]
    return batteries[0], min(known, key=_number)
