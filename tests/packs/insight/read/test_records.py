"""Cutting text into records: whole ones with their cells, others with their reason."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.packs.insight.read.records import Quoting, TooLong, scan

COMMA = Quoting(",", '"', '"')
BACKSLASH = Quoting(",", '"', "\\")


def cut(text: str, quoting: Quoting = COMMA, **options: int) -> list[tuple[int, object]]:
    lines = text.splitlines(keepends=True) if "\r" not in text else list(io.StringIO(text, newline="\n"))
    return [(record.line, record.reason or record.cells) for record in scan(lines, quoting, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("a,b\n1,2", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("a,b\r\n1,2\r\n", [(1, ["a", "b"]), (2, ["1", "2"])]),
        ("a\n\n\nb\n", [(1, ["a"]), (4, ["b"])]),
        (",\n", [(1, ["", ""])]),
        ('"a,b",c\n', [(1, ["a,b", "c"])]),
        ('"a""b",c\n', [(1, ['a"b', "c"])]),
        ('"a\nb",c\nd,e\n', [(1, ["a\nb", "c"]), (3, ["d", "e"])]),
        ('"",""\n', [(1, ["", ""])]),
        ('5" pipe,x\n', [(1, ['5" pipe', "x"])]),
        ('1, "a, b" ,2\n', [(1, ["1", "a, b", "2"])]),
        ('"a",\n', [(1, ["a", ""])]),
    ],
)
def test_whole_records_give_their_cells_and_their_line(text: str, expected: list[tuple[int, object]]) -> None:
    assert cut(text) == expected


def test_a_torn_last_line_inside_a_quote_loses_only_itself() -> None:
    assert cut('a,b\n1,2\n3,"tor') == [(1, ["a", "b"]), (2, ["1", "2"]), (3, "unclosed-quote")]


def test_a_stray_quote_costs_one_line_and_not_the_rest_of_the_file() -> None:
    assert cut('a,b\n1,"x\n2,y\n3,z\n') == [
        (1, ["a", "b"]),
        (2, "unclosed-quote"),
        (3, ["2", "y"]),
        (4, ["3", "z"]),
    ]


def test_text_after_a_closing_quote_costs_the_line_that_opened_it() -> None:
    assert cut('1,"a"b\n1,"a\nb"c,2\n3,4\n') == [
        (1, "text-after-quote"),
        (2, "text-after-quote"),
        (3, ['b"c', "2"]),
        (4, ["3", "4"]),
    ]


def test_a_nul_byte_is_refused_and_kept() -> None:
    bad = next(iter(scan(["1,\x00\n"], COMMA)))

    assert (bad.reason, bad.text) == ("nul-byte", "1,\x00\n")


def test_an_escaped_quote_does_not_close_a_cell() -> None:
    assert cut('"a\\"b",c\n"d\\\\",e\n', BACKSLASH) == [(1, ['a"b', "c"]), (2, ["d\\", "e"])]


def test_a_cell_over_the_limit_names_its_line() -> None:
    with pytest.raises(TooLong) as caught:
        cut(f"a,b\n1,{'x' * 50}\n", cell_bytes=40)

    assert caught.value.line == 2


def test_a_quote_that_never_closes_within_the_limit_names_its_line() -> None:
    with pytest.raises(TooLong) as caught:
        cut('a,b\n1,"' + "x\n" * 200, cell_bytes=64)

    assert caught.value.line == 2


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CELL, min_size=2, max_size=4), min_size=1, max_size=6))
def test_what_the_standard_writer_wrote_is_cut_as_it_was(rows: list[list[str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)

    lines = list(io.StringIO(file.getvalue(), newline="\n"))

    assert [record.cells for record in scan(lines, COMMA)] == rows


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='a1," \n', max_size=60))
def test_every_line_of_any_text_is_in_exactly_one_record(text: str) -> None:
    lines = list(io.StringIO(text, newline="\n"))

    records = list(scan(lines, COMMA))

    covered = [line for record in records for line in range(record.line, record.line + record.lines)]
    filled = [number for number, line in enumerate(lines, start=1) if line.rstrip("\n")]
    assert len(covered) == len(set(covered))
    assert set(filled) <= set(covered)
    assert "".join(record.text for record in records if record.reason) == "".join(
        "".join(lines[record.line - 1 : record.line - 1 + record.lines])
        for record in records
        if record.reason
    )
