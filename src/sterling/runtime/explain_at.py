"""Why did nothing run then: the mode table over the signals that were kept at an earlier moment.

A pass keeps its signals whenever another row holds, so what it saw at any moment
is the newest entry before it. Mode and reason are the recorded ones; the rows are
worked out again with today's settings, and it is said when those have changed.
Between two passes nobody looked, and that is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.ledger import StoredEntry
from sterling.runtime.conductor import CONDUCTOR_LEASE
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import MODE_TABLE, choose_mode
from sterling.runtime.signals import Reading, Signal, Signals, State, fuse

__all__ = ["MomentRefused", "explain_at", "parse_moment", "signals_of"]

_SENTENCES = {
    "during-a-pass": "A pass was running, and this is what it saw.",
    "between-passes": "No pass was running, so nobody looked; this is what the one before saw last.",
    "before-the-first": "No pass had run in this home by then, so nothing could have run.",
}


class MomentRefused(SterlingError):
    """A text that names no moment, or one that has not come yet."""

    code = "governor.moment-refused"
    hint = "Write a moment as 2026-03-02T03:00:00+01:00: `sterling governor explain --at TIME`."
    exit = EXIT_USAGE


@dataclass(slots=True)
class _Around:
    """The entries around a moment."""

    signals: StoredEntry | None = None
    mode: StoredEntry | None = None
    closed: bool = True
    next_look: StoredEntry | None = None
    ends_later: bool = False


def parse_moment(text: str, now_us: int) -> int:
    """Microseconds of an ISO 8601 text; without an offset it is local time. Errors: MomentRefused."""
    try:
        moment = datetime.fromisoformat(text)
        at_us = round(moment.astimezone(UTC).timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError) as problem:
        raise MomentRefused(f"expected a moment in ISO 8601, found {text[:100]!r}") from problem
    if not 0 <= at_us <= now_us:
        raise MomentRefused(f"expected a moment in the past, found {text[:100]!r}")
    return at_us


def explain_at(home: Home, at_us: int, settings: GovernorSettings) -> dict[str, Any]:
    """The `governor.explain-at` document. Cost: reads the entries of passes once, in order."""
    seen = _around(home, at_us)
    if seen.signals is None:
        when, signals = "before-the-first", None
    else:
        runs_now = seen.next_look is None and any(row.name == CONDUCTOR_LEASE for row in home.leases.held())
        is_open = not seen.closed and (seen.ends_later or runs_now)
        when = "during-a-pass" if is_open else "between-passes"
        signals = signals_of(_fields(seen.signals), settings)
    mode = {} if seen.mode is None else _fields(seen.mode)
    looked_us = None if seen.signals is None else seen.signals.at_us
    return {
        "at_us": at_us,
        "home": str(home.path),
        "when": when,
        "sentence": _SENTENCES[when],
        "looked_us": looked_us,
        "mode": mode.get("to", ""),
        "reason": mode.get("reason", ""),
        "row": mode.get("row", 0),
        "mode_table_version": mode.get("mode_table_version", ""),
        "settings_changed": looked_us is not None and _changed_since(home, looked_us),
        "rows": [] if signals is None else _rows(signals, settings),
        "signals": [] if signals is None else _readings(signals),
        "next_pass_us": None if seen.next_look is None else seen.next_look.at_us,
    }


def signals_of(document: Mapping[str, Any], settings: GovernorSettings) -> Signals:
    """The signals that a `runtime.signals` document keeps."""
    at_us, states, sources = document["at_us"], document.get("states", {}), document.get("sources", {})
    readings = []
    for signal in Signal:
        value, source = document.get(str(signal)), sources.get(str(signal), "none")
        if value is not None:
            readings.append(Reading(signal, value, source, at_us))
        elif str(signal) in states:
            readings.append(Reading(signal, None, source, at_us, State(states[str(signal)])))
    return fuse(readings, at_us, settings, query_intent=bool(document.get("query_intent", False)))


def _around(home: Home, at_us: int) -> _Around:
    """A pass begins with a mode that comes from none, and ends with its `runtime.pass`."""
    found = _Around()
    entries = [
        entry
        for kind in ("runtime.signals", "runtime.mode", "runtime.pass")
        for entry in home.ledger.read(kind=kind)
    ]
    for entry in sorted(entries, key=lambda one: one.index):
        begins = entry.kind == "runtime.mode" and _fields(entry)["from"] == ""
        if entry.at_us > at_us:
            if entry.kind == "runtime.pass" and found.next_look is None:
                found.ends_later = True
            if begins:
                found.next_look = entry
                break
            continue
        if entry.kind == "runtime.signals":
            found.signals = entry
        elif entry.kind == "runtime.mode":
            found.mode = entry
        found.closed = entry.kind == "runtime.pass"
    return found


def _fields(entry: StoredEntry) -> dict[str, Any]:
    assert isinstance(entry.payload, dict), "entries of the runtime are documents"
    return entry.payload


def _changed_since(home: Home, looked_us: int) -> bool:
    return any(entry.at_us > looked_us for entry in home.ledger.read(kind="config.changed"))


def _rows(signals: Signals, settings: GovernorSettings) -> list[dict[str, Any]]:
    verdict = choose_mode(signals, settings)
    return [
        {
            "row": row.number,
            "condition": row.condition,
            "holds": row.holds(signals, settings),
            "matched": row.number == verdict.row,
            "mode": str(row.mode),
            "reason": str(row.reason),
        }
        for row in MODE_TABLE
    ]


def _readings(signals: Signals) -> list[dict[str, Any]]:
    return [
        {
            "signal": str(reading.signal),
            "value": reading.value if reading.state is State.FRESH else None,
            "source": reading.source,
            "state": str(reading.state),
        }
        for reading in signals.readings
    ]
