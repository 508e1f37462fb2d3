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

KILLS = int(os.environ.get("STERLING_KILLS", "40"))

# Writes batches of three entries from four threads and prints a batch's number once it is acknowledged.
PROGRAM = """
import sys, threading
from pathlib import Path
from sterling.kernel.batch import Batch
from sterling.kernel.home import open_home

home = open_home(Path(sys.argv[1]))
start = int(sys.argv[2])
out = threading.Lock()

def write(lane):
    for number in range(start + lane, start + 4000, 4):
        batch = Batch()
        address = home.blobs.put(b"evidence %d" % number)
        for part in range(3):
            batch.append("process.started", {"command": f"{number} {address}", "pid": part + 1, "boot": "b"})
        home.ledger.commit(batch)
        with out:
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()

for lane in range(4):
    threading.Thread(target=write, args=(lane,)).start()
"""


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_is_half_written(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    seed = random.Random(20260310)
    acknowledged: set[int] = set()
    for attempt in range(KILLS):
        with (tmp_path / "acknowledged").open("w+", encoding="ascii") as output:
            child = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(tmp_path / "home"), str(attempt * 4000)], stdout=output
            )
            while child.poll() is None and output.seek(0, os.SEEK_END) < 20:
                time.sleep(0.005)
            time.sleep(seed.random() * 0.05)
            child.send_signal(signal.SIGKILL)
            child.wait()
            output.seek(0)
            acknowledged |= {int(line) for line in output.read().split("\n")[:-1]}

    with open_home(tmp_path / "home", read_only=True) as home:
        found: dict[int, list[int]] = {}
        for entry in home.ledger.read(kind="process.started"):
            number, address = entry.payload["command"].split()
            found.setdefault(int(number), []).append(entry.payload["pid"])
            assert home.blobs.quick_check(address) == "ok"
    assert len(acknowledged) > KILLS
    assert acknowledged <= set(found)
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
        time.sleep(seed.random() * 0.03)
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
