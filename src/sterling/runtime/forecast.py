"""When waiting work will be done: what waits, how long such work took, how often the machine was idle.

All three come from the ledger and the sources. Idle time is the share of the time
in which passes really looked; hours without a look count as neither. With too
little seen there is no forecast, only the reason why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from sterling.runtime import budgets
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import Mode

__all__ = ["Forecast", "Waiting", "forecast", "idle_share", "learned_ms"]

GAP_US = 60_000_000  # A longer time between two looks was not seen by anybody.
SEEN_LEAST_US = 3_600_000_000
WARN_BP = 8_000
_FULL_BP = 10_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs of one kind that wait, and what their source thinks they need together."""

    kind: str
    count: int
    estimate_ms: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """`state` is ok, warn (over 80 % of the horizon), late (over it) or na, with a sentence."""

    state: str
    because: str
    pending: int
    work_ms: int
    seen_us: int
    idle_bp: int
    day_ms: int
    needed_hours: int | None
    horizon_days: int
    kinds: tuple[Mapping[str, Any], ...]


def forecast(
    waiting: Sequence[Waiting],
    learned: Mapping[str, tuple[int, int]],
    seen: tuple[int, int],
    settings: GovernorSettings,
    horizon_days: int,
) -> Forecast:
    """Hours until what waits is done, against the horizon.

    `learned` is (jobs, median milliseconds) by kind, `seen` is (microseconds looked, share idle).
    """
    seen_us, idle_bp = seen
    limits = budgets.limits_of(settings)
    kinds, work_ms = [], 0
    for one in waiting:
        jobs, each_ms = learned.get(one.kind, (0, 0))
        needs_ms = one.count * each_ms if jobs else one.estimate_ms
        work_ms += needs_ms
        kinds.append({"kind": one.kind, "pending": one.count, "learned_from": jobs, "work_ms": needs_ms})
    share_us = limits.budget_us - limits.floor_us
    day_ms = _DAY_MS * idle_bp // _FULL_BP * share_us // limits.window_us
    pending = sum(one.count for one in waiting)
    unknown = [row["kind"] for row in kinds if row["pending"] and not row["work_ms"]]
    needed = None
    if not pending:
        state, because, needed = "ok", "Nothing waits.", 0
    elif unknown:
        state, because = "na", f"No job of {unknown[0]} has completed yet, and none has an estimate."
    elif seen_us < SEEN_LEAST_US:
        state = "na"
        because = f"Passes have looked for {seen_us // 60_000_000} minutes in all; an hour is the least."
    elif not day_ms:
        state, because = (
            "late",
            "The machine was never idle while passes looked, so nothing will run by itself.",
        )
    else:
        needed = -(-work_ms * 24 // day_ms)
        state, because = _against(needed, horizon_days)
    return Forecast(
        state, because, pending, work_ms, seen_us, idle_bp, day_ms, needed, horizon_days, tuple(kinds)
    )


def idle_share(looks: Iterable[tuple[int, str, bool]]) -> tuple[int, int]:
    """Time looked and the idle share of it, from looks in order: wall time, mode, whether a pass begins.

    An empty mode ends a pass.
    """
    seen_us = idle_us = 0
    before: tuple[int, str] | None = None
    mode = ""
    for at_us, name, begins in looks:
        if before is not None and at_us >= before[0]:
            gone_us = at_us - before[0]
            # Inside a pass every change is kept, so silence there is time that was looked at.
            if (before[1] and not begins) or gone_us <= GAP_US:
                seen_us += gone_us
                idle_us += gone_us if mode == Mode.IDLE else 0
        before, mode = (at_us, name), name or mode
    return seen_us, idle_us * _FULL_BP // seen_us if seen_us else 0


def learned_ms(dispatches: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Jobs completed and their median time, by kind."""
    counts: Counter[str] = Counter()
    times: dict[str, list[int]] = {}
    for one in dispatches:
        if one["end"] == "completed":
            counts[one["kind"]] += 1
            times.setdefault(one["kind"], []).append(max(1, one["charged_ms"]))
    return {kind: (counts[kind], median_low(values)) for kind, values in sorted(times.items())}


def _against(needed_hours: int, horizon_days: int) -> tuple[str, str]:
    words = f"About {needed_hours} hours until all of it is done, of {horizon_days * 24} allowed."
    if needed_hours > horizon_days * 24:
        return "late", words
    return ("warn" if needed_hours * _FULL_BP > horizon_days * 24 * WARN_BP else "ok"), words
