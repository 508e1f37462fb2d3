"""What a durable append costs, beside the floor of the same disk in the same run.

Cases: one caller (median and p99) against raw append + fsync of the same bytes;
eight threads against eight threads that each commit alone; the software cost on
a RAM disk against a bare hash, dump, insert and commit; a long history against a
short one. Interleaved, so that a noisy disk hits both.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments, percentile

from sterling.kernel.batch import Batch
from sterling.kernel.home import Home, init_home

PAYLOAD = {"command": "bench " + "x" * 180, "pid": 4242, "boot": "00000000-0000-4000-8000-000000000001"}


def main() -> None:
    arguments = parse_arguments("durable append against its floor")
    count = 200 if arguments.quick else 2_000
    histories = (1_000, 10_000) if arguments.quick else (1_000, 1_000_000)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder).resolve() / "state")
        one_caller(Path(folder), count)
        eight_callers(Path(folder), count // 4)
        long_history(Path(folder), histories, count)
    memory = Path("/dev/shm")
    if memory.is_dir():
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
            software_cost(Path(folder), count)


def append(home: Home) -> None:
    batch = Batch()
    batch.append("process.started", PAYLOAD)
    home.ledger.commit(batch)


def raw_append(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)
    os.fsync(descriptor)


def timed(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def one_caller(folder: Path, count: int) -> None:
    with init_home(folder / "one") as home:
        append(home)
        body = next(home.ledger.read(kind="process.started")).body
        descriptor = os.open(folder / "raw", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        ours, floor = [], []
        for _ in range(count):
            ours.append(timed(lambda: append(home)))
            floor.append(timed(lambda: raw_append(descriptor, body)))
        os.close(descriptor)
        accepted = sum(1 for _ in home.ledger.read(kind="process.started")) - 1
    for case, measure, must in (
        ("one caller, median", statistics.median, "<= 1.8"),
        ("one caller, p99", lambda values: percentile(values, 0.99), "<= 2.5"),
    ):
        line(
            bench="ledger",
            case=case,
            ours=measure(ours),
            against=measure(floor),
            rival="raw append + fsync",
            unit="ms",
            must=must,
            accepted=accepted,
            history=count,
            runs=count,
        )


def eight_callers(folder: Path, each: int) -> None:
    """Accepted batches a second; a higher figure is better, so the ratio must be large."""
    with init_home(folder / "eight") as home:
        ours_s = together(8, each, lambda _: append(home))
        accepted = sum(1 for _ in home.ledger.read(kind="process.started"))
    database = folder / "alone.db"
    setup = sqlite3.connect(database, isolation_level=None)
    setup.execute("PRAGMA journal_mode=WAL")
    setup.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, body BLOB)")
    connections = [alone(database) for _ in range(8)]
    rival_s = together(8, each, lambda number: commit_alone(connections[number]))
    line(
        bench="ledger",
        case="eight threads, durable",
        ours=accepted / ours_s,
        against=8 * each / rival_s,
        rival="eight threads that each commit alone",
        unit="batches/s",
        must=">= 5 (8 processes; threads here)",
        accepted=accepted,
        history=accepted,
        runs=8 * each,
    )


def alone(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False, timeout=60)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def commit_alone(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO entries (body) VALUES (?)", (json.dumps(PAYLOAD).encode(),))
    connection.execute("COMMIT")


def together(threads: int, each: int, action: Callable[[int], None]) -> float:
    def work(number: int) -> None:
        for _ in range(each):
            action(number)

    pool = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return time.perf_counter() - start


def long_history(folder: Path, histories: tuple[int, int], count: int) -> None:
    medians = []
    for size in histories:
        with init_home(folder / f"history{size}") as home:
            while home.ledger.size() < size:
                batch = Batch()
                for _ in range(min(500, size - home.ledger.size())):
                    batch.append("process.started", PAYLOAD)
                home.ledger.commit(batch)
            medians.append(statistics.median(timed(lambda: append(home)) for _ in range(count)))
    line(
        bench="ledger",
        case="long history, median",
        ours=medians[1],
        against=medians[0],
        rival=f"the same at {histories[0]} entries",
        unit="ms",
        must="<= 1.2",
        accepted=2 * count,
        history=histories[1],
        runs=count,
    )


def software_cost(folder: Path, count: int) -> None:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, hash BLOB, body BLOB)")

    def bare() -> None:
        body = json.dumps(PAYLOAD).encode()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO entries (hash, body) VALUES (?, ?)", (hashlib.sha256(body).digest(), body)
        )
        connection.execute("COMMIT")

    with init_home(folder / "ram") as home:
        append(home)
        ours, floor = [], []
        for _ in range(count):
            ours.append(timed(lambda: append(home)))
            floor.append(timed(bare))
    line(
        bench="ledger",
        case="software cost on a RAM disk, median",
        ours=statistics.median(ours),
        against=statistics.median(floor),
        rival="bare sha256 + json.dumps + INSERT + COMMIT",
        unit="ms",
        must="<= 2.5",
        accepted=count,
        history=count,
        runs=count,
    )


if __name__ == "__main__":
    main()
