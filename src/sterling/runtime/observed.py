"""What of the runtime's entries is counted, and what is shown as spans."""

from __future__ import annotations

from sterling.kernel.counters import CounterRule
from sterling.kernel.telemetry import SpanRule

__all__ = ["RUNTIME_COUNTERS", "RUNTIME_SPANS"]

RUNTIME_COUNTERS = (
    CounterRule("runs_ended", "Runs that ended, by how.", "run.closed", labels=("state", "code")),
    CounterRule(
        "steps_settled", "Steps that got their outcome, by it.", "runtime.outcome", labels=("state", "reason")
    ),
    CounterRule(
        "jobs_by_outcome", "Dispatched jobs, by kind and end.", "runtime.dispatch", labels=("kind", "end")
    ),
    CounterRule("mode_changes", "Changes of the mode, by the mode entered.", "runtime.mode", labels=("to",)),
    CounterRule(
        "ticks_failed",
        "Ticks of the conductor that raised, by code.",
        "conductor.tick-failed",
        labels=("code",),
    ),
    CounterRule(
        "safe_modes", "Times safe mode was entered and left.", "conductor.safe-mode", labels=("state",)
    ),
)

RUNTIME_SPANS = (
    SpanRule(
        "sterling.run",
        "A run, from its opening to its close.",
        "run.closed",
        attributes=("pack", "origin", "mode_effective", "state", "code", "planned", "settled"),
        opened_by="run.opened",
        failed=lambda payload: str(payload["code"]) if payload["state"] == "failed" else "",
    ),
    SpanRule(
        "sterling.step",
        "A step of a run, as long as its work took.",
        "runtime.outcome",
        attributes=("step", "state", "reason", "lane", "findings"),
        lasted="wall_us",
        failed=lambda payload: str(payload["reason"]) if payload["state"] == "failed" else "",
    ),
)
