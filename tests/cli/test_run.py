"""`sterling run` and `sterling drain` and `sterling plugins`: output, contracts, exits, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sterling import app
from sterling.cli.main import main
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import Home, init_home, open_home
from sterling.runtime import conductor, plugin_lock, registry
from sterling.runtime.dispatches import Job, JobEnd
from sterling.runtime.engine import Task, TaskEnd
from sterling.runtime.manifest import load_manifest
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import open_run
from sterling.runtime.signals import Reading, Signal, SteadyClock
from sterling.testing.fleet import Fleet

Call = Callable[..., tuple[int, str, str]]
PLAN = of_phases("ci", [("read", []), ("judge", ["read"])])


@pytest.fixture(autouse=True)
def _contracts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the contracts has tests of its own."""
    monkeypatch.setattr("sterling.kernel.contract_lock.check", lambda *given, **named: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], home: Path) -> Call:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(home)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def document(out: str, contract: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    assert found["contract"] == f"{contract}@1.0"
    load_contracts().validate(contract, found)
    return found


def two_runs(home: Path) -> list[str]:
    with open_home(home) as opened:
        with open_run(opened, pack="ci", plan=PLAN, origin="attended", title="good \x1b[31mred") as good:
            for step in ("read", "judge"):
                good.settle(step, "ok", "ok", "Done.", wall_us=5_000)
        with open_run(opened, pack="recall", plan=PLAN, origin="drain") as bad:
            bad.settle("read", "failed", "limit.memory", "It used more memory than it may.")
            bad.settle("judge", "na", "step.upstream-failed", "Needs read, which failed.")
    return [good.id, bad.id]


def test_run_list_shows_every_run_and_filters_by_what_is_asked(call: Call, home: Path) -> None:
    good, bad = two_runs(home)

    status, out, _ = call("run", "list", "--json")
    assert status == 0
    assert [row["run"] for row in document(out, "run.list")["runs"]] == [good, bad]
    for words, found in (
        (("--pack", "ci"), [good]),
        (("--state", "failed"), [bad]),
        (("--origin", "drain"), [bad]),
        (("--code", "limit.memory"), [bad]),
        (("--limit", "1"), [bad]),
        (("--pack", "insight"), []),
    ):
        listed = document(call("run", "list", "--json", *words)[1], "run.list")
        assert [row["run"] for row in listed["runs"]] == found


def test_run_list_prints_no_escape_sequence_of_a_title(call: Call, home: Path) -> None:
    two_runs(home)

    _, out, _ = call("run", "list")

    assert "\x1b" not in out
    assert "\\x1b[31mred" in out


def test_run_list_of_an_empty_home_says_so(call: Call) -> None:
    assert call("run", "list")[:2] == (0, "no runs\n")


def test_run_show_gives_each_bad_outcome_its_sentence_and_next_step(call: Call, home: Path) -> None:
    _, bad = two_runs(home)

    status, out, _ = call("run", "show", bad[:12], "--json")
    shown = document(out, "view.run")

    assert status == 0
    assert [(row["step"], row["state"]) for row in shown["outcomes"]] == [("read", "failed"), ("judge", "na")]
    assert all(row["hint"] for row in shown["outcomes"])
    text = call("run", "show", bad)[1]
    assert "limit.memory: It used more memory than it may." in text
    assert "sterling plugins list" in text


def test_run_show_names_the_slowest_steps(call: Call, home: Path) -> None:
    good, _ = two_runs(home)

    assert document(call("run", "show", good, "--json")[1], "view.run")["hotspots"] == [
        {"step": "judge", "wall_us": 5_000},
        {"step": "read", "wall_us": 5_000},
    ]


@pytest.mark.parametrize("name", ["run-zzzz", "nonesuch", "run-"])
def test_a_run_that_nobody_knows_is_a_usage_error(call: Call, home: Path, name: str) -> None:
    two_runs(home)

    status, _, err = call("run", "show", name)

    assert status == 2
    assert "run.unknown" in err


class Sense:
    def __init__(self, active: bool) -> None:
        self.active = active

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        values = {
            Signal.IDLE_MS: 0 if self.active else 600_000,
            Signal.ACTIVE: self.active,
            Signal.FULLSCREEN: False,
            Signal.CPU_OTHER_BP: 0,
            Signal.RAM_USED_BP: 1_000,
        }
        return [Reading(signal, value, "test", clock.boot_us()) for signal, value in values.items()]


class Toys:
    kind = "toy"

    def __init__(self, fleet: Fleet, codes: dict[str, str]) -> None:
        self.fleet, self.codes = fleet, dict(codes)

    def due(self, home: Home, limit: int) -> list[Job]:
        return [Job(key, "toy", "recall") for key in self.codes][:limit]

    def start(self, job: Job) -> Task:
        manifest = load_manifest(self.fleet.add(job.key, self.codes[job.key]), "recall", self.fleet.folder)
        return Task(job.key, manifest, "", {})

    def accept(self, home: Home, job: Job, end: TaskEnd) -> JobEnd:
        if end.end != "returned":
            return JobEnd("failed", "step.raised", end.message)
        del self.codes[job.key]
        return JobEnd("completed", "ok", "Done.")


@pytest.fixture
def drain(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    def drain(*words: str, codes: dict[str, str], active: bool = False) -> tuple[int, str, str]:
        toys = Toys(Fleet(tmp_path / "fleet", "recall"), codes)
        monkeypatch.setattr(app, "job_sources", lambda home: [toys])
        monkeypatch.setattr(conductor, "default_sources", lambda settings: [Sense(active)])
        return call("drain", *words)

    return drain


OK = "def run():\n    return Ok(metrics={'n': 1})\n"
BAD = "def run():\n    raise ValueError('bad \\x1b[2J')\n"


def test_drain_exits_0_when_nothing_admissible_is_left(drain: Any) -> None:
    status, out, _ = drain("--json", codes={"a": OK, "b": OK})

    found = document(out, "drain.result")
    assert (status, found["counts"]["completed"], found["left"]) == (0, 2, 0)


def test_drain_exits_1_and_names_the_job_when_one_failed(drain: Any) -> None:
    status, out, _ = drain(codes={"good": OK, "poisoned": BAD})

    assert status == 1
    assert "poisoned" in out
    assert "step.raised" in out
    assert "\x1b" not in out


def test_drain_exits_4_and_says_why_when_work_is_left(drain: Any) -> None:
    status, out, _ = drain("--json", codes={"a": OK}, active=True)

    found = document(out, "drain.result")
    assert (status, found["left"], found["dispatches"][0]["reason"]) == (4, 1, "mode.user-active")
    status, out, _ = drain(codes={"a": OK}, active=True)
    assert (status, "sterling drain --force" in out) == (4, True)


def test_drain_force_runs_it_all_the_same(drain: Any) -> None:
    status, out, _ = drain("--force", "--json", codes={"a": OK}, active=True)

    assert (status, document(out, "drain.result")["forced"]) == (0, True)


@pytest.mark.parametrize("words", [("--limit", "0"), ("--limit", "x"), ("surprise",)])
def test_drain_refuses_words_it_does_not_know(drain: Any, words: tuple[str, ...]) -> None:
    assert drain(*words, codes={})[0] == 2


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet(tmp_path / "package")
    for module in (plugin_lock, registry):
        monkeypatch.setattr(module, "lock_path", lambda: fleet.lock)
    monkeypatch.setattr(plugin_lock, "package_root", lambda: fleet.root)
    return fleet


REASON = ("--reason", "first fleet of the toys")


def test_plugins_list_shows_what_may_load_and_what_may_not(call: Call, fleet: Fleet) -> None:
    fleet.add("one")
    fleet.write_lock()
    fleet.add("two")

    status, out, _ = call("plugins", "list", "--json")

    found = document(out, "plugins.list")
    assert status == 1
    assert [row["id"] for row in found["plugins"]] == ["one"]
    assert [(row["plugin"], row["code"]) for row in found["refusals"]] == [
        ("insight/two", "plugin.not-listed")
    ]


def test_plugins_check_exits_0_for_a_good_fleet_and_1_for_a_bad_one(call: Call, fleet: Fleet) -> None:
    fleet.add("one")
    fleet.write_lock()
    assert call("plugins", "check")[:2] == (0, "ok 1 plugins\n")

    fleet.add("bad", lane=None)
    status, out, _ = call("plugins", "check", "--json")

    assert (status, document(out, "plugins.check")["status"]) == (1, "refused")
    assert "plugin.lane-missing" in call("plugins", "check")[1]


def test_plugins_lock_writes_the_lock_and_ledgers_who_and_why(call: Call, fleet: Fleet, home: Path) -> None:
    fleet.add("one")

    status, out, _ = call("plugins", "lock", *REASON, "--json")

    found = document(out, "plugins.lock")
    with open_home(home, read_only=True) as opened:
        entry = opened.ledger.entry(found["entry"])
    assert status == 0
    assert entry is not None
    assert entry.payload["reason"] == "first fleet of the toys"
    assert call("plugins", "check")[0] == 0
    again = document(call("plugins", "lock", *REASON, "--json")[1], "plugins.lock")
    assert (again["status"], again["entry"]) == ("unchanged", -1)


def test_plugins_lock_refuses_to_widen_a_permission_that_nobody_named(call: Call, fleet: Fleet) -> None:
    fleet.add("one")
    fleet.write_lock()
    before = fleet.lock.read_bytes()
    fleet.add("one", permissions={"network": True})

    status, _, err = call("plugins", "lock", *REASON)

    assert (status, "plugin.permission-widened" in err) == (1, True)
    assert fleet.lock.read_bytes() == before
    assert call("plugins", "lock", *REASON, "--accept-permission", "one")[0] == 0
    assert call("plugins", "check")[0] == 0


def test_plugins_lock_refuses_a_bad_fleet_and_leaves_the_lock(call: Call, fleet: Fleet) -> None:
    fleet.add("one")
    fleet.write_lock()
    before = fleet.lock.read_bytes()
    fleet.add("bad", lane=None)

    assert call("plugins", "lock", *REASON)[0] == 1
    assert fleet.lock.read_bytes() == before


@pytest.mark.parametrize("reason", ["", "short", "         "])
def test_plugins_lock_wants_a_reason(call: Call, fleet: Fleet, reason: str) -> None:
    status, _, err = call("plugins", "lock", "--reason", reason)

    assert (status, "plugin.lock-reason" in err) == (2, True)


def test_explain_tells_why_a_step_ran_and_run_show_keeps_its_contract(call: Call, home: Path) -> None:
    words = {"cache_detail": "", "cache_key": "0" * 64, "cached_from": ""}
    with open_home(home) as opened, open_run(opened, pack="ci", plan=PLAN, origin="attended") as run:
        reasons = ["cache.code", "cache.input"]
        run.settle("read", "ok", "ok", "Read.", cache={**words, "cache_reasons": reasons})
        run.settle(
            "judge", "ok", "ok", "Judged.", cache={**words, "cache_reasons": [], "cached_from": "run-x/judge"}
        )

    status, out, _ = call("run", "explain", "read", "--json")
    told = document(out, "run.explain")
    assert (status, [row["reason"] for row in told["reasons"]]) == (0, reasons)
    status, out, _ = call("run", "explain", run.id[:12], "judge")
    assert status == 0 and "Reused from run-x/judge" in out
    status, out, _ = call("run", "show", run.id, "--json")
    assert status == 0 and len(document(out, "view.run")["outcomes"]) == 2


@pytest.mark.parametrize("names", [("nobody",), ("run-none", "read"), ("a", "b", "c"), ()])
def test_explain_refuses_what_it_cannot_find(call: Call, names: tuple[str, ...]) -> None:
    status, out, err = call("run", "explain", *names)

    assert (status, out) == (2, "")
    assert err
