"""The gates of a verdict: each one question about the evidence, each answered by itself.

All gates run and none stops another. A gate is `ok`, `failed` or `na`; an `na`
that closes keeps the verdict from passing, one that does not says in its row why
nobody asked. A gate that raises is `failed ci.gate-crashed`: a guard that
crashes refuses.

Pure: a case and a policy in, gates out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from sterling.kernel.canonical import Json
from sterling.packs.ci.collect import explain_groups, group_by_cause
from sterling.packs.ci.delta import BLOCKS, CODES, KINDS, Delta, collectors_alone, compare
from sterling.packs.ci.exits import CLASS_WORDS, EXIT_RULES
from sterling.packs.ci.facts import ABSENT, Facts
from sterling.packs.ci.policy import Policy
from sterling.packs.ci.rerun import Settled, settle_reruns

__all__ = ["GATES", "BaselineCase", "Case", "Gate", "View", "exit_of", "run_gates"]

# Faults of the facts that say the change is at fault, not that evidence is out of reach.
_FAILED_FAULTS = frozenset({"ci.rendering-conflict", "ci.report-stale", "ci.report-missing"})
_REACHES = frozenset(name for name, rule in EXIT_RULES.items() if rule.effect == "delta")
_DELTA_FACETS = ("failing_ids", "all_ids", "skip_ids")


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate's answer. `codes` holds every reason it found, `code` the first of them."""

    gate: str
    outcome: str
    because: str
    codes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    closes: bool = True
    citations: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return self.codes[0] if self.codes else ""

    def as_json(self) -> dict[str, Json]:
        return {
            "gate": self.gate,
            "outcome": self.outcome,
            "code": self.code,
            "codes": list(self.codes),
            "warnings": list(self.warnings),
            "because": self.because,
            "closes": self.closes,
            "citations": list(self.citations),
        }


@dataclass(frozen=True, slots=True)
class BaselineCase:
    """The baseline before the judge: `usable`, `missing`, `unhealthy`, `mismatch` or `tampered`."""

    state: str
    because: str = ""
    named: bool = False
    key: str = ""
    tree: str = ""
    facts: Facts | None = None
    unstable: frozenset[str] = frozenset()
    same_harness: bool = False  # Command and environment are known to be equal to the head's.


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a verdict is built on. `broken` lists (code, sentence) of evidence that did not verify."""

    head: Facts
    baseline: BaselineCase
    head_tree: str = ""
    reruns: tuple[Facts, ...] = ()
    rerun_fault: str = ""
    broken: tuple[tuple[str, str], ...] = ()
    policy_changed: bool = False
    expects_change: bool = False
    citations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class View:
    """A case with what several gates derive from it, derived once."""

    def __init__(self, case: Case, policy: Policy) -> None:
        self.case, self.policy = case, policy

    @cached_property
    def settled(self) -> Settled:
        return settle_reruns(self.case.head, self.case.reruns)

    @property
    def reaches_delta(self) -> bool:
        """Whether the run ended in a way that lets its tests be compared at all."""
        return self.settled.facts.exit_class in _REACHES

    @cached_property
    def delta(self) -> Delta:
        baseline, head = self.case.baseline, self.case.head
        if baseline.facts is None or baseline.state != "usable" or not self.reaches_delta:
            return collectors_alone(baseline.facts, self.settled.facts)
        return compare(baseline.facts, head, self.case.reruns, unstable=baseline.unstable)


def exit_of(facts: Facts) -> Gate:
    """What a run's end says by itself, before anything is compared."""
    return _exit(View(Case(facts, BaselineCase("missing")), Policy()))


def run_gates(view: View) -> tuple[Gate, ...]:
    """Every gate's answer, in the order of the table."""
    return tuple(_asked(name, gate, view) for name, gate in GATES.items())


def _asked(name: str, gate: Callable[[View], Gate], view: View) -> Gate:
    try:
        return gate(view)
    except Exception as problem:  # noqa: BLE001 - a guard that crashes refuses, and says so
        because = f"The gate itself broke: {type(problem).__name__}: {problem}"[:500]
        return Gate(name, "failed", because, ("ci.gate-crashed",))


