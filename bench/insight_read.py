"""Reading CSV into raw Parquet with an independent row count, beside DuckDB's own COPY of the same file.

CPU seconds on one thread, best of several interleaved rounds. DuckDB's reader
also sniffs and also reads every column as text; it counts nothing a second time
and keeps no rejected rows. Three files: plain, quoted, and one with faults, which
takes our careful way (DuckDB is told to skip them). Typing and normalizing are
timed apart, beside DuckDB's own reading with types.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from report import line, parse_arguments

from sterling.packs.insight.normalize import normalize
from sterling.packs.insight.read.model import RawTable, ReadOptions
from sterling.packs.insight.read.source import read_source


def main() -> None:
    arguments = parse_arguments("reading CSV against DuckDB's COPY")
    rows = 60_000 if arguments.quick else 600_000
    rounds = 2 if arguments.quick else 3
    with tempfile.TemporaryDirectory() as folder:
        for case, must in (("plain", "<= 1.5"), ("quoted", "<= 1.5"), ("with faults", "")):
            source = write(Path(folder) / f"{case}.csv", rows, case)
            measure(source, Path(folder), case, must, rows, rounds)
        typed(Path(folder) / "plain.csv", Path(folder), rows, rounds)


def measure(source: Path, folder: Path, case: str, must: str, rows: int, rounds: int) -> None:
    times: dict[str, list[float]] = {"ours": [], "duckdb": []}
    accepted = 0
    for _ in range(rounds):
        times["duckdb"].append(
            cpu(lambda: copy(source, folder / "theirs.parquet", "all_varchar=true, ignore_errors=true"))
        )
        before = time.process_time()
        table = read(source, folder)
        times["ours"].append(time.process_time() - before)
        assert table.rows + table.rejected == table.counted == rows
        accepted += table.rows
    line(bench="insight_read", case=f"CSV to raw Parquet, {case}", ours=min(times["ours"]),
         against=min(times["duckdb"]), rival="DuckDB COPY (FROM read_csv)", unit="s", must=must,
         accepted=accepted, history=rows, runs=rounds)  # fmt: skip


def typed(source: Path, folder: Path, rows: int, rounds: int) -> None:
    """Types by a full scan, values and exceptions, beside DuckDB's typed read (types from a sample)."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        theirs.append(cpu(lambda: copy(source, folder / "theirs.parquet", "")))
        table = read(source, folder)
        before = time.process_time()
        normalize(table, folder / "scratch")
        ours.append(time.process_time() - before)
    line(bench="insight_read", case="types and values, full scan", ours=min(ours), against=min(theirs),
         rival="DuckDB COPY with sampled types", unit="s", must="", accepted=rows * rounds, history=rows,
         runs=rounds)  # fmt: skip


def read(source: Path, folder: Path) -> RawTable:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_source(source, source.name, scratch, ReadOptions())


def copy(source: Path, target: Path, options: str) -> None:
    with duckdb.connect(config={"threads": 1}) as connection:
        given = f", {options}" if options else ""
        connection.execute(
            f"COPY (FROM read_csv('{source}', sample_size=20480{given})) TO '{target}'"
            " (FORMAT parquet, COMPRESSION zstd)"
        )


def write(path: Path, rows: int, case: str) -> Path:
    """A table of twelve columns; the same bytes every time."""
    with path.open("w", encoding="utf-8") as file:
        file.write("id,day,host,kind,a,b,total,price,note,flag,code,score\n")
        for n in range(rows):
            note = f'"said ""{n % 97}"", then left"' if case == "quoted" else f"note {n % 97}"
            cells = (
                f"{n:08},2024-{n % 12 + 1:02}-{n % 28 + 1:02},host{n % 40},k{n % 7},{n % 500},{n % 90}",
                f"{n % 500 + n % 90},{n % 900}.{n % 100:02},{note},{'yes' if n % 3 else 'no'}",
                f"{n % 1000:04},{n * 7 % 10000 / 10}",
            )
            file.write(",".join(cells) + (",extra" if case == "with faults" and n % 5000 == 7 else "") + "\n")
    return path


def cpu(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


if __name__ == "__main__":
    main()
