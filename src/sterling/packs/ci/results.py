"""What commands answer: documents for scripts, from which the text for people is rendered too."""

from __future__ import annotations

from collections.abc import Mapping

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK, EXIT_USAGE
from sterling.packs.ci.assess import Assessed
from sterling.packs.ci.baseline import Baseline
from sterling.packs.ci.collect import group_by_cause
from sterling.packs.ci.explain import STATES_SHOWN_MAX
from sterling.packs.ci.facts import Facts
from sterling.packs.ci.gates import Gate
from sterling.packs.ci.steps import RunResult
from sterling.packs.ci.verdict import EXITS, HINTS

__all__ = ["baseline_json", "ingested_json", "ran_json", "verdict_json"]

LISTED_MAX = 100
_SHOW_RUN = "See what it left: `sterling run show RUN`."
_RUN_AGAIN = "The run that wrote it did not finish; run it again: `sterling ci run -- COMMAND`."
_SHAPES = "Give JUnit XML or a pytest JSON report; `sterling ci ingest --help` says how to get one."
_HOSTILE = "No test runner writes this; look at it before anything reads it. See `sterling ci ingest --help`."
_CONFLICT = "Two reports of one run disagree; find out who wrote which. See `sterling ci ingest --help`."
_EXIT_CODE = (
    "Say how the runner ended with --exit-code N; it is never guessed. See `sterling ci ingest --help`."
)
_READ_HINTS: Mapping[str, str] = {
    "ci.report-torn": _RUN_AGAIN,
    "ci.report-empty": _RUN_AGAIN,
    "ci.report-unknown": _SHAPES,
    "ci.report-hostile": _HOSTILE,
    "ci.rendering-conflict": _CONFLICT,
}
# For `ci ingest` a report cut short cannot be judged, a contradiction is a no, and the rest is no report.
_READ_EXITS: Mapping[str, int] = {
    "": EXIT_OK,
    "ci.report-torn": EXIT_CANNOT_JUDGE,
    "ci.rendering-conflict": EXIT_NO,
}


def ran_json(result: RunResult) -> dict[str, Json]:
    """The answer of `ci run`."""
    attempt, gate = result.attempt, result.gate
    prepared = attempt.prepared
    red = gate.outcome == "ok" and attempt.facts.exit_class == "tests_failed"
    hint = HINTS.get(gate.code) or _READ_HINTS.get(gate.code) or (_SHOW_RUN if gate.outcome != "ok" else "")
    return {
        **_facts_json(attempt.facts),
        "facts": result.refs.facts.id,
        "run": result.run,
        "outcome": gate.outcome,
        "code": gate.code,
        "because": _because(attempt.facts, gate),
        "exit_status": 1 if red else EXITS[gate.outcome],
        "attempt": result.refs.run.id,
        "tree": prepared.tree,
        "commit": prepared.checkout.commit,
        "dirty": prepared.checkout.dirty,
        "environment": result.refs.environment.id,
        "fingerprint": prepared.environment.fingerprint,
        "snapshot": result.refs.snapshot.id if result.refs.snapshot else "",
        "last_test": attempt.last_test,
        "streams": {name: stream["blob"] for name, stream in attempt.streams.items()},
        "groups": [group.as_json() for group in group_by_cause(attempt.facts.collectors)],
        "hint": hint,
    }


def ingested_json(facts: Facts, *, record: str, run: str) -> dict[str, Json]:
    """The answer of `ci ingest`."""
    hint = _READ_HINTS.get(facts.fault, "")
    if not facts.fault and not facts.exit_class:
        hint = _EXIT_CODE
    status = _READ_EXITS.get(facts.fault, EXIT_USAGE)
    return {**_facts_json(facts), "facts": record, "run": run, "hint": hint, "exit_status": status}


def baseline_json(baseline: Baseline, *, record: str = "", run: str = "", file: str = "") -> dict[str, Json]:
    """The answer of `ci baseline capture` and `show`."""
    return {
        "key": baseline.key,
        "parts": baseline.parts.as_json(),
        "healthy": baseline.healthy,
        "why": baseline.why,
        "unstable": list(baseline.unstable),
        "commit": baseline.commit,
        "tally": dict(baseline.facts.tally),
        "tests": len(baseline.facts.tests),
        "failing": baseline.facts.failing[:LISTED_MAX],
        "runs": baseline.runs,
        "record": record,
        "file": file,
        "notes": list(baseline.notes),
        "run": run,
        "hint": "" if baseline.healthy else HINTS["ci.baseline-unhealthy"],
    }


def verdict_json(assessed: Assessed) -> dict[str, Json]:
    """The answer of `ci verdict`."""
    decision = assessed.decision
    document, delta = decision.document, decision.verdict.delta
    shown = len(delta.states) <= STATES_SHOWN_MAX
    return {
        **decision.verdict.as_json(),
        "baseline": document["baseline"],
        "head": document["head"],
        "states": {name: found.state for name, found in delta.states.items()} if shown else {},
        "delta": decision.delta,
        "decision": decision.id,
        "run": assessed.run,
        "notes": [*document["notes"], *delta.notes],
        "rule": document["rule"],
        "groups": [group.as_json() for group in delta.groups],
    }


def _because(facts: Facts, gate: Gate) -> str:
    if gate.code == facts.fault:
        return facts.because or gate.because
    # A command that could not start says why in a note.
    return " ".join([gate.because, *facts.notes[-1:]]) if gate.code == "ci.not-started" else gate.because


def _facts_json(facts: Facts) -> dict[str, Json]:
    return {
        **facts.summary_json(),
        "tests": len(facts.tests),
        "failing": [
            {
                "id": name,
                "outcome": facts.tests[name].outcome,
                "message": facts.tests[name].message,
                "cause": facts.tests[name].cause,
            }
            for name in facts.failing[:LISTED_MAX]
        ],
        "collectors": {name: found.cause for name, found in sorted(facts.collectors.items())},
    }