def _integrity(view: View) -> Gate:
    case = view.case
    warnings = ("ci.policy-changed",) if case.policy_changed else ()
    broken = list(case.broken)
    if case.baseline.state == "tampered":
        broken.append(("ci.baseline-tampered", case.baseline.because or "The baseline broke its seal."))
    if broken:
        codes = tuple(dict.fromkeys(code for code, _ in broken))
        return Gate("integrity", "failed", " ".join(sentence for _, sentence in broken), codes, warnings)
    because = "Every piece of evidence is what its hash says."
    if case.policy_changed:
        because += " The change edits the policy; the base's policy was used."
    return Gate("integrity", "ok", because, (), warnings)


def _noop(view: View) -> Gate:
    case = view.case
    if not case.expects_change:
        because = "Nobody claimed that this run contains a change."
        return Gate("noop", "na", because, ("ci.change-not-claimed",), closes=False)
    if not case.head_tree or not case.baseline.tree:
        return Gate(
            "noop", "na", "The trees before and after were not both measured.", ("ci.tree-unmeasured",)
        )
    if case.head_tree == case.baseline.tree:
        return Gate("noop", "failed", "A change was claimed and the tree is unchanged.", ("ci.noop",))
    return Gate("noop", "ok", "The tree differs from the baseline's.")


def _collection(view: View) -> Gate:
    facts, cited = view.settled.facts, _cited(view, "facts", "reruns")
    if facts.collectors:
        because = explain_groups(group_by_cause(facts.collectors))
        return Gate("collection", "failed", because, ("ci.collect-error",), citations=cited)
    if not view.case.head.complete("collectors"):
        code, because = _incomplete(view.case.head, ("collectors",))
        return Gate("collection", "na", because, (code,), citations=cited)
    if view.settled.healed:
        names = ", ".join(view.settled.healed[:3])
        because = f"Loaded on the second try only: {names}."
        return Gate("collection", "ok", because, (), ("ci.flaky",), citations=cited)
    return Gate("collection", "ok", "Every file was loaded.", citations=cited)


def _exit(view: View) -> Gate:
    # A run that got through speaks for itself; one stopped by a file that loaded on
    # the second try speaks through the re-run.
    head = view.case.head if view.case.head.exit_class in _REACHES else view.settled.facts
    cited = _cited(view, "run", "facts")
    if not head.exit_class:
        because = "No exit status is known, and it is never inferred from counts."
        return Gate("exit", "na", because, ("ci.exit-unknown",), citations=cited)
    rule = EXIT_RULES[head.exit_class]
    stated = _end_words(head)
    if rule.effect == "failed":
        return Gate("exit", "failed", f"{stated}.", (rule.code,), citations=cited)
    if rule.effect == "na":
        if rule.code == "ci.harness-fault" and _harness_was_sound(view.case.baseline):
            because = f"{stated}, and the same command ran clean on the baseline."
            return Gate("exit", "failed", because, ("ci.harness-broken-by-change",), citations=cited)
        return Gate("exit", "na", f"{stated}.", (rule.code,), citations=cited)
    if head.fault:
        outcome = "failed" if head.fault in _FAILED_FAULTS else "na"
        return Gate("exit", outcome, head.because, (head.fault,), citations=cited)
    if not head.complete("tally", "failing_ids"):
        code, because = _incomplete(head, ("tally", "failing_ids"))
        return Gate("exit", "na", because, (code,), citations=cited)
    return _consistent(head, stated, cited)


def _consistent(head: Facts, stated: str, cited: tuple[str, ...]) -> Gate:
    """Whether status and report tell the same story."""
    broken = [*head.failing, *sorted(head.collectors)]
    if head.exit_class == "ok" and broken:
        because = f"{stated}, yet the report names {len(broken)} failures, {broken[0]} among them."
        return Gate("exit", "failed", because, ("ci.exit-contradicts-report",), citations=cited)
    if head.exit_class == "tests_failed" and not broken:
        because = f"{stated}, yet the report names no failure."
        return Gate("exit", "failed", because, ("ci.exit-contradicts-report",), citations=cited)
    if not broken and not any(result.outcome != "skipped" for result in head.tests.values()):
        because = f"{stated}, and of {len(head.tests)} tests that are listed none ran."
        return Gate("exit", "failed", because, ("ci.no-tests-ran",), citations=cited)
    return Gate("exit", "ok", f"{stated}, as the report says.", citations=cited)


