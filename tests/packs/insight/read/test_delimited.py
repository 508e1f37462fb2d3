"""Delimited text: every row is read or rejected, and an independent count agrees."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sterling.packs.insight.errors import LimitExceeded, UnreadableSource
from sterling.packs.insight.read.delimited import read_delimited
from sterling.packs.insight.read.model import Limits, RawTable, ReadOptions


def read(tmp_path: Path, data: bytes | str, **options: object) -> RawTable:
    source = tmp_path / "source.csv"
    source.write_bytes(data.encode() if isinstance(data, str) else data)
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    tab_first = bool(options.pop("tab_first", False))
    return read_delimited(source, scratch, tab_first=tab_first, options=ReadOptions(**options))  # type: ignore[arg-type]


def rows(table: RawTable) -> list[tuple[str, ...]]:
    found = duckdb.sql(f"SELECT * EXCLUDE (_row) FROM read_parquet('{table.path}') ORDER BY _row")
    return found.fetchall()


def rejects(table: RawTable) -> list[tuple[int, str, str]]:
    return duckdb.sql(f"SELECT line, reason, text FROM read_parquet('{table.rejects}')").fetchall()


def test_a_row_with_too_few_cells_is_kept_apart_with_its_line(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\n1,2\n3\n4,5\n")

    assert rows(table) == [("1", "2"), ("4", "5")]
    assert rejects(table) == [(3, "ragged", "3\n")]
    assert table.rows + table.rejected == table.counted == 3


def test_a_row_with_too_many_cells_is_kept_apart(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\n1,2\n3,4,5\n6,7\n")

    assert rejects(table) == [(3, "ragged", "3,4,5\n")]


@pytest.mark.parametrize("torn", ["5", '5,"tor', '5,"tor\nn'])
def test_a_torn_end_is_named_and_nothing_before_it_is_lost(tmp_path: Path, torn: str) -> None:
    table = read(tmp_path, "a,b\n1,2\n3,4\n" + torn)

    assert rows(table) == [("1", "2"), ("3", "4")]
    assert table.counted == 2 + len(torn.splitlines())
    assert {reason for _, reason, _ in rejects(table)} <= {"torn-last-line", "unclosed-quote"}


def test_nul_bytes_are_counted_numbered_and_kept(tmp_path: Path) -> None:
    table = read(tmp_path, b"a,b\n1,2\n3,\x00\x004\n5,6\n")

    assert rows(table) == [("1", "2"), ("5", "6")]
    assert rejects(table) == [(3, "nul-byte", "3,\x00\x004\n")]


def test_text_after_a_quote_is_not_guessed_at(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n1,"x"y\n3,4\n')

    assert rejects(table) == [(2, "text-after-quote", '1,"x"y\n')]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\n\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"a,b\n", "header-only"),
        (b"a,b", "header-only"),
        (b"a,b\n1,2,3\n4,5,6\n", "no-whole-row"),
    ],
)
def test_a_text_without_rows_is_refused_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableSource) as caught:
        read(tmp_path, data)

    assert caught.value.details["reason"] == reason
    assert caught.value.exit == 2
    assert "sterling " in caught.value.hint


def test_a_byte_that_is_not_utf8_is_named_by_place_and_line(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"byte 8 \(line 3\)") as caught:
        read(tmp_path, b"a,b\n1,2\n\xe9,4\n")

    assert "cp1252" in caught.value.hint


def test_a_character_cut_by_the_end_of_a_piece_is_still_one_character(tmp_path: Path) -> None:
    filler = "x" * (1024 * 1024 - 7)
    table = read(tmp_path, f"a,b\n{filler},é\n", limits=Limits(cell_bytes=2 * 1024 * 1024))

    assert rows(table)[0][1] == "é"


def test_a_bad_byte_after_many_pieces_is_named_by_its_place(tmp_path: Path) -> None:
    data = b"a,b\n" + b"1,2\n" * 400_000 + b"\xff,3\n"

    with pytest.raises(UnreadableSource, match=r"byte 1,600,004 \(line 400,002\)"):
        read(tmp_path, data)


def test_another_encoding_is_read_when_the_person_names_it(tmp_path: Path) -> None:
    table = read(tmp_path, "name,n\nJosé,1\n".encode("cp1252"), encoding="cp1252")

    assert rows(table) == [("José", "1")]
    assert table.dialect["encoding"] == "cp1252"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_marked_encodings_are_read_and_the_mark_is_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    table = read(tmp_path, mark + "имя,n\nАнна,1\nБоб,2\n".encode(encoding))

    assert [column.name for column in table.columns] == ["имя", "n"]
    assert rows(table) == [("Анна", "1"), ("Боб", "2")]


def test_utf16_cut_in_the_middle_of_a_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match="utf-16"):
        read(tmp_path, "a,b\n1,2\n".encode("utf-16")[:-1])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_gives_the_same_rows(tmp_path: Path, end: str) -> None:
    table = read(tmp_path, end.join(["a,b", "1,2", "3,4", ""]))

    assert rows(table) == [("1", "2"), ("3", "4")]


def test_mixed_line_ends_and_blank_lines_lose_nothing(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\r\n1,2\n\n3,4\r\n\r\n5,6")

    assert rows(table) == [("1", "2"), ("3", "4"), ("5", "6")]


def test_repeated_and_blank_names_become_unique_and_keep_their_original(tmp_path: Path) -> None:
    table = read(tmp_path, "id,ID,,id,_row\n1,2,3,4,x\n")

    assert [column.name for column in table.columns] == ["id", "ID__2", "column_3", "id__3", "_row__2"]
    assert [column.original for column in table.columns] == ["id", "ID", "", "id", "_row"]
    assert rows(table) == [("1", "2", "3", "4", "x")]


def test_a_name_that_looks_taken_by_a_suffix_stays_unique(tmp_path: Path) -> None:
    table = read(tmp_path, "a__2,a,a\n1,2,3\n")

    assert [column.name for column in table.columns] == ["a__2", "a", "a__3"]


def test_title_lines_are_rejects_and_not_lost(tmp_path: Path) -> None:
    table = read(tmp_path, "Report of May\na,b\n1,2\n")

    assert rejects(table) == [(1, "before-header", "Report of May\n")]
    assert rows(table) == [("1", "2")]


def test_empty_cells_and_quoted_empty_cells_are_both_the_empty_text(tmp_path: Path) -> None:
    assert rows(read(tmp_path, 'a,b\n,""\n1,\n')) == [("", ""), ("1", "")]


def test_words_for_nothing_are_not_eaten_by_the_reader(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "a,b\nNULL,NA\nnull,nan\n")) == [("NULL", "NA"), ("null", "nan")]


def test_more_columns_than_the_limit_are_refused_with_the_number(tmp_path: Path) -> None:
    wide = ",".join(f"c{place}" for place in range(2001)) + "\n" + ",".join(["1"] * 2001) + "\n"

    with pytest.raises(LimitExceeded, match=r"2,000 columns, found 2,001"):
        read(tmp_path, wide)


def test_two_thousand_columns_are_read(tmp_path: Path) -> None:
    wide = ",".join(f"c{place}" for place in range(2000)) + "\n" + ",".join(["1"] * 2000) + "\n"

    assert len(read(tmp_path, wide).columns) == 2000


@pytest.mark.parametrize("quoted", ["", '"'])
def test_a_cell_over_the_limit_is_refused_with_its_line(tmp_path: Path, quoted: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        read(tmp_path, f"a,b\n1,2\n3,{quoted}{'x' * 1_048_577}{quoted}\n")

    assert caught.value.details["line"] == 3


def test_a_cell_at_the_limit_is_read(tmp_path: Path) -> None:
    assert len(rows(read(tmp_path, f"a,b\n1,{'x' * 1_048_576}\n"))[0][1]) == 1_048_576


def test_a_text_that_only_the_careful_way_reads_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    data = 'a,b\n1,"x\n2,y\n3,z\n\n4,"é ""q"""\n'
    first = read(tmp_path, data).path.read_bytes()

    assert read(tmp_path, data).path.read_bytes() == first


