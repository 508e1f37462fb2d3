"""Checking a run again: whole ones hold, and each kind of change is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sterling.kernel.home import Home, open_home
from sterling.packs.insight import door
from sterling.packs.insight.recheck import recheck

Altered = Callable[[], "Changed"]


class Changed:
    """A copy of the sample's home in which a test changes stored bytes."""

    def __init__(self, home: Home, run: str) -> None:
        self.home, self.run = home, run

    def document(self, contract: str) -> dict[str, Any]:
        return dict(next(iter(self.home.records.read(contract, run=self.run))).document)

    def file(self, name: str) -> Path:
        for file in self.document("insight.report")["files"]:
            if file["name"] == name:
                return self.home.blobs.path(file["blob"])
        raise KeyError(name)

    def overwrite(self, path: Path, data: bytes) -> None:
        path.chmod(0o600)
        path.write_bytes(data)

    def problems(self) -> list[str]:
        return recheck(self.home, self.run).problems


@pytest.fixture
def copy(sample: Any, tmp_path: Path) -> Iterator[Changed]:
    shutil.copytree(sample.home, tmp_path / "copy")
    with open_home(tmp_path / "copy", read_only=True) as home:
        yield Changed(home, sample.result.run)


def test_an_untouched_run_holds_in_every_part(copy: Changed) -> None:
    found = door.recheck(copy.home, copy.run)

    assert found.problems == []
    assert found.checked > 40


@pytest.mark.parametrize(
    "name", ["report.json", "report.md", "report.html", "findings.jsonl", "run_manifest.json"]
)
def test_one_flipped_byte_in_a_report_file_is_named(copy: Changed, name: str) -> None:
    path = copy.file(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    copy.overwrite(path, bytes(data))

    (problem,) = copy.problems()

    assert problem.startswith(f"insight.evidence-mismatch: {name}: ")


@pytest.mark.parametrize(
    ("contract", "part", "said"),
    [
        ("insight.source", "blob", "the source"),
        ("insight.source", "rejects", "the rejects"),
        ("insight.table", "raw", "the raw table"),
        ("insight.mapping", "exceptions", "the exceptions"),
        ("insight.registry", "blob", "the registry"),
    ],
)
def test_one_flipped_byte_in_any_other_file_is_named(
    copy: Changed, contract: str, part: str, said: str
) -> None:
    path = copy.home.blobs.path(copy.document(contract)[part])
    data = bytearray(path.read_bytes())
    data[-12] ^= 1
    copy.overwrite(path, bytes(data))

    assert any(f": {said}: " in problem for problem in copy.problems())


def test_one_changed_cell_of_the_normalized_table_is_named_with_every_finding_it_breaks(
    copy: Changed, tmp_path: Path
) -> None:
    path = copy.home.blobs.path(copy.document("insight.table")["normalized"])
    with duckdb.connect() as connection:
        connection.execute(
            f'COPY (SELECT * REPLACE (CASE WHEN _row = 7 THEN "start" + INTERVAL 9 DAY ELSE "end" END'
            f" AS \"end\") FROM read_parquet('{path}')) TO '{tmp_path / 'changed.parquet'}' (FORMAT parquet)"
        )
    copy.overwrite(path, (tmp_path / "changed.parquet").read_bytes())

    problems = copy.problems()

    assert any(": the normalized table: " in problem for problem in problems)
    named = [problem for problem in problems if ": finding r-" in problem]
    assert any("column-profile of end" in problem for problem in named)
    assert all("of activity" not in problem and "of host" not in problem for problem in named)


def test_a_normalized_table_that_cannot_be_read_is_a_problem_and_no_crash(copy: Changed) -> None:
    path = copy.home.blobs.path(copy.document("insight.table")["normalized"])
    copy.overwrite(path, b"not parquet")

    assert any("cannot be read" in problem for problem in copy.problems())


def test_an_absent_blob_is_a_problem_and_no_crash(copy: Changed) -> None:
    path = copy.home.blobs.path(copy.document("insight.table")["raw"])
    path.chmod(0o600)
    path.rename(copy.home.path / "away")

    assert any("the raw table" in problem and "absent" in problem for problem in copy.problems())


def forged(
    copy: Changed, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]
) -> list[str]:
    """Problems when report.json is another, and blob and record agree with it."""
    import sterling.packs.insight.recheck as module
    from sterling.packs.insight.report.files import body_hash

    report = json.loads(copy.file("report.json").read_bytes())
    change(report["body"])
    report["body_sha256"] = body_hash(report["body"])
    record = {**copy.document("insight.report"), "body_sha256": report["body_sha256"]}
    monkeypatch.setattr(module, "_report", lambda home, document, found: report)
    monkeypatch.setattr(module, "_check_blobs", lambda *given: None)
    assert record["body_sha256"] == report["body_sha256"]
    return copy.problems()


def reword(body: dict[str, Any]) -> None:
    body["findings"][0]["claim"] = "All is well."


def drop(body: dict[str, Any]) -> None:
    body["findings"].pop()


def invent(body: dict[str, Any]) -> None:
    body["findings"].append({**body["findings"][0], "record": "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"})


def inflate(body: dict[str, Any]) -> None:
    body["figures"][0]["value"] += 1


def remap(body: dict[str, Any]) -> None:
    body["mapping"][0]["changed"] += 1


def more_tests(body: dict[str, Any]) -> None:
    body["registry"]["tests"] += 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (reword, "it differs from the ledger"),
        (drop, "the number of findings"),
        (invent, "expected it in the ledger"),
        (inflate, "figure rows"),
        (remap, "mapping of job_id"),
        (more_tests, "the number of hypotheses"),
    ],
)
def test_a_report_that_was_written_again_consistently_is_still_told(
    copy: Changed, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    assert any(said in problem for problem in forged(copy, monkeypatch, change))


def test_a_run_that_does_not_exist_is_refused(copy: Changed) -> None:
    from sterling.runtime.runs import RunUnknown

    with pytest.raises(RunUnknown):
        door.recheck(copy.home, "run-nowhere")


def test_checking_writes_nothing(copy: Changed) -> None:
    before = copy.home.ledger.size(), sorted(copy.home.blobs.addresses())

    door.recheck(copy.home, copy.run)

    assert (copy.home.ledger.size(), sorted(copy.home.blobs.addresses())) == before


def test_a_changed_copy_in_the_persons_folder_is_named(
    home: Home, tmp_path: Path, analyse: Callable[..., door.AnalyzeResult]
) -> None:
    result = analyse("a,b\n1,2\n3,4\n")
    page = result.files["html"]
    page.write_text(page.read_text().replace("2 rows", "3 rows"))

    (problem,) = door.recheck(home, result.run).problems

    assert str(page) in problem


def test_a_removed_copy_and_a_folder_of_a_later_run_are_no_change(
    home: Home, analyse: Callable[..., door.AnalyzeResult]
) -> None:
    first = analyse("a,b\n1,2\n3,4\n")
    second = analyse("a,b\n1,2\n3,5\n")
    second.files["md"].unlink()

    assert door.recheck(home, first.run).problems == []
    assert door.recheck(home, second.run).problems == []


def test_a_copy_of_report_json_that_cannot_be_read_is_a_change(
    home: Home, analyse: Callable[..., door.AnalyzeResult]
) -> None:
    result = analyse("a,b\n1,2\n3,4\n")
    result.files["json"].write_text("{")

    assert len(door.recheck(home, result.run).problems) == 1
