from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mutants import run_mutants

from sterling.kernel.batch import Actor, Batch
from sterling.kernel.clock import SystemClock
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.liveness import ProcessName, is_alive, started_ticks
from sterling.kernel.locks import Role
from sterling.kernel.shipped import package_root
from sterling.runtime import budgets, conductor_process
from sterling.runtime.asked_passes import PassRefused, carry_out_pass
from sterling.runtime.conductor_process import (
    Standing,
    end_conductor,
    end_orphans,
    watch_standing,
    who_is_up,
    write_standing,
)
from sterling.runtime.conductor_service import bring_down, fence_of
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.host import OWNER_VARIABLE
from sterling.runtime.process_tree import descendants
from sterling.runtime.safe_mode import enter_after_crashes, is_safe_mode, leave_safe_mode
from sterling.runtime.watchdog import STALL_US, WatchState
from sterling.runtime.window_store import read_window

BOOT = SystemClock().boot_id()
OK = "def run():\n    return Ok(metrics={'n': 1})\n"
PATIENCE_S = 60

SERVE = """
import sys
from pathlib import Path
from sterling.kernel.home import open_home
from sterling.runtime import conductor_loop
from sterling.runtime.conductor_loop import serve
from sterling.runtime.interrupts import terminate_as_interrupt
from sterling.testing.fleet import MANIFEST, Fleet
sys.path.insert(0, sys.argv[5])
from test_conductor import BUSY, IDLE, Sense, Toys
path, code, senses = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
source = Toys(Fleet(path.parent / "fleet", "recall"), {"one": code})
add, limits = source.fleet.add, {**MANIFEST["limits"], "processes": 8, "wall_ms": 300_000}
source.fleet.add = lambda *given: add(*given, limits=limits)
exec(sys.argv[4])
with open_home(path) as home:
    serve(home, [source], say=lambda words: print(words, flush=True),
          sources_of=lambda settings: [Sense(dict(IDLE if senses == "idle" else BUSY))])
"""
STUBBORN = (
    "import os, time\ndef run():\n"
    "    if os.fork() == 0:\n        os.setsid()\n        time.sleep(600)\n"
    "    open({started!r}, 'w').close()\n    time.sleep(600)\n"
)


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it holds."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail("it did not come to hold")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


@pytest.fixture
def serve(path: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    children: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "PYTHONPATH": str(package_root().parent)}

    def serve(code: str = OK, *, senses: str = "idle", before: str = "") -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            words = [sys.executable, "-c", SERVE, str(path), code, senses, before, str(Path(__file__).parent)]
            child = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        children.append(child)
        return child

    yield serve
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)
            child.kill()
        child.wait()


def up(path: Path, child: subprocess.Popen[bytes]) -> Standing:
    """The child as a conductor that holds the lease and has told its start."""

    def found() -> Standing | None:
        assert child.poll() is None, "the conductor ended"
        standing = who_is_up(path, BOOT)
        is_told = standing is not None and standing.pid == child.pid and fence_of(path, standing)
        return standing if is_told and kinds(path).count("process.started") else None

    found_standing: Standing = until(found)
    return found_standing


def kinds(path: Path) -> list[str]:
    with open_home(path, read_only=True) as home:
        return [entry.kind for entry in home.ledger.read()]


def payloads(path: Path, kind: str) -> list[dict[str, Any]]:
    with open_home(path, read_only=True) as home:
        return [entry.payload for entry in home.ledger.read(kind=kind)]


def open_leases(path: Path) -> list[str]:
    with open_home(path, read_only=True) as home:
        limits = budgets.limits_of(GovernorSettings.from_config(home.config))
        return [lease.job for lease in read_window(home.ledger, limits, home.clock)[0].leases]


def at_work(path: Path, tmp_path: Path, serve: Any) -> tuple[subprocess.Popen[bytes], list[ProcessName]]:
    """A conductor amid a job that forks away and never ends, and the processes below it."""
    started = tmp_path / "started"
    child = serve(STUBBORN.format(started=str(started)))
    until(started.exists)
    names = [(pid, started_ticks(pid)) for pid in descendants(child.pid)]
    below = [ProcessName(pid, ticks, BOOT) for pid, ticks in names if ticks is not None]
    assert len(below) >= 3
    return child, below


