"""Going back: what may be a cause, and how far back it must lead.

A back move passes no gate, but it needs a cause: an agent or the authority cites
at least one entry of this task that says what failed; a person may give words.
It goes to the earliest phase that the cited entries touch. The asker may go
earlier, never later. A failure found in IMPLEMENT or later is answered by a new
plan, so it leads to PLAN or earlier.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sterling.packs.autopilot.process.machine import PHASES, Phase, Role, place_of
from sterling.packs.autopilot.process.retries import ENVIRONMENT_CODES
from sterling.packs.autopilot.refusal import Refusal

__all__ = ["Cause", "Cited", "check_cause", "is_charged", "latest_target"]


@dataclass(frozen=True, slots=True)
class Cited:
    """A record of this task that a cause names. `phase` is the phase it was written in."""

    record: str
    kind: str
    phase: Phase | None
    is_failure: bool
    code: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a task goes back: a code, what it cites, or a person's words."""

    code: str = ""
    cites: tuple[str, ...] = ()
    words: str = ""


def latest_target(before: Phase, cited: Sequence[Cited]) -> Phase:
    """The latest phase that this cause allows. Without citations: the phase before this one."""
    allowed = PHASES[place_of(before) - 1]
    for each in cited:
        if each.is_failure and place_of(before) >= place_of(Phase.IMPLEMENT):
            touched = Phase.PLAN
        elif each.phase is not None:
            touched = each.phase
        else:
            continue
        if place_of(touched) < place_of(allowed):
            allowed = touched
    return allowed


def check_cause(
    before: Phase, to: Phase, role: Role, cause: Cause | None, cited: Sequence[Cited]
) -> Refusal | None:
    """Why this cause does not carry the move, or None."""
    words = bool(cause and cause.words.strip())
    if role is Role.PERSON and not cited and not words:
        return _refusal(
            "a cause: a cited entry, or words", "neither", "give --because WORDS or --cite RECORD"
        )
    if role is not Role.PERSON and not cited:
        found = f"{len(cause.cites)} that are not of this task" if cause and cause.cites else "none"
        return _refusal(
            "at least one cited record of this task", found, "cite the refusal or check that failed"
        )
    if role is Role.AUTHORITY and not any(each.is_failure for each in cited):
        return _refusal("a failure record as cause", "other records", "cite the refusal or check that failed")
    latest = latest_target(before, cited)
    if place_of(to) > place_of(latest):
        return _refusal(f"{latest} or earlier, which the cause touches", str(to), f"go back to {latest}")
    return None


def is_charged(role: Role, cited: Sequence[Cited]) -> bool:
    """Whether this back move counts as a retry: a failure of the work itself is cited."""
    return any(each.is_failure and each.code not in ENVIRONMENT_CODES for each in cited)


def _refusal(expected: str, found: str, satisfied_by: str) -> Refusal:
    return Refusal("transition.back-not-allowed", "A-4 cause of a back move", expected, found, satisfied_by)
