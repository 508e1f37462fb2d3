"""Support and extraction: the right cell, the right line, and nothing where nothing is."""

from __future__ import annotations

import json

import pytest

from sterling.packs.recall.ask.extract import SUPPORT_LEAST, candidates_of
from sterling.packs.recall.ask.plan import plan_question
from sterling.packs.recall.screen.lines import Token, arrange
from sterling.packs.recall.search.screens import Screen, load_screen
from sterling.packs.recall.search.support import RELATIONS, Term, rarity, supports


def screen(
    *rows: tuple[tuple[int, str], ...], title: str = "", step: int = 26, heights: dict[int, int] | None = None
) -> Screen:
    """A screen from rows of (x, words); each word gets a box."""
    tokens = []
    for row, cells in enumerate(rows):
        height = (heights or {}).get(row, 12)
        for cell, (left, words) in enumerate(cells):
            x = left
            for word in words.split():
                box = (x, 20 + step * row, x + 8 * len(word), 20 + step * row + height)
                tokens.append(Token(word, box, 9500, 100 * row + cell, row))
                x += 8 * len(word) + 5
    arranged = arrange(tokens)
    places = {
        "segments": [[s.row, s.block, *s.box, s.start, s.end, s.confidence_bp] for s in arranged.segments],
        "spans": [[start, end, *box] for start, end, box in arranged.spans],
    }
    return load_screen((1, "r", "s", "f", "t", arranged.text, json.dumps(places)), (title,))


def best(shown: Screen, question: str) -> str | None:
    plan = plan_question(question)
    terms = [
        Term(wanted.text, wanted.keys, rarity(1, 20), wanted.must, wanted.soft, wanted.follows)
        for wanted in plan.wanted
    ]
    found = candidates_of(shown, terms, plan.kind)
    return found[0].text if found else None


STOCK = screen(
    ((10, "Item"), (200, "Pieces"), (330, "Unit price"), (500, "Shelf")),
    ((10, "Desk lamp"), (200, "12"), (330, "18.40"), (500, "B30")),
    ((10, "Floor mat"), (200, "3"), (330, "96.00"), (500, "C12")),
    ((10, "Garden hose"), (200, "120"), (330, "7.25"), (500, "A50")),
    title="Stock Oslo",
)
TICKET = screen(
    ((10, "Ticket 4410"),),
    ((10, "Owner"), (200, "Ada Lindholm")),
    ((10, "Priority:"), (200, "High")),
    ((10, "Site"), (200, "Bergen")),
    ((10, "The spare key is kept in locker 512 beside the ramp and must be returned"),),
    ((10, "by 17 April 2026 to the front desk. Call Tom Reed with questions."),),
    title="Ticket 4410",
    heights={0: 24},
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the unit price of the floor mat?", "96.00"),
        ("How many pieces of the garden hose are there?", "120"),
        ("On which shelf is the desk lamp?", "B30"),
        ("Which item is on shelf C12?", "Floor mat"),
    ],
)
def test_a_cell_is_found_by_its_row_and_its_heading(question: str, expected: str) -> None:
    assert best(STOCK, question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who is the owner of ticket 4410?", "Ada Lindholm"),
        ("What is the priority of ticket 4410?", "High"),
        ("In which locker is the spare key kept?", "512"),
        ("By when must the key be returned?", "17 April 2026"),
    ],
)
def test_values_beside_labels_and_facts_in_sentences_are_found(question: str, expected: str) -> None:
    found = best(TICKET, question)

    assert found is not None and expected in found


@pytest.mark.parametrize(
    "question",
    [
        "What is the unit price of the window blind?",
        "What is the weight of the floor mat?",
        "What is the unit price of the floor cloth?",
        "What is the unit price of the floor mat in Bergen?",
    ],
)
def test_the_right_page_with_another_thing_on_it_is_no_answer(question: str) -> None:
    assert best(STOCK, question) is None


@pytest.mark.parametrize(
    "question",
    [
        "What is the priority of ticket 4411?",
        "What is the severity of ticket 4410?",
        "What is the phone number of Ada Lindholm?",
        "Who is the owner of the boat?",
    ],
)
def test_another_name_or_another_attribute_is_no_answer(question: str) -> None:
    assert best(TICKET, question) is None


def test_half_of_what_is_asked_for_on_the_right_page_is_no_answer() -> None:
    assert best(STOCK, "How many pieces of the floor mat were returned damaged in Oslo?") is None


def test_a_page_that_lacks_the_rarest_word_is_about_something_else() -> None:
    held = [Term(word, (word,), 1.0) for word in ("floor", "mat", "unit", "shelf")]

    assert candidates_of(STOCK, [*held, Term("ferry", ("ferry",), 1.0)], "number")
    assert candidates_of(STOCK, [*held, Term("ferry", ("ferry",), 3.0)], "number") == []


def test_words_of_the_question_alone_are_no_answer() -> None:
    assert best(screen(((10, "Invoice total"),)), "What is the invoice total?") is None


def test_two_windows_beside_each_other_do_not_share_rows() -> None:
    shown = screen(((10, "Deposit"), (1900, "Fee")), ((10, "300"), (1900, "45")))

    assert best(shown, "What is the deposit?") == "300"
    assert best(shown, "What is the fee?") == "45"


def test_a_look_alike_word_still_supports() -> None:
    assert best(screen(((10, "L0gin limit"), (300, "25"))), "What is the login limit?") == "25"


def test_support_is_highest_where_the_words_stand_and_says_where() -> None:
    terms = [Term("floor", ("floor",), 1.0), Term("mat", ("mat",), 1.0)]

    found = supports(STOCK, terms)

    top = max(found, key=lambda support: support.share)
    assert STOCK.text_of(STOCK.segments[top.segment]) == "Floor mat"
    assert set(top.relations) == {"same"}
    assert all(relation in RELATIONS for support in found for relation in support.relations)


def test_every_candidate_is_cut_out_of_the_screen_it_names() -> None:
    plan = plan_question("What is the unit price of the floor mat?")
    terms = [Term(wanted.text, wanted.keys, 1.0) for wanted in plan.wanted]

    for candidate in candidates_of(STOCK, terms, "money"):
        (span,) = candidate.spans
        assert STOCK.body[span[0] : span[1]] == candidate.text
        assert candidate.support.share >= SUPPORT_LEAST


def test_the_same_screen_and_words_give_the_same_order() -> None:
    plan = plan_question("What is the price?")
    terms = [Term(wanted.text, wanted.keys, 1.0) for wanted in plan.wanted]

    one = [candidate.text for candidate in candidates_of(STOCK, terms, "money")]

    assert one == [candidate.text for candidate in candidates_of(STOCK, terms, "money")]


def test_a_word_that_every_screen_holds_weighs_least() -> None:
    assert rarity(0, 100) > rarity(1, 100) > rarity(50, 100) >= rarity(100, 100) > 0
