from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.runtime.engine import Event, Task, TaskEnd
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.launch import prove
from sterling.runtime.manifest import load_manifest
from sterling.runtime.process_tree import descendants
from sterling.testing.fleet import Fleet

OK = "def run(x):\n    return Ok([Finding('toy', 'Seen.', {'x': x})])\n"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


def task(fleet: Fleet, name: str, code: str = OK, inputs: Any = None, **changes: Any) -> Task:
    manifest = load_manifest(fleet.add(name, code, **changes), fleet.pack, fleet.folder)
    return Task(name, manifest, "", {"x": 1} if inputs is None else inputs, out_dir=fleet.root / "out" / name)


def ended(engine: LocalEngine, key: str, timeout_us: int = 20_000_000) -> TaskEnd:
    while True:
        events = engine.poll(timeout_us)
        assert events, "nothing happened in time"
        for event in events:
            if event.key == key and event.end is not None:
                return event.end


def test_ends_come_back_in_the_order_of_the_tasks(fleet: Fleet, engine: LocalEngine) -> None:
    tasks = [task(fleet, f"toy_{n}", inputs={"x": n}) for n in range(7)]

    ends = engine.run(tasks)

    assert [end.key for end in ends] == [one.key for one in tasks]
    assert [end.result["findings"][0]["evidence"]["x"] for end in ends if end.result] == list(range(7))
    assert {end.end for end in ends} == {"returned"}


def test_results_do_not_depend_on_the_number_of_workers(fleet: Fleet) -> None:
    tasks = [task(fleet, f"toy_{n}", inputs={"x": n}) for n in range(6)]
    found = []
    for workers in (1, 3):
        with LocalEngine(workers) as engine:
            found.append([(end.key, end.end, end.result) for end in engine.run(tasks)])

    assert found[0] == found[1]


def test_an_end_says_what_was_used_and_which_walls_held(fleet: Fleet, engine: LocalEngine) -> None:
    end = engine.run(
        [task(fleet, "toy", "def run():\n    print('talk')\n    return Ok(metrics={'n': 1})\n")]
    )[0]

    assert end.output_tail == "talk\n"
    assert end.rss_max > 1 << 20
    assert end.wall_us > 0
    assert {"memory:rlimit-data", "cpu:rlimit", "tree:subreaper", "wall:guard"} <= set(end.walls)


def test_each_task_has_a_process_of_its_own(fleet: Fleet, engine: LocalEngine) -> None:
    import os

    code = "import os\ndef run():\n    return Ok([Finding('pid', 'A pid.', {'pid': os.getpid()})])\n"
    ends = engine.run([task(fleet, f"toy_{n}", code) for n in range(4)])
    pids = {end.result["findings"][0]["evidence"]["pid"] for end in ends if end.result}

    assert len(pids) == 4
    assert os.getpid() not in pids


def test_a_fork_of_a_warm_parent_has_the_parents_libraries(fleet: Fleet) -> None:
    code = "import sys\ndef run():\n    return Ok(metrics={'warm': int('colorsys' in sys.modules)})\n"
    with LocalEngine(1, preload={"plain": ["colorsys", "nonesuch_module"]}) as engine:
        end = engine.run([task(fleet, "toy", code)])[0]

    assert end.result is not None
    assert end.result["metrics"] == {"warm": 1}


def test_the_environment_of_a_worker_is_fixed(fleet: Fleet, engine: LocalEngine, monkeypatch: Any) -> None:
    monkeypatch.setenv("SECRET_THING", "x")
    code = "import os\ndef run():\n    return Ok([Finding('env', 'Names.', {'names': sorted(os.environ)})])\n"
    end = engine.run([task(fleet, "toy", code)])[0]

    assert end.result is not None
    names = end.result["findings"][0]["evidence"]["names"]
    assert "SECRET_THING" not in names
    assert {"OMP_NUM_THREADS", "PYTHONHASHSEED", "TZ"} <= set(names)


def test_progress_reaches_us_while_the_task_runs(fleet: Fleet, engine: LocalEngine) -> None:
    code = "def run(progress):\n    progress(1, 3)\n    return Ok(metrics={'n': 1})\n"
    seen: list[Event] = []
    engine.run([task(fleet, "toy", code)], seen.append)

    assert [event.kind for event in seen][-1] == "end"
    assert (1, 3) in [(event.done, event.total) for event in seen if event.kind == "progress"]


WAIT = "import time\ndef run(progress, should_stop):\n    progress(0, 1)\n"
ASKED = WAIT + "    while not should_stop():\n        time.sleep(0.005)\n    raise RuntimeError('stopping')\n"
DEAF = WAIT + "    time.sleep(60)\n"


