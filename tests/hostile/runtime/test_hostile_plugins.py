"""Plugins that do their worst: each dies with its code and its whole tree, and the others finish."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from sterling.runtime.engine import Task, TaskEnd
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.manifest import load_manifest
from sterling.runtime.outcomes import settle
from sterling.runtime.process_tree import descendants
from sterling.runtime.registry import inspect
from sterling.testing.fleet import Fleet

MIB = 1 << 20
LIMITS = {"memory_bytes": 128 * MIB, "wall_ms": 30_000, "cpu_ms": 30_000, "output_bytes": MIB}
OK = "def run():\n    return Ok([Finding('toy', 'Seen.', {'x': 1})])\n"
# Whatever a body writes to every descriptor it has, only its own channel is among them.
SPRAY = (
    "import os\ndef spray(words):\n    for end in range(3, 256):\n"
    "        try: os.write(end, words)\n        except OSError: pass\n"
)

HOSTILE: dict[str, tuple[str, dict[str, int], str]] = {
    "allocates_8_gib_at_once": ("def run():\n    held = bytearray(8 << 30)\n", {}, "limit.memory"),
    "grows_until_it_is_stopped": (
        "def run():\n    held = []\n    while True:\n        held.append(bytearray(4 << 20))\n",
        {},
        "limit.memory",
    ),
    "catches_its_memory_errors_and_goes_on": (
        "def run():\n    held = []\n    while True:\n        try: held.append(bytearray(4 << 20))\n"
        "        except MemoryError: pass\n",
        {},
        "limit.memory",
    ),
    "forks_children_that_leave_the_session": (
        "import os, time\ndef run():\n    for _ in range(8):\n"
        "        if os.fork() == 0:\n            os.setsid()\n"
        "            if os.fork() == 0:\n                os.setsid()\n                time.sleep(300)\n"
        "            time.sleep(300)\n    time.sleep(300)\n",
        {"processes": 4},
        "limit.processes",
    ),
    "fork_bomb": (
        "import os, time\ndef run():\n    while True:\n"
        "        if os.fork() == 0:\n            time.sleep(300)\n",
        {},
        "limit.processes",
    ),
    "leaves_a_daemon_and_ends": (
        "import os, time\ndef run():\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(300)\n"
        "    return Ok([Finding('toy', 'Seen.', {'x': 1})])\n",
        {"processes": 8},
        "ok",
    ),
    "prints_without_end": ("def run():\n    while True:\n        print('x' * 4000)\n", {}, "limit.output"),
    "writes_a_file_without_end": (
        "def run(out_dir):\n    with open(out_dir / 'a', 'wb') as file:\n        while True:\n"
        "            file.write(bytes(100_000))\n            file.flush()\n",
        {},
        "limit.output",
    ),
    "writes_files_without_end": (
        "import time\ndef run(out_dir):\n    for n in range(100_000):\n"
        "        (out_dir / str(n)).write_bytes(bytes(50_000))\n        time.sleep(0.005)\n",
        {},
        "limit.output",
    ),
    "loops_without_end": ("def run():\n    while True:\n        pass\n", {"cpu_ms": 200}, "limit.cpu"),
    "sleeps_without_end": ("import time\ndef run():\n    time.sleep(300)\n", {"wall_ms": 200}, "limit.wall"),
    "ignores_every_signal_it_can": (
        "import signal, time\ndef run():\n    for n in range(1, 32):\n"
        "        if n not in (9, 19):\n            signal.signal(n, signal.SIG_IGN)\n    time.sleep(300)\n",
        {"wall_ms": 200},
        "limit.wall",
    ),
    "stops_itself": (
        "import os, signal\ndef run():\n    os.kill(os.getpid(), signal.SIGSTOP)\n",
        {"wall_ms": 200},
        "limit.wall",
    ),
    "raises": ("def run():\n    raise RuntimeError('no')\n", {}, "step.raised"),
    "raises_a_name_that_cannot_be_said": (
        "class Bad(Exception):\n    def __str__(self):\n        return '\\ud800' * 5\n"
        "def run():\n    raise Bad\n",
        {},
        "step.raised",
    ),
    "exits_at_once": ("import os\ndef run():\n    os._exit(0)\n", {}, "worker.died"),
    "exits_while_it_is_loaded": ("import os\nos._exit(3)\n", {}, "worker.died"),
    "crashes": ("import ctypes\ndef run():\n    ctypes.string_at(0)\n", {}, "worker.died"),
    "aborts": ("import os\ndef run():\n    os.abort()\n", {}, "worker.died"),
    "kills_itself": ("import os\ndef run():\n    os.kill(os.getpid(), 9)\n", {}, "worker.died"),
    "recurses_without_end_in_c": (
        "import sys\ndef run():\n    sys.setrecursionlimit(1 << 30)\n    f = lambda: f()\n    f()\n",
        {},
        "any failure",
    ),
    "sends_a_huge_frame": (
        SPRAY + "def run():\n    spray(b'\\x7f\\xff\\xff\\xff' + b'x' * 100)\n",
        {},
        "worker.protocol",
    ),
    "sends_garbage": (SPRAY + "def run():\n    spray(os.urandom(3) * 999)\n", {}, "worker.protocol"),
    "sends_a_torn_frame": (
        SPRAY + "def run():\n    spray(b'\\x00\\x00\\x00\\x50abc')\n    os._exit(0)\n",
        {},
        "worker.protocol",
    ),
    "sends_a_frame_of_another_kind": (
        SPRAY
        + 'def run():\n    spray(b\'\\x00\\x00\\x00\\x0e{"type":"end"}\')\n'
        + "    return Ok(metrics={'n': 1})\n",
        {},
        "worker.protocol",
    ),
    "answers_twice": (
        SPRAY
        + 'def run():\n    words = b\'{"type":"result","result":{"status":"ok"}}\'\n'
        + "    spray(len(words).to_bytes(4, 'big') + words)\n    return Ok(metrics={'n': 1})\n",
        {},
        "worker.protocol",
    ),
    "answers_with_a_forged_status": (
        SPRAY
        + 'def run():\n    words = b\'{"type":"result","result":{"status":"degraded"}}\'\n'
        + "    spray(len(words).to_bytes(4, 'big') + words)\n    os._exit(0)\n",
        {},
        "step.invalid-result",
    ),
    "floods_progress_and_ends": (
        "def run(progress):\n    for n in range(50_000):\n        progress(n, n)\n"
        "    return Ok([Finding('toy', 'Seen.', {'x': 1})])\n",
        {},
        "ok",
    ),
    "returns_too_much": (
        "def run():\n    return Ok([Finding('toy', 'x' * (3 << 20), {'x': 1})])\n",
        {},
        "step.invalid-result",
    ),
    "returns_a_deep_nest": (
        "def run():\n    nest = []\n    for _ in range(100_000):\n        nest = [nest]\n"
        "    return Ok([Finding('toy', 'Deep.', {'x': nest})])\n",
        {},
        "any failure",
    ),
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[TaskEnd, str, str]]:
    """Every hostile plugin among good ones, in one fleet of one engine; then the same engine once more."""
    fleet = Fleet(tmp_path_factory.mktemp("hostile"))
    tasks: list[Task] = []
    for number, (name, (code, limits, _)) in enumerate(HOSTILE.items()):
        manifest = load_manifest(fleet.add(name, code, limits={**LIMITS, **limits}), fleet.pack, fleet.folder)
        tasks.append(Task(name, manifest, "", {}, out_dir=fleet.root / "out" / name))
        good = load_manifest(fleet.add(f"good_{number}", OK), fleet.pack, fleet.folder)
        tasks.append(Task(good.id, good, "", {}, out_dir=fleet.root / "out" / good.id))
    before = set(descendants(os.getpid()))
    found: dict[str, tuple[TaskEnd, str, str]] = {}
    with LocalEngine(2) as engine:
        for task, end in zip(tasks, engine.run(tasks), strict=True):
            settled = settle(task.plugin, end.result, end.step_end())
            found[end.key] = (end, settled.state, settled.reason)
        parents = {host.pid for host in engine.hosts()}
        left = set(descendants(os.getpid())) - before - parents
        deadline = time.monotonic() + 5
        while left and time.monotonic() < deadline:  # A guard reports, and then it ends itself.
            left &= set(descendants(os.getpid()))
        found["left behind"] = (TaskEnd("left behind", str(sorted(left))), "", "")
    return found


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_plugin_ends_with_its_code(ends: dict[str, tuple[TaskEnd, str, str]], name: str) -> None:
    end, state, reason = ends[name]
    wanted = HOSTILE[name][2]

    assert state == ("ok" if wanted == "ok" else "failed")
    assert wanted == "any failure" or reason == wanted, end.message


def test_every_other_plugin_finishes_beside_them(ends: dict[str, tuple[TaskEnd, str, str]]) -> None:
    good = {name: state for name, (_, state, _) in ends.items() if name.startswith("good_")}

    assert len(good) == len(HOSTILE)
    assert set(good.values()) == {"ok"}


def test_no_process_of_any_of_them_is_left(ends: dict[str, tuple[TaskEnd, str, str]]) -> None:
    assert ends["left behind"][0].end == "[]"


def test_a_death_names_its_signal(ends: dict[str, tuple[TaskEnd, str, str]]) -> None:
    assert "SIGSEGV" in ends["crashes"][0].message
    assert "SIGKILL" in ends["kills_itself"][0].message
    assert "status 3" in ends["exits_while_it_is_loaded"][0].message


def bad_fleet(fleet: Fleet, marker: Path) -> None:
    """Fourteen plugins, each with one fault; all of them would leave a marker if their code ran."""
    touch = f"(__import__('pathlib').Path({str(marker)!r})).touch()\n" + OK
    good: dict[str, Any] = {}
    fleet.add("altered", touch, **good)
    fleet.write_lock()
    fleet.add("altered", touch + "# changed\n", **good)
    fleet.add("not_listed", touch)
    fleet.add("manifest_invalid", touch, surprise=1)
    fleet.add("lane_missing", touch, lane=None)
    fleet.add("lane_role_conflict", touch, lane="decision")
    fleet.add("downstream_missing", touch, terminal_context=False)
    fleet.add("path_escape", touch, id="../path_escape")
    fleet.add("contract_unknown", touch, contracts={"out": ["insight.nonesuch"]})
    fleet.add("api_range", touch, api=">=2")
    fleet.add("library_undeclared", touch + "import numpy\n")
    fleet.add("conflict", touch, needs={"plugins": ["conflict"]})
    fleet.add("untrusted_network", touch, trust="untrusted", permissions={"network": True})
    fleet.add("undeclared_import", touch + "import sterling.kernel.home\n")
    fleet.add("id_duplicate", touch, file="one/id_duplicate")
    fleet.add("id_duplicate", touch, file="two/id_duplicate")


def test_fourteen_bad_plugins_give_fourteen_codes_and_none_of_their_code_runs(tmp_path: Path) -> None:
    marker = tmp_path / "code-ran"
    fleet = Fleet(tmp_path / "fleet")
    bad_fleet(fleet, marker)

    scan = inspect("insight", root=fleet.root, lock=fleet.lock)

    codes = {refusal.code for refusal in scan.refusals}
    for refusal in scan.refusals:
        named = refusal.plugin.partition("/")[2].replace("_", "-")
        assert refusal.code == f"plugin.{named}" or (named, refusal.code) == (
            "id-duplicate",
            "plugin.not-listed",
        )
    assert len(codes) == 14
    assert scan.manifests == ()
    assert not marker.exists()
