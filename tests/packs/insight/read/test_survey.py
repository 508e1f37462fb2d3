"""The independent count: line ends outside quotes, and what in a text is odd."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterling.packs.insight.read import survey as module
from sterling.packs.insight.read.survey import Survey, survey


def look(tmp_path: Path, data: bytes) -> Survey:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    return survey(path)


@pytest.mark.parametrize(
    ("data", "lines", "plain"),
    [
        (b"a\nb\n", 2, True),
        (b"a\nb", 2, True),
        (b"a\r\nb\r\n", 2, True),
        (b'a\n"x\ny"\n', 2, True),
        (b'"a ""b"" c"\n', 1, True),
        (b'"a\n""b""\nc",d\ne,f\n', 2, True),
        (b"a\n\nb\n", 3, False),
        (b"a\n\r\nb\n", 3, False),
        (b"\na\n", 2, False),
        (b"a\rb\r", 1, False),
        (b"a\rb\n", 1, False),
        (b"a\x00\n", 1, False),
        (b"a\n\r", 2, False),
        (b"", 0, False),
    ],
)
def test_lines_are_counted_outside_quotes_and_oddities_are_seen(
    tmp_path: Path, data: bytes, lines: int, plain: bool
) -> None:
    found = look(tmp_path, data)

    assert (found.lines, found.plain) == (lines, plain)


CELL = st.text(st.sampled_from('ab",\n é'), max_size=6).filter(bool)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=3), min_size=1, max_size=8), piece=st.integers(1, 9))
def test_the_count_is_that_of_the_standard_reader_for_every_size_of_piece(
    tmp_path: Path, rows: list[list[str]], piece: int
) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE_BYTES", piece)
        found = look(tmp_path, file.getvalue().encode())

    assert found.lines == len(list(csv.reader(io.StringIO(file.getvalue(), newline=""))))
    assert found.quotes == file.getvalue().count('"')
