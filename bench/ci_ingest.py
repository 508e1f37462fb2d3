"""Reading a report into facts, beside a bare streaming read and beside another reader.

Cases: JUnit of many tests against an expat parser whose handlers do nothing (the
floor); the same file against `junitparser`; memory above import against what the
chapter allows a test. Interleaved, the median of several rounds.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat

from report import line, parse_arguments

from sterling.packs.ci.exits import ProcessEnd
from sterling.packs.ci.facts import Pointer
from sterling.packs.ci.identity import PathMap
from sterling.packs.ci.ingest import read_report
from sterling.packs.ci.reports.reconcile import reconcile

FAILURE = """    def test_case():
&gt;       assert total(basket) == 12
E       assert 13 == 12
E        +  where 13 = total([1, 12])

tests/pkg/test_m.py:7: AssertionError"""
IDS_A_FILE = 200


def main() -> None:
    arguments = parse_arguments("reports into facts against bare reading")
    size = 10_000 if arguments.quick else 100_000
    rounds = 5 if arguments.quick else 7
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.xml"
        path.write_text(report_of(size), encoding="utf-8")
        speed(path, size, rounds)
        memory(path, size)


def report_of(size: int) -> str:
    """A suite as pytest writes it; one test in fifty fails."""
    cases = []
    for number in range(size):
        module = f"tests.pkg{number // IDS_A_FILE % 10}.test_m{number // IDS_A_FILE}"
        inside = f'<failure message="assert 13 == 12">{FAILURE}</failure>' if number % 50 == 0 else ""
        names = f'classname="{module}.TestK" name="test_case[{number}-x]"'
        cases.append(f'<testcase {names} time="0.001">{inside}</testcase>')
    head = f'<testsuite name="pytest" tests="{size}" failures="{size // 50}" errors="0" skipped="0">'
    return (
        f'<?xml version="1.0" encoding="utf-8"?><testsuites>{head}{"".join(cases)}</testsuite></testsuites>'
    )


def paths_of(size: int) -> list[str]:
    numbers = range(-(-size // IDS_A_FILE))
    return [f"tests/pkg{number % 10}/test_m{number}.py" for number in numbers]


def ours(data: bytes, size: int) -> int:
    """All of it: read, place every id, sign failures, fold, hash."""
    reading = read_report(io.BytesIO(data), PathMap(paths_of(size)))
    facts = reconcile([(Pointer("r", "0", "junit", len(data)), reading)], ProcessEnd(1))
    assert facts.gate_hash and facts.core_hash and facts.detail_hash
    return len(facts.tests)


def floor(data: bytes) -> int:
    """Every element and every letter seen once, nothing kept."""
    count = 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal count
        count += name == "testcase"

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: None
    parser.CharacterDataHandler = lambda text: None
    parser.Parse(data, True)
    return count


def rival(path: Path) -> int:
    from junitparser import JUnitXml

    cases = [case for suite in JUnitXml.fromfile(str(path)) for case in suite]
    return len(
        [(case.classname, case.name, case.time, [kind.type for kind in case.result]) for case in cases]
    )


def speed(path: Path, size: int, rounds: int) -> None:
    data = path.read_bytes()
    times: dict[str, list[float]] = {"ours": [], "floor": [], "rival": []}
    accepted = 0
    for _ in range(rounds):
        times["floor"].append(timed(lambda: floor(data)))
        times["ours"].append(timed(lambda: ours(data, size)))
        times["rival"].append(timed(lambda: rival(path)))
        accepted += ours(data, size)
    mine = statistics.median(times["ours"])
    for case, against, who, must in (
        ("JUnit into hashed facts", "floor", "expat with empty handlers", "<= 2.5"),
        ("JUnit into hashed facts", "rival", "junitparser, names and results", "< 1"),
    ):
        line(bench="ci_ingest", case=case, ours=mine, against=statistics.median(times[against]), rival=who,
             unit="ms", must=must, accepted=accepted, history=size, runs=rounds)  # fmt: skip


def memory(path: Path, size: int) -> None:
    """Peak above import, in a process of its own, against 64 MiB and 1.5 KiB an id."""
    words = [sys.executable, __file__, "--measure-memory", str(path), str(size)]
    end = subprocess.run(words, capture_output=True, text=True, check=True)
    allowed = 64 * 1024 + 1.5 * size
    peak = int(end.stdout)
    line(bench="ci_ingest", case="peak memory above import", ours=peak, against=allowed, unit="KiB",
         rival="64 MiB + 1.5 KiB an id", must="<= 1", accepted=size, history=size, runs=1)  # fmt: skip


def measure_memory(path: Path, size: int) -> None:
    before = memory_kib("VmRSS")
    with path.open("rb") as stream:
        reading = read_report(stream, PathMap(paths_of(size)))
    facts = reconcile([(Pointer("r", "0", "junit", 1), reading)], ProcessEnd(1))
    assert facts.gate_hash
    print(memory_kib("VmHWM") - before)


def memory_kib(name: str) -> int:
    """A figure of this process as the kernel counts it: now (VmRSS) or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) for row in lines if row.startswith(f"{name}:"))


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure-memory"]:
        measure_memory(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
