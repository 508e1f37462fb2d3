"""The state of an answer: what each one may claim, decided from claims, gaps and checks.

| state | exists only if |
| --- | --- |
| answered | a claim; all claims cited and agreed; no gap could change it |
| partial | a claim, but one is single or was dropped, or a gap could add to it |
| no_evidence | everything in the window was captured, read and indexed, and nothing supports an answer |
| indeterminate | something was not looked at, not understood, or read in two ways |
| refused | the question cannot be one about the record |

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sterling.packs.recall.coverage import Gap
from sterling.packs.recall.reasons import REASONS, Reason

__all__ = ["MOVED_BY_GAPS", "Verdict", "decide"]

_AGREED = "Two readings of the cited pixels agree."
MOVED_BY_GAPS = frozenset({"count", "first_seen", "last_seen", "list", "when"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, why it is not better, and a sentence for a person."""

    state: str
    reason: Reason | None
    sentence: str


def decide(operator: str, verdicts: Sequence[str], dropped: int, gaps: Sequence[Gap]) -> Verdict:
    """The state of an answer whose claims have these check verdicts."""
    if verdicts:
        return _of_claims(operator, verdicts, dropped, gaps)
    if dropped:
        return Verdict(
            "indeterminate",
            Reason.READINGS_DISAGREE,
            "Two readings of the cited pixels differ; both are shown.",
        )
    if gaps:
        first = gaps[0]
        return Verdict("indeterminate", first.reason, f"{first.sentence} Next: `{first.command}`.")
    return Verdict("no_evidence", Reason.BELOW_THRESHOLD, REASONS[Reason.BELOW_THRESHOLD].sentence)


def _of_claims(operator: str, verdicts: Sequence[str], dropped: int, gaps: Sequence[Gap]) -> Verdict:
    assert "disagreed" not in verdicts, "a claim whose readings differ is dropped, not claimed"
    if "single" in verdicts:
        return Verdict("partial", Reason.CHECK_PENDING, REASONS[Reason.CHECK_PENDING].sentence)
    if dropped:
        return Verdict(
            "partial",
            Reason.READINGS_DISAGREE,
            "A better supported claim was dropped: its two readings differ.",
        )
    if gaps and operator in MOVED_BY_GAPS:
        return Verdict("partial", gaps[0].reason, f"There may be more: {gaps[0].sentence}")
    return Verdict("answered", None, _AGREED)
