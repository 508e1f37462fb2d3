"""From a change to a decision: base, head, re-runs, judge.

`assess_change` runs both sides; `assess_reports` takes reports that were made
elsewhere and a baseline file. Nothing here decides: it gathers a case, hands it
to the judge, and the judge's answer is appended before it is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.home import Home
from sterling.packs.ci.baseline import Baseline, differences
from sterling.packs.ci.baseline_file import BaselineTampered, read_baseline_file
from sterling.packs.ci.capture import capture_in_run, find_baseline, near_baseline
from sterling.packs.ci.checkout import Checkout, copy_revision, read_at
from sterling.packs.ci.decision import Basis, Decision, decide, usable_baseline
from sterling.packs.ci.delta import compare
from sterling.packs.ci.evidence import ReadingInputs, key_parts, record_baseline, record_facts
from sterling.packs.ci.exits import EXIT_RULES, ProcessEnd
from sterling.packs.ci.facts import Facts
from sterling.packs.ci.gates import BaselineCase, Case
from sterling.packs.ci.ingest import ingest_reports
from sterling.packs.ci.policy import POLICY_FILE, Policy, parse_policy
from sterling.packs.ci.rerun import rerun_argv, settle_reruns, to_run_again
from sterling.packs.ci.runner import Order, Prepared
from sterling.packs.ci.steps import RunResult, attempt_step, ci_run, prepare_step, settle_attempt
from sterling.runtime.fingerprint import tree_hash
from sterling.runtime.runs import Run

__all__ = ["Assessed", "ChangeRequest", "assess_change", "assess_reports"]

Say = Callable[[str], None]


def _silent(_words: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """What to judge: the head's order, and where its baseline comes from."""

    order: Order
    base: str = ""
    baseline_file: Path | None = None
    capture: bool = False
    expects_change: bool = False


@dataclass(frozen=True, slots=True)
class Assessed:
    """A decision and the run it was made in."""

    run: str
    decision: Decision
    head: Facts


@dataclass(frozen=True, slots=True)
class _Base:
    """What the base step found. `parts` and `baseline` are empty where there is none."""

    case: BaselineCase
    baseline: Baseline | None = None
    record: str = ""
    broken: tuple[tuple[str, str], ...] = ()


def assess_change(request: ChangeRequest, *, home: Home, say: Say = _silent) -> Assessed:
    """Run the base if needed, the head, what blocks once more, and judge.

    `say` hears which of these starts.

    Errors: checkout.*, ci.policy-invalid, baseline.unreadable, ci.ledger-refused.
    """
    named = None if request.baseline_file is None else _named_baseline(request.baseline_file)
    policy_text = _policy_text(request, named)
    policy = parse_policy(policy_text)
    phases = [("base", ()), ("head", ()), ("rerun", ("head",)), ("judge", ("base", "head", "rerun"))]
    inputs = [request.base or "no base", request.order.commit or "worktree"]
    with ci_run(home, phases, title=" ".join(request.order.argv), inputs=inputs) as (run, root):
        if named is None:
            base = _base_step(home, run, request, root, say)
        else:
            base = _of_base(named, request, root)
        _settle_base(run, base)
        say("running the tests of the change")
        prepared = prepare_step(run, "head", request.order, root / "head")
        result = attempt_step(home, run, "head", prepared, purpose="head")
        settle_attempt(run, "head", result)
        base, notes = _comparable(home, run, base, prepared)
        reruns, fault = _rerun_step(home, run, base.case, result, policy, root, say)
        case = Case(
            head=result.attempt.facts,
            baseline=base.case,
            head_tree=prepared.tree,
            reruns=tuple(again.attempt.facts for again in reruns),
            rerun_fault=fault,
            broken=base.broken,
            policy_changed=(prepared.policy != policy_text) if request.base or named else False,
            expects_change=request.expects_change,
            citations=_citations(result, reruns, base.record),
        )
        basis = _basis(home, base, result, reruns, notes)
        decision = decide(case, policy, home=home, basis=basis, run=run)
        return Assessed(run.id, decision, result.attempt.facts)


def assess_reports(
    reports: Sequence[tuple[str, Path]],
    *,
    home: Home,
    end: ProcessEnd | None,
    baseline_file: Path,
    listing: Sequence[str] = (),
) -> Assessed:
    """Judge reports that a run elsewhere left, against a baseline file.

    Errors: baseline.unreadable, ci.policy-invalid, ci.ledger-refused.
    """
    base = _named_baseline(baseline_file)
    text = None if base.baseline is None else base.baseline.policy_text
    policy = parse_policy(None if text is None else text.encode("utf-8"))
    with ci_run(
        home, [("ingest", ()), ("judge", ("ingest",))], title="reports", inputs=[name for name, _ in reports]
    ) as (run, _):
        known = {*listing, *_paths_of(base.baseline)}
        inputs = ReadingInputs(paths=sorted(known), end=end)
        facts = ingest_reports(reports, blobs=home.blobs, listing=inputs.paths, end=end)
        batch = Batch(run=run.id, step="ingest")
        ref = record_facts(home, batch, facts, inputs=inputs, purpose="head")
        evidence = [{"role": "facts", "record": ref.id}]
        words = f"{len(facts.tests)} tests read from {len(facts.sources)} reports."
        run.settle(
            "ingest",
            "na" if facts.fault else "ok",
            facts.fault or "ok",
            facts.because or words,
            evidence=evidence,
            batch=batch,
        )
        home.ledger.commit(batch)
        base, notes = _comparable(home, run, base, None)
        case = Case(
            head=facts,
            baseline=base.case,
            citations={"facts": (ref.id,), "baseline": (base.record,) if base.record else ()},
        )
        basis = Basis(
            facts=ref.id, baseline=base.record, baseline_content=_content(home, base), notes=tuple(notes)
        )
        return Assessed(run.id, decide(case, policy, home=home, basis=basis, run=run), facts)


