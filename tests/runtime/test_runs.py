from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import Batch
from sterling.kernel.hashing import CONFIG_TAG, tagged_hash
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.shipped import package_root
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import (
    Run,
    RunModeDiffers,
    RunNotOpen,
    RunUnknown,
    StepSettledTwice,
    StepUnknown,
    list_runs,
    open_run,
    read_plan,
    read_run,
    recover_runs,
)
from sterling.testing.clock import FakeClock

PLAN = of_phases("ci", [("read", []), ("judge", ["read"]), ("write", ["judge"])], seed=3)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


def opened(home: Home) -> Run:
    return open_run(home, pack="ci", plan=PLAN, origin="attended", title="A run", inputs=["r-1"])


def test_a_run_keeps_the_settings_it_worked_under(home: Home, tmp_path: Path) -> None:
    home.close()
    with open_home(tmp_path / "home", settings=("ci.reruns=7",)) as other:
        open_run(other, pack="ci", plan=PLAN, origin="attended")
        (entry,) = other.ledger.read(kind="run.opened")
        raw = other.blobs.get(entry.payload["config_snapshot"]["blob"])

    assert tagged_hash(CONFIG_TAG, raw).hex() == entry.payload["config_sha256"]
    assert b'"ci.reruns":7' in raw and b'"set":["ci.reruns"]' in raw


def settle_all(run: Run) -> None:
    for step in PLAN.steps:
        run.settle(step.id, "ok", "ok", "Done.")


def test_a_run_whose_steps_all_settled_closes_ok(home: Home) -> None:
    with opened(home) as run:
        settle_all(run)

    view = read_run(home, run.id)
    assert (view.state, view.code, view.planned, view.settled) == ("ok", "ok", 3, 3)
    assert (view.pack, view.origin, view.title, view.seed, view.inputs) == (
        "ci",
        "attended",
        "A run",
        3,
        ("r-1",),
    )
    assert [row["step"] for row in view.outcomes] == ["read", "judge", "write"]
    assert view.started_us <= view.ended_us
    assert read_plan(home, run.id) == PLAN


def test_one_failed_step_fails_the_run_but_not_the_others(home: Home) -> None:
    with opened(home) as run:
        run.settle("read", "ok", "ok", "Done.")
        run.settle("judge", "failed", "step.raised", "ValueError: bad")
        run.settle("write", "na", "step.upstream-failed", "Needs judge, which failed.")

    view = read_run(home, run.id)
    assert (view.state, view.code) == ("failed", "step.raised")
    assert [row["state"] for row in view.outcomes] == ["ok", "failed", "na"]


def test_an_outcome_is_durable_before_settle_returns(home: Home, tmp_path: Path) -> None:
    run = opened(home)
    run.settle("read", "ok", "ok", "Done.")

    with open_home(tmp_path / "home", read_only=True) as reader:
        assert [row["step"] for row in read_run(reader, run.id).outcomes] == ["read"]
    run.close()


def test_a_second_outcome_for_a_step_is_refused(home: Home) -> None:
    run = opened(home)
    run.settle("read", "failed", "step.raised", "It broke.")

    with pytest.raises(StepSettledTwice):
        run.settle("read", "ok", "ok", "Now it did not.")
    run.close()
    assert read_run(home, run.id).outcomes[0]["state"] == "failed"


def test_the_ledger_itself_refuses_a_second_outcome_from_another_writer(home: Home) -> None:
    run = opened(home)
    other = Run(home, run.id, PLAN, run.opened)
    run.settle("read", "ok", "ok", "Done.")

    with pytest.raises(PreconditionFailed):
        other.settle("read", "failed", "step.raised", "No, it broke.")
    run.close()


def test_an_outcome_after_the_close_is_refused_here_and_by_the_ledger(home: Home) -> None:
    run = opened(home)
    other = Run(home, run.id, PLAN, run.opened)
    settle_all(run)
    run.close()

    with pytest.raises(RunNotOpen):
        run.settle("read", "ok", "ok", "Done.")
    with pytest.raises(PreconditionFailed):
        other.close()


def test_a_step_outside_the_plan_is_refused(home: Home) -> None:
    with opened(home) as run:
        with pytest.raises(StepUnknown):
            run.settle("ghost", "ok", "ok", "Done.")
        settle_all(run)


def test_closing_twice_gives_the_first_answer(home: Home) -> None:
    run = opened(home)
    settle_all(run)

    assert run.close() is run.close()
    assert sum(1 for _ in home.ledger.read(kind="run.closed", run=run.id)) == 1


