"""Two readings: letters may differ in dress, figures in nothing."""

from __future__ import annotations

import pytest

from sterling.packs.recall.ocr.agree import agree


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Hello World", "hello world"),
        ("ﬁnal ofﬁce", "final office"),
        ("it's “done”", 'it’s "done"'),
        ("12,480.50", "12,480.50"),
        ("12,480.50", "EUR 12,480.50 due"),
        ("itis due", "it is due"),
        ("total,", "total"),
        ("−5 degrees", "-5 degrees"),
    ],
)
def test_readings_that_mean_the_same_agree(first: str, second: str) -> None:
    assert agree(first.split(), second.split()).agreed


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1048", "1O48"),
        ("l5", "15"),
        ("S5", "55"),
        ("-5", "5"),
        ("1,5", "1.5"),
        ("10/12", "1012"),
        ("12.84s", "1284s"),
        ("2.76", "2.7/6"),
        ("paid 40", "paid 4O"),
        ("v2.8.4", "v2.8.A"),
        ("path/to", "path to0"),
        ("one two three", "one three"),
        ("word", ""),
        ("", "word"),
        ("", ""),
    ],
)
def test_readings_that_could_mean_another_thing_disagree(first: str, second: str) -> None:
    assert not agree(first.split(), second.split()).agreed


def test_each_place_says_what_both_read() -> None:
    found = agree(["due", "17", "April"], ["due", "11", "April"])

    assert [(pair.first, pair.second, pair.verdict) for pair in found.pairs] == [
        ("due", "due", "agreed"),
        ("17", "11", "differs"),
        ("April", "April", "agreed"),
    ]
