"""Coverage: what of a time window was looked at, stored whole and read, and what was not.

Files that somebody else made vouch for the moments they show and for nothing
between them; a window without any look is a gap.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.packs.recall.reasons import REASONS, Reason
from sterling.packs.recall.time.window import Window

__all__ = ["Coverage", "Gap", "coverage_of", "gaps_of", "window_clause"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Counts over a window: looks, those without a picture, distinct frames, whole ones, read ones."""

    ticks: int
    failed: int
    frames: int
    complete: int
    read: int
    from_us: int | None
    to_us: int | None

    @property
    def unread(self) -> int:
        return self.frames - self.read

    def as_json(self) -> dict[str, Json]:
        names = ("ticks", "failed", "frames", "complete", "read", "unread", "from_us", "to_us")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not looked at, and the command that closes it."""

    reason: Reason
    sentence: str
    count: int
    from_us: int | None = None
    to_us: int | None = None

    @property
    def command(self) -> str:
        return REASONS[self.reason].next

    def as_json(self) -> dict[str, Json]:
        return {
            "code": str(self.reason),
            "sentence": self.sentence,
            "count": self.count,
            "from_us": self.from_us,
            "to_us": self.to_us,
            "command": self.command,
        }


def window_clause(windows: Sequence[Window], column: str = "at_us") -> tuple[str, list[int]]:
    """An SQL condition that holds inside any of the windows, and its values; no window holds always."""
    if not windows:
        return "1", []
    parts: list[str] = []
    values: list[int] = []
    for window in windows:
        bounds = []
        if window.from_us is not None:
            bounds.append(f"{column} >= ?")
            values.append(window.from_us)
        if window.to_us is not None:
            bounds.append(f"{column} < ?")
            values.append(window.to_us)
        parts.append("(" + (" AND ".join(bounds) or "1") + ")")
    return "(" + " OR ".join(parts) + ")", values


def coverage_of(connection: sqlite3.Connection, windows: Sequence[Window]) -> Coverage:
    """Count what the index knows about these windows."""
    where, values = window_clause(windows)
    ticks, failed, first, last = connection.execute(
        f"""SELECT count(*), coalesce(sum(outcome = 'failed'), 0), min(at_us), max(at_us)
            FROM ticks WHERE {where}""",
        values,
    ).fetchone()
    frames, complete, read = connection.execute(
        f"""WITH shown AS (SELECT DISTINCT frame FROM ticks WHERE frame <> '' AND {where})
            SELECT count(*),
                   coalesce(sum(frame IN (SELECT frame FROM stage1 WHERE state = 'complete')), 0),
                   coalesce(sum(frame IN (SELECT frame FROM documents)), 0)
            FROM shown""",
        values,
    ).fetchone()
    return Coverage(ticks, failed, frames, complete, read, first, last)


def gaps_of(connection: sqlite3.Connection, windows: Sequence[Window], coverage: Coverage) -> list[Gap]:
    """What was not looked at in these windows."""
    where, values = window_clause(windows)
    if coverage.ticks == 0:
        bounds = windows[0] if windows else Window(None, None)
        sentence = "Nothing was captured in this time." if windows else "Nothing was captured yet."
        return [Gap(Reason.COVERAGE_GAP, sentence, 0, bounds.from_us, bounds.to_us)]
    gaps: list[Gap] = []
    for reason, condition, sentence in (
        (
            Reason.READING_MISSING,
            """frame <> '' AND frame NOT IN (SELECT frame FROM documents)
               AND frame IN (SELECT frame FROM stage1 WHERE state = 'complete')""",
            "frames have not been read yet.",
        ),
        (
            Reason.STAGE1_INCOMPLETE,
            """frame <> '' AND frame NOT IN (SELECT frame FROM documents)
               AND frame NOT IN (SELECT frame FROM stage1 WHERE state = 'complete')""",
            "frames are not whole, so they cannot be read.",
        ),
        (Reason.IMAGE_UNREADABLE, "outcome = 'failed'", "looks gave no picture."),
    ):
        distinct = "*" if reason is Reason.IMAGE_UNREADABLE else "DISTINCT frame"
        count, first, last = connection.execute(
            f"SELECT count({distinct}), min(at_us), max(at_us) FROM ticks WHERE {condition} AND {where}",
            values,
        ).fetchone()
        if count:
            gaps.append(Gap(reason, f"{count} {sentence}", count, first, last))
    return gaps
