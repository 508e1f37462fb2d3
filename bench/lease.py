"""What a lease costs, beside the floor of the same disk in the same run.

Cases: a durable acquire and a durable release, each against raw append + fsync
of the same bytes; a hundred contenders (threads of eight processes), each asking
for one of a few names, against eight processes that each commit alone.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel.home import init_home, open_home
from sterling.kernel.lease_table import LeaseHeld
from sterling.kernel.leases import lease_figures

CONTENDERS, PROCESSES, NAMES, ROUNDS = 100, 8, 10, 3

_WARM = 250


def main() -> None:
    if sys.argv[1:2] == ["--contend"]:
        contend(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
        return
    if sys.argv[1:2] == ["--alone"]:
        commit_alone(Path(sys.argv[2]), int(sys.argv[3]))
        return
    arguments = parse_arguments("leases against their floor")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder).resolve() / "state")
        one_holder(Path(folder), 200 if arguments.quick else 2_000)
        contenders(Path(folder), 10 if arguments.quick else 50)


def one_holder(folder: Path, count: int) -> None:
    with init_home(folder / "one") as home:
        for _ in range(_WARM):  # Until SQLite's log has its size: growing a file is not what is measured.
            home.leases.release(home.leases.acquire("task/warm"))
        bodies = [next(home.ledger.read(kind=f"lease.{kind}")).body for kind in ("acquired", "released")]
        descriptor = os.open(folder / "raw", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        times: list[list[float]] = [[], [], [], []]
        for number in range(count):
            moments = [time.perf_counter()]
            lease = home.leases.acquire(f"task/{number % 50}")
            moments.append(time.perf_counter())
            raw_append(descriptor, bodies[0])
            moments.append(time.perf_counter())
            home.leases.release(lease)
            moments.append(time.perf_counter())
            raw_append(descriptor, bodies[1])
            moments.append(time.perf_counter())
            for place, spent in enumerate(times):
                spent.append((moments[place + 1] - moments[place]) * 1000)
        os.close(descriptor)
        holds = lease_figures(home.ledger.read()).holds - _WARM
        history = home.ledger.size()
    for place, case in ((0, "durable acquire, median"), (2, "durable release, median")):
        line(
            bench="lease",
            case=case,
            ours=statistics.median(times[place]),
            against=statistics.median(times[place + 1]),
            rival="raw append + fsync",
            unit="ms",
            must="<= 2.0",
            accepted=holds,
            history=history,
            runs=count,
        )


def raw_append(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)
    os.fsync(descriptor)


def contenders(folder: Path, each: int) -> None:
    """Lease operations a second, granted or refused: each is a durable entry. Higher is better."""
    place = folder / "many"
    init_home(place).close()
    database = folder / "alone.db"
    setup = sqlite3.connect(database, isolation_level=None)
    setup.execute("PRAGMA journal_mode=WAL")
    setup.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, body BLOB)")
    threads = [CONTENDERS // PROCESSES + (number < CONTENDERS % PROCESSES) for number in range(PROCESSES)]
    ours_s = rival_s = 0.0
    for turn in range(ROUNDS):
        ours_s += together(
            [["--contend", str(place), str(number), str(each), str(turn)] for number in threads]
        )
        rival_s += together([["--alone", str(database), str(each)]] * PROCESSES)
    done, alone = CONTENDERS * each * ROUNDS, PROCESSES * each * ROUNDS
    with open_home(place, read_only=True) as home:
        figures, history = lease_figures(home.ledger.read()), home.ledger.size()
    # A refusal whose answer was lost on the way is asked for again, and is then two entries.
    assert figures.holds == NAMES * each * ROUNDS
    assert figures.holds + figures.contentions >= done, figures
    line(
        bench="lease",
        case="100 contenders in 8 processes",
        ours=done / ours_s,
        against=alone / rival_s,
        rival="8 processes that each commit alone",
        unit="operations/s",
        must=">= 5",
        accepted=done,
        history=history,
        runs=done,
    )


def together(commands: list[list[str]]) -> float:
    """Seconds from the word to start until the last child is done."""
    children = [
        subprocess.Popen(
            [sys.executable, __file__, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    start = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
    spent = time.perf_counter() - start
    for child in children:
        child.communicate()
        assert child.returncode == 0
    return spent


def contend(place: Path, threads: int, each: int, turn: str) -> None:
    """Ask for leases from many threads; who gets one keeps it as long as the bench lasts."""

    def ask(lane: int) -> None:
        for number in range(each):
            try:
                home.leases.acquire(f"name/{(lane + number) % NAMES}/{turn}/{number}")
            except LeaseHeld:
                continue

    with open_home(place, settings=["store.wait_ms_max=120000"]) as home:
        lanes = [threading.Thread(target=ask, args=(lane,)) for lane in range(threads)]
        wait_for_the_word()
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        print("done", flush=True)
        sys.stdin.read()


def commit_alone(database: Path, count: int) -> None:
    connection = sqlite3.connect(database, isolation_level=None, timeout=120)
    connection.execute("PRAGMA synchronous=FULL")
    wait_for_the_word()
    for _ in range(count):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO entries (body) VALUES (?)", (b"x" * 400,))
        connection.execute("COMMIT")
    print("done", flush=True)


def wait_for_the_word() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