def _named_baseline(path: Path) -> _Base:
    """A baseline that a person named; a broken seal is a case of its own, not an error."""
    try:
        found = read_baseline_file(path)
    except BaselineTampered as problem:
        return _Base(BaselineCase("tampered", problem.message, named=True))
    return _Base(
        usable_baseline(found, named=True, because=f"Named: {path.name}.", same_harness=False), found
    )


def _of_base(named: _Base, request: ChangeRequest, root: Path) -> _Base:
    """A named baseline, held against the base commit if one was named too."""
    if not request.base or named.baseline is None or named.case.state != "usable":
        return named
    copy_revision(request.order.repository, request.base, root / "base-tree")
    tree = tree_hash(root / "base-tree")
    if tree == named.baseline.parts.tree:
        return named
    because = f"The named baseline is of another tree than {request.base[:12]}."
    return replace(named, case=replace(named.case, state="mismatch", because=because))


def _policy_text(request: ChangeRequest, named: _Base | None) -> bytes | None:
    """The policy of the base: from the commit, else from the baseline that was named."""
    if request.base:
        return read_at(request.order.repository, request.base, POLICY_FILE)
    text = named.baseline.policy_text if named and named.baseline else None
    return None if text is None else text.encode("utf-8")


def _base_step(home: Home, run: Run, request: ChangeRequest, root: Path, say: Say) -> _Base:
    """The baseline of the base commit: the newest healthy one in the ledger, or captured now if allowed."""
    if not request.base:
        because = "No base was named, and the branch has no upstream to take one from."
        return _Base(BaselineCase("missing", because))
    prepared = prepare_step(run, "base", replace(request.order, commit=request.base), root / "base-1")
    try:
        known = find_baseline(home, key_parts(prepared))
        near = None if known or request.capture else near_baseline(home, prepared.tree)
    except SterlingError as problem:
        if problem.exit != EXIT_BROKEN:
            raise
        broken = ("ci.evidence-tampered", f"A kept baseline does not verify: {problem.message}.")
        return _Base(BaselineCase("missing", broken[1]), broken=(broken,))
    if known is not None:
        because = f"A healthy baseline of {request.base[:12]} from run {known[1].run}."
        return _Base(
            usable_baseline(known[0], named=False, because=because, same_harness=True), known[0], known[1].id
        )
    if request.capture:
        say(f"running the tests of the base {request.base[:12]}, to have a baseline")
        captured = capture_in_run(home, run, "base", prepared, root)
        because = f"A healthy baseline of {request.base[:12]}, captured in this run."
        found = usable_baseline(captured.baseline, named=False, because=because, same_harness=True)
        return _Base(found, captured.baseline, captured.record.id)
    if near is not None:
        blocking, _ = differences(near.parts, key_parts(prepared))
        because = (
            f"There is a baseline of this base for something else: {'; '.join(blocking) or 'other plugins'}."
        )
        return _Base(BaselineCase("mismatch", because))
    because = (
        f"Nothing was captured for {request.base[:12]} under this command, so nobody can say what vanished."
    )
    return _Base(BaselineCase("missing", because))


def _settle_base(run: Run, base: _Base) -> None:
    case = base.case
    evidence = [{"role": "baseline", "record": base.record}] if base.record else []
    state, reason = {
        "usable": ("ok", "ok"),
        "missing": ("na", "ci.no-baseline"),
        "mismatch": ("na", "ci.baseline-mismatch"),
        "unhealthy": ("failed", "ci.baseline-unhealthy"),
        "tampered": ("failed", "ci.baseline-tampered"),
    }[case.state]
    if base.broken:
        state, reason = "failed", base.broken[0][0]
    run.settle("base", state, reason, case.because, evidence=evidence)


def _comparable(home: Home, run: Run, base: _Base, head: Prepared | None) -> tuple[_Base, list[str]]:
    """The base as it can be compared with this head, and what differs without standing in the way.

    A baseline that came as a file enters the ledger here, so that the decision can cite it.
    """
    if base.baseline is None or base.case.state != "usable":
        return base, []
    parts = None if head is None else key_parts(head)
    blocking, notes = differences(base.baseline.parts, parts)
    if base.baseline.dirty or not base.baseline.parts.tree:
        blocking.append("the baseline's tree was not committed, or is unknown")
    case = base.case
    if blocking:
        case = replace(case, state="mismatch", because=f"Cannot be compared: {'; '.join(blocking)}.")
    elif parts is not None:
        case = replace(case, same_harness=base.baseline.parts.plugins == parts.plugins)
    record = base.record
    if not record:
        batch = Batch(run=run.id)
        record = record_baseline(home, batch, base.baseline, ()).id
        home.ledger.commit(batch)
    return _Base(case, base.baseline, record), notes


