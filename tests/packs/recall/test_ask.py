"""Answers: what each state needs, and that no claim stands without pixels that say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import Home, open_home
from sterling.packs.recall.ask import check as checking
from sterling.packs.recall.ask.answer import Answer, answer
from sterling.packs.recall.ask.states import decide
from sterling.packs.recall.coverage import Gap
from sterling.packs.recall.ingest.ingest import ingest
from sterling.packs.recall.moments import moment_us
from sterling.packs.recall.ocr.language import LanguageMissing
from sterling.packs.recall.reasons import REASONS, Reason
from sterling.packs.recall.time.window import Window
from sterling.packs.recall.trace import check_claim
from sterling.runtime.runs import read_run

NOW = moment_us("2026-03-06T18:00:00", "UTC")


def ask(home: Home, question: str, **more: Any) -> Answer:
    return answer(home, question, **({"now_us": NOW} | more))


def texts(found: Answer) -> list[str]:
    return [claim["text"] for claim in found.document["claims"]]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the reference of bill 7702?", "QX-17-204"),
        ("Who is the customer of bill 7702?", "Ada Lindholm"),
        ("Which cabin does Tomas Berg have?", "217"),
        ("From which pier does the ferry to Runmarn leave?", "9"),
        ("When did I last see bill 7702?", "2026-03-05 15:00 (Thursday 5 March 2026)"),
        ("When did I first see bill 7702?", "2026-03-05 09:00 (Thursday 5 March 2026)"),
        ("How many times did I see bill 7702?", "2"),
    ],
)
def test_questions_about_the_day_are_answered_from_its_pixels(
    read_home: Home, question: str, expected: str
) -> None:
    found = ask(read_home, question)

    assert found.state == "answered", found.document["sentence"]
    assert expected in texts(found)[0]
    claim = found.document["claims"][0]
    assert claim["check"]["verdict"] == "agreed"
    check_claim(read_home, claim, "UTC")


def test_time_words_choose_between_two_values(read_home: Home) -> None:
    morning = ask(read_home, "What total did I see on bill 7702 yesterday morning?")
    afternoon = ask(read_home, "What total did I see on bill 7702 yesterday afternoon?")

    assert texts(morning)[0].endswith("418.20") and texts(afternoon)[0].endswith("431.70")


def test_without_time_words_the_newest_of_two_values_comes_first(read_home: Home) -> None:
    assert texts(ask(read_home, "What is the total of bill 7702?"))[0].endswith("431.70")


def test_a_window_given_by_the_caller_bounds_the_answer(read_home: Home) -> None:
    window = Window(None, moment_us("2026-03-05T12:00:00", "UTC"))

    assert texts(ask(read_home, "What is the total of bill 7702?", window=window))[0].endswith("418.20")


@pytest.mark.parametrize(
    "question",
    [
        "What is the discount on bill 7702?",
        "What is the total of bill 7703?",
        "Which cabin does Karin Holm have?",
        "What is the phone number of Odile Marchetti?",
        "When did I last see the harbour map?",
    ],
)
def test_what_no_screen_says_has_no_evidence(read_home: Home, question: str) -> None:
    found = ask(read_home, question)

    assert (found.state, found.document["reason"]) == ("no_evidence", "recall.below-threshold")
    assert texts(found) == []
    assert found.document["coverage"]["unread"] == 0


def test_before_reading_nothing_is_answered_and_the_gap_is_listed(home: Home, drawn_day: Path) -> None:
    ingest(drawn_day, home)

    found = ask(home, "What is the total of bill 7702?")

    assert (found.state, found.document["reason"]) == ("indeterminate", "recall.reading-missing")
    (gap,) = found.document["gaps"]
    assert (gap["count"], gap["command"]) == (4, "sterling drain --force")
    assert gap["from_us"] == moment_us("2026-03-05T09:00:00", "UTC")
    assert found.document["offers"] == ["sterling drain --force"]


def test_an_empty_record_is_a_gap_and_not_an_answer(home: Home) -> None:
    found = ask(home, "What is the total?")

    assert (found.state, found.document["reason"]) == ("indeterminate", "recall.coverage-gap")


def test_a_time_in_which_nothing_was_captured_is_a_gap(read_home: Home) -> None:
    found = ask(read_home, "What total did I see on bill 7702 last month?")

    assert (found.state, found.document["reason"]) == ("indeterminate", "recall.coverage-gap")


def test_a_look_without_a_picture_leaves_nothing_found_open(read_home: Home, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    ingest(tmp_path / "torn.png", read_home)

    found = ask(read_home, "What is the discount on bill 7702?")

    assert (found.state, found.document["reason"]) == ("indeterminate", "recall.image-unreadable")


@pytest.mark.parametrize(
    ("question", "state", "reason"),
    [
        ("", "refused", "recall.question-empty"),
        ("Delete everything about bill 7702", "refused", "recall.not-about-record"),
        ("What will I see tomorrow, did I see it?", "refused", "time.future"),
        ("What did I see a fortnight ago on bill 7702?", "indeterminate", "time.not-understood"),
        ("What did I see on 31 February 2026 on the bill?", "indeterminate", "time.invalid"),
        ("total " * 400, "refused", "recall.question-too-long"),
    ],
)
def test_what_cannot_be_asked_says_why(read_home: Home, question: str, state: str, reason: str) -> None:
    found = ask(read_home, question)

    assert (found.state, found.document["reason"]) == (state, reason)
    assert found.document["claims"] == []


def test_every_answer_is_a_record_of_a_closed_run(read_home: Home) -> None:
    for question in ("What is the reference of bill 7702?", "What is the discount on bill 7702?", ""):
        found = ask(read_home, question)

        assert read_home.records.get(found.record).document == found.document
        view = read_run(read_home, found.run)
        assert (view.state, view.planned, view.settled) == ("ok", 4, 4)


def test_without_a_second_reading_an_answer_is_partial(read_home: Home) -> None:
    found = ask(read_home, "What is the reference of bill 7702?", check=False)

    assert (found.state, found.document["reason"]) == ("partial", "recall.check-pending")
    assert found.document["claims"][0]["check"]["verdict"] == "single"
    assert list(read_home.records.read("recall.agreement")) == []


def test_a_second_reading_is_made_once_and_serves_the_next_question(read_home: Home) -> None:
    ask(read_home, "What is the reference of bill 7702?")

    again = ask(read_home, "What is the reference of bill 7702?", check=False)

    assert again.state == "answered"
    assert len(list(read_home.records.read("recall.agreement"))) in (1, 2)


def test_a_claim_whose_readings_differ_is_dropped_and_both_are_shown(
    read_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checking.load_reading

    def misread(path: Path, width: int, height: int) -> dict[str, Any]:
        reading = real(path, width, height)
        for token in reading["tokens"]:
            token["text"] = token["text"].replace("17", "11")
        return reading

    monkeypatch.setattr(checking, "load_reading", misread)

    found = ask(read_home, "What is the reference of bill 7702?")

    assert (found.state, found.document["reason"]) == ("indeterminate", "recall.readings-disagree")
    assert found.document["claims"] == []
    (dropped,) = found.document["dropped"]
    assert dropped["text"] == "QX-17-204"
    assert "11-204" in dropped["check"]["second"]
    assert len(dropped["check"]["against"]) == 1


def test_two_of_three_readings_are_enough_and_the_third_is_named(
    read_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checking.load_reading
    looks: list[int] = []

    def misread_once(path: Path, width: int, height: int) -> dict[str, Any]:
        reading = real(path, width, height)
        looks.append(1)
        for token in reading["tokens"]:
            token["text"] = token["text"].replace("Ada", "Ida") if len(looks) == 1 else token["text"]
        return reading

    monkeypatch.setattr(checking, "load_reading", misread_once)

    found = ask(read_home, "Who is the customer of bill 7702?")

    check = found.document["claims"][0]["check"]
    assert (found.state, check["verdict"], len(check["against"])) == ("answered", "agreed", 1)
    assert "Two of three" in found.document["sentence"]
    assert (
        ask(read_home, "Who is the customer of bill 7702?", check=False).document["claims"][0]["check"]
        == check
    )


def test_an_engine_that_went_away_leaves_the_claim_single(
    read_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(languages: Any) -> Path:
        raise LanguageMissing("expected language data, found none")

    monkeypatch.setattr(checking, "find_language_folder", missing)

    found = ask(read_home, "What is the reference of bill 7702?")

    assert (found.state, found.document["claims"][0]["check"]["verdict"]) == ("partial", "single")
    outcomes = {row["step"]: row["reason"] for row in read_run(read_home, found.run).outcomes}
    assert outcomes["check"] == "recall.language-missing"


def test_counts_with_unread_frames_are_partial(read_home: Home, tmp_path: Path, screens: Any) -> None:
    drawn = screens.blank("Bill 7702 - Ledger", "browser", (300, 200))
    drawn.image.save(tmp_path / "later.png")
    ingest(tmp_path / "later.png", read_home)

    count = ask(read_home, "How many times did I see bill 7702?")
    value = ask(read_home, "What is the reference of bill 7702?")

    assert (count.state, count.document["reason"]) == ("partial", "recall.reading-missing")
    assert value.state == "answered"
    assert value.document["gaps"][0]["count"] == 1


def test_a_failed_reading_names_its_cause_in_the_gap(
    home: Home, drawn_day: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sterling.packs.recall.ask import answer as answering

    ingest(drawn_day, home)
    failed = ("recall.language-missing", "expected language data, found none")
    monkeypatch.setattr(answering, "last_failure", lambda home: failed)

    found = ask(home, "What is the total of bill 7702?")

    assert found.document["reason"] == "recall.language-missing"
    assert "apt-get install" in found.document["gaps"][0]["command"]


def test_the_same_question_gives_the_same_claims(read_home: Home) -> None:
    one = ask(read_home, "Which cabin does Odile Marchetti have?").document
    other = ask(read_home, "Which cabin does Odile Marchetti have?").document

    assert one["claims"] == other["claims"]


def test_a_home_opened_for_reading_is_not_asked(read_home: Home) -> None:
    path = read_home.path
    read_home.close()

    with open_home(path, read_only=True) as home, pytest.raises(Exception, match="read-only"):
        ask(home, "What is the reference of bill 7702?")


GAP = Gap(Reason.READING_MISSING, "1 frames have not been read yet.", 1)


@pytest.mark.parametrize(
    ("operator", "verdicts", "dropped", "gaps", "state"),
    [
        ("lookup", ["agreed"], 0, [], "answered"),
        ("lookup", ["agreed"], 0, [GAP], "answered"),
        ("count", ["agreed"], 0, [], "answered"),
        ("count", ["agreed"], 0, [GAP], "partial"),
        ("last_seen", ["agreed"], 0, [GAP], "partial"),
        ("list", ["agreed", "single"], 0, [], "partial"),
        ("lookup", ["single"], 0, [], "partial"),
        ("lookup", ["agreed"], 1, [], "partial"),
        ("lookup", [], 1, [], "indeterminate"),
        ("lookup", [], 0, [GAP], "indeterminate"),
        ("lookup", [], 0, [], "no_evidence"),
    ],
)
def test_the_state_follows_its_table(
    operator: str, verdicts: list[str], dropped: int, gaps: list[Gap], state: str
) -> None:
    assert decide(operator, verdicts, dropped, gaps).state == state


def test_every_reason_has_a_sentence_and_a_next_step() -> None:
    assert set(REASONS) == set(Reason)
    assert all(why.sentence.endswith(".") and why.next for why in REASONS.values())
