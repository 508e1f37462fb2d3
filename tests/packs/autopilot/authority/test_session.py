"""Runs of a task with real agent processes that misbehave: the task stays open and nothing stays held."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import Home
from sterling.packs.autopilot import door
from sterling.packs.autopilot.errors import AgentUnreachable, RequestInvalid, SandboxNotArmed
from sterling.packs.autopilot.orders import TaskOrder
from sterling.packs.autopilot.tasks import create_task, lease_name
from sterling.runtime.runs import list_runs, read_run

SAMPLES = Path(__file__).resolve().parents[4] / "samples"
AGENT = [sys.executable, "-m", "sterling.testing.scripted_agent"]
PROFILE = """
[commands]
build = ["{python}", "-c", "pass"]
tests = ["{python}", "-c", "pass"]
smoke = ["{python}", "-c", "pass"]
[limits]
silence_s = 1
agent_s = 20
output_bytes = 1000000
"""
Begin = Callable[[str], str]


def never(home: Home, case: door.TestCase) -> door.TestVerdict:
    raise AssertionError("no test should have been run")


@pytest.fixture
def task(home: Home, tmp_path: Path) -> str:
    profile = tmp_path / "profile.toml"
    profile.write_text(PROFILE)
    return create_task(home, TaskOrder("Mend it", SAMPLES / "ci" / "base", profile)).task


def run(home: Home, task: str, tmp_path: Path, script: str, **more: Any) -> door.Answer:
    path = tmp_path / "script.toml"
    path.write_text(script)
    given: dict[str, Any] = {"uncontained": "a test", "say": lambda words: None}
    return door.run_task(home, task, [*AGENT, str(path)], never, **(given | more))


def step(action: str, phase: str = "STRATEGIZE") -> str:
    return f'[[step]]\nphase = "{phase}"\n{action}\n'


def nothing_is_held(home: Home, task: str) -> None:
    view = read_run(home, list_runs(home)[-1].id)
    assert view.planned == view.settled == 9 and view.state == "failed"
    row = home.leases.read(lease_name(door_view(home, task)))
    assert row is not None and not row.holder
    assert door.open_tasks(home) == [task]


def door_view(home: Home, task: str) -> Any:
    from sterling.packs.autopilot.tasks import find_task

    return find_task(home, task)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (step("crash = 7"), "agent.crashed"),
        (step("hang = true"), "agent.silent"),
        (step('say = "done, everything is green"'), "agent.bad-output"),
        (step("flood = true"), "agent.crashed"),
        (step('advance = "PLAN"\nexpect = "ok"'), "agent.crashed"),
        ("not toml at all [", "agent.crashed"),
    ],
    ids=["crash", "silence", "gives up", "floods", "unexpected answer", "no script"],
)
def test_an_agent_that_misbehaves_leaves_the_task_open(
    home: Home, task: str, tmp_path: Path, script: str, code: str
) -> None:
    answer = run(home, task, tmp_path, script)

    assert answer.code == code and answer.ok is False and answer.exit == 1
    assert answer.result["phase"] == "STRATEGIZE" and answer.result["state"] == "open"
    nothing_is_held(home, task)


def test_after_a_crash_the_next_run_goes_on_where_it_was(home: Home, task: str, tmp_path: Path) -> None:
    run(home, task, tmp_path, step("crash = 7"))

    second = run(home, task, tmp_path, step('say = "hello"'))

    assert second.code == "agent.bad-output" and second.result["attempt"] == 1
    assert [view.state for view in list_runs(home)] == ["failed", "failed"]


def test_an_agent_that_talks_nonsense_gets_typed_answers(home: Home, task: str, tmp_path: Path) -> None:
    script = (
        step('garbage = "status"\nexpect = "task.request-invalid"')
        + step(
            'ask = "submit_artifact"\nexpect = "task.kind-unknown"\n'
            'arguments = { kind = "wish", content = "{}" }'
        )
        + step('ask = "cite"\narguments = { record = "r-nothing" }\nexpect = "task.request-invalid"')
        + step('check = "rm"\nexpect = "check.unlisted"')
        + step('back = "PLAN"\nexpect = "transition.skip"')
        + step('advance = "SOMEWHERE"\nexpect = "transition.unknown-phase"')
        + step('advance = "DONE"\nexpect = "transition.skip"')
    )

    answer = run(home, task, tmp_path, script)

    assert answer.code == "agent.bad-output"  # Every expectation held; only the task was not moved.
    assert "transition.skip" in answer.result["because"]


def test_what_the_agent_said_is_kept(home: Home, task: str, tmp_path: Path) -> None:
    run(home, task, tmp_path, step('say = "I am sure it works"'))

    ended = [r.document for r in home.records.read("autopilot.session") if r.document["event"] == "ended"]
    assert b"I am sure it works" in home.blobs.get(ended[-1]["stdout"]["blob"])


def test_a_command_that_does_not_exist_is_unreachable_and_closes_its_run(home: Home, task: str) -> None:
    with pytest.raises(AgentUnreachable) as caught:
        door.run_task(home, task, ["/nowhere/agent"], never, uncontained="x", say=lambda words: None)

    assert caught.value.exit == 4
    nothing_is_held(home, task)


def test_without_a_reason_nothing_runs_uncontained(home: Home, task: str, tmp_path: Path) -> None:
    size = home.ledger.size()

    with pytest.raises(SandboxNotArmed) as caught:
        run(home, task, tmp_path, step("crash = 1"), uncontained="  ")

    assert caught.value.exit == 4 and home.ledger.size() == size


def test_no_command_is_wrong_usage(home: Home, task: str) -> None:
    with pytest.raises(RequestInvalid):
        door.run_task(home, task, [], never, uncontained="x", say=lambda words: None)


def test_the_secret_of_an_ended_session_opens_nothing(home: Home, task: str, tmp_path: Path) -> None:
    """The first process leaves its secret behind; a later one tries it."""
    note = tmp_path / "secret"
    program = (
        "import os, sys, json\n"
        "from pathlib import Path\n"
        "from sterling.packs.autopilot.authority.channel import ask_authority\n"
        f"note = Path({str(note)!r})\n"
        "mine = os.environ['STERLING_SESSION']\n"
        "place = Path(os.environ['STERLING_AUTHORITY'])\n"
        "ask = lambda s: ask_authority(place, {'verb': 'status', 'session': s})\n"
        "if note.exists():\n"
        "    print(ask(note.read_text())['code'], ask('')['code'], ask(mine)['code'])\n"
        "note.write_text(mine)\n"
    )
    for _ in range(2):
        door.run_task(
            home, task, [sys.executable, "-c", program], never, uncontained="x", say=lambda words: None
        )

    ended = [r.document for r in home.records.read("autopilot.session") if r.document["event"] == "ended"]
    said = home.blobs.get(ended[-1]["stdout"]["blob"]).decode().split()
    assert said == ["task.request-invalid", "task.request-invalid", "ok"]


def test_the_agent_sees_its_brief_and_not_the_home(
    home: Home, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STERLING_HOME", "/somewhere/secret")
    program = "import os, sys; print(sys.argv[1]); print(os.environ.get('STERLING_HOME'))"

    door.run_task(
        home, task, ["{python}", "-c", program, "{brief}"], never, uncontained="x", say=lambda words: None
    )

    ended = [r.document for r in home.records.read("autopilot.session") if r.document["event"] == "ended"]
    said = home.blobs.get(ended[-1]["stdout"]["blob"]).decode()
    assert "Mend it" in said and "strategy" in said and "/somewhere/secret" not in said


def test_a_task_that_is_not_open_is_not_run(home: Home, task: str, tmp_path: Path) -> None:
    door.set_state(home, task, "abandoned", "Nobody needs it.", never)

    answer = run(home, task, tmp_path, step("crash = 1"))

    assert answer.code == "transition.task-closed" and answer.exit == 1
    assert list_runs(home) == []