def _rerun_step(
    home: Home, run: Run, base: BaselineCase, head: RunResult, policy: Policy, root: Path, say: Say
) -> tuple[list[RunResult], str]:
    """Ask what blocks again, up to the policy's count; returns the attempts and a fault, if any."""
    results: list[RunResult] = []
    for turn in range(1, policy.reruns + 1):
        again = [result.attempt.facts for result in results]
        names = _still_blocking(base, head.attempt.facts, again)
        if not names:
            break
        try:
            prepared = prepare_step(run, "rerun", head.attempt.prepared.order, root / f"rerun-{turn}")
        except SterlingError:
            return results, "ci.rerun-environment"
        if reason := _differs(head.attempt.prepared, prepared):
            run.settle("rerun", "na", "ci.rerun-environment", reason)
            return results, "ci.rerun-environment"
        say(f"asking again about {len(names)} that stand in the way")
        argv = _again(prepared, names, head.attempt.facts)
        results.append(attempt_step(home, run, "rerun", prepared, purpose="rerun", argv=argv))
    if results:
        evidence = [{"role": "attempt", "record": result.refs.run.id} for result in results]
        times = "once" if len(results) == 1 else f"{len(results)} times"
        run.settle("rerun", "ok", "ok", f"Asked again {times}.", evidence=evidence)
    else:
        run.settle("rerun", "na", "ci.nothing-to-rerun", "Nothing that ran stands in the way.")
    return results, ""


def _again(prepared: Prepared, names: Sequence[str], head: Facts) -> tuple[str, ...]:
    """The command for a re-run. Where broken files kept every test from running, all of it is repeated."""
    argv = prepared.order.argv
    if head.exit_class not in ("ok", "tests_failed"):
        return argv
    return rerun_argv(argv, names, exists=lambda path: (prepared.cwd / path).exists())


def _still_blocking(base: BaselineCase, head: Facts, reruns: Sequence[Facts]) -> tuple[str, ...]:
    """Ids and files that ran, block, and have not been seen to pass yet."""
    rule = EXIT_RULES.get(head.exit_class)
    if head.fault or rule is None or (rule.effect != "delta" and head.exit_class != "collect_failed"):
        return ()
    settled = settle_reruns(head, reruns).facts
    blocking: dict[str, str] = {}
    if base.state == "usable" and base.facts is not None and settled.exit_class in ("ok", "tests_failed"):
        delta = compare(base.facts, head, reruns)
        blocking = {name: found.state for name, found in delta.states.items() if found.state in _ASKED}
    return to_run_again(blocking, settled)


_ASKED = frozenset({"new_fail", "worse", "new_xfail"})


def _differs(first: Prepared, second: Prepared) -> str:
    if first.tree != second.tree:
        return "The working tree changed while the tests ran, so they cannot be asked again."
    if first.environment.fingerprint != second.environment.fingerprint:
        return "The environment changed while the tests ran, so they cannot be asked again."
    return ""


def _citations(head: RunResult, reruns: Sequence[RunResult], baseline: str) -> dict[str, tuple[str, ...]]:
    return {
        "run": (head.refs.run.id,),
        "facts": (head.refs.facts.id,),
        "reruns": tuple(again.refs.facts.id for again in reruns),
        "baseline": (baseline,) if baseline else (),
    }


def _basis(
    home: Home, base: _Base, head: RunResult, reruns: Sequence[RunResult], notes: Sequence[str]
) -> Basis:
    prepared = head.attempt.prepared
    return Basis(
        facts=head.refs.facts.id,
        run=head.refs.run.id,
        environment=head.refs.environment.id,
        tree=prepared.tree,
        commit=prepared.checkout.commit,
        dirty=prepared.checkout.dirty,
        baseline=base.record,
        baseline_content=_content(home, base),
        reruns=tuple(again.refs.facts.id for again in reruns),
        notes=(*_left_out(prepared.checkout), *notes),
    )


def _content(home: Home, base: _Base) -> str:
    return "" if base.baseline is None else home.blobs.put(canonical_bytes(base.baseline.as_json()))


def _left_out(checkout: Checkout) -> list[str]:
    notes = []
    if checkout.submodules:
        notes.append(f"Submodules were not copied: {', '.join(checkout.submodules[:5])}.")
    if checkout.pointers:
        notes.append(f"Pointers to large files were copied as they are: {', '.join(checkout.pointers[:5])}.")
    return notes


def _paths_of(baseline: Baseline | None) -> set[str]:
    if baseline is None:
        return set()
    return {name.partition("::")[0] for name in baseline.facts.tests} | set(baseline.facts.collectors)
