"""A played day against a bare loop that calls the same deciders as often.

The day is a file of 345,600 lines, one every 250 ms. The rival reads no file,
keeps no events and plays no jobs: it only fuses prepared readings, chooses the
mode, and asks about admissions and stops, each as many times as the day did.
Interleaved, so that a noisy machine hits both.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments

from sterling.runtime import budgets, governor
from sterling.runtime.budgets import Account, Lease
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.modes import choose_mode
from sterling.runtime.signals import Reading, fuse
from sterling.runtime.simulate import TICK_US, Report, simulate
from sterling.runtime.simulate_input import Recorded, read_jobs, read_signals

SETTINGS = GovernorSettings(cores=2)
CYCLE = 1_200
MUST = "<= 3"


def main() -> None:
    arguments = parse_arguments("24 h of signals against a bare loop of the deciders")
    ticks = 20_000 if arguments.quick else 345_600
    rounds = 3
    with tempfile.TemporaryDirectory() as folder:
        signals = write_signals(Path(folder) / "signals.jsonl", ticks)
        jobs = write_jobs(Path(folder) / "jobs.jsonl", ticks)
        prepared = prepare(signals)
        calls = count_calls(signals, jobs)
        for case, with_jobs in (("signals alone", False), ("signals and jobs", True)):
            ours, bare, report = [], [], None
            for _ in range(rounds):
                wanted = read_jobs(jobs) if with_jobs else []
                seconds, report = timed(
                    lambda wanted=wanted: simulate(read_signals(signals), SETTINGS, wanted)
                )
                ours.append(seconds)
                asked = calls if with_jobs else (0, 0)
                bare.append(timed(lambda asked=asked: call_deciders(prepared, ticks, asked))[0])
            assert isinstance(report, Report) and report.summary["ticks"] == ticks
            line(
                bench="runtime_simulate",
                case=f"{case}, {ticks} looks",
                ours=min(ours),
                against=min(bare),
                rival="bare loop of the deciders",
                unit="s",
                must=MUST,
                accepted=report.summary["ticks"],
                history=report.summary["lines"],
                runs=rounds,
            )


def timed(action: Callable[[], Report | None]) -> tuple[float, Report | None]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def call_deciders(prepared: list[tuple[int, list[Reading]]], ticks: int, asked: tuple[int, int]) -> None:
    for tick in range(ticks):
        now_us, readings = prepared[tick % CYCLE]
        signals = fuse(readings, now_us, SETTINGS)
        choose_mode(signals, SETTINGS)
    window = budgets.first_window(budgets.limits_of(SETTINGS), 0)
    request = governor.JobRequest("job")
    admissions, stops = asked
    for _ in range(admissions):
        governor.admit(window, request, signals, SETTINGS, 0)
    lease = Lease("job", "job", Account.IDLE, 30_000_000, 0, 30_000_000)
    running = budgets.reserve(window, budgets.limits_of(SETTINGS), lease)
    for _ in range(stops):
        governor.stop_verdict(running, lease, signals, SETTINGS, 1_000_000)


def count_calls(signals: Path, jobs: Path) -> tuple[int, int]:
    """How often the day asks about admissions and about stops."""
    counts = {"admit": 0, "stop_verdict": 0}
    kept = {name: getattr(governor, name) for name in counts}

    def counted(name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            counts[name] += 1
            return kept[name](*arguments)

        return call

    for name in counts:
        setattr(governor, name, counted(name))
    try:
        simulate(read_signals(signals), SETTINGS, read_jobs(jobs))
    finally:
        for name, plain in kept.items():
            setattr(governor, name, plain)
    return counts["admit"], counts["stop_verdict"]


def prepare(path: Path) -> list[tuple[int, list[Reading]]]:
    """The readings of the first lines, as the simulation makes them."""
    prepared: list[tuple[int, list[Reading]]] = []
    recorded = Recorded()
    for row in read_signals(path):
        recorded.take(row)
        prepared.append((row.at_us, recorded.readings(row.at_us)))
        if len(prepared) == CYCLE:
            break
    return prepared


def write_signals(path: Path, ticks: int) -> Path:
    """Somebody who types for twenty minutes of every hour."""
    chance = random.Random(1)
    idle_ms = 0
    with path.open("w") as file:
        for tick in range(ticks):
            typing = (tick // 4) % 3_600 < 1_200 and chance.random() < 0.3
            idle_ms = 0 if typing else idle_ms + 250
            row = {
                "at_us": tick * TICK_US,
                "idle_ms": idle_ms,
                "active": idle_ms < 3_000,
                "fullscreen": False,
                "cpu_other_bp": chance.randrange(0, 4_000),
                "ram_used_bp": 4_000,
                "stall_bp": 0,
                "power": "mains",
                "charge_bp": 10_000,
            }
            file.write(json.dumps(row) + "\n")
    return path


def write_jobs(path: Path, ticks: int) -> Path:
    """One job every five minutes, some of which ignore being asked to stop."""
    chance = random.Random(2)
    rows = [
        {
            "id": f"job-{number}",
            "at_us": number * 300_000_000,
            "run_ms": chance.randrange(500, 60_000),
            "stops_in_ms": chance.choice([0, 50, None]),
        }
        for number in range(max(1, ticks * TICK_US // 300_000_000))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


if __name__ == "__main__":
    main()
