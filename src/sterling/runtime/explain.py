"""May heavy work run now, and why: every row of the mode table with what it looks at.

`observe` really asks the sources of this machine, for as long as they need to be
believed. `explain` puts the verdict beside its readings. Neither changes
anything that is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sterling.runtime import budgets
from sterling.runtime.budgets import Window
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import MODE_TABLE, MODE_TABLE_VERSION, choose_mode
from sterling.runtime.reasons import Reason, hint_of, sentence_of
from sterling.runtime.signals import Reading, Signal, Signals, Source, State, SteadyClock, freshen, fuse

__all__ = ["Observation", "explain", "observe"]

_LOOK_US = 250_000
_LOOKS_LEAST_US = 1_000_000  # Processor use needs a second.
_WAITS_FOR = frozenset({"activity.first-sight"})  # An activity file has to change once.


@dataclass(frozen=True, slots=True)
class Observation:
    """Every reading that the sources gave last, and what fusion made of them."""

    readings: tuple[Reading, ...]
    signals: Signals


def observe(
    sources: Sequence[Source],
    clock: SteadyClock,
    settings: GovernorSettings,
    pause: Callable[[float], None],
) -> Observation:
    """Look every 250 ms for a second; longer, up to `stale_ms`, while an activity file is seen first."""
    start_us = clock.boot_us()
    while True:
        readings = tuple(reading for source in sources for reading in source.read(clock))
        gone_us = clock.boot_us() - start_us
        waits = any(reading.code in _WAITS_FOR for reading in readings)
        if gone_us >= (settings.stale_ms * 1000 if waits else _LOOKS_LEAST_US):
            return Observation(readings, fuse(readings, clock.boot_us(), settings))
        pause(_LOOK_US / 1_000_000)


def explain(
    observation: Observation, settings: GovernorSettings, window: Window, *, home: str = ""
) -> dict[str, Any]:
    """The `governor.explain` document."""
    signals = observation.signals
    verdict = choose_mode(signals, settings)
    return {
        "mode": str(verdict.mode),
        "heavy": verdict.is_heavy and settings.readable,
        "reason": str(verdict.reason),
        "sentence": sentence_of(verdict.reason),
        "hint": hint_of(verdict.because[0] if verdict.because else verdict.reason),
        "row": verdict.row,
        "because": [{"reason": str(reason), "sentence": sentence_of(reason)} for reason in verdict.because],
        "mode_table_version": MODE_TABLE_VERSION,
        "rows": [
            {
                "row": row.number,
                "condition": row.condition,
                "holds": row.holds(signals, settings),
                "matched": row.number == verdict.row,
                "mode": str(row.mode),
                "reason": str(row.reason),
                "readings": _of(signals, row.reads),
            }
            for row in MODE_TABLE
        ],
        "signals": [_row(reading, signals.at_us) for reading in signals.readings],
        "sources": [
            _row(freshen(reading, signals.at_us, settings), signals.at_us) for reading in observation.readings
        ],
        "settings": asdict(settings),
        "home": home,
        "window": _window(window, settings),
    }


def _of(signals: Signals, names: Sequence[Signal]) -> list[dict[str, Any]]:
    return [_row(reading, signals.at_us) for reading in signals.readings if reading.signal in names]


def _row(reading: Reading, now_us: int) -> dict[str, Any]:
    code = "" if reading.state is State.FRESH else reading.code or str(Reason.SIGNAL_MISSING)
    return {
        "signal": str(reading.signal),
        "value": reading.value,
        "source": reading.source,
        "state": str(reading.state),
        "age_ms": max(0, now_us - reading.read_us) // 1000,
        "code": code,
    }


def _window(window: Window, settings: GovernorSettings) -> dict[str, Any]:
    document = budgets.window_document(window, budgets.limits_of(settings))
    del document["position"]
    return document | {"leases": [lease.id for lease in window.leases]}
