"""The decision record: a verdict and all it rests on, appended before anybody hears it.

`decide` judges and appends delta and decision in one transaction. If the append
is refused there is no verdict: `ci.ledger-refused`, exit 1, and nothing is
printed. `case_of_decision` builds the same case again from the records, so that
a decision can be checked after the checkout and the reports are gone.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Record, Source
from sterling.packs.ci.baseline import Baseline, baseline_from_json
from sterling.packs.ci.evidence import load_facts, read_blob_json, record_delta
from sterling.packs.ci.gates import BaselineCase, Case
from sterling.packs.ci.policy import Policy
from sterling.packs.ci.verdict import Verdict, judge
from sterling.runtime.runs import Run

__all__ = ["Basis", "Decision", "LedgerRefused", "case_of_decision", "decide", "usable_baseline"]


class LedgerRefused(SterlingError):
    """The decision could not be appended, so there is none."""

    code = "ci.ledger-refused"
    hint = "Mend the home first: `sterling verify`, then run `sterling ci verdict` again."


@dataclass(frozen=True, slots=True)
class Basis:
    """The records behind a case. Empty ids stand for what does not exist."""

    facts: str
    run: str = ""
    environment: str = ""
    tree: str = ""
    commit: str = ""
    dirty: bool = False
    baseline: str = ""
    baseline_content: str = ""
    reruns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict that is in the ledger."""

    id: str
    delta: str
    verdict: Verdict
    document: Json


def usable_baseline(found: Baseline, *, named: bool, because: str, same_harness: bool) -> BaselineCase:
    """The case of a baseline that may be compared with, or of an unhealthy one."""
    return BaselineCase(
        state="usable" if found.healthy else "unhealthy",
        because=because if found.healthy else found.why,
        named=named,
        key=found.key,
        tree=found.parts.tree,
        facts=found.facts,
        unstable=frozenset(found.unstable),
        same_harness=same_harness,
    )


def decide(
    case: Case, policy: Policy, *, home: Home, basis: Basis, run: Run | None = None, step: str = "judge"
) -> Decision:
    """Judge a case and append the decision; with a run, its step is settled in the same transaction.

    Errors: LedgerRefused, and nothing was decided.
    """
    verdict = judge(case, policy)
    batch = Batch(run="" if run is None else run.id, step="" if run is None else step)
    try:
        delta = record_delta(
            home, batch, verdict.delta, baseline=basis.baseline, facts=basis.facts, reruns=basis.reruns
        )
        document = _document(case, policy, basis, verdict, delta.id)
        ref = home.records.put(batch, "ci.decision", document, _sources(basis, delta.id))
        if run is not None:
            reason = verdict.reasons[0] if verdict.reasons else "ok"
            evidence = [{"role": "decision", "record": ref.id}]
            run.settle(step, verdict.verdict, reason, _sentence(verdict), evidence=evidence, batch=batch)
        home.ledger.commit(batch)
    except (SterlingError, OSError, sqlite3.Error) as problem:
        if run is not None:
            run.unsettle(step)
        words = problem.message if isinstance(problem, SterlingError) else str(problem)
        raise LedgerRefused(f"expected to append the decision, found {words}") from problem
    return Decision(ref.id, delta.id, verdict, document)


def case_of_decision(home: Home, record: Record) -> tuple[Case, Policy]:
    """The case and the policy a decision was made on, rebuilt from the ledger and its blobs.

    Errors: record.absent, integrity.record-altered, blob.altered, blob.absent.
    """
    document = record.document
    given = document["case"]
    baseline = None
    if given["baseline_content"]:
        baseline = baseline_from_json(read_blob_json(home, given["baseline_content"]))
    found = BaselineCase(
        state=given["baseline_state"],
        because=given["baseline_because"],
        named=given["baseline_named"],
        key=baseline.key if baseline else "",
        tree=baseline.parts.tree if baseline else "",
        facts=baseline.facts if baseline else None,
        unstable=frozenset(baseline.unstable) if baseline else frozenset(),
        same_harness=given["same_harness"],
    )
    case = Case(
        head=load_facts(home, document["head"]["facts"]),
        baseline=found,
        head_tree=document["head"]["tree"],
        reruns=tuple(load_facts(home, name) for name in given["reruns"]),
        rerun_fault=given["rerun_fault"],
        broken=tuple((row["code"], row["because"]) for row in given["broken"]),
        policy_changed=given["policy_changed"],
        expects_change=given["expects_change"],
        citations={role: tuple(names) for role, names in given["citations"].items()},
    )
    policy = document["policy"]
    return case, Policy(frozenset(policy["block"]), policy["reruns"], policy["text_sha256"])


def _document(case: Case, policy: Policy, basis: Basis, verdict: Verdict, delta: str) -> dict[str, Json]:
    baseline = case.baseline
    used: dict[str, Json] | None = None
    if baseline.key:
        used = {"key": baseline.key, "tree": baseline.tree, "record": basis.baseline}
    return {
        **verdict.as_json(),
        "exit_class": case.head.exit_class,
        "tally": dict(case.head.tally),
        "baseline": used,
        "delta": delta,
        "head": {
            "tree": basis.tree,
            "commit": basis.commit,
            "dirty": basis.dirty,
            "gate_hash": case.head.gate_hash,
            "facts": basis.facts,
            "run": basis.run,
        },
        "environment": basis.environment,
        "policy": policy.as_json(),
        "rule": policy.rule,
        "overrides": [],
        "notes": list(basis.notes),
        "case": {
            "baseline_state": baseline.state,
            "baseline_because": baseline.because,
            "baseline_named": baseline.named,
            "baseline_content": basis.baseline_content,
            "same_harness": baseline.same_harness,
            "rerun_fault": case.rerun_fault,
            "reruns": list(basis.reruns),
            "broken": [{"code": code, "because": because} for code, because in case.broken],
            "policy_changed": case.policy_changed,
            "expects_change": case.expects_change,
            "citations": {role: list(names) for role, names in sorted(case.citations.items())},
        },
    }


def _sources(basis: Basis, delta: str) -> list[Source]:
    sources = [Source("facts", record=basis.facts), Source("delta", record=delta)]
    sources += [
        Source(role, record=name)
        for role, name in (
            ("run", basis.run),
            ("environment", basis.environment),
            ("baseline", basis.baseline),
        )
        if name
    ]
    sources += [Source("rerun", record=name) for name in basis.reruns]
    if basis.baseline_content:
        sources.append(Source("baseline-content", blob=basis.baseline_content))
    return sources


def _sentence(verdict: Verdict) -> str:
    if verdict.verdict == "ok":
        return "Every gate that closes is open."
    closing = [
        gate for gate in verdict.gates if gate.outcome == "failed" or (gate.outcome == "na" and gate.closes)
    ]
    return " ".join(f"{gate.gate}: {gate.because}" for gate in closing)[:1900]
