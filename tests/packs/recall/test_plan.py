"""Questions into plans: what is looked for, what must stand there, what is refused."""

from __future__ import annotations

import pytest

from sterling.packs.recall.ask.kinds import FALLBACKS, KINDS, spans_of_kind
from sterling.packs.recall.ask.lexicon import KIND_PHRASES
from sterling.packs.recall.ask.plan import QUESTION_CHARACTERS_MAX, plan_question
from sterling.packs.recall.reasons import Reason


@pytest.mark.parametrize(
    ("question", "operator"),
    [
        ("What is the total of bill 7702?", "lookup"),
        ("When is the bill due?", "lookup"),
        ("When did I see the crew list?", "when"),
        ("When was the crew list on screen?", "when"),
        ("When did I first open the crew list?", "first_seen"),
        ("When did I last see the crew list?", "last_seen"),
        ("When was the crew list last shown?", "last_seen"),
        ("How many times did I see the crew list?", "count"),
        ("How many cabins are on deck 3?", "lookup"),
        ("List all customers", "list"),
        ("What are the names of the crew?", "list"),
    ],
)
def test_the_operator_follows_the_words(question: str, operator: str) -> None:
    assert plan_question(question).operator == operator


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How much does the lamp cost?", "money"),
        ("When is the bill due?", "moment"),
        ("What time is the call?", "time"),
        ("How long did the build take?", "duration"),
        ("Who wrote the letter?", "person"),
        ("Where does the ferry leave?", "place"),
        ("What is Ada's email?", "email"),
        ("Which port does it listen on?", "port"),
        ("How many cabins are there?", "number"),
        ("What is the colour of the door?", "any"),
    ],
)
def test_the_kind_follows_the_words(question: str, kind: str) -> None:
    assert plan_question(question).kind == kind


@pytest.mark.parametrize(
    ("question", "must"),
    [
        ("What is the discount on the lamp?", {"discount"}),
        ("What is the total of bill 7702 for Ada?", {"total", "7702", "Ada"}),
        ("Which supplier delivers the lamp?", {"supplier"}),
        ("Who is the owner of 'garden hose'?", {"owner", "garden", "hose"}),
        ("WHAT IS THE TOTAL OF THE BILL?", {"TOTAL"}),
        ("What is the phone number of Ada?", {"Ada"}),
    ],
)
def test_heads_names_figures_and_quotes_must_stand_on_the_screen(question: str, must: set[str]) -> None:
    assert {wanted.text for wanted in plan_question(question).wanted if wanted.must} == must


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("", Reason.QUESTION_EMPTY),
        ("   ?!", Reason.QUESTION_EMPTY),
        ("what is the", Reason.QUESTION_EMPTY),
        ("total " * QUESTION_CHARACTERS_MAX, Reason.QUESTION_TOO_LONG),
        ("Delete everything from yesterday", Reason.NOT_ABOUT_RECORD),
        ("please erase the mail from Ada", Reason.NOT_ABOUT_RECORD),
        ("Change the total to 5", Reason.NOT_ABOUT_RECORD),
        ("Write a poem about ferries", Reason.NOT_ABOUT_RECORD),
        ("Who are you?", Reason.NOT_ABOUT_RECORD),
        ("Can you book the ferry?", Reason.NOT_ABOUT_RECORD),
    ],
)
def test_what_is_no_question_about_the_record_is_refused(question: str, reason: Reason) -> None:
    assert plan_question(question).refusal is reason


@pytest.mark.parametrize(
    "question",
    [
        "Run time of the nightly build?",
        "Open tickets in Oslo?",
        "Order 7713 total?",
        "Create date of the file?",
    ],
)
def test_nouns_that_look_like_orders_are_questions(question: str) -> None:
    assert plan_question(question).refusal is None


def test_characters_that_time_words_take_are_not_looked_for() -> None:
    question = "What was the total yesterday?"
    start = question.index("yesterday")

    plan = plan_question(question, [(start, start + len("yesterday"))])

    assert [wanted.text for wanted in plan.wanted] == ["total"]


def test_every_kind_has_a_pattern_and_a_row_of_fallbacks() -> None:
    kinds = {kind for _, kind in KIND_PHRASES} | {"any"}

    assert kinds <= set(FALLBACKS)
    assert all(kind in KINDS or kind == "any" for row in FALLBACKS.values() for kind in row)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("money", "total EUR 12,480.50 due", ["EUR 12,480.50"]),
        ("money", "costs 40 € or $5", ["40 €", "$5"]),
        ("date", "on 17 April 2026, or 2026-04-17.", ["17 April 2026", "2026-04-17"]),
        ("time", "at 06:40 and 7 pm", ["06:40", "7 pm"]),
        ("phone", "call +49 40 555 0199 now", ["+49 40 555 0199"]),
        ("phone", "code NP-88-20417", []),
        ("email", "to <ada@example.org>", ["ada@example.org"]),
        ("ip", "host 10.0.7.12:5432", ["10.0.7.12:5432"]),
        ("port", "http://127.0.0.1:8043/", ["8043"]),
        ("percent", "rate 0.42 % up", ["0.42 %"]),
        ("code", "ref QX-17-204 of 9c1d2ef", ["QX-17-204", "9c1d2ef"]),
        ("code", "at 127.0.0.1", []),
        ("code", "7£c63a0", []),
        ("number", "11 of 12, NP-88", ["11", "12"]),
        ("path", "see /etc/hosts and notes.txt", ["/etc/hosts", "notes.txt"]),
        ("person", "by Karin Oberg and tom", ["Karin Oberg"]),
        ("duration", "passed in 12.84s", ["12.84s"]),
        ("iban", "to DE89 3704 0044 0532 0130 00, ref", ["DE89 3704 0044 0532 0130 00"]),
    ],
)
def test_a_kind_finds_its_spans_and_no_pieces_of_others(kind: str, text: str, expected: list[str]) -> None:
    assert [text[span.start : span.end] for span in spans_of_kind(kind, text)] == expected
