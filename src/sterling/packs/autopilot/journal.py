"""Why a task is where it is: the decisions, their reasons and their evidence, and counts over them.

Derived from the ledger alone and never written by hand: the same entries give
the same journal, byte for byte. Counters are folds over the same entries, so
they cannot disagree with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.packs.autopilot.process.story import read_story
from sterling.packs.autopilot.process.view import Told

__all__ = ["COUNTERS", "count", "counters", "journal"]

COUNTERS = (
    "phase_skips_attempted",
    "phase_validations_failed",
    "evidence_gate_failed",
    "tasks_rejected_for_process_violation",
    "phase_backtracks",
)
_CONTENT = ("artifact.", "check.", "level.", "oracle.")
_GATE = frozenset(
    {"artifact.missing", "artifact.empty", "artifact.changed", "artifact.stale", "artifact.wrong-epoch"}
)


def journal(home: Home, task: str) -> list[dict[str, Json]]:
    """Every event of a task in order: what happened, who asked, why it was so, and what shows it."""
    return [_line(told) for _, told in read_story(home, task)]


def counters(home: Home) -> dict[str, int]:
    """The counts over every transition of this home. No event is 0."""
    return count(record.document for record in home.records.read("autopilot.transition"))


def count(transitions: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Fold transitions into the counters."""
    found = dict.fromkeys(COUNTERS, 0)
    rejected: set[str] = set()
    for document in transitions:
        if document["decision"] == "allow":
            found["phase_backtracks"] += document["direction"] == "back"
            continue
        codes = [str(each["code"]) for each in document["refusals"]]
        found["phase_skips_attempted"] += "transition.skip" in codes
        found["phase_validations_failed"] += any(code.startswith(_CONTENT) for code in codes)
        found["evidence_gate_failed"] += any(code in _GATE for code in codes)
        severe = any(each["severity"] == "critical" for each in document["refusals"])
        if severe or any(code.startswith("transition.") for code in codes):
            rejected.add(str(document["task"]))
    found["tasks_rejected_for_process_violation"] = len(rejected)
    return found


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