def test_a_run_that_forgot_a_step_is_unsettled(home: Home) -> None:
    with opened(home) as run:
        run.settle("read", "ok", "ok", "Done.")

    view = read_run(home, run.id)
    assert (view.state, view.code, view.settled) == ("failed", "run.unsettled", 3)
    assert {row["reason"] for row in view.outcomes[1:]} == {"run.unsettled"}


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), RuntimeError("the disk is on fire"), SystemExit(3)])
def test_an_exception_closes_the_run_as_interrupted_and_goes_on(home: Home, problem: BaseException) -> None:
    run = opened(home)

    def work() -> None:
        with run:
            run.settle("read", "ok", "ok", "Done.")
            raise problem

    with pytest.raises(type(problem)):
        work()
    view = read_run(home, run.id)
    assert (view.state, view.code, view.settled) == ("failed", "run.interrupted", 3)
    assert [row["state"] for row in view.outcomes] == ["ok", "failed", "failed"]


def test_an_outcome_in_the_callers_batch_is_written_with_it_or_not_at_all(home: Home) -> None:
    run = opened(home)
    batch = Batch(run=run.id, step="read")
    batch.append("nonesuch.kind", {})
    run.settle("read", "ok", "ok", "Done.", batch=batch)
    with pytest.raises(Exception, match="nonesuch"):
        home.ledger.commit(batch)
    run.unsettle("read")

    assert read_run(home, run.id).outcomes == ()
    run.settle("read", "failed", "step.invalid-result", "It was refused.")
    run.close()
    assert read_run(home, run.id).outcomes[0]["reason"] == "step.invalid-result"


def test_lane_figures_count_findings_and_times(home: Home) -> None:
    with opened(home) as run:
        run.settle("read", "ok", "ok", "Done.", findings=2, wall_us=10)
        run.settle("judge", "ok", "ok", "Done.", wall_us=5)
        run.settle("write", "na", "ci.none", "Nothing to write.")

    lanes = read_run(home, run.id).lanes
    assert lanes["explanation"]["wall_us"] == 15
    assert (lanes["explanation"]["findings"], lanes["explanation"]["actionable_bp"]) == (2, 5000)
    assert lanes["decision"]["planned"] == 0


def test_a_mode_or_seed_other_than_the_plans_is_a_usage_error(home: Home) -> None:
    for wrong in ({"mode": "legacy"}, {"seed": 4}):
        with pytest.raises(RunModeDiffers) as caught:
            open_run(home, pack="ci", plan=PLAN, origin="attended", **wrong)  # type: ignore[arg-type]
        assert caught.value.exit == 2
    assert list_runs(home) == []


def test_a_prefix_names_a_run_unless_it_names_two(home: Home) -> None:
    with opened(home) as run:
        settle_all(run)
    with opened(home) as second:
        settle_all(second)

    assert read_run(home, run.id[:20]).id == run.id
    for bad in ("run-", "", "run-zzzz", "x"):
        with pytest.raises(RunUnknown) as caught:
            read_run(home, bad)
        assert caught.value.exit == 2
    assert [view.id for view in list_runs(home)] == [run.id, second.id]


def test_a_run_of_a_living_process_is_not_recovered(home: Home) -> None:
    run = opened(home)

    assert recover_runs(home) == []
    run.close()


ABANDON = """
import os, sys
from pathlib import Path
from sterling.kernel.home import open_home
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import open_run
home = open_home(Path(sys.argv[1]))
plan = of_phases("ci", [("read", []), ("judge", ["read"]), ("write", ["judge"])])
run = open_run(home, pack="ci", plan=plan, origin="drain")
for step in ("read", "judge", "write")[: int(sys.argv[2])]:
    run.settle(step, "ok", "ok", "Done.")
print(run.id, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("settled", [0, 1, 3])
def test_a_run_whose_process_was_killed_is_closed_as_abandoned_once(tmp_path: Path, settled: int) -> None:
    path = tmp_path / "home"
    init_home(path).close()
    environment = {**os.environ, "PYTHONPATH": str(package_root().parent)}
    killed = subprocess.run(
        [sys.executable, "-c", ABANDON, str(path), str(settled)],
        capture_output=True,
        text=True,
        env=environment,
    )
    run_id = killed.stdout.strip()

    with open_home(path) as home:
        assert read_run(home, run_id).state == "open"
        assert recover_runs(home) == [run_id]
        assert recover_runs(home) == []
        view = read_run(home, run_id)

    assert killed.returncode == -9
    assert (view.state, view.code, view.planned, view.settled) == ("failed", "run.abandoned", 3, 3)
    assert [row["reason"] for row in view.outcomes] == ["ok"] * settled + ["run.abandoned"] * (3 - settled)


def test_a_reused_pid_or_another_boot_does_not_keep_a_run_alive(tmp_path: Path) -> None:
    clock = FakeClock()
    with init_home(tmp_path / "home", clock=clock) as home:
        run = opened(home)
        clock.reboot()

        assert recover_runs(home) == [run.id]
