"""kill -9 at random moments: what was acknowledged is there, the rest whole or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sterling.kernel.home import init_home, open_home
from sterling.kernel.verify import verify_home

# A release runs 10,000: STERLING_KILLS=10000 .venv/bin/pytest tests/hostile/kernel/test_crash.py
KILLS = int(os.environ.get("STERLING_KILLS", "2000"))
VERIFY_EVERY = 250

# Imports once, then for every line "FIRST COUNT" forks COUNT writers. Each writes batches of three entries
# from two threads, a blob with each, and appends a batch's number to the file once it is acknowledged.
NURSERY = """
import os, sys, threading
from pathlib import Path
from sterling.kernel.batch import Batch
from sterling.kernel.home import open_home

path, acknowledged = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)

def write(home, first):
    for number in range(first, first + 400):
        batch = Batch()
        address = home.blobs.put(b"evidence %d" % number)
        for part in range(3):
            batch.append("process.started", {"command": f"{number} {address}", "pid": part + 1, "boot": "b"})
        home.ledger.commit(batch)
        os.write(acknowledged, b"%d\\n" % number)

def child(first):
    home = open_home(path)
    threads = [threading.Thread(target=write, args=(home, first + 400 * lane)) for lane in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    home.close()

for line in sys.stdin:
    first, count = map(int, line.split())
    pids = []
    for lane in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                child(first + 800 * lane)
            finally:
                os._exit(0)
        pids.append(pid)
    print(*pids, flush=True)
    for pid in pids:
        os.waitpid(pid, 0)
    print("gone", flush=True)
"""


def _await_growth(file: Path) -> None:
    before, deadline = file.stat().st_size, time.monotonic() + 5
    while file.stat().st_size == before and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nothing_acknowledged_is_lost_and_nothing_is_half_written(tmp_path: Path) -> None:
    """One to three processes at work at once; each is killed at a moment of its own."""
    init_home(tmp_path / "home").close()
    (tmp_path / "acknowledged").touch()
    seed = random.Random(20260310)
    nursery = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(tmp_path / "home"), str(tmp_path / "acknowledged")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert nursery.stdin is not None and nursery.stdout is not None
    kills = attempt = 0
    while kills < KILLS:
        count = seed.choice([1, 1, 2, 3])
        print(attempt * 2400, count, file=nursery.stdin, flush=True)
        pids = [int(pid) for pid in nursery.stdout.readline().split()]
        if seed.random() < 0.7:  # The others die while they open the home.
            _await_growth(tmp_path / "acknowledged")
        for pid in pids:
            time.sleep(seed.random() * 0.04)
            os.kill(pid, signal.SIGKILL)
        assert nursery.stdout.readline() == "gone\n"
        if (kills + count) // VERIFY_EVERY > kills // VERIFY_EVERY:
            assert verify_home(tmp_path / "home").exit == 0
        kills, attempt = kills + count, attempt + 1
    nursery.stdin.close()
    nursery.wait()

    acknowledged = [int(line) for line in (tmp_path / "acknowledged").read_text().split()]
    found: dict[int, list[int]] = {}
    with open_home(tmp_path / "home") as home:
        home.ledger.checkpoint()
        for entry in home.ledger.read(kind="process.started"):
            number, address = entry.payload["command"].split()
            found.setdefault(int(number), []).append(entry.payload["pid"])
            assert home.blobs.quick_check(address) == "ok"
    assert len(acknowledged) > KILLS / 2
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= set(found)
    assert all(parts == [1, 2, 3] for parts in found.values())
    assert verify_home(tmp_path / "home").exit == 0


@pytest.mark.slow
def test_a_home_killed_while_it_is_made_is_whole_or_not_there(tmp_path: Path) -> None:
    seed = random.Random(7)
    made = 0
    for attempt in range(30):
        path = tmp_path / f"home{attempt}"
        child = subprocess.Popen(
            [sys.executable, "-m", "sterling", "init", "--home", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while child.poll() is None and not list(tmp_path.glob(f"*home{attempt}*")):
            time.sleep(0.001)
        time.sleep(seed.random() * 0.25)
        child.kill()
        child.wait()
        if not path.exists():
            continue
        made += 1
        with open_home(path) as home:
            assert next(home.ledger.read()).kind == "home.created"
            home.ledger.checkpoint()
        assert verify_home(path).exit == 0

    assert made > 0
