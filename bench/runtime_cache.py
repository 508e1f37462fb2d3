"""A run whose steps are reused, beside the same run the first time.

Cold: a fleet of steps, each of which reads, counts and works for a stated time in
a worker of its own. Warm: the same fleet over the same inputs in the same home,
every step a hit: its key computed, its row found, its blob read and hashed, its
outcome written durably. Both include opening and closing the run. A case with
longer steps and one with no-op steps show where the bound holds and where it
cannot: a hit still writes to the disk.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel.home import Home, init_home
from sterling.runtime.cache_store import Caching
from sterling.runtime.execute import gather_facts, run_plan
from sterling.runtime.plan import PlanRequest, build
from sterling.runtime.registry import Registry
from sterling.runtime.runs import open_run, read_run
from sterling.testing.fleet import Fleet

WORKERS = 2
WORK = """import time
def run(table):
    end = time.process_time() + {seconds}
    total = 0
    while time.process_time() < end:
        total += 1
    return Ok([Finding("toy", f"{{table}}: {number}.", {{"rows": [{number}]}})])
"""


def main() -> None:
    arguments = parse_arguments("steps that are reused against steps that run")
    steps, rounds = (8, 2) if arguments.quick else (24, 3)
    for seconds, must in ((0.5, "<= 0.03"), (0.0, "(none: a no-op has nothing to save)")):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), seconds, steps, rounds, must)


def measure(folder: Path, seconds: float, steps: int, rounds: int, must: str) -> None:
    fleet = Fleet(folder / "fleet")
    for number in range(steps):
        fleet.add(f"step_{number:02}", WORK.format(seconds=seconds, number=number))
    registry = fleet.registry()
    cold, warm, reused = [], [], 0
    with init_home(folder / "home") as home:
        for number in range(rounds):
            cold.append(timed(home, registry, f"table {number}")[0])
            for _ in range(3):
                elapsed, hits = timed(home, registry, f"table {number}")
                warm.append(elapsed)
                reused += hits
        history = home.ledger.size()
    assert reused == steps * rounds * 3, "every step of a warm run is reused"
    line(
        bench="runtime_cache",
        case=f"{steps} steps of {seconds} s, {WORKERS} at a time",
        ours=statistics.median(warm),
        against=statistics.median(cold),
        rival="the same run, cold",
        unit="s",
        must=must,
        accepted=reused,
        history=history,
        runs=rounds,
    )


def timed(home: Home, registry: Registry, table: str) -> tuple[float, int]:
    """Seconds of one run, and how many of its steps were reused."""
    plan = build(registry.manifests("insight"), PlanRequest("insight"))
    start = time.perf_counter()
    with open_run(home, pack="insight", plan=plan, origin="attended") as run:
        run_plan(
            home,
            run,
            plan,
            registry,
            provider="",
            inputs_for=lambda step: {"table": table},
            accept=lambda step, end, settled, batch: None,
            workers=WORKERS,
            facts=gather_facts(),
            caching=Caching(lambda step: {"table": table}),
        )
    elapsed = time.perf_counter() - start
    return elapsed, sum(bool(row["cached_from"]) for row in read_run(home, run.id).outcomes)


if __name__ == "__main__":
    main()
