"""Sources of every wrong kind get a code, a sentence and a next step."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import zstandard

from sterling.packs.insight.errors import LimitExceeded, UnreadableSource, UnsupportedFormat
from sterling.packs.insight.read.model import Limits, RawTable, ReadOptions
from sterling.packs.insight.read.source import check_source, read_source

GOOD = b"a,b\n1,2\n3,4\n"


def read(tmp_path: Path, data: bytes, name: str = "t.csv", limits: Limits | None = None) -> RawTable:
    path = tmp_path / "bytes"
    path.write_bytes(data)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return read_source(path, name, scratch, ReadOptions(limits=limits or Limits()))


def test_a_missing_path_a_folder_and_an_empty_file_are_refused_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    found = []
    for name in ("nowhere.csv", ".", "empty.csv"):
        with pytest.raises(UnreadableSource) as caught:
            check_source(tmp_path / name)
        found.append(caught.value.details["reason"])
        assert "sterling analyze" in caught.value.hint

    assert found == ["missing", "directory", "empty"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UnreadableSource, match="plain file"):
        check_source(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"PK\x03\x04rest of a workbook", "Excel workbook"),
        (b"SQLite format 3\x00" + bytes(84), "SQLite"),
        (b"\x7fELF\x02\x01\x01" + bytes(100), "program"),
        (b"%PDF-1.7\n", "PDF"),
        (bytes(range(256)) * 4, "binary content"),
        (b"\x00" * 500, "binary content"),
    ],
)
def test_other_kinds_are_named_by_what_they_are(tmp_path: Path, head: bytes, said: str) -> None:
    with pytest.raises(UnsupportedFormat, match=said) as caught:
        read(tmp_path, head)

    assert caught.value.exit == 2


def test_json_is_named_instead_of_being_cut_at_its_commas(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="JSON"):
        read(tmp_path, b'[{"a": 1, "b": 2}]\n', name="t.json")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_packed_text_is_read_like_plain_text(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    table = read(tmp_path, pack(GOOD), name="t.csv.gz")

    assert (table.rows, table.format) == (2, "csv")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_packed_file_is_refused(tmp_path: Path, pack: object, cut: int) -> None:
    assert callable(pack)
    with pytest.raises(UnreadableSource) as caught:
        read(tmp_path, pack(GOOD * 2000)[:-cut])

    assert caught.value.details["reason"] == "torn"


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000)

    with pytest.raises(LimitExceeded):
        read(tmp_path, bomb, limits=Limits(unpacked_bytes=1_000_000))
    assert (tmp_path / "scratch" / "unpacked").stat().st_size <= 1_000_000


def test_a_tsv_name_breaks_a_tie_in_favour_of_the_tab(tmp_path: Path) -> None:
    tie = b"a,b\tc,d\n1,2\t3,4\n"

    assert read(tmp_path, tie, name="t.tsv").dialect["delimiter"] == "\t"
    assert read(tmp_path, tie, name="t.csv").dialect["delimiter"] == ","


def test_the_source_is_never_changed(tmp_path: Path) -> None:
    data = b'a,b\n1,"x\n2\n3,4\n'

    read(tmp_path, data)

    assert (tmp_path / "bytes").read_bytes() == data
