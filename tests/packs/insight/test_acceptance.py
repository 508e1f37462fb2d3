"""What a plugin gives is judged: unregistered, unknown or reworded findings fail the step, alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sterling.kernel.home import Home
from sterling.packs.insight import door
from sterling.packs.insight.door import AnalyzeResult
from sterling.runtime.runs import read_run
from sterling.testing.fleet import Fleet

Analyse = Callable[..., AnalyzeResult]
TEXT = "a,b\n" + "".join(f"{n},x{n % 3}\n" for n in range(30))
OWN = {"table": ["sql"], "kinds": ["rows-distinct"], "test_family": "facts"}
HEAD = """
def run(table, registry):
    fact = registry.fact("rows", target=["a"], unit="rows")
    cited = table.cite("SELECT count(*) AS of FROM t", columns=["a"])
    good = registry.finding("rows-distinct", fact, cited, {})
"""
BAD = {
    "unregistered": (
        "    return Ok([good, Finding(good.kind, good.claim, cited, {'hypothesis': 'h-x', 'names': {}})])",
        "insight.unregistered-hypothesis",
    ),
    "another claim": (
        "    return Ok([good, Finding(good.kind, 'All is well.', cited, good.values)])",
        "insight.contract-broken",
    ),
    "a kind of another plugin": (
        "    return Ok([good, Finding('rows-repeated', good.claim, cited, good.values)])",
        "insight.contract-broken",
    ),
    "no such kind": (
        "    return Ok([good, Finding('miracle', good.claim, cited, good.values)])",
        "insight.contract-broken",
    ),
    "evidence of another shape": (
        "    return Ok([good, Finding(good.kind, good.claim, {'rows': [1]}, good.values)])",
        "insight.contract-broken",
    ),
    "nothing at all": ("    return Ok()", "step.empty-ok"),
    "an unknown reason": ("    return Na('insight.because-i-say-so', 'Well.')", "step.invalid-result"),
    "an error": ("    raise ValueError('bad cell')", "step.raised"),
    "a death": ("    import os; os._exit(9)", "worker.died"),
}


def add(fleet: Fleet, tail: str) -> None:
    fleet.add("toy", HEAD + tail + "\n", family="numeric", insight=OWN)


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_plugin_fails_alone_and_the_report_is_written(
    fleet: Fleet, analyse: Analyse, home: Home, name: str
) -> None:
    tail, reason = BAD[name]
    add(fleet, tail)

    result = analyse(TEXT, plugins=("toy", "duplicate_rows_keys"))

    states = {row["step"]: (row["state"], row["reason"]) for row in result.document["outcomes"]}
    assert states == {"duplicate_rows_keys": ("ok", "ok"), "toy": ("failed", reason)}
    assert (result.exit, result.document["status"]) == (1, "failed")
    assert "did not finish" in result.report["body"]["answer"][-1]
    assert {"html", "json", "md", "manifest"} == set(result.files)
    assert all(row["plugin"] != "toy" for row in result.report["body"]["findings"])
    assert list(door.recheck(home, result.run).problems) == []
    assert read_run(home, result.run).state == "failed"


def test_what_a_failed_step_registered_stays_in_the_registry(fleet: Fleet, analyse: Analyse) -> None:
    add(fleet, BAD["an error"][0])

    result = analyse(TEXT, plugins=("toy",))

    assert result.report["body"]["registry"] == {"tests": 1, "reported": 0}


def test_findings_that_do_not_fit_into_a_message_are_not_lost(fleet: Fleet, analyse: Analyse) -> None:
    tail = """
    many = []
    for n in range(900):
        fact = registry.fact(f"rows{n}", target=["a"], unit="rows")
        many.append(registry.finding("rows-distinct", fact, dict(cited, columns=["x" * 1000]), {}))
    return registry.outcome(many, {"n": 1})
"""
    add(fleet, tail)

    result = analyse(TEXT, plugins=("toy",))

    body = result.report["body"]
    assert (body["findings_total"], body["findings_left_out"]) == (900, 600)
    lines = (result.files["json"].parent / "findings.jsonl").read_text().splitlines()
    assert len(lines) == 900
    assert {json.loads(line)["finding"]["plugin"] for line in lines} == {"toy"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a,b\n1,2\n", "insight.too-few-rows"), ("a\n" + "1\n2\n" * 10, "insight.too-few-columns")],
)
def test_a_table_too_small_for_a_plugin_is_na_with_a_sentence(
    analyse: Analyse, text: str, reason: str
) -> None:
    result = analyse(text, plugins=("constraint_violations",))

    (row,) = result.report["body"]["outcomes"]
    assert (row["state"], row["reason"]) == ("na", reason)
    assert row["because"].endswith(".") and row["next_step"].endswith(".")
    assert result.exit == 0
    assert result.report["body"]["preflight"][0]["verdict"] == "na"


def test_every_field_of_a_finding_must_be_there(analyse: Analyse, home: Home) -> None:
    from sterling.kernel.contracts import RecordInvalid

    analyse(TEXT, plugins=("duplicate_rows_keys",))
    document: dict[str, Any] = next(iter(home.records.read("insight.finding"))).document

    for name in document:
        with pytest.raises(RecordInvalid):
            home.contracts.validate(
                "insight.finding", {key: document[key] for key in document if key != name}
            )
    with pytest.raises(RecordInvalid):
        home.contracts.validate("insight.finding", {**document, "confidence": "high"})
