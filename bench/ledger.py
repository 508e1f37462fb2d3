"""What a durable append costs, beside the floor of the same disk in the same run.

Cases: one caller (median and p99) against raw append + fsync of the same bytes;
the software cost on a RAM disk against a bare hash, dump, insert and commit; a long
history against a short one; what the writer's memory grows to. Interleaved, so that a
noisy disk hits both. Several processes at once: `ledger_processes.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments, percentile

from sterling.kernel.batch import Batch
from sterling.kernel.home import Home, init_home

_WARM = 500
PAYLOAD = {"command": "bench " + "x" * 180, "pid": 4242, "boot": "00000000-0000-4000-8000-000000000001"}


def main() -> None:
    arguments = parse_arguments("durable append against its floor")
    count = 600 if arguments.quick else 2_000
    histories = (1_000, 10_000) if arguments.quick else (1_000, 1_000_000)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder).resolve() / "state")
        one_caller(Path(folder), count)
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
        for _ in range(_WARM):  # Until SQLite's log has its size: growing a file is not what is measured.
            append(home)
            raw_append(descriptor, body)
        ours, floor = [], []
        for _ in range(count):
            ours.append(timed(lambda: append(home)))
            floor.append(timed(lambda: raw_append(descriptor, body)))
        os.close(descriptor)
        accepted = sum(1 for _ in home.ledger.read(kind="process.started")) - 1 - _WARM
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


def long_history(folder: Path, histories: tuple[int, int], count: int) -> None:
    before = resident_kib()
    homes = [init_home(folder / f"history{size}") for size in histories]
    for home, size in zip(homes, histories, strict=True):
        while home.ledger.size() < size:
            batch = Batch()
            for _ in range(min(50, size - home.ledger.size())):
                batch.append("process.started", PAYLOAD)
            home.ledger.commit(batch)
    times: list[list[float]] = [[], []]
    for _ in range(count):
        for home, mine in zip(homes, times, strict=True):
            mine.append(timed(lambda home=home: append(home)))
    medians = [statistics.median(mine) for mine in times]
    for home in homes:
        home.close()
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
    line(
        bench="ledger",
        case="memory of the writer above import",
        ours=resident_kib() - before,
        against=64 * 1024,
        rival="64 MiB",
        unit="KiB",
        must="<= 1",
        accepted=histories[1],
        history=histories[1],
        runs=1,
    )


def resident_kib() -> int:
    """Memory of this process that is in use now, from the system."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


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
