"""What storing a blob costs, beside the floor of the same disk in the same run.

Cases: a put of 8 MiB against `cp` + fsync + `sha256sum`; a repeated put against
hashing alone; an encrypted put against a plain one; hashing a file against
`openssl dgst -sha256`; the memory that a put of a large file takes. Ours and the
rival take turns. For rates a ratio above 1 means that we are faster.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel.blobs import Blobs
from sterling.kernel.crypt import Crypt
from sterling.kernel.hashing import hash_file

SIZE_BYTES = 8 * 1024 * 1024
_PEAK = """
import sys
from pathlib import Path
from sterling.kernel.blobs import Blobs

def peak_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

blobs = Blobs(Path(sys.argv[1]))
blobs.put(b"warm")
Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew from what is used now.
before = peak_kib()
blobs.put_file(Path(sys.argv[2]))
print(peak_kib() - before)
"""


def main() -> None:
    arguments = parse_arguments("blobs against the floor of the disk")
    count = 12 if arguments.quick else 100
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = Path(folder).resolve()
        first_put(place, count)
        repeated_put(place, count)
        encrypted_put(place, count)
        file_hashing(place, max(6, count // 8))
        memory(place, 64 if arguments.quick else 1024)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def rate(seconds: list[float], size_bytes: int = SIZE_BYTES) -> float:
    return size_bytes / 1e6 / statistics.median(seconds)


def report(case: str, ours: float, against: float, rival: str, unit: str, must: str, runs: int) -> None:
    line(
        bench="blobs",
        case=case,
        ours=ours,
        against=against,
        rival=rival,
        unit=unit,
        must=must,
        accepted=runs,
        history=runs,
        runs=runs,
    )


def first_put(place: Path, count: int) -> None:
    blobs, source = Blobs(place / "blobs"), place / "source"
    ours, from_bytes, floor = [], [], []
    for number in range(count):
        source.write_bytes(os.urandom(SIZE_BYTES))
        ours.append(timed(lambda: blobs.put_file(source)))
        data = os.urandom(SIZE_BYTES)
        from_bytes.append(timed(lambda data=data: blobs.put(data)))  # type: ignore[misc]
        copy = place / f"copy{number}"
        script = 'cp "$0" "$1" && sync "$1" && sha256sum "$1"'
        command = ["sh", "-c", script, str(source), str(copy)]
        floor.append(timed(lambda c=command: subprocess.run(c, check=True, stdout=subprocess.PIPE)))  # type: ignore[misc]
        copy.unlink()
    rival = "cp + fsync + sha256sum"
    report("put of a file of 8 MiB", rate(ours), rate(floor), rival, "MB/s", ">= 0.7", count)
    report("put of 8 MiB of bytes", rate(from_bytes), rate(floor), rival, "MB/s", ">= 0.7", count)


def repeated_put(place: Path, count: int) -> None:
    """In processor time: nothing is written, and other programs of the machine do not count."""
    blobs, data = Blobs(place / "blobs"), os.urandom(SIZE_BYTES)
    blobs.put(data)
    ours = []
    floor = []
    for _ in range(count):
        start = time.process_time()
        blobs.put(data)
        middle = time.process_time()
        hashlib.sha256(data).hexdigest()
        ours.append((middle - start) * 1000)
        floor.append((time.process_time() - middle) * 1000)
    mine, other = statistics.median(ours), statistics.median(floor)
    report("repeated put of 8 MiB, processor time", mine, other, "hashing alone", "ms", "<= 1.3", count)


def encrypted_put(place: Path, count: int) -> None:
    plain, sealed = Blobs(place / "plain"), Blobs(place / "sealed", Crypt(os.urandom(32)))
    ours, floor = [], []
    for _ in range(count):
        data = os.urandom(SIZE_BYTES)
        floor.append(timed(lambda data=data: plain.put(data)))  # type: ignore[misc]
        ours.append(timed(lambda data=data: sealed.put(data)))  # type: ignore[misc]
    report("encrypted put of 8 MiB", rate(ours), rate(floor), "a plain put", "MB/s", ">= 0.6", count)


def file_hashing(place: Path, count: int) -> None:
    source, size_bytes = place / "large", 256 * 1024 * 1024
    with source.open("wb") as file:
        for _ in range(size_bytes // SIZE_BYTES):
            file.write(os.urandom(SIZE_BYTES))
    command = ["openssl", "dgst", "-sha256", str(source)]
    ours, rival = [], []
    for _ in range(count):
        ours.append(timed(lambda: hash_file(source)))
        rival.append(timed(lambda: subprocess.run(command, check=True, stdout=subprocess.PIPE)))
    mine, other = rate(ours, size_bytes), rate(rival, size_bytes)
    report("hashing a file of 256 MiB", mine, other, "openssl dgst -sha256", "MB/s", ">= 0.9", count)


def memory(place: Path, size_mib: int) -> None:
    source = place / "huge"
    with source.open("wb") as file:
        file.truncate(size_mib * 1024 * 1024)
    command = [sys.executable, "-c", _PEAK, str(place / "memory"), str(source)]
    grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    case = f"memory above a warm process, {size_mib} MiB file"
    report(case, int(grown) / 1024, 8, "8 MiB", "MiB", "<= 1", 1)


if __name__ == "__main__":
    main()
