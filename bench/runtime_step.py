"""What a step in a worker of its own costs, beside what Python's own pool costs in the same run.

Cases: a no-op step in a fresh, guarded worker against a process pool that also
starts a process for each task, and against one that reuses its processes (and so
bounds and ends nothing); a step whose library is warm in its family's parent
against a fresh interpreter that imports it; the plan of 1,000 plugins in 20
partitions against `graphlib` on the same graph.
"""

from __future__ import annotations

import graphlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from report import line, parse_arguments

from sterling.runtime.engine import Task
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.manifest import load_manifest
from sterling.runtime.plan import PlanRequest, build
from sterling.testing.fleet import Fleet

WORKERS = 2
PLUGINS, PARTITIONS = 1_000, 20
NO_OP = "def run():\n    return Ok(metrics={'n': 1})\n"
HEAVY = "def run():\n    import numpy\n    return Ok(metrics={'n': int(numpy.arange(3).sum())})\n"
HEAVY_ALONE = "import numpy; print(int(numpy.arange(3).sum()))"
LIMITS = {"memory_bytes": 1 << 30, "wall_ms": 60_000}


def main() -> None:
    arguments = parse_arguments("a step in its own worker against process pools")
    steps, rounds = (60, 3) if arguments.quick else (400, 7)
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        step_overhead(fleet, steps, rounds)
        warm_step(fleet, 10 if arguments.quick else 40)
    plan_of_many(2 if arguments.quick else 5)


def nothing() -> int:
    return 1


def step_overhead(fleet: Fleet, steps: int, rounds: int) -> None:
    """Milliseconds a step, two at a time, the workers' parents warm on every side."""
    manifest = load_manifest(fleet.add("no_op", NO_OP, limits=LIMITS), fleet.pack, fleet.folder)
    tasks = [Task(str(number), manifest, "", {}, out_dir=fleet.root / "out") for number in range(steps)]
    accepted = 0
    ours, fresh, reused = [], [], []
    context = get_context("forkserver")
    with (
        LocalEngine(WORKERS) as engine,
        ProcessPoolExecutor(WORKERS, context, max_tasks_per_child=1) as fresh_pool,
        ProcessPoolExecutor(WORKERS, context) as reused_pool,
    ):
        for pool in (fresh_pool, reused_pool):
            pool.submit(nothing).result()
        engine.run(tasks[:WORKERS])
        for _ in range(rounds):
            ours.append(timed(lambda: engine.run(tasks)) / steps)
            ends = engine.run(tasks[:WORKERS])
            accepted += sum(end.end == "returned" for end in ends)
            fresh.append(timed(lambda: in_pool(fresh_pool, steps)) / steps)
            reused.append(timed(lambda: in_pool(reused_pool, steps)) / steps)
    assert accepted == rounds * WORKERS, "every measured engine still gives results"
    for case, rival, must in (
        ("no-op step, a process a task on both sides", fresh, "<= 4"),
        ("no-op step, the rival reuses its processes", reused, "(none: it bounds and ends nothing)"),
    ):
        name = "ProcessPoolExecutor" + (", max_tasks_per_child=1" if rival is fresh else "")
        line(bench="runtime_step", case=case, ours=statistics.median(ours), against=statistics.median(rival),
             rival=name, unit="ms", must=must, accepted=steps * rounds, history=0, runs=rounds)  # fmt: skip


def in_pool(pool: ProcessPoolExecutor, steps: int) -> None:
    for future in [pool.submit(nothing) for _ in range(steps)]:
        assert future.result() == 1


def warm_step(fleet: Fleet, runs: int) -> None:
    """A step that uses numpy: warm in the family's parent against a fresh interpreter that imports it."""
    path = fleet.add("heavy", HEAVY, limits=LIMITS, needs={"libraries": ["numpy"]})
    manifest = load_manifest(path, fleet.pack, fleet.folder)
    ours, rival = [], []
    with LocalEngine(1, preload={"plain": ["numpy"]}) as engine:
        task = Task("heavy", manifest, "", {}, out_dir=fleet.root / "out")
        assert engine.run([task])[0].end == "returned", "the step works"
        for _ in range(runs):
            ours.append(timed(lambda: engine.run([task])))
            rival.append(timed(lambda: fresh_interpreter()))
    line(bench="runtime_step", case="step with numpy, warm parent", ours=statistics.median(ours),
         against=statistics.median(rival), rival="fresh interpreter, same import", unit="ms", must="<= 0.1",
         accepted=runs, history=0, runs=runs)  # fmt: skip


def fresh_interpreter() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY_ALONE], capture_output=True, check=True)
    assert done.stdout == b"3\n", done


@dataclass(frozen=True, slots=True)
class Toy:
    """What a plan reads of a manifest."""

    id: str
    step_needs: tuple[str, ...]
    lane: str = "explanation"
    version: str = "1.0"
    feeds: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    lock_sha256: str = "0" * 64


def plan_of_many(rounds: int) -> None:
    """Chains of four in each partition: 20,000 steps, 15,000 edges."""
    toys = [
        Toy(f"p{plugin:04}/{part:02}", (f"p{plugin - 1:04}/{part:02}",) if plugin % 4 else ())
        for plugin in range(PLUGINS)
        for part in range(PARTITIONS)
    ]
    ours, rival = [], []
    for _ in range(rounds):
        ours.append(timed(lambda: build(toys, PlanRequest("insight"))))
        rival.append(timed(lambda: sorted_by_graphlib(toys)))
    assert len(build(toys, PlanRequest("insight")).steps) == sorted_by_graphlib(toys) == len(toys)
    line(bench="runtime_step", case="plan of 20,000 steps, hashed", ours=statistics.median(ours),
         against=statistics.median(rival), rival="graphlib, no hash", unit="ms", must="<= 5",
         accepted=len(toys), history=0, runs=rounds)  # fmt: skip


def sorted_by_graphlib(toys: list[Toy]) -> int:
    sorter = graphlib.TopologicalSorter({toy.id: toy.step_needs for toy in toys})
    return len(list(sorter.static_order()))


def timed(action: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
