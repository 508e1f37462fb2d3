"""Evidence executes again bit for bit, or says what differs."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sterling.packs.insight.engine import sealed
from sterling.packs.insight.evidence import EvidenceTooLarge, cite, encode, reexecute, row_of

COUNT = "SELECT count(*) FILTER (WHERE n > 2) AS count, count(*) AS of FROM t"
ROWS = "SELECT _row FROM t WHERE n > 2 ORDER BY _row"


def table(path: Path, values: list[int]) -> Path:
    pq.write_table(pa.table({"_row": list(range(1, len(values) + 1)), "n": values}), path)
    return path


def cited(path: Path, query: str = COUNT, rows: str | None = ROWS) -> dict[str, Any]:
    with sealed({"t": path}) as connection:
        return cite(connection, query, columns=("n",), rows=rows)


def again(path: Path, evidence: dict[str, Any]) -> str:
    with sealed({"t": path}) as connection:
        return reexecute(connection, evidence)


def test_the_same_bytes_give_the_same_evidence(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", [1, 2, 3, 4])
    evidence = cited(path)

    assert row_of(evidence) == {"count": 2, "of": 4}
    assert evidence["row_set"]["first"] == [3, 4]
    assert again(path, evidence) == ""
    assert cited(path) == evidence


@pytest.mark.parametrize(
    ("values", "said"),
    [([1, 2, 3, 2], "expected value"), ([3, 2, 1, 4], "rows it names"), ([1, 2, 3], "expected value")],
)
def test_other_bytes_are_told_apart(tmp_path: Path, values: list[int], said: str) -> None:
    evidence = cited(table(tmp_path / "t.parquet", [1, 2, 3, 4]))

    assert said in again(table(tmp_path / "u.parquet", values), evidence)


@pytest.mark.parametrize("part", ["value", "value_sha256", "names", "query"])
def test_an_edited_part_of_the_evidence_is_told(tmp_path: Path, part: str) -> None:
    path = table(tmp_path / "t.parquet", [1, 2, 3, 4])
    edited: dict[str, Any] = {
        "value": [[3, 4]],
        "value_sha256": "0" * 64,
        "names": ["of", "count"],
        "query": COUNT.replace("2", "1"),
    }

    assert again(path, {**cited(path), part: edited[part]})


def test_a_query_that_no_longer_runs_is_told_and_does_not_crash(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", [1, 2])

    assert "no longer runs" in again(path, {**cited(path), "query": "SELECT gone FROM t"})


def test_evidence_is_one_row_of_bounded_size(tmp_path: Path) -> None:
    path = table(tmp_path / "t.parquet", [1, 2])

    with pytest.raises(EvidenceTooLarge):
        cited(path, "SELECT n FROM t")
    with pytest.raises(EvidenceTooLarge):
        cited(path, "SELECT repeat('x', 200000) AS text FROM t LIMIT 1")


def test_figures_are_exact_in_evidence() -> None:
    values = [
        (2**53, str(2**53)),
        (7, 7),
        (0.1, "0.1"),
        (float("inf"), "+inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (Decimal("1.50"), "1.50"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.datetime(2024, 2, 29, 1, 2, 3), "2024-02-29 01:02:03"),
        ([{"a": 1.5}], [{"a": "1.5"}]),
        (None, None),
        (True, True),
    ]
    for value, expected in values:
        assert encode(value) == expected
    with pytest.raises(TypeError):
        encode(object())


def test_a_sealed_connection_reaches_nothing_but_its_views(tmp_path: Path) -> None:
    import duckdb

    path = table(tmp_path / "t.parquet", [1])
    other = table(tmp_path / "other.parquet", [1])
    tries = [
        f"SELECT * FROM read_parquet('{other}')",
        f"SELECT * FROM read_csv('{tmp_path}/*')",
        f"COPY t TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'new.db'}'",
        "SET threads = 8",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        f"SELECT * FROM glob('{tmp_path}/*')",
    ]

    with sealed({"t": path}) as connection:
        for query in tries:
            with pytest.raises(duckdb.Error):
                connection.execute(query).fetchall()
    assert not (tmp_path / "out.csv").exists() and not (tmp_path / "new.db").exists()