@pytest.mark.parametrize(("code", "verb"), [(ASKED, "ask_stop"), (DEAF, "kill")])
def test_a_task_ends_as_stopped_when_it_is_asked_and_when_it_is_killed(
    fleet: Fleet, engine: LocalEngine, code: str, verb: str
) -> None:
    engine.submit(task(fleet, "toy", code))
    while not any(event.kind == "progress" for event in engine.poll(5_000_000)):
        continue
    getattr(engine, verb)("toy")

    end = ended(engine, "toy")
    assert (end.end, end.step_end().kind) == ("stopped", "stopped")


def test_slots_are_taken_and_given_back(fleet: Fleet, engine: LocalEngine) -> None:
    engine.submit(task(fleet, "one", DEAF))
    engine.submit(task(fleet, "two", DEAF))
    assert engine.slots() == 0

    engine.kill("one")
    ended(engine, "one")

    assert engine.slots() == 1


def test_closing_ends_every_process(fleet: Fleet) -> None:
    import os

    before = set(descendants(os.getpid()))
    with LocalEngine(2) as engine:
        engine.submit(task(fleet, "toy", DEAF))
        while not any(event.kind == "progress" for event in engine.poll(5_000_000)):
            continue
        assert set(descendants(os.getpid())) - before

    assert set(descendants(os.getpid())) - before == set()


def test_an_untrusted_plugin_is_refused_where_there_is_no_sandbox(
    fleet: Fleet, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove.cache_clear()
    monkeypatch.setenv("PATH", str(fleet.root))

    end = engine.run([task(fleet, "toy", trust="untrusted")])[0]

    assert (end.end, end.reason) == ("refused", "sandbox.unavailable")


def test_code_altered_after_its_check_is_refused(fleet: Fleet, engine: LocalEngine) -> None:
    one = task(fleet, "toy")
    one.plugin.code_path.write_text("(__import__('pathlib').Path(__file__).parent / 'ran').touch()")

    end = engine.run([one])[0]

    assert (end.end, end.reason) == ("refused", "plugin.altered")
    assert not (one.plugin.code_path.parent / "ran").exists()


@pytest.mark.parametrize("inputs", [{"x": "y" * (2 << 20)}, {"x": {1, 2}}, {"x": float("nan")}])
def test_inputs_that_cannot_cross_fail_that_task_alone(
    fleet: Fleet, engine: LocalEngine, inputs: Any
) -> None:
    ends = engine.run([task(fleet, "bad", inputs=inputs), task(fleet, "good")])

    assert [end.end for end in ends] == ["protocol", "returned"]


@pytest.mark.parametrize(
    "setup",
    [
        "",
        "(out_dir() / 'a.csv').mkdir()",
        "(out_dir() / 'a.csv').symlink_to('/etc/hostname')",
    ],
)
def test_an_artifact_that_is_no_file_of_the_step_makes_the_result_invalid(
    fleet: Fleet, engine: LocalEngine, setup: str
) -> None:
    code = (
        f"def run():\n    {setup or 'pass'}\n    return Ok(artifacts=[Artifact('a', 'a.csv', 'text/csv')])\n"
    )

    assert engine.run([task(fleet, "toy", code)])[0].end == "invalid"


def test_an_artifact_that_is_there_is_kept_for_the_caller(fleet: Fleet, engine: LocalEngine) -> None:
    code = (
        "def run(out_dir):\n    (out_dir / 'a.csv').write_text('1')\n"
        "    return Ok(artifacts=[Artifact('a', 'a.csv', 'text/csv')])\n"
    )
    one = task(fleet, "toy", code)

    assert engine.run([one])[0].end == "returned"
    assert (one.out_dir / "a.csv").read_text() == "1"


def test_a_step_without_progress_and_without_cpu_time_is_hung(
    fleet: Fleet, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sterling.runtime.host.STALL_MS", 200)

    end = engine.run([task(fleet, "toy", DEAF)])[0]

    assert (end.end, end.step_end().kind) == ("hung", "hung")
    assert "200 ms" in end.message


def test_a_step_that_computes_or_tells_its_progress_is_not_hung(
    fleet: Fleet, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sterling.runtime.host.STALL_MS", 300)
    busy = (
        "import time\ndef run():\n    end = time.monotonic() + 0.8\n    while time.monotonic() < end: pass\n"
    )
    telling = (
        "import time\ndef run(progress):\n    for n in range(8):\n"
        "        progress(n, 9)\n        time.sleep(0.1)\n"
    )
    last = "    return Ok(metrics={'n': 1})\n"

    ends = engine.run([task(fleet, "busy", busy + last), task(fleet, "telling", telling + last)])

    assert [end.end for end in ends] == ["returned", "returned"]
