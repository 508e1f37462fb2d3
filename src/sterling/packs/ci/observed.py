"""What of ci's records is counted, and what is shown as spans."""

from __future__ import annotations

from sterling.kernel.counters import CounterRule
from sterling.kernel.telemetry import SpanRule

__all__ = ["CI_COUNTERS", "CI_SPANS"]

CI_COUNTERS = (
    CounterRule(
        "verdicts_given", "Decisions of ci, by verdict.", "record.put", "ci.decision", labels=("verdict",)
    ),
)

CI_SPANS = (
    SpanRule(
        "sterling.gate",
        "A gate of a decision; its outcome and its code.",
        "record.put",
        "ci.decision",
        attributes=("gate", "outcome", "code", "closes"),
        each="gates",
        failed=lambda gate: str(gate["code"]) if gate["outcome"] == "failed" else "",
    ),
)
