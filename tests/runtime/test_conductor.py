from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.shipped import package_root
from sterling.runtime import budgets
from sterling.runtime.conductor import CONDUCTOR_LEASE, PassReport, run_once
from sterling.runtime.dispatches import STOPS_MAX, Job, JobEnd, fold_history, held_back
from sterling.runtime.engine import Task, TaskEnd
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.manifest import load_manifest
from sterling.runtime.signals import Reading, Signal, SteadyClock
from sterling.runtime.window_store import read_window
from sterling.testing.fleet import Fleet

OK = "def run():\n    return Ok(metrics={'n': 1})\n"
BAD = "def run():\n    raise ValueError('bad')\n"
SLOW = (
    "import time\ndef run(should_stop):\n    while not should_stop():\n        time.sleep(0.005)\n"
    "    raise RuntimeError\n"
)
DEAF = "import time\ndef run():\n    time.sleep(60)\n"
IDLE: dict[Signal, Any] = {
    Signal.IDLE_MS: 600_000,
    Signal.ACTIVE: False,
    Signal.FULLSCREEN: False,
    Signal.CPU_OTHER_BP: 0,
    Signal.RAM_USED_BP: 1_000,
}
BUSY = {**IDLE, Signal.IDLE_MS: 0, Signal.ACTIVE: True}
SCREEN = {**BUSY, Signal.FULLSCREEN: True}


@dataclass
class Sense:
    """A source of signals that a test sets; `then` takes over after so many looks."""

    values: dict[Signal, Any] = field(default_factory=lambda: dict(IDLE))
    then: dict[Signal, Any] | None = None
    after: Callable[[], bool] = lambda: False

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        values = self.then if self.then is not None and self.after() else self.values
        return [Reading(signal, value, "test", clock.boot_us()) for signal, value in values.items()]


class Refused(SterlingError):
    """What a source may raise."""

    code = "recall.test-refused"


@dataclass
class Toys:
    """A source of jobs over toy plugins: each key names a plugin, and leaves when it completed."""

    fleet: Fleet
    codes: dict[str, str]
    kind: str = "toy"
    done: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    refuse: tuple[str, ...] = ()

    def due(self, home: Home, limit: int) -> list[Job]:
        waiting = [key for key in self.codes if key not in self.done]
        return [Job(f"{self.kind}/{key}", self.kind, "recall", **self.changes) for key in waiting][:limit]

    def start(self, job: Job) -> Task:
        key = job.key.partition("/")[2]
        if key in self.refuse:
            raise Refused(f"no {key} today")
        path = self.fleet.add(key, self.codes[key])
        return Task(job.key, load_manifest(path, self.fleet.pack, self.fleet.folder), "", {})

    def accept(self, home: Home, job: Job, end: TaskEnd) -> JobEnd:
        if end.end != "returned":
            return JobEnd("failed", end.reason or "step.raised", end.message)
        self.done.append(job.key.partition("/")[2])
        return JobEnd("completed", "ok", "Done.")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def toys(tmp_path: Path) -> Callable[..., Toys]:
    def toys(codes: dict[str, str], **more: Any) -> Toys:
        return Toys(Fleet(tmp_path / "fleet", "recall"), codes, **more)

    return toys


def ends(report: PassReport) -> dict[str, tuple[str, str]]:
    assert len({one.job for one in report.dispatches}) == len(report.dispatches), "one dispatch a job"
    return {one.job.partition("/")[2]: (one.end, one.reason) for one in report.dispatches}


def configured(home: Home, tmp_path: Path, **settings: Any) -> Home:
    home.close()
    return open_home(
        tmp_path / "home", settings=tuple(f"governor.{key}={value}" for key, value in settings.items())
    )


def test_an_idle_machine_drains_what_is_due(home: Home, toys: Any) -> None:
    source = toys({"a": OK, "b": OK, "c": OK})

    report = run_once(home, [source], force=False, sources=[Sense()])

    assert ends(report) == dict.fromkeys("abc", ("completed", "ok"))
    assert (report.exit_status, report.left, report.mode) == (0, 0, "IDLE_DRAIN")
    assert [entry.payload["job"] for entry in home.ledger.read(kind="runtime.dispatch")] == [
        one.job for one in report.dispatches
    ]
    assert all("tree:subreaper" in one.walls and one.granted_ms > 0 for one in report.dispatches)


def test_nothing_due_is_a_pass_of_its_own(home: Home, toys: Any) -> None:
    report = run_once(home, [toys({})], force=False, sources=[Sense()])

    assert (report.dispatches, report.exit_status) == ((), 0)
    assert sum(1 for _ in home.ledger.read(kind="runtime.pass")) == 1