def nobody(below: list[ProcessName]) -> bool:
    return not any(is_alive(process, BOOT) for process in below)


def test_of_two_starts_at_once_one_is_up_and_both_name_it(path: Path) -> None:
    words = [sys.executable, "-m", "sterling", "up", "--json", "--home", str(path)]
    starts = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [start.communicate(timeout=PATIENCE_S)[0] for start in starts]
    down = bring_down(path, lambda home: [])

    assert [start.returncode for start in starts] == [0, 0]
    assert all(f'"pid": {down.pid}' in words for words in said), said
    assert kinds(path).count("process.started") == kinds(path).count("process.ended") == 1
    assert down.state == "ended"
    assert who_is_up(path, BOOT) is None


def test_a_killed_conductor_leaves_no_process_and_the_next_one_closes_what_it_left(
    path: Path, tmp_path: Path, serve: Any
) -> None:
    child, below = at_work(path, tmp_path, serve)

    child.kill()
    child.wait()
    until(lambda: nobody(below))
    assert open_leases(path) == ["toy/one"]
    up(path, serve(OK, senses="busy"))
    until(lambda: not open_leases(path))

    dispatches = payloads(path, "runtime.dispatch")
    assert (dispatches[0]["end"], dispatches[0]["reason"]) == ("yielded", "run.abandoned")
    with open_home(path, read_only=True) as home:
        holders = [row.name for row in home.leases.held()]
    assert holders == ["conductor"]


def test_sigterm_closes_the_job_under_way_and_gives_everything_back(
    path: Path, tmp_path: Path, serve: Any
) -> None:
    child, below = at_work(path, tmp_path, serve)

    down = bring_down(path, lambda home: [])

    assert (down.state, down.pid) == ("ended", child.pid)
    assert {str(process.pid) for process in below} <= {one for what, one in down.ended if what == "process"}
    assert nobody(below)
    assert child.wait() == 0
    assert payloads(path, "runtime.dispatch")[-1]["reason"] == "run.interrupted"
    assert payloads(path, "process.ended") == [{"command": "conductor", "exit": 0}]
    assert open_leases(path) == []
    with open_home(path, read_only=True) as home:
        assert home.leases.held() == []
        assert home.anchors.latest_size() == home.ledger.size()


def test_a_conductor_that_does_not_listen_is_ended_with_its_tree_and_closed(
    path: Path, tmp_path: Path, serve: Any
) -> None:
    child, below = at_work(path, tmp_path, serve)
    child.send_signal(signal.SIGSTOP)

    down = bring_down(path, lambda home: [], deadline_ms=100)

    assert down.state == "down"
    assert ("dispatch", "toy/one") in down.ended
    assert child.wait() == -signal.SIGKILL
    assert nobody(below)
    assert open_leases(path) == []
    assert payloads(path, "process.ended") == [{"command": "conductor", "exit": -9}]
    with open_home(path) as home:
        assert not enter_after_crashes(home)


def test_a_stopped_conductor_is_seen_as_stalled_and_goes_on_under_a_new_lease(path: Path, serve: Any) -> None:
    child = serve(senses="busy", before="conductor_loop._LEASE_S = 1")
    standing = up(path, child)
    first = fence_of(path, standing)
    child.send_signal(signal.SIGSTOP)
    with open_home(path, read_only=True) as home:
        until(lambda: home.leases.held() == [])
        stopped = who_is_up(path, BOOT)
        assert stopped is not None
        now_us = home.clock.boot_us()
    assert watch_standing(stopped, now_us + STALL_US) is WatchState.STALLED

    child.send_signal(signal.SIGCONT)
    until(lambda: (fence_of(path, standing) or 0) > (first or 0))

    until(lambda: (who_is_up(path, BOOT) or stopped).progress_us != stopped.progress_us)
    assert kinds(path).count("process.started") == 1
    child.terminate()
    assert child.wait() == 0


