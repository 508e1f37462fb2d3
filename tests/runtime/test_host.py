from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sterling.kernel.liveness import started_ticks
from sterling.kernel.shipped import package_root
from sterling.runtime.engine import Task
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.host import EngineLost, FamilyHost
from sterling.runtime.manifest import load_manifest
from sterling.testing.fleet import Fleet

OK = "def run():\n    return Ok(metrics={'n': 1})\n"


def task(fleet: Fleet, name: str, code: str = OK) -> Task:
    manifest = load_manifest(fleet.add(name, code), fleet.pack, fleet.folder)
    return Task(name, manifest, "", {}, out_dir=fleet.root / "out" / name)


def test_a_host_is_named_by_pid_and_start(tmp_path: Path) -> None:
    host = FamilyHost("plain")
    try:
        assert host.row.started_ticks == started_ticks(host.row.pid)
    finally:
        host.close()

    assert started_ticks(host.row.pid) is None


def test_a_host_that_is_gone_says_so(tmp_path: Path) -> None:
    host = FamilyHost("plain")
    os.kill(host.row.pid, signal.SIGKILL)
    while started_ticks(host.row.pid) is not None:
        threading.Event().wait(0.005)

    with pytest.raises(EngineLost):
        host.start(task(Fleet(tmp_path), "toy"))
    host.close()


def test_an_engine_starts_a_family_again_after_its_parent_was_killed(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    with LocalEngine(1) as engine:
        assert engine.run([task(fleet, "one")])[0].end == "returned"
        os.kill(engine.hosts()[0].pid, signal.SIGKILL)
        while started_ticks(engine.hosts()[0].pid) is not None:
            threading.Event().wait(0.005)

        assert engine.run([task(fleet, "two")])[0].end == "returned"


KILL_GUARD = """
import os, time
def run():
    if os.fork() == 0:
        os.setsid()
        (out_dir() / "new").write_text(str(os.getpid()))
        (out_dir() / "new").rename(out_dir() / "pid")
        time.sleep(300)
    while not (out_dir() / "pid").exists():
        time.sleep(0.005)
    os.kill(os.getppid(), 9)
    time.sleep(300)
"""


def is_running(pid: int) -> bool:
    return started_ticks(pid) is not None


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return not is_running(pid)


def test_a_worker_that_kills_its_guard_dies_with_its_children_and_harms_nobody(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    with LocalEngine(2) as engine:
        killer = task(fleet, "killer", KILL_GUARD)
        ends = engine.run([killer, task(fleet, "good")])
        child = int((killer.out_dir / "pid").read_text())

        assert [end.end for end in ends] == ["died", "returned"]
        assert wait_until_gone(child)


OWNER = """
import sys
from pathlib import Path
from sterling.runtime.engine import Task
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.manifest import load_manifest
from sterling.testing.fleet import Fleet
fleet = Fleet(Path(sys.argv[1]))
code = '''
import os, time
def run():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            (out_dir() / "new").write_text(str(os.getpid()))
            (out_dir() / "new").rename(out_dir() / "grandchild")
            time.sleep(300)
        os._exit(0)
    os.wait()
    (out_dir() / "newer").write_text(str(os.getpid()))
    (out_dir() / "newer").rename(out_dir() / "worker")
    time.sleep(300)
'''
limits = {"memory_bytes": 1 << 28, "wall_ms": 600_000, "processes": 8}
tasks = []
for name in ("a", "b"):
    manifest = load_manifest(fleet.add(name, code, limits=limits), fleet.pack, fleet.folder)
    tasks.append(Task(name, manifest, "", {}, out_dir=fleet.root / "out" / name))
with LocalEngine(2) as engine:
    for task in tasks:
        engine.submit(task)
    while not all((task.out_dir / name).exists() for task in tasks for name in ("worker", "grandchild")):
        engine.poll(10_000)
    print("ready", engine.hosts()[0].pid, flush=True)
    engine.run([])
    while True:
        engine.poll(1_000_000)
"""


def test_killing_the_supervisor_amid_double_forking_children_leaves_no_descendant(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        env={"PYTHONPATH": str(package_root().parent), "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    ready, parent = owner.stdout.readline().split()
    names = [tmp_path / "out" / task / name for task in "ab" for name in ("worker", "grandchild")]
    pids = [int(name.read_text()) for name in names]
    assert ready == "ready"
    assert all(is_running(pid) for pid in pids)

    owner.kill()
    owner.wait(20)

    assert all(wait_until_gone(pid) for pid in [*pids, int(parent)])
