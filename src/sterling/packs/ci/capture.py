"""Capturing a baseline: run the base, judge its health, keep it either way.

With repetitions, ids whose outcome swings are marked unstable. A run that was cut
short or saw no test makes a baseline that is kept for reading and never used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.home import Home
from sterling.kernel.records import Record, RecordRef
from sterling.packs.ci.baseline import Baseline, KeyParts, health_of, unstable_ids
from sterling.packs.ci.evidence import key_parts, load_baseline, record_baseline
from sterling.packs.ci.runner import Order, Prepared
from sterling.packs.ci.steps import RunResult, attempt_step, ci_run, prepare_step
from sterling.runtime.runs import Run

__all__ = ["Captured", "capture_baseline", "capture_in_run", "find_baseline", "near_baseline"]

REPEAT_MAX = 20


@dataclass(frozen=True, slots=True)
class Captured:
    """A baseline that is in the ledger."""

    run: str
    baseline: Baseline
    record: RecordRef
    results: tuple[RunResult, ...]


def capture_baseline(order: Order, *, home: Home, repeat: int = 1) -> Captured:
    """Run a base one or more times and record its baseline, healthy or not.

    Errors: checkout.*, command.variable-missing, home and ledger errors.
    """
    phases = [("base", ()), ("health", ("base",))]
    with ci_run(home, phases, title=" ".join(order.argv), inputs=[order.commit or "worktree"]) as (run, root):
        prepared = prepare_step(run, "base", order, root / "base-1")
        captured = capture_in_run(home, run, "base", prepared, root, repeat=repeat)
        times = "once" if repeat == 1 else f"{repeat} times"
        evidence = [{"role": "baseline", "record": captured.record.id}]
        run.settle("base", "ok", "ok", f"The base ran {times}.", evidence=evidence)
        if captured.baseline.healthy:
            run.settle("health", "ok", "ok", "The baseline is healthy.", evidence=evidence)
        else:
            why = captured.baseline.why
            run.settle("health", "failed", "ci.baseline-unhealthy", why, evidence=evidence)
        return captured


def capture_in_run(
    home: Home, run: Run, step: str, prepared: Prepared, root: Path, *, repeat: int = 1
) -> Captured:
    """Capture within a run that is open; the step stays open."""
    results: list[RunResult] = []
    for turn in range(1, repeat + 1):
        if turn > 1:
            prepared = prepare_step(run, step, prepared.order, root / f"{step}-{turn}")
        results.append(attempt_step(home, run, step, prepared, purpose="base"))
    baseline = _baseline_of(results)
    batch = Batch(run=run.id, step=step)
    record = record_baseline(home, batch, baseline, [result.refs.facts for result in results])
    home.ledger.commit(batch)
    return Captured(run.id, baseline, record, tuple(results))


def find_baseline(home: Home, parts: KeyParts) -> tuple[Baseline, Record] | None:
    """The newest healthy baseline for exactly these parts, if the ledger holds one.

    Errors: blob.altered, blob.absent, integrity.record-altered.
    """
    key, found = parts.key, None
    for record in _captured_here(home):
        if record.document["key"] == key:
            found = record
    return None if found is None else (load_baseline(home, found), found)


def near_baseline(home: Home, tree: str) -> Baseline | None:
    """The newest healthy baseline of the same tree under any command or environment."""
    found = None
    for record in _captured_here(home):
        if record.document["parts"]["tree"] == tree:
            found = record
    return None if found is None else load_baseline(home, found)


def _captured_here(home: Home) -> Iterator[Record]:
    """Healthy baselines that this home ran itself.

    One that came as a file holds for the verdict it was named in: its seal proves
    that nobody edited it since, not who made it.
    """
    for record in home.records.read("ci.baseline"):
        if record.document["healthy"] and record.document["facts"]:
            yield record


def _baseline_of(results: Sequence[RunResult]) -> Baseline:
    first = results[0]
    prepared = first.attempt.prepared
    whys = [health_of(result.attempt.facts) for result in results]
    why = next((text for text in whys if text), "")
    if not why and prepared.checkout.dirty:
        # Nobody can find a dirty tree again, so it is the base of nothing.
        why = "The tree was not committed, so no change can be measured from it."
    if not why and len({result.attempt.prepared.tree for result in results}) > 1:
        why = "The tree changed between the repetitions."
    return Baseline(
        parts=key_parts(prepared),
        facts=first.attempt.facts,
        healthy=not why,
        why=why,
        unstable=unstable_ids([result.attempt.facts for result in results]) if len(results) > 1 else (),
        commit=prepared.checkout.commit,
        dirty=prepared.checkout.dirty,
        policy_text=None if prepared.policy is None else prepared.policy.decode("utf-8", "replace"),
        runs=len(results),
    )