def test_a_forced_pass_is_carried_out_by_the_conductor_that_is_up(path: Path, serve: Any) -> None:
    child = serve(OK, senses="busy")
    up(path, child)

    with open_home(path) as home:
        report = carry_out_pass(home, [], force=True)
        again = carry_out_pass(home, [], force=True, limit=1, overrides=["governor.grace_ms=10"])
        refused_before = [entry.payload for entry in home.ledger.read(kind="lease.refused")]

    assert [(one.job, one.end, one.origin) for one in report.dispatches] == [
        ("toy/one", "completed", "forced")
    ]
    assert (report.mode, report.exit_status, report.window["leases"]) == ("USER_QUERY", 0, [])
    assert (again.dispatches, again.exit_status) == ((), 0)
    assert refused_before == []


def test_a_pass_that_nobody_waits_for_any_more_is_not_carried_out(path: Path, serve: Any) -> None:
    up(path, serve(OK, senses="busy"))

    with open_home(path) as home:
        batch = Batch()
        payload = {"request": "ask-gone", "force": True, "limit": None, "settings": []}
        batch.append("conductor.asked", payload, subject="ask/ask-gone")
        home.ledger.commit(batch)
        carry_out_pass(home, [], force=False)

    assert [one["request"] for one in payloads(path, "conductor.answered")] != ["ask-gone"]
    assert all(not one["forced"] for one in payloads(path, "runtime.pass"))


