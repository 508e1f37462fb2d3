"""Reading order: segments, rows, blocks and the map from characters to boxes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterling.packs.recall.screen.lines import Token, arrange


def token(
    words: str, left: int, top: int, *, width: int | None = None, height: int = 12, line: int = 0
) -> Token:
    return Token(words, (left, top, left + (width or 8 * len(words)), top + height), 9000, line, 0)


def words(line_of: str, left: int, top: int, *, line: int) -> list[Token]:
    found = []
    for word in line_of.split():
        found.append(token(word, left, top, line=line))
        left += 8 * len(word) + 5
    return found


def test_words_of_a_line_are_one_segment_and_far_cells_are_others() -> None:
    tokens = [
        token("Unit", 10, 10, line=1),
        token("price", 48, 10, line=1),
        token("Shelf", 300, 11, line=2),
    ]

    found = arrange(tokens)

    assert found.text == "Unit price  Shelf\n"
    assert [found.text[s.start : s.end] for s in found.segments] == ["Unit price", "Shelf"]
    assert [s.row for s in found.segments] == [0, 0]


def test_rows_come_from_the_top_and_runs_from_the_left() -> None:
    tokens = [
        token("d", 300, 60, line=4),
        token("b", 300, 10, line=2),
        token("c", 10, 60, line=3),
        token("a", 10, 12, line=1),
    ]

    assert arrange(tokens).text == "a  b\nc  d\n"


def test_long_lines_under_each_other_share_a_block_and_cells_do_not() -> None:
    tokens = [
        *words("a line of prose that is long enough", 10, 10, line=1),
        *words("and goes on here", 10, 26, line=2),
        token("cell", 10, 200, line=3),
        token("cell", 10, 216, line=4),
    ]

    blocks = [segment.block for segment in arrange(tokens).segments]

    assert blocks[0] == blocks[1]
    assert len({blocks[1], blocks[2], blocks[3]}) == 3


@pytest.mark.parametrize("below", ["dev@box:~$ make", "owner: somebody", "9c1d2ef next", "Status"])
def test_prompts_labels_and_figures_begin_something_of_their_own(below: str) -> None:
    tokens = [
        *words("a line that is long and not broken here", 10, 10, line=1),
        *words(below, 10, 26, line=2),
        *words("another line of the same column that is much longer than these two are", 10, 60, line=3),
    ]

    blocks = [segment.block for segment in arrange(tokens).segments]

    assert blocks[0] != blocks[1]


def test_every_word_keeps_its_box() -> None:
    tokens = [token("alpha", 10, 10, line=1), token("beta", 60, 10, line=1), token("gamma", 10, 40, line=2)]

    found = arrange(tokens)

    assert [(found.text[start:end], box) for start, end, box in found.spans] == [
        (item.text, item.box) for item in tokens
    ]


def test_no_words_give_no_text() -> None:
    found = arrange([])

    assert (found.text, found.segments, found.spans) == ("", (), ())


@given(
    st.lists(
        st.builds(
            token,
            st.text("abcdefg0123", min_size=1, max_size=8),
            st.integers(0, 900),
            st.integers(0, 700),
            line=st.integers(0, 5),
        ),
        max_size=25,
    ),
    st.integers(0, 10**6),
)
def test_the_order_in_which_an_engine_names_words_does_not_matter(tokens: list[Token], seed: int) -> None:
    shuffled = list(tokens)
    random.Random(seed).shuffle(shuffled)

    one, other = arrange(tokens), arrange(shuffled)

    assert one == other
    assert sorted(one.text.split()) == sorted(item.text for item in tokens)
    for start, end, _ in one.spans:
        assert one.text[start:end].strip() == one.text[start:end] != ""
