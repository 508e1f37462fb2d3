"""A corpus of good and bad artifacts: what the contracts and the content rules say to each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sterling.kernel.contracts import load_contracts
from sterling.packs.autopilot.artifacts.content import Context, check_content, placeholders
from sterling.packs.autopilot.artifacts.kinds import KINDS_BY_NAME
from sterling.packs.autopilot.artifacts.store import shape_of
from sterling.packs.autopilot.process.delta import plan_identity
from sterling.packs.autopilot.process.view import TaskView
from sterling.testing.scripted_agent import load_script

SAMPLES = Path(__file__).resolve().parents[4] / "samples" / "autopilot"
GOOD: Mapping[str, Any] = {
    step["submit"]: step["content"] for step in load_script(SAMPLES / "mend.toml") if "submit" in step
}
CONTEXT = Context(
    view=TaskView("task-1"),
    documents=GOOD,
    commands=frozenset({"build", "tests", "smoke"}),
    base_files=frozenset({"shelf/fines.py", "tests/test_fines.py", "pyproject.toml"}),
    scope=("shelf/**", "tests/**"),
    protected=("pyproject.toml",),
    added_lines={"shelf/fines.py": frozenset({7, 9})},
)
HOME: Any = SimpleNamespace(contracts=load_contracts())
GONE = object()


def judge(kind: str, document: Any, context: Context = CONTEXT) -> list[tuple[str, str]]:
    """Codes with their places, shape first, as a gate does it."""
    shape = shape_of(HOME, KINDS_BY_NAME[kind], document)
    if shape is not None:
        return [(shape.code, shape.where)]
    return [(each.code, each.where) for each in check_content(kind, document, context)]


def changed(kind: str, pointer: str, value: Any) -> Any:
    """The good document with one place set to a value, or taken away."""
    document = copy.deepcopy(GOOD[kind])
    *path, last = [int(part) if part.isdigit() else part for part in pointer.split("/")[1:]]
    place = document
    for part in path:
        place = place[part]
    if value is GONE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return document


ORACLE = {"kind": "test", "ref": "tests/test_fines.py::test_x"}
MODE = {"id": "f9", "text": "Something else fails.", "handling": "It is handled in the same way."}
STEP = {"id": "s2", "text": "Run the tests once more.", "minutes": 1, "needs": ["s1"], "covers": ["c1"]}
TWICE = {"path": "shelf/fines.py", "state": "exists", "why": "twice"}
OPEN = {"id": "r2", "text": "A high risk is open.", "severity": "high", "state": "open", "oracles": [ORACLE]}
BAD = [
    ("strategy", "/purpose", "short", "artifact.empty"),
    ("strategy", "/purpose", "              ", "artifact.empty"),
    ("strategy", "/purpose", 7, "artifact.malformed"),
    ("strategy", "/purpose", GONE, "artifact.malformed"),
    ("strategy", "/purpose", "TODO write the purpose here", "artifact.placeholder"),
    ("strategy", "/kill_trigger", "<fill in later>", "artifact.placeholder"),
    ("strategy", "/alternatives", [], "artifact.empty"),
    ("strategy", "/alternatives/1", GONE, "artifact.empty"),
    ("strategy", "/risks", [], "artifact.empty"),
    ("strategy", "/objective/target", "TBD", "artifact.placeholder"),
    ("strategy", "/objective/measure", GONE, "artifact.malformed"),
    ("strategy", "/extra", "a field nobody knows", "artifact.malformed"),
    ("worthiness", "/decision", "pivot", "approval.needed"),
    ("worthiness", "/decision", "kill", "approval.needed"),
    ("worthiness", "/decision", "defer", "approval.needed"),
    ("worthiness", "/decision", "maybe", "artifact.malformed"),
    ("worthiness", "/because", "??????????", "artifact.placeholder"),
    ("spec", "/criteria", [], "artifact.empty"),
    ("spec", "/criteria/0/proof", "prayer", "artifact.uncited"),
    ("spec", "/criteria/0/gate", "LUNCH", "artifact.malformed"),
    ("spec", "/criteria/1/id", "c1", "artifact.malformed"),
    ("spec", "/criteria/0/predicate", "lorem ipsum dolor", "artifact.placeholder"),
    ("spec", "/budgets/files", 0, "artifact.malformed"),
    ("spec", "/budgets/files", "1", "artifact.malformed"),
    ("spec", "/compatibility", "", "artifact.empty"),
    ("plan", "/steps", [], "artifact.empty"),
    ("plan", "/steps/0/covers", ["c1"], "artifact.uncited"),
    ("plan", "/steps/0/covers", ["c1", "c2", "c9"], "plan.bad-citation"),
    ("plan", "/steps/0/needs", ["s1"], "artifact.malformed"),
    ("plan", "/steps/0/needs", ["s9"], "artifact.malformed"),
    ("plan", "/steps/0/minutes", 0, "artifact.malformed"),
    ("plan", "/steps/0/text", "FIXME decide this later", "artifact.placeholder"),
    ("plan", "/steps/1", STEP | {"id": "s1", "needs": []}, "artifact.malformed"),
    ("plan", "/cites", ["shelf/nowhere.py"], "plan.bad-citation"),
    ("file_map", "/files", [], "artifact.empty"),
    ("file_map", "/files/0/state", "new", "artifact.malformed"),
    ("file_map", "/files/0/path", "shelf/unborn.py", "artifact.malformed"),
    ("file_map", "/files/0/path", "pyproject.toml", "patch.out-of-scope"),
    ("file_map", "/files/0", {"path": "../x.py", "state": "new", "why": "outside"}, "patch.out-of-scope"),
    ("file_map", "/files/0", {"path": "/etc/x", "state": "new", "why": "outside"}, "patch.out-of-scope"),
    ("file_map", "/files/0", {"path": "shelf/.git/x", "state": "new", "why": "inside"}, "patch.out-of-scope"),
    ("file_map", "/files/1", TWICE, "artifact.malformed"),
    ("change_budget", "/files", 0, "artifact.malformed"),
    ("change_budget", "/lines", -5, "artifact.malformed"),
    ("change_budget", "/paths", [], "artifact.empty"),
    ("rollback", "/how", "undo", "artifact.empty"),
    ("rollback", "/steps", [], "artifact.empty"),
    ("rollback", "/steps", ["..."], "artifact.placeholder"),
    ("edge_cases", "/failure_modes", [], "artifact.empty"),
    ("edge_cases", "/questions/0/answer", "", "artifact.empty"),
    ("edge_cases", "/questions/0/answer", "tbd", "artifact.placeholder"),
    ("edge_cases", "/determinism", GONE, "artifact.malformed"),
    ("risk_oracle_map", "/risks", [], "artifact.empty"),
    ("risk_oracle_map", "/risks/0/oracles", [], "oracle.unmapped"),
    ("risk_oracle_map", "/risks/0/id", "other", "oracle.unmapped"),
    ("risk_oracle_map", "/risks/0/oracles/0", {"kind": "command", "ref": "wish"}, "oracle.unmapped"),
    ("risk_oracle_map", "/risks/0/oracles/0", {"kind": "hope", "ref": "x"}, "artifact.malformed"),
    ("risk_oracle_map", "/risks/1", OPEN, "oracle.unmapped"),
    ("review_rubric", "/verdict", "rejected", "check.failed"),
    ("review_rubric", "/comments/0/line", 8, "artifact.uncited"),
    ("review_rubric", "/comments/0/path", "shelf/isbn.py", "artifact.uncited"),
    ("review_rubric", "/comments/0/severity", "critical", "check.failed"),
    ("review_rubric", "/readings/security", GONE, "artifact.malformed"),
    ("review_rubric", "/readings/security", "ok", "artifact.empty"),
    ("review_rubric", "/score", 10, "artifact.malformed"),
    (
        "review_rubric",
        "/deferral",
        {"reason": "no time", "plan": "later", "risk": "none", "mitigation": "n/a", "expiry": ""},
        "level.deferral-weak",
    ),
    ("why_now", "/because", "why not", "artifact.empty"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "pointer", "value", "code"), BAD)
def test_each_bad_artifact_gets_its_code_at_its_place(kind: str, pointer: str, value: Any, code: str) -> None:
    found = judge(kind, changed(kind, pointer, value))

    assert code in [each for each, _ in found]
    assert all(where.startswith(kind) for _, where in found)
    assert found == judge(kind, changed(kind, pointer, value))


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_the_honest_artifact_passes(kind: str) -> None:
    assert judge(kind, GOOD[kind]) == []


@pytest.mark.parametrize(
    ("kind", "pointer", "value"),
    [
        ("strategy", "/purpose", "Zwölf Bücher kosten nichts, wenn sie früh kommen. 本は無料です。"),
        ("strategy", "/objective/target", "0"),
        ("spec", "/compatibility", "none"),
        ("spec", "/exclusions", []),
        ("change_budget", "/paths", ["**"]),
        ("edge_cases", "/failure_modes/1", MODE),
        ("edge_cases", "/questions", []),
        ("plan", "/steps/1", STEP),
        ("plan", "/cites", []),
        ("file_map", "/files/1", {"path": "tests/test_new.py", "state": "new", "why": "proves it"}),
        ("review_rubric", "/comments", []),
        (
            "review_rubric",
            "/deferral",
            {
                "reason": "The service is not reachable from here.",
                "plan": "Exercise it in staging.",
                "risk": "A changed answer would go unseen.",
                "mitigation": "The contract test pins the answer.",
                "expiry": "2027-01-31",
            },
        ),
    ],
)
def test_what_only_looks_unusual_passes(kind: str, pointer: str, value: Any) -> None:
    assert judge(kind, changed(kind, pointer, value)) == []


def test_there_are_at_least_sixty_artifacts_in_the_corpus() -> None:
    assert len(BAD) + len(GOOD) >= 60


def test_after_a_failure_the_plan_must_answer_it_and_differ() -> None:
    view = TaskView("task-1")
    view.owed, view.plan = ["r-failed"], plan_identity(GOOD["plan"], GOOD["file_map"])
    context = Context(view, GOOD, CONTEXT.commands, CONTEXT.base_files, CONTEXT.scope)
    answered = changed("plan", "/answers", ["r-failed"])
    other = changed("plan", "/steps/0/text", "Bound the fine by the smaller of nothing and itself.")
    other["answers"] = ["r-failed"]

    assert [code for code, _ in judge("plan", GOOD["plan"], context)] == ["plan.no-delta", "plan.no-delta"]
    assert [code for code, _ in judge("plan", answered, context)] == ["plan.no-delta"]
    assert judge("plan", other, context) == []


@pytest.mark.parametrize(
    "text", ["TODO", "[todo]", "<purpose>", "...", "N/A", "xxx", "Fill me in", "- tbd -", "??"]
)
def test_words_that_hold_a_place_are_found_wherever_they_stand(text: str) -> None:
    assert list(placeholders({"a": [{"b": text}]})) == [("/a/0/b", text)]


@pytest.mark.parametrize(
    "text", ["Use the todo list's own order", "a <b> c", "**", "-", "1.5", "Nothing.", "5 < 6"]
)
def test_honest_words_are_no_placeholders(text: str) -> None:
    assert list(placeholders({"a": text})) == []


def test_a_very_long_text_of_dots_takes_no_time() -> None:
    assert list(placeholders({"a": "." * 2_000_000})) == []
