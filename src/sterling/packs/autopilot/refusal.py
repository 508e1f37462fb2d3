"""A refusal: one reason why a move may not happen, and what would satisfy it.

Pure data. Every refusal names the rule that gave it, what it expected and what
it found, so that an agent can mend exactly that and ask again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.packs.autopilot.codes import SEVERITIES, is_known, severity_of

__all__ = ["Refusal", "worst"]

_TEXT_MAX = 600


@dataclass(frozen=True, slots=True)
class Refusal:
    """One blocking reason. `cannot_judge` marks what is missing rather than wrong (exit 4)."""

    code: str
    rule: str
    expected: str
    found: str
    satisfied_by: str
    where: str = ""
    cannot_judge: bool = False

    def __post_init__(self) -> None:
        assert is_known(self.code), f"{self.code!r} is not in the table of codes"

    @property
    def severity(self) -> str:
        return severity_of(self.code)

    def as_json(self) -> dict[str, Json]:
        return {
            "code": self.code,
            "severity": self.severity,
            "rule": self.rule,
            "where": self.where[:_TEXT_MAX],
            "expected": self.expected[:_TEXT_MAX],
            "found": self.found[:_TEXT_MAX],
            "satisfied_by": self.satisfied_by[:_TEXT_MAX],
            "cannot_judge": self.cannot_judge,
        }


def worst(refusals: Iterable[Refusal]) -> Refusal | None:
    """The refusal that names the decision: the most severe, and among those the first."""
    return min(refusals, key=lambda each: SEVERITIES.index(each.severity), default=None)
