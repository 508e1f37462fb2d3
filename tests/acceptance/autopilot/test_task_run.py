"""The whole way with real processes: agent, authority, tests, receipt; and the ways that must not lead on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.contracts import load_contracts
from sterling.packs.ci.door import make_sample
from sterling.testing.scripted_agent import load_script

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "samples" / "autopilot"
PHASES = ["STRATEGIZE", "SPEC", "PLAN", "THINK", "IMPLEMENT", "VERIFY", "REVIEW", "PR", "MONITOR"]
STERLING = [sys.executable, "-m", "sterling"]


class World:
    """A home, a repository and a way to call the program."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.repository = make_sample(folder / "repository").repository

    def call(self, *words: str, expect: int = 0) -> dict[str, Any]:
        split = words.index("--") if "--" in words else len(words)
        argv = [*STERLING, *words[:split], "--home", str(self.home), "--json", *words[split:]]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=self.folder, check=False, timeout=120)
        assert done.returncode == expect, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        answer: dict[str, Any] = json.loads(done.stdout)
        if "contract" in answer:
            load_contracts().validate(answer["contract"], answer)
        return answer

    def run_words(self, script: str, task: str = "Mend the red test") -> list[str]:
        agent = ["{python}", "-m", "sterling.testing.scripted_agent", str(SAMPLES / f"{script}.toml")]
        profile = ["--repo", str(self.repository), "--profile", str(SAMPLES / "profile.toml")]
        return ["task", "run", task, *profile, "--uncontained", "a test", "--", *agent]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_agent_that_skips_is_refused_counted_and_then_walks_to_a_receipt(world: World) -> None:
    answer = world.call(*world.run_words("mend"))

    result = answer["result"]
    assert answer["contract"].startswith("task.answer@") and answer["ok"] is True
    assert (result["state"], result["phase"], result["ring"]) == ("done", "MONITOR", "uncontained")
    assert [each["code"] for each in result["refused"]] == ["transition.skip"]
    assert result["counters"]["phase_skips_attempted"] == 1
    receipt = world.folder / "receipt.json"
    world.call("task", "receipt", "export", result["task"], "--out", str(receipt))
    patched = world.folder / "patched"
    subprocess.run(["git", "clone", "-q", str(world.repository), str(patched)], check=True)
    world.call("task", "receipt", "check", str(receipt), "--repo", str(patched), expect=3)
    fetch = ["git", "fetch", "-q", result["handover"]["repository"], result["handover"]["branch"]]
    subprocess.run(fetch, cwd=patched, check=True)
    subprocess.run(["git", "checkout", "-q", "FETCH_HEAD"], cwd=patched, check=True)
    checked = world.call("task", "receipt", "check", str(receipt), "--repo", str(patched))
    assert checked["result"]["tree_checked"] is True
    trailer = subprocess.run(
        ["git", "log", "-1", "--format=%(trailers)"], cwd=patched, capture_output=True, text=True, check=True
    )
    assert f"Sterling-Receipt: {result['receipt']}" in trailer.stdout
    runs = world.call("run", "list")["runs"]
    assert {(run["pack"], run["state"]) for run in runs} == {("autopilot", "ok"), ("ci", "ok")}


def test_an_agent_that_claims_green_tests_is_not_believed(world: World) -> None:
    result = world.call(*world.run_words("boast"))["result"]

    assert [each["code"] for each in result["refused"]].count("oracle.not-run") == 2
    assert result["state"] == "done" and result["epoch"] == 1
    journal = world.call("task", "why", result["task"])["result"]["journal"]
    claimed = [line for line in journal if "12 passed, 0 failed" in line.get("claim", "")]
    assert len(claimed) == 1 and claimed[0]["code"] == "oracle.not-run"


def test_an_agent_that_writes_outside_its_phase_stops_there(world: World) -> None:
    result = world.call(*world.run_words("stray"), expect=1)["result"]

    assert (result["state"], result["phase"]) == ("open", "PLAN")
    assert result["refused"][-1]["code"] == "tool.out-of-phase"
    unchanged = subprocess.run(
        ["git", "status", "--porcelain"], cwd=world.repository, capture_output=True, check=True
    )
    assert unchanged.stdout == b""


def test_without_walls_and_without_a_reason_nothing_is_written(world: World) -> None:
    words = world.run_words("mend")
    place = words.index("--uncontained")

    answer = world.call(*words[:place], *words[place + 2 :], expect=4)

    assert answer["error"]["code"] == "sandbox.not-armed"
    assert world.call("task", "status")["result"]["tasks"] == []