@pytest.mark.parametrize(("senses", "reason"), [(BUSY, "mode.user-active"), (SCREEN, "mode.fullscreen")])
def test_an_active_person_keeps_every_job_waiting_for_a_stated_reason(
    home: Home, toys: Any, senses: dict[Signal, Any], reason: str
) -> None:
    report = run_once(home, [toys({"a": OK, "b": OK})], force=False, sources=[Sense(senses)])

    assert ends(report) == dict.fromkeys("ab", ("not_admitted", reason))
    assert (report.exit_status, report.left, report.heavy_allowed) == (4, 2, False)
    assert all(one.because.strip() for one in report.dispatches)


def test_no_source_of_signals_at_all_means_active(home: Home, toys: Any) -> None:
    report = run_once(home, [toys({"a": OK})], force=False, sources=[], pause=lambda seconds: None)

    assert report.exit_status == 4


def test_forcing_sets_the_intent_of_a_person(home: Home, toys: Any) -> None:
    report = run_once(home, [toys({"a": OK})], force=True, sources=[Sense(BUSY)])

    assert (report.mode, report.exit_status) == ("USER_QUERY", 0)
    assert report.dispatches[0].origin == "forced"


def test_forcing_does_not_pass_a_full_screen(home: Home, toys: Any) -> None:
    report = run_once(home, [toys({"a": OK})], force=True, sources=[Sense(SCREEN)])

    assert ends(report) == {"a": ("not_admitted", "mode.fullscreen")}


def test_with_the_switch_off_a_forced_pass_waits_like_any_other(
    home: Home, toys: Any, tmp_path: Path
) -> None:
    with configured(home, tmp_path, user_query_heavy="false") as other:
        report = run_once(other, [toys({"a": OK})], force=True, sources=[Sense(BUSY)])

    assert ends(report) == {"a": ("not_admitted", "mode.user-active")}


def rewrite(home: Home, before: str, after: str) -> None:
    path = home.path / "sterling.toml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("after", ["workers_max = many", "workers_max = 9999", None])
def test_settings_that_became_bad_admit_no_further_job_until_they_are_mended(
    home: Home, toys: Any, after: str | None
) -> None:
    waiting = toys({"first": OK, "second": OK}, changes={"least_slice_ms": 1})
    rewrite(home, "workers_max = 0", "workers_max = 1")
    path, start = home.path / "sterling.toml", waiting.start

    def breaking(job: Job) -> Task:
        if after is None:
            path.rename(home.path / "elsewhere")
        else:
            rewrite(home, "workers_max = 1", after)
        return start(job)

    waiting.start = breaking
    report = run_once(home, [waiting], force=False, sources=[Sense()])

    assert ends(report)["second"] == ("not_admitted", "switch.unreadable")
    assert [entry.kind for entry in home.ledger.read(subject="config")] == [
        "config.changed",
        "config.invalid",
    ]

    waiting.start = start
    (home.path / "elsewhere").rename(path) if after is None else rewrite(home, after, "workers_max = 1")

    assert {end for end, _ in ends(run_once(home, [waiting], force=False, sources=[Sense()])).values()} == {
        "completed"
    }


def test_one_poisoned_job_does_not_keep_the_others_from_their_end(home: Home, toys: Any) -> None:
    codes = {f"job_{n:02}": OK for n in range(9)} | {"job_05": BAD}

    report = run_once(home, [toys(codes)], force=False, sources=[Sense()])

    assert ends(report)["job_05"] == ("failed", "step.raised")
    assert report.counts["completed"] == 8
    assert report.exit_status == 1


@pytest.mark.parametrize("part", ["start", "accept"])
def test_an_error_of_the_source_fails_that_job_alone(home: Home, toys: Any, part: str) -> None:
    source = toys({"a": OK, "b": OK}, refuse=("a",) if part == "start" else ())
    if part == "accept":
        accept = source.accept

        def refusing(home: Home, job: Job, end: TaskEnd) -> JobEnd:
            if job.key.endswith("a"):
                raise Refused("no a today")
            return accept(home, job, end)  # type: ignore[no-any-return]

        source.accept = refusing

    report = run_once(home, [source], force=False, sources=[Sense()])

    assert ends(report)["a"] == (
        "failed",
        "recall.test-refused" if part == "start" else "step.invalid-result",
    )
    assert ends(report)["b"] == ("completed", "ok")


def test_work_that_work_makes_is_found_in_the_same_pass(home: Home, toys: Any) -> None:
    source = toys({"first": OK})
    accept = source.accept

    def accepting(home: Home, job: Job, end: TaskEnd) -> JobEnd:
        source.codes["second"] = OK
        return accept(home, job, end)  # type: ignore[no-any-return]

    source.accept = accepting
    report = run_once(home, [source], force=False, sources=[Sense()])

    assert set(ends(report)) == {"first", "second"}


