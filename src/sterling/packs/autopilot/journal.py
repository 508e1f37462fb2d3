"""Why a task is where it is: the decisions, their reasons and their evidence, and counts over them.

Derived from the ledger alone and never written by hand: the same entries give
the same journal, byte for byte. Counters are folds over the same entries, so
they cannot disagree with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.counters import CounterFold, CounterRule
from sterling.kernel.home import Home
from sterling.kernel.telemetry import SpanRule
from sterling.packs.autopilot.process.story import read_story
from sterling.packs.autopilot.process.view import Told

__all__ = ["COUNTERS", "COUNTER_RULES", "SPANS", "count", "counters", "journal"]

TRANSITION = "autopilot.transition"
_CONTENT = ("artifact.", "check.", "level.", "oracle.")
_GATE = frozenset(
    {"artifact.missing", "artifact.empty", "artifact.changed", "artifact.stale", "artifact.wrong-epoch"}
)


def _refused(tells: Callable[[str], bool]) -> Callable[[Mapping[str, Any]], int]:
    """1 for a transition refused with a code that tells so, else 0."""
    return lambda document: int(
        document["decision"] != "allow" and any(tells(str(each["code"])) for each in document["refusals"])
    )


def _violates(document: Mapping[str, Any]) -> int:
    severe = any(each["severity"] == "critical" for each in document["refusals"])
    return int(
        document["decision"] != "allow"
        and (severe or bool(_refused(lambda code: code.startswith("transition."))(document)))
    )


COUNTER_RULES = tuple(
    CounterRule(name, sentence, "record.put", TRANSITION, amount=amount, distinct=distinct)
    for name, sentence, amount, distinct in (
        (
            "phase_skips_attempted",
            "Refused moves that would have skipped a phase.",
            _refused(lambda code: code == "transition.skip"),
            "",
        ),
        (
            "phase_validations_failed",
            "Moves refused because of what the evidence says.",
            _refused(lambda code: code.startswith(_CONTENT)),
            "",
        ),
        (
            "evidence_gate_failed",
            "Moves refused because evidence is missing, empty, changed or stale.",
            _refused(lambda code: code in _GATE),
            "",
        ),
        (
            "tasks_rejected_for_process_violation",
            "Tasks with at least one move refused for breaking the process.",
            _violates,
            "task",
        ),
        (
            "phase_backtracks",
            "Moves back to an earlier phase.",
            lambda document: int(document["decision"] == "allow" and document["direction"] == "back"),
            "",
        ),
    )
)
COUNTERS = tuple(rule.name for rule in COUNTER_RULES)
SPANS = (
    SpanRule(
        "agent.state.transition",
        "A move between phases that was allowed.",
        "record.put",
        TRANSITION,
        attributes=("task", "from", "to", "direction", "attempt", "epoch"),
        holds=lambda document: document["decision"] == "allow",
    ),
    SpanRule(
        "process.validation",
        "A move that was refused, with the event `process.violation`.",
        "record.put",
        TRANSITION,
        attributes=("task", "from", "to", "direction", "severity"),
        holds=lambda document: document["decision"] != "allow",
        failed=lambda document: str(document["code"]),
        event="process.violation",
    ),
    SpanRule(
        "agent.verify",
        "A check that the authority ran itself.",
        "record.put",
        "autopilot.check",
        attributes=("task", "phase", "name", "state", "exit"),
        lasted="wall_us",
        failed=lambda document: str(document["code"]) if document["state"] == "failed" else "",
    ),
)


def journal(home: Home, task: str) -> list[dict[str, Json]]:
    """Every event of a task in order: what happened, who asked, why it was so, and what shows it."""
    return [_line(told) for _, told in read_story(home, task)]


def counters(home: Home) -> dict[str, int]:
    """The counts over every transition of this home. No event is 0."""
    return count(record.document for record in home.records.read(TRANSITION))


def count(transitions: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Fold transitions into the counters."""
    fold = CounterFold(COUNTER_RULES)
    for document in transitions:
        fold.add_document(("record.put", TRANSITION), document)
    found = fold.counters(0).counts
    assert all(each.value is not None for each in found.values()), "a transition breaks its contract"
    return {name: int(found[name].value or 0) for name in COUNTERS}


def _line(told: Told) -> dict[str, Json]:
    document = told.document
    line: dict[str, Json] = {"entry": told.entry, "record": told.id, "event": told.name}
    return line | dict(_TELLERS[told.name](document))


def _tell_task(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    yield "sentence", f"Task given: {document['title']}"
    yield "tree", document["base_tree"]


def _tell_transition(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    asked = f"{document['from'] or 'start'} to {document['to']}"
    who = f"{document['actor']['role']} {document['actor']['id']}".strip()
    if document["decision"] == "allow":
        yield "sentence", f"{asked} allowed ({document['direction']}), asked by {who}."
    else:
        yield "sentence", f"{asked} refused, asked by {who}: {document['code']}."
    yield "code", document["code"]
    yield "rules", [f"{each['rule']}: {each['code']}" for each in document["refusals"]]
    yield (
        "reasons",
        [
            f"{each['code']} {each['where']}: expected {each['expected']}, found {each['found']}".replace(
                " :", ":"
            )
            for each in document["refusals"]
        ],
    )
    yield "claim", document["claim"]
    yield "artifacts", [each["record"] for each in document["artifacts"]]
    yield "cites", document["cites"]
    yield "tree", document["tree"]


def _tell_artifact(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    yield (
        "sentence",
        f"{document['kind']} for {document['phase']} by {document['author']}, epoch {document['epoch']}.",
    )
    yield "path", document["path"]
    yield "problems", [each["code"] for each in document["problems"]]


def _tell_check(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    yield "sentence", f"The authority ran {document['name']}: {document['because']}"
    yield "code", document["code"]
    yield "argv", document["argv"]
    yield "tree", document["tree"]


def _tell_session(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    words = document.get("because", "")
    yield (
        "sentence",
        f"Agent session ({document['role']}) {document['event']} in {document['phase']}. {words}".strip(),
    )
    yield "code", document.get("code", "ok")


def _tell_state(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    yield "sentence", f"The task went from {document['from']} to {document['to']}: {document['because']}"
    yield "code", document["code"]


def _tell_receipt(document: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    yield "sentence", f"Receipt written for tree {document['tree']}, ring {document['ring']}."


_TELLERS = {
    "task": _tell_task,
    "transition": _tell_transition,
    "artifact": _tell_artifact,
    "check": _tell_check,
    "session": _tell_session,
    "state": _tell_state,
    "receipt": _tell_receipt,
}
