"""Eight processes that write one log, beside eight that each commit alone to one SQLite file.

The rival does the least that keeps a chain: read the newest hash, hash, insert,
commit, with SQLite's own waiting. Both sides sync every acknowledged batch. What
sharing a sync gains depends on what a sync costs, so the floor's own sync stands
beside the figures; the longest wait and the fairness do not depend on it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

from report import line, parse_arguments

from sterling.kernel.batch import Batch
from sterling.kernel.home import init_home, open_home

PROCESSES = 8
PAYLOAD = {"command": "bench " + "x" * 180, "pid": 4242, "boot": "00000000-0000-4000-8000-000000000001"}


class Lane(NamedTuple):
    """What one process saw: batches accepted in the common time, and its longest wait."""

    accepted: int
    longest_s: float


def ours(path: str, start: Barrier, seconds: float) -> Lane:
    with open_home(Path(path), settings=["store.wait_ms_max=60000"]) as home:

        def append() -> None:
            batch = Batch()
            batch.append("process.started", PAYLOAD)
            home.ledger.commit(batch)

        append()
        return work(append, start, seconds)


def alone(path: str, start: Barrier, seconds: float) -> Lane:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA synchronous=FULL")

    def append() -> None:
        body = json.dumps(PAYLOAD).encode()
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute("SELECT hash FROM entries ORDER BY id DESC LIMIT 1").fetchone()
        digest = hashlib.sha256((row[0] if row else b"") + body).digest()
        connection.execute("INSERT INTO entries (hash, body) VALUES (?, ?)", (digest, body))
        connection.execute("COMMIT")

    append()
    return work(append, start, seconds)


def work(append: Callable[[], None], start: Barrier, seconds: float) -> Lane:
    start.wait()
    count, longest = 0, 0.0
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        append()
        longest = max(longest, time.perf_counter() - begin)
        count += 1
    return Lane(count, longest)


def together(worker: Callable[[str, Barrier, float], Lane], path: Path, seconds: float) -> list[Lane]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        start = manager.Barrier(PROCESSES)
        with context.Pool(PROCESSES) as pool:
            return pool.starmap(worker, [(str(path), start, seconds)] * PROCESSES, chunksize=1)


def main() -> None:
    arguments = parse_arguments("eight writing processes against eight that commit alone")
    seconds, rounds = (1.0, 2) if arguments.quick else (5.0, 3)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder).resolve() / "state")
        home, database = Path(folder) / "home", Path(folder) / "alone.db"
        init_home(home).close()
        setup = sqlite3.connect(database, isolation_level=None)
        setup.execute("PRAGMA journal_mode=WAL")
        setup.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, hash BLOB, body BLOB)")
        setup.close()
        mine: list[Lane] = []
        theirs: list[Lane] = []
        for _ in range(rounds):
            mine += together(ours, home, seconds)
            theirs += together(alone, database, seconds)
        with open_home(home, read_only=True) as reader:
            accepted = sum(1 for _ in reader.ledger.read(kind="process.started")) - PROCESSES * rounds
    report(mine, theirs, accepted, seconds * rounds)


def report(mine: list[Lane], theirs: list[Lane], accepted: int, seconds: float) -> None:
    assert accepted == sum(lane.accepted for lane in mine), "the log holds other batches than were accepted"
    fair = [
        max(lane.accepted for lane in lanes) / min(lane.accepted for lane in lanes)
        for lanes in (mine, theirs)
    ]
    rates = [sum(lane.accepted for lane in lanes) / seconds for lanes in (mine, theirs)]
    longest = [max(lane.longest_s for lane in lanes) * 1000 for lanes in (mine, theirs)]
    for case, values, unit, must in (
        ("8 processes, durable", rates, "batches/s", ">= 5"),
        ("8 processes, longest wait", longest, "ms", "<= 0.1"),
        ("8 processes, most served / least served", fair, "", "ours <= 1.5"),
    ):
        line(
            bench="ledger",
            case=case,
            ours=values[0],
            against=values[1],
            rival="8 processes that each commit alone",
            unit=unit,
            must=must,
            accepted=accepted,
            history=accepted,
            runs=len(mine),
        )


if __name__ == "__main__":
    main()
