"""The steps of a ci run: a copy is made, a command is run in it, each is settled durably.

A workspace whose process was killed is removed when the next run starts, once
the run it belonged to is closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.packs.ci.evidence import AttemptRefs, record_attempt
from sterling.packs.ci.facts import clean_text
from sterling.packs.ci.gates import Gate, exit_of
from sterling.packs.ci.runner import (
    Attempt,
    Order,
    Prepared,
    execute,
    left_workspaces,
    prepare,
    remove_tree,
    workspace,
)
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import Run, open_run

__all__ = ["RunResult", "attempt_step", "ci_run", "prepare_step", "run_tests", "settle_attempt"]


@dataclass(frozen=True, slots=True)
class RunResult:
    """One attempt, its records, and what its end says by itself."""

    run: str
    attempt: Attempt
    refs: AttemptRefs
    gate: Gate


@contextlib.contextmanager
def ci_run(
    home: Home, phases: Sequence[tuple[str, Sequence[str]]], *, title: str, inputs: Sequence[str] = ()
) -> Iterator[tuple[Run, Path]]:
    """An open run with these phases and a workspace of its own; both end with the block."""
    _sweep(home)
    plan = of_phases("ci", phases)
    names = [clean_text(name) for name in inputs]
    with (
        open_run(
            home, pack="ci", plan=plan, origin="attended", inputs=names, title=clean_text(title)[:200]
        ) as run,
        workspace(run.id) as root,
    ):
        yield run, root


def prepare_step(run: Run, step: str, order: Order, root: Path) -> Prepared:
    """Make the copy; a copy that cannot be made settles the step as failed and ends the run.

    Errors: as `prepare`.
    """
    try:
        return prepare(order, root)
    except SterlingError as problem:
        run.settle(step, "failed", problem.code, problem.message)
        raise


def attempt_step(
    home: Home, run: Run, step: str, prepared: Prepared, *, purpose: str, argv: Sequence[str] | None = None
) -> RunResult:
    """Run the command once and record what it left, durably; the step stays open."""
    attempt = execute(prepared, blobs=home.blobs, clock=home.clock, argv=argv)
    batch = Batch(run=run.id, step=step)
    refs = record_attempt(home, batch, attempt, purpose=purpose)
    home.ledger.commit(batch)
    return RunResult(run.id, attempt, refs, exit_of(attempt.facts))


def settle_attempt(run: Run, step: str, result: RunResult) -> None:
    """Settle a step by how its attempt ended: failing tests are a result, a broken run is not."""
    gate = result.gate
    run.settle(
        step,
        gate.outcome,
        gate.code or "ok",
        gate.because,
        evidence=[
            {"role": "attempt", "record": result.refs.run.id},
            {"role": "facts", "record": result.refs.facts.id},
        ],
        wall_us=result.attempt.ended_us - result.attempt.started_us,
    )


def run_tests(order: Order, *, home: Home) -> RunResult:
    """Run a test command in a clean copy and keep what it leaves.

    Errors: checkout.*, command.variable-missing, home and ledger errors.
    """
    phases = [("copy", ()), ("tests", ("copy",))]
    with ci_run(home, phases, title=" ".join(order.argv), inputs=[order.commit or "worktree"]) as (run, root):
        prepared = prepare_step(run, "copy", order, root / "run")
        run.settle("copy", "ok", "ok", f"{len(prepared.listing.entries)} files, tree {prepared.tree[:12]}.")
        result = attempt_step(home, run, "tests", prepared, purpose="run")
        settle_attempt(run, "tests", result)
        return result


def _sweep(home: Home) -> None:
    for run_id, path in left_workspaces():
        if any(True for _ in home.ledger.read(kind="run.closed", run=run_id)):
            remove_tree(path)
