"""Normal forms: what counts as the same word, and what must not."""

from __future__ import annotations

import pytest

from sterling.packs.recall.search.screens import keys_of
from sterling.packs.recall.search.words import normal, skeleton, stem, words_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("invoices", "invoice"),
        ("listening", "listens"),
        ("paid", "payment"),
        ("deliveries", "delivery"),
        ("stopped", "stop"),
        ("boxes", "box"),
        ("sent", "send"),
    ],
)
def test_endings_of_one_word_share_a_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1048", "1049"), ("v2", "v3"), ("port", "part"), ("thing", "th")]
)
def test_different_words_keep_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@pytest.mark.parametrize(
    ("seen", "meant"), [("l0gin", "login"), ("bum", "burn"), ("Öberg", "oberg"), ("modem", "modern")]
)
def test_look_alikes_share_a_skeleton(seen: str, meant: str) -> None:
    assert skeleton(normal(seen)) == skeleton(normal(meant))


def test_plain_numbers_are_never_folded() -> None:
    assert skeleton("1048") == "1048"
    assert set(keys_of("12,480.50")) == {"12,480.50", "12480.50"}


def test_compound_words_give_themselves_and_their_parts() -> None:
    found = [word.text for word in words_of("see feature/login at 10.0.0.7:5432")]

    assert found == [
        "see",
        "feature/login",
        "feature",
        "login",
        "at",
        "10.0.0.7:5432",
        "10",
        "0",
        "0",
        "7",
        "5432",
    ]


@pytest.mark.parametrize("text", ["", "  ", "?!…", "\x00\x01", "🙂"])
def test_text_without_words_gives_none(text: str) -> None:
    assert words_of(text) == []
