from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from sterling.runtime.outcomes import OUTCOME_RULES, StepEnd, StepRow, run_status, settle, upstream
from sterling.runtime.plan import of_phases

FINDING = {"kind": "toy", "claim": "It is so.", "evidence": {"rows": [1]}, "values": {}}
ARTIFACT = {"name": "a", "path": "a.csv", "media": "text/csv"}


@dataclass(frozen=True)
class Toy:
    lane: str = "explanation"
    pack: str = "insight"
    feeds: tuple[str, ...] = ()
    requires_downstream_mapping: bool = False


def judged(result: Any, lane: str = "explanation", **more: Any) -> tuple[str, str]:
    settled = settle(Toy(lane), result, StepEnd("returned"), **more)
    assert settled.because.strip()
    return settled.state, settled.reason


@pytest.mark.parametrize("lane", ["decision", "explanation"])
@pytest.mark.parametrize("part", [{"findings": [FINDING]}, {"artifacts": [ARTIFACT]}])
def test_ok_with_something_cited_is_ok(lane: str, part: dict[str, Any]) -> None:
    assert judged({"status": "ok", **part}, lane) == ("ok", "ok")


@pytest.mark.parametrize(
    ("lane", "result"),
    [
        ("decision", {"status": "ok"}),
        ("decision", {"status": "ok", "metrics": {"rows": 3}}),
        ("explanation", {"status": "ok"}),
        ("explanation", {"status": "ok", "findings": [{**FINDING, "kind": " "}]}),
        ("decision", {"status": "ok", "findings": [{**FINDING, "kind": ""}]}),
    ],
)
def test_an_empty_ok_and_a_blank_kind_are_failures(lane: str, result: Any) -> None:
    assert judged(result, lane) == ("failed", "step.empty-ok")


def test_a_metric_is_enough_for_an_explanation() -> None:
    assert judged({"status": "ok", "metrics": {"rows": 3}}) == ("ok", "ok")


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "ok",
        {},
        {"status": "skipped"},
        {"status": "degraded"},
        {"status": "OK"},
        {"status": None},
        {"status": "ok", "findings": {}},
        {"status": "ok", "findings": [3]},
        {"status": "ok", "findings": [{**FINDING, "claim": ""}]},
        {"status": "ok", "findings": [{**FINDING, "evidence": {}}]},
        {"status": "ok", "findings": [{**FINDING, "evidence": "trust me"}]},
        {"status": "ok", "findings": [FINDING], "metrics": []},
        {"status": "ok", "artifacts": [{"name": "a", "path": "a"}]},
        {"status": "ok", "artifacts": [{**ARTIFACT, "path": "/etc/passwd"}]},
        {"status": "ok", "artifacts": [{**ARTIFACT, "path": "x/../../y"}]},
        {"status": "ok", "artifacts": [{**ARTIFACT, "path": ""}]},
        {"status": "na", "reason": "insight.role-missing", "because": " "},
        {"status": "na", "reason": "insight.role-missing"},
        {"status": "na", "reason": "because", "because": "It is so."},
        {"status": "na", "reason": "recall.gap", "because": "Another pack's code."},
        {"status": "na", "reason": 7, "because": "It is so."},
    ],
)
def test_whatever_is_no_result_fails_by_name(result: Any) -> None:
    assert judged(result) == ("failed", "step.invalid-result")


def test_na_keeps_its_code_and_its_sentence() -> None:
    result = {"status": "na", "reason": "insight.role-missing", "because": "No column tells a time."}

    settled = settle(Toy(), result, StepEnd("returned"))

    assert (settled.state, settled.reason, settled.because) == (
        "na",
        "insight.role-missing",
        "No column tells a time.",
    )


def test_na_with_a_code_outside_the_packs_list_is_a_failure() -> None:
    result = {"status": "na", "reason": "insight.made-up", "because": "It is so."}

    assert judged(result, known_reasons={"insight.role-missing"}) == ("failed", "step.invalid-result")


@pytest.mark.parametrize("kind", sorted(set(OUTCOME_RULES) - {"returned", "limit", "refused"}))
def test_every_other_end_has_one_state_and_one_reason_whatever_the_worker_said(kind: str) -> None:
    settled = settle(Toy(), {"status": "ok", "findings": [FINDING]}, StepEnd(kind))

    assert settled.state == ("na" if kind.startswith("upstream") else "failed")
    assert settled.reason == OUTCOME_RULES[kind].reason != ""


@pytest.mark.parametrize("name", ["memory", "cpu", "wall", "processes", "output"])
def test_a_passed_limit_is_a_failure_under_its_own_name(name: str) -> None:
    settled = settle(Toy(), {"status": "ok", "findings": [FINDING]}, StepEnd("limit", f"limit.{name}"))

    assert (settled.state, settled.reason) == ("failed", f"limit.{name}")


def test_a_failed_need_counts_before_an_na_one() -> None:
    end = upstream(("a", "b", "c"), (), {"a": "na", "b": "failed", "c": "ok"})

    assert end is not None
    assert (end.kind, "b" in end.message) == ("upstream-failed", True)


def test_a_tolerated_need_does_not_stop_a_step() -> None:
    assert upstream(("a", "b"), ("a",), {"a": "failed", "b": "ok"}) is None
    assert upstream(("a", "b"), ("a",), {"a": "failed", "b": "na"}) is not None


def rows(*states: str) -> list[StepRow]:
    names = ("a", "b", "c")
    reasons = {"ok": "ok", "failed": "step.raised", "na": "ci.none"}
    return [
        StepRow(name, state, reasons[state], "Because.", "explanation")
        for name, state in zip(names, states, strict=False)
    ]


PLAN = of_phases("ci", [("a", []), ("b", ["a"]), ("c", [])])


def test_a_run_without_a_failed_step_is_ok() -> None:
    assert (
        run_status(PLAN, rows("ok", "na", "ok")).state,
        run_status(PLAN, rows("na", "na", "na")).code,
    ) == (
        "ok",
        "ok",
    )


def test_one_failed_step_fails_the_run_under_its_reason() -> None:
    status = run_status(PLAN, rows("ok", "failed", "ok"))

    assert (status.state, status.code, status.planned, status.settled) == ("failed", "step.raised", 3, 3)


@pytest.mark.parametrize(
    "bad",
    [
        rows("ok", "ok"),
        [*rows("ok", "ok", "ok"), StepRow("ghost", "ok", "ok", "Because.", "explanation")],
        [*rows("ok", "ok"), *rows("ok")],
        [],
    ],
)
def test_counts_that_differ_make_the_run_unsettled(bad: list[StepRow]) -> None:
    status = run_status(PLAN, bad)

    assert (status.state, status.code) == ("failed", "run.unsettled")


def test_lane_figures_are_there_for_an_empty_lane_too() -> None:
    status = run_status(PLAN, rows("ok", "failed", "na"))

    assert status.lanes["decision"].as_json() == dict.fromkeys(status.lanes["decision"].as_json(), 0)
    explained = status.lanes["explanation"]
    assert (explained.planned, explained.ok, explained.failed, explained.na) == (3, 1, 1, 1)
