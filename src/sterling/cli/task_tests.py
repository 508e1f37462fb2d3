"""Ci's verdict in the shape that the autopilot asks for. Two packs meet here as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sterling.kernel.home import Home
    from sterling.packs.autopilot.door import TestCase, TestVerdict

__all__ = ["judge_tests"]


def judge_tests(home: Home, case: TestCase) -> TestVerdict:
    """Run the tests of base and head through ci and say what its decision was.

    Errors: checkout.*, ci.*, and what keeps the ledger from taking the decision.
    """
    from sterling.packs.autopilot.door import TestVerdict
    from sterling.packs.ci import door as ci

    order = ci.order_tests(case.repository, case.argv, revision=case.head, timeout_s=case.wall_s)
    assessed = ci.assess_change(ci.request_change(order, base=case.base, capture=True), home=home)
    decision = assessed.decision
    verdict = decision.verdict
    closing = [
        f"{gate.gate}: {gate.because}"
        for gate in verdict.gates
        if gate.outcome == "failed" or (gate.outcome == "na" and gate.closes)
    ]
    counts = ", ".join(f"{count} {name}" for name, count in sorted(verdict.delta.counts.items()) if count)
    states = verdict.delta.states
    return TestVerdict(
        state=verdict.verdict,
        code=verdict.reasons[0] if verdict.reasons else "ok",
        because=" ".join(closing)[:1500] or f"Every gate of ci that closes is open ({counts}).",
        records=(decision.id,),
        outcomes={name: result.outcome for name, result in assessed.head.tests.items()},
        base_outcomes={name: state.base for name, state in states.items()},
    )
