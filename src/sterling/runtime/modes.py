"""The mode table: what kind of work the machine may do now, and why.

Ten rows in order, the first that holds decides. The table is data; the same
table stands in `docs/reference/modes.md`, and a test compares the two. There is
no override for tests or fixtures: a test feeds signals.

Signals are already failed closed (`signals.fuse`), so a row needs no case of its
own for a missing reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.reasons import Reason
from sterling.runtime.signals import Signal, Signals

__all__ = [
    "MODE_TABLE",
    "MODE_TABLE_VERSION",
    "Mode",
    "ModeRow",
    "ModeVerdict",
    "choose_mode",
    "mode_document",
    "mode_table_version",
    "rows_that_hold",
]

MODE_TABLE_VERSION = "1"


class Mode(StrEnum):
    """What the machine may do now."""

    ACTIVE = "ACTIVE_CAPTURE_ONLY"
    IDLE = "IDLE_DRAIN"
    QUERY = "USER_QUERY"


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One row: its number, its condition in words and as a function, and what follows from it.

    `reads` names the signals that the condition looks at, for people to see.
    """

    number: int
    condition: str
    holds: Callable[[Signals, GovernorSettings], bool]
    mode: Mode
    reason: Reason
    reads: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class ModeVerdict:
    """The mode, the row that gave it, and which doubts about signals led there."""

    mode: Mode
    reason: Reason
    row: int
    because: tuple[Reason, ...] = ()

    @property
    def is_heavy(self) -> bool:
        """Whether heavy work may run in this mode."""
        return self.mode is not Mode.ACTIVE


def _at_limit(value_bp: int, limit_bp: int) -> bool:
    return limit_bp > 0 and value_bp >= limit_bp


MODE_TABLE: tuple[ModeRow, ...] = (
    ModeRow(
        1,
        "full-screen",
        lambda signals, settings: signals.fullscreen,
        Mode.ACTIVE,
        Reason.MODE_FULLSCREEN,
        (Signal.FULLSCREEN,),
    ),
    ModeRow(
        2,
        "cpu_limit_bp > 0, and cpu_other_bp >= cpu_limit_bp or not fresh",
        lambda signals, settings: _at_limit(signals.cpu_other_bp, settings.cpu_limit_bp),
        Mode.ACTIVE,
        Reason.MODE_CPU_PRESSURE,
        (Signal.CPU_OTHER_BP,),
    ),
    ModeRow(
        3,
        "ram_limit_bp > 0, and ram_used_bp >= ram_limit_bp or not fresh",
        lambda signals, settings: _at_limit(signals.ram_used_bp, settings.ram_limit_bp),
        Mode.ACTIVE,
        Reason.MODE_RAM_PRESSURE,
        (Signal.RAM_USED_BP,),
    ),
    ModeRow(
        4,
        "on battery and charge_bp < charge_min_bp",
        lambda signals, settings: signals.on_battery and signals.charge_bp < settings.charge_min_bp,
        Mode.ACTIVE,
        Reason.MODE_POWER_LOW,
        (Signal.POWER, Signal.CHARGE_BP),
    ),
    ModeRow(
        5,
        "query intent and user_query_heavy",
        lambda signals, settings: signals.query_intent and settings.user_query_heavy,
        Mode.QUERY,
        Reason.MODE_QUERY_INTENT,
    ),
    ModeRow(
        6,
        "active and suspend_workers and not heavy_while_active",
        lambda signals, settings: (
            signals.active and settings.suspend_workers and not settings.heavy_while_active
        ),
        Mode.ACTIVE,
        Reason.MODE_USER_ACTIVE,
        (Signal.ACTIVE,),
    ),
    ModeRow(
        7,
        "on battery and not heavy_on_battery",
        lambda signals, settings: signals.on_battery and not settings.heavy_on_battery,
        Mode.ACTIVE,
        Reason.MODE_ON_BATTERY,
        (Signal.POWER,),
    ),
    ModeRow(
        8,
        "idle_ms >= idle_ms_min",
        lambda signals, settings: signals.idle_ms >= settings.idle_ms_min,
        Mode.IDLE,
        Reason.MODE_IDLE_WINDOW,
        (Signal.IDLE_MS,),
    ),
    ModeRow(
        9,
        "active and not suspend_workers and heavy_while_active",
        lambda signals, settings: (
            signals.active and not settings.suspend_workers and settings.heavy_while_active
        ),
        Mode.IDLE,
        Reason.MODE_ACTIVE_ALLOWED,
        (Signal.ACTIVE,),
    ),
    ModeRow(
        10,
        "otherwise",
        lambda signals, settings: True,
        Mode.ACTIVE,
        Reason.MODE_IDLE_THRESHOLD,
        (Signal.IDLE_MS,),
    ),
)


def mode_table_version() -> str:
    """The version written into every mode change; it grows with each change of the table."""
    return MODE_TABLE_VERSION


def choose_mode(
    signals: Signals, settings: GovernorSettings, table: Sequence[ModeRow] = MODE_TABLE
) -> ModeVerdict:
    """The first row that holds. Doubts are named only where they decided, never for a heavy mode."""
    for row in table:
        if row.holds(signals, settings):
            because = () if row.mode is not Mode.ACTIVE else signals.doubts(*row.reads)
            return ModeVerdict(row.mode, row.reason, row.number, because)
    raise AssertionError("the mode table has no last row that always holds")


def rows_that_hold(
    signals: Signals, settings: GovernorSettings, table: Sequence[ModeRow] = MODE_TABLE
) -> tuple[int, ...]:
    """The numbers of all rows that hold, the deciding one first."""
    return tuple(row.number for row in table if row.holds(signals, settings))


def mode_document(
    before: Mode | None, verdict: ModeVerdict, *, at_us: int, signals: str = ""
) -> dict[str, Any]:
    """The `runtime.mode` document: from, to, reason, row, table version, hash of the signals."""
    return {
        "at_us": at_us,
        "from": "" if before is None else str(before),
        "to": str(verdict.mode),
        "reason": str(verdict.reason),
        "row": verdict.row,
        "because": [str(reason) for reason in verdict.because],
        "mode_table_version": MODE_TABLE_VERSION,
        "signals": signals,
    }