def test_killing_the_command_that_asked_ends_the_intent_and_stops_its_job(
    path: Path, tmp_path: Path, serve: Any
) -> None:
    begun = tmp_path / "started"
    up(path, serve(STUBBORN.format(started=str(begun)), senses="busy"))
    asks = [sys.executable, "-m", "sterling", "drain", "--force", "--home", str(path)]
    asking = subprocess.Popen(asks, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(begun.exists)

    asking.kill()
    asking.wait()
    until(lambda: payloads(path, "conductor.answered"))

    ends = [(one["origin"], one["end"], one["reason"]) for one in payloads(path, "runtime.dispatch")]
    assert ("forced", "yielded", "mode.user-active") in ends


def test_settings_that_are_wrong_are_refused_to_who_asked_and_the_conductor_goes_on(
    path: Path, serve: Any
) -> None:
    up(path, serve(OK, senses="busy"))

    with open_home(path) as home:
        with pytest.raises(PassRefused) as caught:
            carry_out_pass(home, [], force=True, overrides=["governor.grace_ms=never"])
        report = carry_out_pass(home, [], force=True)

    assert str(caught.value.details["refused_with"]).startswith("config.")
    assert report.counts["completed"] == 1


@pytest.mark.slow
def test_errors_in_ticks_are_entries_and_five_in_a_row_are_an_error_until_a_tick_succeeds(
    path: Path, tmp_path: Path, serve: Any
) -> None:
    mended = tmp_path / "mended"
    before = (
        "conductor_loop.delay_after_failures_us = lambda failures: 50_000\n"
        "due = source.due\n"
        f"source.due = lambda home, limit: due(home, limit) if Path({str(mended)!r}).exists() else 1 / 0\n"
        "conductor_loop.PASS_US = 0"
    )
    serve(OK, before=before)

    until(lambda: "error" in [one["state"] for one in payloads(path, "conductor.state")])
    mended.touch()
    until(lambda: "completed" in [one["end"] for one in payloads(path, "runtime.dispatch")])
    until(lambda: payloads(path, "conductor.state")[-1]["state"] == "ok")

    failed = payloads(path, "conductor.tick-failed")
    assert [one["in_a_row"] for one in failed] == list(range(1, len(failed) + 1))
    assert {one["code"] for one in failed} == {"ZeroDivisionError"}


def test_a_waiting_job_on_a_busy_machine_is_told_once_and_not_every_pass(path: Path, serve: Any) -> None:
    up(path, serve(OK, senses="busy", before="conductor_loop.PASS_US = 0"))

    until(lambda: payloads(path, "runtime.pass"))
    size = len(kinds(path))
    first = who_is_up(path, BOOT)
    assert first is not None
    until(lambda: ((who_is_up(path, BOOT) or first).progress_us or 0) > (first.progress_us or 0) + 2_000_000)

    assert len(kinds(path)) <= size + 3
    assert len(payloads(path, "runtime.pass")) <= 2


def started(home: Home, times: int, *, ended: bool = False) -> None:
    for _ in range(times):
        batch = Batch()
        batch.append(
            "process.started", {"command": "conductor", "pid": 1, "boot": "b"}, subject="process/conductor"
        )
        if ended:
            batch.append("process.ended", {"command": "conductor", "exit": 0}, subject="process/conductor")
        home.ledger.commit(batch)


def test_three_crashes_mean_safe_mode_until_a_person_says_why_not(path: Path) -> None:
    with open_home(path) as home:
        started(home, 2)
        started(home, 5, ended=True)
        assert not enter_after_crashes(home)
        started(home, 1)

        assert enter_after_crashes(home)
        assert enter_after_crashes(home)
        assert leave_safe_mode(home, "the disk was full", Actor("person", "somebody"))
        assert not leave_safe_mode(home, "again", Actor("person", "somebody"))

        assert (is_safe_mode(home), enter_after_crashes(home)) == (False, False)
        states = [entry.payload["state"] for entry in home.ledger.read(kind="conductor.safe-mode")]
    assert states == ["entered", "left"]


def test_a_start_into_safe_mode_says_so(path: Path) -> None:
    with open_home(path) as home:
        started(home, 3)
    words = [sys.executable, "-m", "sterling", "up", "--json", "--home", str(path)]

    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    bring_down(path, lambda home: [])

    assert said.returncode == 0
    assert '"safe_mode": true, "state": "up"' in said.stdout


def test_in_safe_mode_nothing_heavy_runs_not_even_when_asked_and_leaving_it_needs_no_restart(
    path: Path, serve: Any
) -> None:
    with open_home(path) as home:
        started(home, 3)
    up(path, serve(OK, before="conductor_loop.PASS_US = 0"))

    with open_home(path) as home:
        with pytest.raises(PassRefused, match=r"conductor\.safe-mode"):
            carry_out_pass(home, [], force=True)
        assert payloads(path, "runtime.dispatch") == []
        leave_safe_mode(home, "it was a test", Actor("person", "somebody"))
        until(lambda: payloads(path, "runtime.dispatch"))

    assert payloads(path, "runtime.dispatch")[0]["end"] == "completed"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "600"])
    yield child
    child.kill()
    child.wait()


def standing_of(child: subprocess.Popen[bytes], *, ticks: int = 0, boot: str = BOOT) -> Standing:
    own = started_ticks(child.pid)
    assert own is not None
    return Standing(child.pid, own + ticks, boot, started_us=0)


@pytest.mark.parametrize("wrong", [{"ticks": -1}, {"boot": "another-boot"}])
def test_a_recycled_pid_is_neither_believed_nor_touched(
    path: Path, sleeper: subprocess.Popen[bytes], wrong: Any
) -> None:
    role = Role(path / "run", "conductor")
    role.take()
    standing = standing_of(sleeper, **wrong)
    write_standing(path, standing)

    assert who_is_up(path, BOOT) is None
    assert end_conductor(standing, BOOT, deadline_ms=0) == ([], True)
    assert bring_down(path, lambda home: []).state == "not-up"
    assert sleeper.poll() is None
    role.release()


