"""Gates and the verdict: each gate alone, all combinations, and a gate that breaks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from sterling.packs.ci import gates as gates_module
from sterling.packs.ci.facts import Facts
from sterling.packs.ci.gates import GATES, BaselineCase, Case, Gate
from sterling.packs.ci.policy import Policy
from sterling.packs.ci.verdict import combine, judge

MakeFacts = Callable[..., Facts]
GREEN = {"a::x": "passed", "a::y": "passed"}


def case_of(base: Facts | None, head: Facts, **more: object) -> Case:
    baseline = BaselineCase("usable" if base else "missing", facts=base, tree="t0", same_harness=True)
    return Case(head=head, baseline=baseline, head_tree="t1", **more)  # type: ignore[arg-type]


def gate(case: Case, name: str, policy: Policy | None = None) -> Gate:
    return next(found for found in judge(case, policy or Policy()).gates if found.gate == name)


def test_a_green_head_on_a_green_baseline_passes(facts: MakeFacts) -> None:
    verdict = judge(case_of(facts(GREEN), facts(GREEN)), Policy())

    assert (verdict.verdict, verdict.exit, verdict.reasons) == ("ok", 0, ())
    assert [found.gate for found in verdict.gates] == list(GATES)


def test_a_green_head_without_a_baseline_cannot_be_judged(facts: MakeFacts) -> None:
    verdict = judge(case_of(None, facts(GREEN)), Policy())

    assert (verdict.verdict, verdict.exit, verdict.reasons) == ("na", 4, ("ci.no-baseline",))
    assert "--capture-missing" in verdict.hint


Bend = Callable[[MakeFacts], Case]


def broken(f: MakeFacts) -> Case:
    return case_of(f(GREEN), f(GREEN), broken=(("ci.evidence-tampered", "x"),))


def baseline(state: str, **more: bool) -> Bend:
    return lambda f: Case(f(GREEN), BaselineCase(state, facts=f(GREEN), **more))


def head(**options: object) -> Bend:
    tests = options.pop("tests", GREEN)
    return lambda f: case_of(f(GREEN), f(tests, **options))


def claimed(**more: str) -> Bend:
    return lambda f: replace(case_of(f(GREEN), f(GREEN), expects_change=True), **more)


def alone(**options: object) -> Bend:
    return lambda f: case_of(None, f(GREEN, **options))


# One row a gate and outcome: the code it must give, and how the case is bent.
ROWS: list[tuple[str, str, str, Bend]] = [
    ("integrity", "ok", "", head()),
    ("integrity", "failed", "ci.evidence-tampered", broken),
    ("integrity", "failed", "ci.baseline-tampered", baseline("tampered")),
    ("noop", "na", "ci.change-not-claimed", head()),
    ("noop", "ok", "", claimed()),
    ("noop", "failed", "ci.noop", claimed(head_tree="t0")),
    ("noop", "na", "ci.tree-unmeasured", claimed(head_tree="")),
    ("collection", "ok", "", head()),
    ("collection", "failed", "ci.collect-error", head(collectors={"b.py": "c"})),
    (
        "collection",
        "failed",
        "ci.collect-error",
        head(collectors={"b.py": "c"}, facets={"collectors": "partial"}),
    ),
    ("collection", "na", "ci.facet-incomplete", head(facets={"collectors": "absent"})),
    ("collection", "na", "ci.report-torn", head(fault="ci.report-torn")),
    ("exit", "ok", "", head()),
    ("exit", "failed", "ci.exit-contradicts-report", head(tests={"a::x": "failed"}, status=0)),
    ("exit", "failed", "ci.exit-contradicts-report", head(status=1)),
    ("exit", "failed", "ci.exit-contradicts-report", head(collectors={"b.py": "c"}, status=0)),
    ("exit", "failed", "ci.no-tests-ran", lambda f: case_of(f(GREEN), replace(f(GREEN), tests={}, tally={}))),
    ("exit", "failed", "ci.no-tests-ran", head(tests={"a::x": "skipped"})),
    ("exit", "failed", "ci.no-tests-ran", head(status=5)),
    ("exit", "failed", "ci.interrupted", head(status=2)),
    ("exit", "failed", "ci.collect-error", head(status=2, collectors={"b.py": "c"})),
    ("exit", "failed", "ci.timed-out", head(exit_class="timed_out", fault="ci.report-missing")),
    ("exit", "failed", "ci.out-of-memory", head(exit_class="out_of_memory")),
    ("exit", "failed", "ci.crashed", head(exit_class="crashed")),
    ("exit", "failed", "ci.killed", head(exit_class="killed")),
    ("exit", "failed", "ci.report-missing", head(fault="ci.report-missing")),
    ("exit", "failed", "ci.report-stale", head(fault="ci.report-stale")),
    ("exit", "failed", "ci.rendering-conflict", head(fault="ci.rendering-conflict")),
    ("exit", "na", "ci.report-torn", head(fault="ci.report-torn")),
    ("exit", "na", "ci.report-empty", head(fault="ci.report-empty")),
    ("exit", "na", "ci.report-hostile", head(fault="ci.report-hostile")),
    ("exit", "na", "ci.not-started", head(exit_class="not_started")),
    ("exit", "na", "ci.exit-unknown", head(exit_class="unknown")),
    ("exit", "na", "ci.facet-incomplete", head(facets={"tally": "partial"})),
    ("exit", "failed", "ci.harness-broken-by-change", head(status=4)),
    ("exit", "na", "ci.harness-fault", alone(status=3)),
    ("baseline", "ok", "", head()),
    ("baseline", "na", "ci.no-baseline", alone()),
    ("baseline", "na", "ci.baseline-unhealthy", baseline("unhealthy")),
    ("baseline", "failed", "ci.baseline-unhealthy", baseline("unhealthy", named=True)),
    ("baseline", "na", "ci.baseline-mismatch", baseline("mismatch", named=True)),
    ("delta", "ok", "", head()),
    ("delta", "failed", "ci.new-failure", head(tests={"a::x": "failed", "a::y": "passed"})),
    ("delta", "failed", "ci.vanished", head(tests={"a::x": "passed"})),
    ("delta", "failed", "ci.new-skip", head(tests={"a::x": "skipped", "a::y": "passed"})),
    ("delta", "failed", "ci.new-xfail", head(tests={"a::x": "xfailed", "a::y": "passed"})),
    ("delta", "na", "ci.facet-incomplete", head(facets={"all_ids": "partial"})),
    ("delta", "na", "ci.facet-incomplete", head(facets={"skip_ids": "absent"})),
    ("delta", "na", "ci.timed-out", head(exit_class="timed_out")),
    ("delta", "na", "ci.no-baseline", alone()),
    ("delta", "na", "ci.baseline-mismatch", baseline("mismatch")),
    ("coverage", "na", "ci.coverage-not-asked", head()),
]


@pytest.mark.parametrize(
    ("name", "outcome", "code", "bend"),
    ROWS,
    ids=[f"{row[0]}-{row[1]}-{row[2]}-{at}" for at, row in enumerate(ROWS)],
)
def test_each_gate_answers_as_its_table_says(
    facts: MakeFacts, name: str, outcome: str, code: str, bend: Callable[[MakeFacts], Case]
) -> None:
    found = gate(bend(facts), name)

    assert (found.outcome, found.code) == (outcome, code)
    assert found.because


def test_a_missing_facet_never_passes_whichever_it_is(facts: MakeFacts) -> None:
    for facet in ("exit", "tally", "failing_ids", "all_ids", "collectors", "skip_ids"):
        for state in ("partial", "absent"):
            head = facts(GREEN, facets={facet: state})
            head = replace(head, exit_class="") if facet == "exit" else head
            assert judge(case_of(facts(GREEN), head), Policy()).verdict == "na", facet


def test_a_warning_warns_and_a_policy_raises_it_to_a_block(facts: MakeFacts) -> None:
    case = case_of(facts({"a::x": "failed", "a::y": "passed"}), facts({"a::x": "skipped", "a::y": "passed"}))

    plain, strict = judge(case, Policy()), judge(case, Policy(block=frozenset({"hidden"})))

    assert (plain.verdict, plain.warnings) == ("ok", ("ci.hidden",))
    assert (strict.verdict, strict.reasons) == ("failed", ("ci.hidden",))


@pytest.mark.parametrize(
    ("before", "after", "exit_status", "code"),
    [
        (("failed", "s"), ("failed", "t"), 0, "ci.changed-signature"),
        ("failed", None, 0, "ci.gone-quiet"),
        ("xfailed", "xpassed", 0, "ci.xpass"),
        (None, "skipped", 0, "ci.added-muted"),
        ("failed", "skipped", 0, "ci.hidden"),
        ("failed", "error", 1, "ci.worse-failure"),
    ],
)
def test_each_other_state_warns_or_blocks_under_its_own_code(
    facts: MakeFacts, before: object, after: object, exit_status: int, code: str
) -> None:
    base = {"a::y": "passed", **({"a::x": before} if before else {})}
    head = {"a::y": "passed", **({"a::x": after} if after else {})}

    verdict = judge(case_of(facts(base), facts(head)), Policy())

    assert verdict.exit == exit_status
    assert code in (verdict.reasons if exit_status else verdict.warnings)


def test_an_old_failure_that_still_fails_does_not_block(facts: MakeFacts) -> None:
    red = {"a::x": ("failed", "s"), "a::y": "passed"}

    assert judge(case_of(facts(red), facts(red)), Policy()).exit == 0


@pytest.mark.parametrize("status", [1, 2])
@pytest.mark.parametrize("base", ["none", "without", "same", "other signature"])
def test_a_broken_file_always_blocks_unless_it_heals(facts: MakeFacts, status: int, base: str) -> None:
    broken = {"b.py": "missing-module m"}
    known = {"none": None, "without": facts(GREEN), "same": facts(GREEN, collectors=broken)}
    known["other signature"] = facts(GREEN, collectors={"b.py": "missing-module n"})
    head = facts(GREEN, status=status, collectors=broken)
    healed = facts({**GREEN, "b.py::z": "passed"})

    stuck = judge(replace(case_of(known[base], head), reruns=(head,)), Policy())
    heals = judge(replace(case_of(known[base], head), reruns=(healed,)), Policy())

    assert (stuck.verdict, stuck.exit) == ("failed", 1)
    assert "ci.collect-error" in stuck.reasons
    assert heals.verdict == ("na" if base == "none" else "ok")
    assert "ci.flaky" in heals.warnings


@pytest.mark.parametrize(("count", "band"), [(1, "low"), (2, "medium"), (5, "high"), (10, "critical")])
def test_every_severity_blocks(facts: MakeFacts, count: int, band: str) -> None:
    base = facts({f"a::{n}": "passed" for n in range(12)})
    head = facts({f"a::{n}": "failed" if n < count else "passed" for n in range(12)})

    verdict = judge(case_of(base, head), Policy())

    assert (verdict.exit, verdict.delta.severity) == (1, band)


def test_a_re_run_in_another_environment_is_said_and_saves_nothing(facts: MakeFacts) -> None:
    case = case_of(
        facts(GREEN), facts({"a::x": "failed", "a::y": "passed"}), rerun_fault="ci.rerun-environment"
    )

    verdict = judge(case, Policy())

    assert (verdict.exit, verdict.warnings) == (1, ("ci.rerun-environment",))


def test_an_edited_policy_is_shown_and_does_not_close(facts: MakeFacts) -> None:
    verdict = judge(case_of(facts(GREEN), facts(GREEN), policy_changed=True), Policy())

    assert (verdict.exit, verdict.warnings) == (0, ("ci.policy-changed",))


def test_broken_evidence_is_exit_three_whatever_else_is_wrong(facts: MakeFacts) -> None:
    case = case_of(None, facts({"a::x": "failed"}), broken=(("ci.evidence-tampered", "blob 12"),))

    assert judge(case, Policy()).exit == 3


@pytest.mark.parametrize("name", list(GATES))
def test_a_gate_that_raises_refuses(facts: MakeFacts, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_view: object) -> Gate:
        raise ZeroDivisionError("inside the gate")

    monkeypatch.setattr(gates_module, "GATES", {**GATES, name: crash})

    verdict = judge(case_of(facts(GREEN), facts(GREEN)), Policy())

    assert verdict.verdict == "failed"
    assert "ci.gate-crashed" in verdict.reasons
    assert any("inside the gate" in found.because for found in verdict.gates)


def test_a_delta_that_cannot_be_built_fails_and_is_still_reported(
    facts: MakeFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("no delta")

    monkeypatch.setattr(gates_module, "compare", crash)

    verdict = judge(case_of(facts(GREEN), facts(GREEN)), Policy())

    assert verdict.reasons == ("ci.gate-crashed",)
    assert verdict.as_json()["exit"] == 1


def test_a_thousand_random_combinations_agree_with_three_lines() -> None:
    rng = random.Random(5)
    for _ in range(1_000):
        gates = [
            Gate(name, rng.choice(["ok", "ok", "failed", "na"]), "b", closes=rng.random() < 0.7)
            for name in GATES
        ]

        failed = [g.gate for g in gates if g.outcome == "failed"]
        closed = [g for g in gates if g.outcome == "na" and g.closes]
        expected = (
            ("failed", 3 if "integrity" in failed else 1) if failed else ("na", 4) if closed else ("ok", 0)
        )

        assert combine(gates) == expected