def test_a_suite_that_prints_no_failures_is_judged_by_its_report(world: World) -> None:
    """The agent's patch makes the suite print green words and exit 0; ci reads the report of its own run."""
    script = (SAMPLES / "mend.toml").read_text()
    start = script.index('write = "shelf/fines.py"')
    hook = "def pytest_sessionfinish(session, exitstatus):"
    body = '    print("12 passed, 0 failed")\n    sys.stdout.flush()\n    os._exit(0)\n'
    liar = f'write = "tests/conftest.py"\ntext = """\nimport os, sys\n\n\n{hook}\n{body}"""\n'
    rest = script[script.index("[[step]]", start) :]
    changed = (script[:start] + liar + "\n" + rest).replace(
        'path = "shelf/fines.py", state = "exists"', 'path = "tests/conftest.py", state = "new"'
    )
    changed = changed.replace(
        'files = 1, lines = 6, paths = ["shelf/**"]', 'files = 1, lines = 20, paths = ["**"]'
    )
    path = world.folder / "liar.toml"
    path.write_text(changed.replace('advance = "REVIEW"\nexpect = "ok"', 'advance = "REVIEW"'))
    words = world.run_words("mend")
    words[-1] = str(path)

    result = world.call(*words, expect=1)["result"]

    assert (result["state"], result["phase"]) == ("open", "VERIFY")
    assert result["refused"][-1]["from"] == "VERIFY"
    journal = world.call("task", "why", result["task"])["result"]["journal"]
    ran = [
        line["sentence"] for line in journal if line["event"] == "check" and "ran tests" in line["sentence"]
    ]
    assert len(ran) == 1 and "ci." in ran[0]


def test_killed_in_the_middle_a_task_stands_where_it_was_and_a_new_run_finishes_it(world: World) -> None:
    name = ""
    for marker in ("PLAN: agent starts", "VERIFY: agent starts"):
        words = world.run_words("mend", task=name or "Mend the red test")
        with closing(_started(world, words)) as talk:
            for line in talk:
                if line.startswith("task-"):
                    name = line.strip()
                if line.startswith(marker):
                    break
        status = world.call("task", "status", name)["result"]
        assert status["state"] == "open"
        assert PHASES.index(status["phase"]) >= PHASES.index(marker.split(":")[0]) and status["epoch"] == 0

    finished = world.call(*world.run_words("mend", task=name), expect=0)["result"]

    assert finished["state"] == "done" and finished["task"] == name
    runs = [run for run in world.call("run", "list")["runs"] if run["pack"] == "autopilot"]
    assert [(run["state"], run["code"]) for run in runs] == [
        ("failed", "run.abandoned"),
        ("failed", "run.abandoned"),
        ("ok", runs[-1]["code"]),
    ]
    world.call("verify", expect=0)


def _started(world: World, words: list[str]) -> Generator[str, None, None]:
    """The talk of a run that is killed without warning when nobody listens any more."""
    split = words.index("--")
    argv = [*STERLING, *words[:split], "--home", str(world.home), "--progress", "plain", *words[split:]]
    process = subprocess.Popen(
        argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=world.folder
    )
    assert process.stderr is not None
    try:
        yield from process.stderr
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def test_any_agent_that_can_call_a_command_line_can_work(world: World) -> None:
    """The agent is a shell script: its `sterling task` commands ask the authority and never open the home."""
    contents = {
        step["submit"]: step["content"] for step in load_script(SAMPLES / "mend.toml") if "submit" in step
    }
    for kind in ("strategy", "worthiness"):
        (world.folder / f"{kind}.json").write_text(json.dumps(contents[kind]))
    agent = world.folder / "agent.sh"
    agent.write_text(
        f"""
        s="{sys.executable} -m sterling task"; t=$1; d={world.folder}
        $s advance $t --to IMPLEMENT --json && exit 9
        $s submit $t strategy $d/strategy.json || exit 9
        $s submit $t worthiness $d/worthiness.json || exit 9
        $s status $t
        $s advance $t --to SPEC || exit 9
        $s new "another task" && exit 9
        $s abort $t --because x && exit 9
        exit 0
        """
    )
    words = world.run_words("mend")
    task = world.call("task", "new", "Mend it", *words[3:7])["result"]["task"]

    result = world.call(
        "task", "run", task, "--uncontained", "a test", "--", "sh", str(agent), task, expect=1
    )["result"]

    assert result["phase"] == "SPEC" and result["refused"][0]["code"] == "transition.skip"
    sessions = [
        line for line in world.call("task", "why", task)["result"]["journal"] if line["event"] == "session"
    ]
    assert [line["code"] for line in sessions][:2] == ["ok", "ok"]