@pytest.mark.parametrize("data", ["a,b\n1,2\n3,4\n", "a,b\n1,2\n3\n5,6\n"])
def test_a_reader_that_loses_a_row_is_caught_by_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    import sterling.packs.insight.read.delimited as module

    copy = module._copy
    monkeypatch.setattr(module, "_copy", lambda *given: copy(*given) - 1)

    with pytest.raises(UnreadableSource) as caught:
        read(tmp_path, data)
    assert caught.value.details["reason"] == "counts-differ"


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)
TABLE = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=5)
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=TABLE,
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_is_written_is_read_back_cell_by_cell(
    tmp_path: Path, table: list[list[str]], delimiter: str, quoting: int
) -> None:
    assume(quoting == csv.QUOTE_ALL or not any("\r" in cell for row in table for cell in row))
    file = io.StringIO(newline="")
    names = [f"name {place}" for place in range(len(table[0]))]
    csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows([names, *table])

    found = read(tmp_path, file.getvalue(), header=True, delimiter=delimiter)

    assert [list(row) for row in rows(found)] == table
    assert found.rejected == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80))
def test_any_bytes_are_read_whole_or_refused_with_a_code(tmp_path: Path, data: bytes) -> None:
    try:
        table = read(tmp_path, b"a,b\n1,2\n" + data)
    except UnreadableSource:
        return

    assert table.rows + table.rejected == table.counted