def test_a_limit_bounds_how_many_jobs_are_tried(home: Home, toys: Any) -> None:
    report = run_once(home, [toys(dict.fromkeys("abcd", OK))], force=False, limit=2, sources=[Sense()])

    assert len(report.dispatches) == 2


def test_a_person_who_comes_back_stops_the_running_job_and_it_is_queued_again(
    home: Home, toys: Any, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    source = toys({"slow": SLOW.replace("while", f"open({str(started)!r}, 'w').close()\n    while")})

    report = run_once(home, [source], force=False, sources=[Sense(then=dict(BUSY), after=started.exists)])

    assert ends(report) == {"slow": ("yielded", "mode.user-active")}
    assert not report.dispatches[0].forced
    assert (report.exit_status, report.left) == (4, 1)
    source.codes["slow"] = OK
    assert ends(run_once(home, [source], force=False, sources=[Sense()])) == {"slow": ("completed", "ok")}


def test_a_job_that_ignores_the_request_is_killed_at_the_deadline(
    home: Home, toys: Any, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    source = toys(
        {"deaf": DEAF.replace("time.sleep", f"open({str(started)!r}, 'w').close()\n    time.sleep")}
    )

    report = run_once(home, [source], force=False, sources=[Sense(then=dict(SCREEN), after=started.exists)])

    one = report.dispatches[0]
    assert (one.end, one.reason, one.forced) == ("yielded", "mode.fullscreen", True)
    assert one.charged_ms < 30_000


def test_a_cause_that_comes_before_the_body_runs_gives_the_slot_back(home: Home, toys: Any) -> None:
    source = toys({"a": OK})
    begun: list[bool] = []
    start = source.start

    def starting(job: Job) -> Task:
        begun.append(True)
        return start(job)  # type: ignore[no-any-return]

    source.start = starting
    report = run_once(
        home, [source], force=False, sources=[Sense(then=dict(BUSY), after=lambda: bool(begun))]
    )

    assert ends(report) == {"a": ("preempted_before_start", "mode.user-active")}
    assert (report.window["jobs"], report.window["in_flight"], report.window["leases"]) == (0, 0, [])
    assert report.exit_status == 4


def test_a_small_budget_starts_what_it_can_pay_and_says_so_of_the_rest(
    home: Home, toys: Any, tmp_path: Path
) -> None:
    codes = {
        f"job_{n:02}": "import time\ndef run():\n    time.sleep(0.9)\n    return Ok(metrics={'n': 1})\n"
        for n in range(20)
    }
    small = {"budget_ms": 120, "jobs_max": 2, "workers_max": 1, "query_floor_bp": 0}

    with configured(home, tmp_path, **small) as other:
        report = run_once(other, [toys(codes)], force=False, sources=[Sense()])
        again = run_once(other, [toys(codes)], force=False, sources=[Sense()])

    tried = [one for one in report.dispatches if one.end != "not_admitted"]
    assert 1 <= len(tried) <= 2
    assert {one.reason for one in report.dispatches} <= {
        "budget.exhausted",
        "budget.grant-used",
        "budget.jobs-exhausted",
    }
    assert report.window["spent_us"] <= 120_000 + 500_000 + 250_000 + 250_000
    assert again.window["index"] > report.window["index"] or again.counts["not_admitted"] == 20


def test_a_job_whose_least_slice_no_window_can_grant_fails_at_once(home: Home, toys: Any) -> None:
    report = run_once(
        home, [toys({"a": OK}, changes={"least_slice_ms": 86_000_000})], force=False, sources=[Sense()]
    )

    assert ends(report) == {"a": ("failed", "budget.never-fits")}


def test_a_restart_goes_on_with_the_same_books(home: Home, toys: Any, tmp_path: Path) -> None:
    first = run_once(home, [toys({"a": OK})], force=False, sources=[Sense()])
    home.close()

    with open_home(tmp_path / "home") as other:
        second = run_once(other, [toys({"b": OK})], force=False, sources=[Sense()])

    if second.window["index"] == first.window["index"]:
        assert second.window["jobs"] == first.window["jobs"] + 1
        assert second.window["spent_us"] > first.window["spent_us"]


def test_an_error_waits_its_windows_and_a_third_gives_the_job_up_until_a_person_asks(
    home: Home, toys: Any
) -> None:
    source = toys({"a": BAD})
    first = run_once(home, [source], force=False, sources=[Sense()])
    second = run_once(home, [source], force=False, sources=[Sense()])

    assert ends(first)["a"] == ("failed", "step.raised")
    assert ends(second)["a"] == ("not_admitted", "job.backoff")
    for _ in range(2):
        run_once(home, [source], force=True, sources=[Sense()])
    given_up = run_once(home, [source], force=False, sources=[Sense()])
    assert (given_up.dispatches, given_up.exit_status) == ((), 1)
    assert given_up.given_up[0][1].reason == "step.raised"
    source.codes["a"] = OK
    assert run_once(home, [source], force=True, sources=[Sense()]).exit_status == 0
    assert run_once(home, [toys({"a": OK})], force=False, sources=[Sense()]).exit_status == 0


def documents(*ends: tuple[str, str, int]) -> list[dict[str, Any]]:
    return [{"end": end, "reason": reason, "window": window} for end, reason, window in ends]


def test_history_forgets_errors_once_a_job_completed() -> None:
    history = fold_history(
        documents(("failed", "step.raised", 1), ("yielded", "mode.user-active", 2), ("completed", "ok", 3))
    )

    assert (history.errors, history.stops, held_back(history, 3, asked=False)) == (0, 0, None)


@pytest.mark.parametrize(("errors", "waits"), [(1, 1), (2, 2)])
def test_a_job_is_back_after_its_windows(errors: int, waits: int) -> None:
    history = fold_history(documents(*[("failed", "step.raised", 10)] * errors))

    assert held_back(history, 10 + waits, asked=False) is not None
    assert held_back(history, 11 + waits, asked=False) is None
    assert held_back(history, 10, asked=True) is None


def test_the_eighth_stop_is_a_failure_for_good(home: Home, toys: Any, tmp_path: Path) -> None:
    started = tmp_path / "started"
    source = toys({"slow": SLOW.replace("while", f"open({str(started)!r}, 'w').close()\n    while")})
    reports = []
    for _ in range(STOPS_MAX):
        started.unlink(missing_ok=True)
        sense = Sense(then=dict(BUSY), after=started.exists)
        reports.append(ends(run_once(home, [source], force=False, sources=[sense]))["slow"])

    assert reports[:-1] == [("yielded", "mode.user-active")] * (STOPS_MAX - 1)
    assert reports[-1] == ("failed", "job.no-progress")
    assert run_once(home, [source], force=False, sources=[Sense()]).given_up


def test_a_second_conductor_is_refused_and_names_the_lease(home: Home, toys: Any) -> None:
    home.leases.acquire(CONDUCTOR_LEASE, holder="somebody/1/1/else")

    with pytest.raises(SterlingError) as caught:
        run_once(home, [toys({"a": OK})], force=False, sources=[Sense()])

    assert caught.value.code == "lease.held"


def test_the_lease_is_given_back_after_a_pass_and_after_an_error(home: Home, toys: Any) -> None:
    run_once(home, [toys({"a": OK})], force=False, sources=[Sense()])
    source = toys({"b": OK})
    source.start = lambda job: 1 / 0

    with pytest.raises(ZeroDivisionError):
        run_once(home, [source], force=False, sources=[Sense()])

    assert run_once(home, [toys({"c": OK})], force=False, sources=[Sense()]).exit_status == 0


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_conductor as toys
from sterling.kernel.home import open_home
from sterling.runtime.conductor import run_once
from sterling.testing.fleet import Fleet
home = open_home(Path(sys.argv[1]))
class Dying(toys.Sense):
    def read(self, clock):
        if Path(sys.argv[2]).exists():
            os.kill(os.getpid(), 9)
        return super().read(clock)
code = toys.DEAF.replace("time.sleep", f"open({sys.argv[2]!r}, 'w').close()\\n    time.sleep")
source = toys.Toys(Fleet(Path(sys.argv[1]).parent / "fleet", "recall"), {"deaf": code})
run_once(home, [source], force=False, sources=[Dying()])
"""


def test_a_killed_conductor_leaves_a_lease_that_the_next_one_charges_and_closes(
    toys: Any, tmp_path: Path
) -> None:
    init_home(tmp_path / "home").close()
    environment = {**os.environ, "PYTHONPATH": str(package_root().parent)}
    words = [str(tmp_path / "home"), str(tmp_path / "started"), str(Path(__file__).parent)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, capture_output=True)
    assert killed.returncode == -9, killed.stderr

    with open_home(tmp_path / "home") as home:
        limits = budgets.limits_of(GovernorSettings.from_config(home.config))
        left, _ = read_window(home.ledger, limits, home.clock)
        report = run_once(home, [toys({"deaf": OK})], force=False, sources=[Sense()])

    assert [lease.job for lease in left.leases] == ["toy/deaf"]
    assert ends(report) == {"deaf": ("completed", "ok")}
    assert report.window["leases"] == []
    assert report.window["jobs"] in (1, 2)
