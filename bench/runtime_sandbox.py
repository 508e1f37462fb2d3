"""What the walls around untrusted code cost to put up, beside bare bubblewrap with the same interpreter.

Cases: an interpreter that does nothing, behind our walls and behind bubblewrap
with new namespaces and nothing else; a whole step of an untrusted plugin (order,
guard, walls, interpreter, code checked and run, result) against bare bubblewrap
whose interpreter imports what the worker imports.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel.shipped import package_root
from sterling.runtime.engine import Task
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.launch import Walls, interpreter, python, run_sandboxed, sandboxed
from sterling.runtime.manifest import load_manifest
from sterling.testing.fleet import Fleet

BARE = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--")
NOTHING = ("-P", "-s", "-c", "pass")
SAME_IMPORTS = (
    "-P",
    "-s",
    "-c",
    "import sys; sys.path.insert(0, sys.argv[1]); import sterling.runtime.worker",
)
NO_OP = "def run():\n    return Ok(metrics={'n': 1})\n"


def main() -> None:
    arguments = parse_arguments("walls around untrusted code against bare bubblewrap")
    rounds = 20 if arguments.quick else 100
    with tempfile.TemporaryDirectory() as folder:
        start(Path(folder), rounds)
        step(Fleet(Path(folder)), rounds)


def start(folder: Path, rounds: int) -> None:
    launch = sandboxed((python(), *NOTHING), Walls(folder, interpreter()))
    bare = [*BARE, sys.executable, *NOTHING]
    ours, rival = interleaved(lambda: run_sandboxed(launch), lambda: alone(bare), rounds)
    assert run_sandboxed(launch).returncode == 0, "the walls stand"
    report("interpreter that does nothing", ours, rival, "bare bubblewrap", rounds)


def step(fleet: Fleet, rounds: int) -> None:
    manifest = load_manifest(fleet.add("no_op", NO_OP, trust="untrusted"), fleet.pack, fleet.folder)
    task = Task("no_op", manifest, "", {}, out_dir=fleet.root / "out")
    bare = [*BARE, sys.executable, *SAME_IMPORTS, str(package_root().parent)]
    with LocalEngine(1) as engine:
        assert engine.run([task])[0].end == "returned", "the step works"
        ours, rival = interleaved(lambda: engine.run([task]), lambda: alone(bare), rounds)
    report("whole untrusted step", ours, rival, "bare bubblewrap, same imports", rounds)


def interleaved(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    pairs = [(timed(first), timed(second)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def report(case: str, ours: list[float], rival: list[float], name: str, rounds: int) -> None:
    line(bench="runtime_sandbox", case=case, ours=statistics.median(ours), against=statistics.median(rival),
         rival=name, unit="ms", must="<= 1.5", accepted=rounds, history=0, runs=rounds)  # fmt: skip


def alone(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, env={})


def timed(action: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