def test_a_process_that_does_not_hold_the_role_is_no_conductor(
    path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    write_standing(path, standing_of(sleeper))

    assert who_is_up(path, BOOT) is None
    assert bring_down(path, lambda home: []).ended == ()
    assert sleeper.poll() is None


@pytest.mark.parametrize("words", ["", "{}", "[1]", '{"pid": 1}', "\x00"])
def test_a_torn_file_names_nobody(path: Path, words: str) -> None:
    (path / "run").mkdir(exist_ok=True)
    (path / "run" / "conductor.json").write_text(words)

    assert who_is_up(path, BOOT) is None


def test_only_marked_processes_of_dead_owners_of_this_home_are_orphans(path: Path) -> None:
    with open_home(path, read_only=True) as home:
        home_id = home.id
    me = f"{os.getpid()}/{started_ticks(os.getpid())}/{BOOT}"
    dead = f"{os.getpid()}/1/{BOOT}"
    marks = {
        "orphan": f"{home_id}/{dead}",
        "owned": f"{home_id}/{me}",
        "of another home": f"home-other/{dead}",
        "torn": f"{home_id}/x/y/{BOOT}",
    }
    children = {
        name: subprocess.Popen(["sleep", "600"], env={**os.environ, OWNER_VARIABLE: mark})
        for name, mark in marks.items()
    }
    try:
        until(lambda: all(Path(f"/proc/{one.pid}/environ").read_bytes() for one in children.values()))

        ended = end_orphans(home_id, BOOT)

        assert ended == [children["orphan"].pid]
        assert children["orphan"].wait() == -signal.SIGKILL
        assert all(child.poll() is None for name, child in children.items() if name != "orphan")
    finally:
        for child in children.values():
            child.kill()
            child.wait()


PROCESS_MUTANTS: tuple[tuple[str, str, str], ...] = (
    ("the role is not looked at", "if not _is_role_held(home) or not is_alive", "if not is_alive"),
    ("the name is not looked at", "or not is_alive(standing.process, boot_id):", "or False:"),
    ("whoever has the pid is signalled", "if not is_alive(standing.process, boot_id):  #", "if False:  #"),
    ("other homes' workers are orphans", "or words[0] != home_id", "or False"),
    ("owned workers are orphans", "return not is_alive(ProcessName(int", "return True or (ProcessName(int"),
)


def test_each_broken_look_at_a_process_is_noticed(path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    with open_home(path, read_only=True) as home:
        home_id = home.id
    me = f"{os.getpid()}/{started_ticks(os.getpid())}/{BOOT}"

    def an_own_process_without_the_role(module: ModuleType) -> None:
        write_standing(path, standing_of(sleeper))
        assert module.who_is_up(path, BOOT) is None

    def a_recycled_pid(module: ModuleType) -> None:
        role = Role(path / "run", "conductor")
        role.take()
        try:
            write_standing(path, standing_of(sleeper, ticks=-1))
            assert module.who_is_up(path, BOOT) is None
        finally:
            role.release()

    def a_recycled_pid_that_is_to_end(module: ModuleType) -> None:
        child = subprocess.Popen(["sleep", "600"])
        try:
            assert module.end_conductor(standing_of(child, ticks=-1), BOOT, deadline_ms=0) == ([], True)
        finally:
            child.kill()
            child.wait()

    def marks_that_protect(module: ModuleType) -> None:
        for mark in (f"{home_id}/{me}", f"home-other/{os.getpid()}/1/{BOOT}"):
            child = subprocess.Popen(["sleep", "600"], env={OWNER_VARIABLE: mark})
            try:
                until(Path(f"/proc/{child.pid}/environ").read_bytes)
                assert module.end_orphans(home_id, BOOT) == []
            finally:
                child.kill()
                child.wait()

    scenarios = (
        an_own_process_without_the_role,
        a_recycled_pid,
        a_recycled_pid_that_is_to_end,
        marks_that_protect,
    )
    found = run_mutants(Path(conductor_process.__file__), PROCESS_MUTANTS, scenarios)

    assert len(found) == len(PROCESS_MUTANTS)


def test_a_conductor_whose_home_is_gone_ends_by_itself(
    path: Path, serve: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    child = serve()
    up(path, child)

    path.rename(tmp_path / "elsewhere")

    assert child.wait(timeout=PATIENCE_S) != 0
    assert not path.exists()