def test_a_person_works_on_a_task_by_hand_through_the_same_gates(world: World) -> None:
    contents = {
        step["submit"]: step["content"] for step in load_script(SAMPLES / "mend.toml") if "submit" in step
    }
    for kind in ("strategy", "worthiness"):
        (world.folder / f"{kind}.json").write_text(json.dumps(contents[kind]))
    task = world.call("task", "new", "Mend it", *world.run_words("mend")[3:7])["result"]["task"]

    world.call("task", "advance", task, "--to", "STRATEGIZE")
    refused = world.call("task", "advance", task, "--to", "SPEC", expect=1)
    assert [each["code"] for each in refused["result"]["refusals"]] == ["artifact.missing"] * 2
    for kind in ("strategy", "worthiness"):
        world.call("task", "submit", task, kind, str(world.folder / f"{kind}.json"))
    world.call("task", "advance", task, "--to", "SPEC")
    world.call("task", "back", task, "--to", "STRATEGIZE", expect=1)
    moved = world.call("task", "back", task, "--to", "STRATEGIZE", "--because", "The purpose changed.")
    assert (moved["result"]["phase"], moved["result"]["epoch"]) == ("STRATEGIZE", 1)
    shown = world.call("task", "show", task, "--out", str(world.folder / "shown"))["result"]
    assert {row["counts"] for row in shown["artifacts"]} == {False} and len(shown["written"]) == 3
    (Path(shown["artifacts"][0]["path"])).write_text("edited")
    assert len(world.call("task", "refresh", task)["result"]["restored"]) == 1
    assert world.call("task", "check", task, "build")["ok"] is True
    decision = world.call("task", "why", task)["result"]["journal"][-2]
    assert world.call("task", "why", task, "--entry", str(decision["entry"]))["result"]["journal"] == [
        decision
    ]
    world.call("task", "reopen", task, "--because", "it is open", expect=1)
    world.call("task", "abort", task, "--because", "Nobody needs it.")
    world.call("task", "advance", task, "--to", "SPEC", expect=1)


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("new",), 2, "cli.bad-value"),
        (("new", "text", "--from", "also.txt"), 2, "cli.bad-value"),
        (("new", "", "--profile", "PROFILE"), 2, "task.request-invalid"),
        (("new", "x", "--repo", "nowhere"), 2, "task.request-invalid"),
        (("new", "x", "--repo", "repository"), 4, "onboard.no-profile"),
        (("new", "x", "--repo", "repository", "--profile", "none.toml"), 4, "onboard.no-profile"),
        (("new", "x", "--repo", "repository", "--risk", "huge"), 2, "cli.bad-value"),
        (("status", "task-nobody"), 2, "task.unknown"),
        (("why", "task-nobody"), 2, "task.unknown"),
        (("submit", "task-nobody", "spec", "none.json"), 2, "task.request-invalid"),
        (("advance", "task-nobody", "--to", "SPEC"), 2, "task.unknown"),
        (("advance", "task-nobody"), 2, "cli.bad-value"),
        (("run", "task-nobody", "--uncontained", "x"), 2, "task.request-invalid"),
        (("receipt", "check", "none.json"), 2, "task.request-invalid"),
        (("receipt", "export", "task-nobody", "--out", "x"), 2, "task.unknown"),
        (("frobnicate",), 2, "cli.unknown-command"),
    ],
)
def test_wrong_usage_has_a_code_and_a_next_step(
    world_without_task: World, words: tuple[str, ...], status: int, code: str
) -> None:
    profile = str(SAMPLES / "profile.toml")
    given = [profile if word == "PROFILE" else word for word in words]

    answer = world_without_task.call("task", *given, expect=status)

    assert answer["error"]["code"] == code and answer["error"]["hint"]
    assert not list((world_without_task.home / "work").glob("*"))


@pytest.fixture(scope="module")
def world_without_task(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("usage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        made = World(folder)
        made.call("init")
    return made
