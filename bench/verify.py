"""What verifying costs, beside a bare loop over the same rows; and hashing a file, beside openssl.

Cases: the chain alone and the whole default verification against
`sha256 + json.loads` of every row, interleaved; the memory of a verification of
a long log against that of a short one; hashing a file against `openssl dgst`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel import chain
from sterling.kernel.batch import Batch
from sterling.kernel.hashing import hash_file
from sterling.kernel.home import init_home
from sterling.kernel.verify import verify_home

PAYLOAD = {"command": "bench " + "x" * 180, "pid": 4242, "boot": "00000000-0000-4000-8000-000000000001"}
MEMORY = "import sys; sys.path.insert(0, sys.argv[2]); import verify; verify.print_memory(sys.argv[1])"


def main() -> None:
    arguments = parse_arguments("verification against a bare loop over the same rows")
    sizes = (1_000, 100_000) if arguments.quick else (1_000, 100_000, 1_000_000)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else ".") as name:
        folder = Path(name).resolve()
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        homes = {size: grown(folder / f"home{size}", size) for size in sizes}
        for size in sizes[1:]:
            speed(homes[size], size, 5 if arguments.quick else 9)
            memory_of(homes[sizes[0]], homes[size], size)
    with tempfile.TemporaryDirectory(dir=".") as name:
        file_hashing(Path(name) / "file", (64 if arguments.quick else 512) * 1024 * 1024)


def grown(path: Path, size: int) -> Path:
    with init_home(path) as home:
        while home.ledger.size() < size:
            batch = Batch(run="run-1")
            for _ in range(min(250, size - home.ledger.size())):
                batch.append("process.started", PAYLOAD, subject="tool/1")
            home.ledger.commit(batch)
    return path


def bare(home: Path) -> None:
    connection = sqlite3.connect(home / "ledger.db")
    for body, _ in connection.execute('SELECT body, hash FROM entries ORDER BY "index"'):
        hashlib.sha256(body).digest()
        json.loads(body)
    connection.close()


def chain_alone(home: Path) -> None:
    connection = sqlite3.connect(home / "ledger.db")
    rows = connection.execute('SELECT "index", previous, hash, body FROM entries ORDER BY "index"')
    chain.verify(chain.Entry(*row) for row in rows)
    connection.close()


def default(home: Path) -> None:
    assert verify_home(home).exit == 0


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def speed(home: Path, size: int, runs: int) -> None:
    """Entries a second, so the ratio must be large."""
    taken: dict[str, list[float]] = {"bare": [], "chain": [], "default": []}
    for _ in range(runs):
        taken["bare"].append(timed(lambda: bare(home)))
        taken["chain"].append(timed(lambda: chain_alone(home)))
        taken["default"].append(timed(lambda: default(home)))
    rate = {name: size / statistics.median(values) for name, values in taken.items()}
    for case, must in (("chain", ">= 0.333"), ("default", ">= 0.125")):
        line(
            bench="verify",
            case=f"{case} level",
            ours=rate[case],
            against=rate["bare"],
            rival="bare sha256 + json.loads loop",
            unit="entries/s",
            must=must,
            accepted=size,
            history=size,
            runs=runs,
        )


def print_memory(home: str) -> None:
    """In a process of its own: the most memory that one verification took, in MiB.

    Not from `getrusage`: a child begins there with what its parent had.
    """
    verify_home(Path(home))
    told = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(told.partition("VmHWM:")[2].split()[0]) / 1024)


def memory_of(small: Path, large: Path, size: int) -> None:
    here = str(Path(__file__).resolve().parent)
    figures = []
    for home in (large, small):
        command = [sys.executable, "-c", MEMORY, str(home), here]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures.append(float(done.stdout))
    line(
        bench="verify",
        case="peak memory",
        ours=figures[0],
        against=figures[1],
        rival="the same at 1000 entries",
        unit="MiB",
        must="<= 1.25 (flat but for the notes: one every 256 entries)",
        accepted=size,
        history=size,
        runs=1,
    )


def file_hashing(path: Path, size: int) -> None:
    """MiB a second, so the ratio must be large."""
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    ours, theirs, said = [], [], ""
    for _ in range(9):
        ours.append(timed(lambda: hash_file(path)))
        start = time.perf_counter()
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", path], capture_output=True, text=True, check=True
        )
        theirs.append(time.perf_counter() - start)
        said = done.stdout.split()[-1]
    assert said == hash_file(path)
    line(
        bench="verify",
        case="hash a file",
        ours=size / 2**20 / statistics.median(ours),
        against=size / 2**20 / statistics.median(theirs),
        rival="openssl dgst -sha256 (its start included)",
        unit="MiB/s",
        must=">= 0.9",
        accepted=size,
        history=0,
        runs=9,
    )


if __name__ == "__main__":
    main()