def _baseline(view: View) -> Gate:
    found = view.case.baseline
    cited = _cited(view, "baseline")
    if found.state == "usable":
        return Gate(
            "baseline", "ok", found.because or "A healthy baseline of the same command.", citations=cited
        )
    code = {
        "missing": "ci.no-baseline",
        "unhealthy": "ci.baseline-unhealthy",
        "mismatch": "ci.baseline-mismatch",
        "tampered": "ci.baseline-tampered",
    }[found.state]
    outcome = "failed" if found.state == "unhealthy" and found.named else "na"
    because = found.because or "There is no baseline, so nobody can say what vanished."
    return Gate("baseline", outcome, because, (code,), citations=cited)


def _delta(view: View) -> Gate:
    case, cited = view.case, _cited(view, "baseline", "facts", "reruns")
    if case.baseline.state != "usable" or case.baseline.facts is None:
        code = _baseline(view).code
        return Gate(
            "delta", "na", "Without a usable baseline nothing can be compared.", (code,), citations=cited
        )
    if not view.reaches_delta:
        code = _exit(view).code or "ci.exit-unknown"
        return Gate("delta", "na", "The run did not get far enough to be compared.", (code,), citations=cited)
    for side, facts in (("baseline", case.baseline.facts), ("head", case.head)):
        if not facts.complete(*_DELTA_FACETS):
            code, because = _incomplete(facts, _DELTA_FACETS)
            return Gate("delta", "na", f"In the {side}: {because}", (code,), citations=cited)
    counts = view.delta.counts
    blocking = [
        state for state in counts if (state in BLOCKS or state in view.policy.block) and state in CODES
    ]
    blocking = [state for state in blocking if state != "collect_error"]
    warning = [CODES[state] for state in counts if KINDS[state] == "warns" and state not in blocking]
    if blocking:
        if case.rerun_fault:
            warning.append(case.rerun_fault)
        because = f"{_counted(view.delta, blocking)}."
        return Gate(
            "delta", "failed", because, tuple(CODES[s] for s in blocking), tuple(warning), citations=cited
        )
    because = (
        f"No regression among {sum(counts.values())} tests."
        if not warning
        else "No regression, with warnings."
    )
    return Gate("delta", "ok", because, (), tuple(warning), citations=cited)


def _coverage(view: View) -> Gate:
    because = "No coverage report was asked for."
    return Gate("coverage", "na", because, ("ci.coverage-not-asked",), closes=False)


# The order in which gates are shown and their reasons listed.
GATES: Final[Mapping[str, Callable[[View], Gate]]] = {
    "integrity": _integrity,
    "noop": _noop,
    "collection": _collection,
    "exit": _exit,
    "baseline": _baseline,
    "delta": _delta,
    "coverage": _coverage,
}


def _cited(view: View, *roles: str) -> tuple[str, ...]:
    return tuple(name for role in roles for name in view.case.citations.get(role, ()))


def _incomplete(facts: Facts, names: tuple[str, ...]) -> tuple[str, str]:
    if facts.fault:
        return facts.fault, facts.because
    missing = [f"{name} ({facts.facets.get(name, ABSENT)})" for name in names if not facts.complete(name)]
    return "ci.facet-incomplete", f"the report does not tell {', '.join(missing)}."


def _harness_was_sound(baseline: BaselineCase) -> bool:
    return baseline.state == "usable" and baseline.same_harness


def _end_words(head: Facts) -> str:
    words = CLASS_WORDS[head.exit_class]
    if head.exit_signal is not None:
        return f"{words} (signal {head.exit_signal})"
    return words if head.exit_raw is None else f"{words} (status {head.exit_raw})"


def _counted(delta: Delta, states: list[str]) -> str:
    shown = []
    for state in states:
        names = delta.of_state(state)
        first = f" ({names[0]}{', …' if len(names) > 1 else ''})" if names else ""
        shown.append(f"{delta.counts[state]} {state}{first}")
    return ", ".join(shown)
