"""Time words: windows against dates written out by hand, and nothing passed over in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterling.packs.recall.moments import moment_us
from sterling.packs.recall.reasons import Reason
from sterling.packs.recall.time.parse import parse

ZONE = "Europe/Berlin"
NOW = "2026-03-11T16:20:00"  # A Wednesday; summer time begins on 29 March.


def at(text: str, zone: str = ZONE) -> int:
    return moment_us(text, zone)


def window(question: str, now: str = NOW, zone: str = ZONE) -> tuple[int | None, int | None]:
    parsed = parse(question, now_us=at(now, zone), zone=zone)
    assert parsed.problem is None, parsed.because
    (found,) = parsed.windows
    return found.from_us, found.to_us


@pytest.mark.parametrize(
    ("question", "start", "end"),
    [
        ("what did I see today", "2026-03-11T00:00", "2026-03-12T00:00"),
        ("what did I see yesterday", "2026-03-10T00:00", "2026-03-11T00:00"),
        ("what did I read the day before yesterday", "2026-03-09T00:00", "2026-03-10T00:00"),
        ("what did I open two days ago", "2026-03-09T00:00", "2026-03-10T00:00"),
        ("what did I read last week", "2026-03-02T00:00", "2026-03-09T00:00"),
        ("what did I read this week", "2026-03-09T00:00", "2026-03-16T00:00"),
        ("what did I read last month", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("what did I see 3 months ago", "2025-12-01T00:00", "2026-01-01T00:00"),
        ("what did I see last year", "2025-01-01T00:00", "2026-01-01T00:00"),
        ("what did I see on Monday", "2026-03-09T00:00", "2026-03-10T00:00"),
        ("what did I see last Wednesday", "2026-03-04T00:00", "2026-03-05T00:00"),
        ("what did I see on Wednesday", "2026-03-11T00:00", "2026-03-12T00:00"),
        ("what did I see on 2026-03-08", "2026-03-08T00:00", "2026-03-09T00:00"),
        ("what did I see on 8 March 2026", "2026-03-08T00:00", "2026-03-09T00:00"),
        ("what did I see on March 20", "2025-03-20T00:00", "2025-03-21T00:00"),
        ("what did I see in February", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("what did I see in November", "2025-11-01T00:00", "2025-12-01T00:00"),
        ("what did I see in 2025", "2025-01-01T00:00", "2026-01-01T00:00"),
        ("what did I see at 15:00 yesterday", "2026-03-10T14:50", "2026-03-10T15:11"),
        ("what did I see at 3pm yesterday", "2026-03-10T15:00", "2026-03-10T16:00"),
        ("what did I see around 3pm yesterday", "2026-03-10T14:15", "2026-03-10T15:45"),
        ("what did I see from 9 to 5 yesterday", "2026-03-10T09:00", "2026-03-10T17:00"),
        ("what did I see between 9am and 11:30 yesterday", "2026-03-10T09:00", "2026-03-10T11:30"),
        ("what did I see yesterday afternoon", "2026-03-10T12:00", "2026-03-10T17:00"),
        ("what did I see this morning", "2026-03-11T05:00", "2026-03-11T12:00"),
        ("what did I see last night", "2026-03-10T17:00", "2026-03-11T05:00"),
        ("what did I see at 18:00", "2026-03-10T17:50", "2026-03-10T18:11"),
        ("what did I see two hours ago", "2026-03-11T13:50", "2026-03-11T14:50"),
        ("what did I see 20 minutes ago", "2026-03-11T15:55", "2026-03-11T16:05"),
    ],
)
def test_a_phrase_names_its_window(question: str, start: str, end: str) -> None:
    assert window(question) == (at(start), at(end))


def test_rolling_windows_end_now_and_hold_now() -> None:
    assert window("what did I see in the last 90 minutes") == (at("2026-03-11T14:50"), at(NOW) + 1)


def test_open_ends_stay_open() -> None:
    assert window("what did I see since Monday") == (at("2026-03-09T00:00"), None)
    assert window("what did I see before 8 March 2026") == (None, at("2026-03-08T00:00"))
    assert window("what did I see after 8 March 2026") == (at("2026-03-09T00:00"), None)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)])
def test_civil_days_have_the_hours_that_the_zone_gives_them(day: str, hours: int) -> None:
    start, end = window("what did I see today", now=f"{day}T20:00")

    assert start is not None and end is not None
    assert (end - start) // 3_600_000_000 == hours


def test_clock_times_follow_the_wall_on_the_day_the_clocks_change() -> None:
    assert window("what did I see at 15:00 today", now="2026-03-29T20:00") == (
        at("2026-03-29T14:50"),
        at("2026-03-29T15:11"),
    )


def test_an_hour_that_the_clocks_repeat_is_taken_to_its_last_occurrence() -> None:
    start, end = window("what did I see from 1:00 to 2:30 today", now="2026-10-25T20:00")

    assert start is not None and end is not None
    assert (end - start) // 60_000_000 == 150


def test_the_zone_decides_which_day_yesterday_is() -> None:
    moment = at("2026-03-11T02:00", "Asia/Tokyo")
    tokyo = parse("what did I see yesterday", now_us=moment, zone="Asia/Tokyo").windows[0]
    lima = parse("what did I see yesterday", now_us=moment, zone="America/Lima").windows[0]

    assert tokyo.from_us == at("2026-03-10T00:00", "Asia/Tokyo")
    assert lima.from_us == at("2026-03-09T00:00", "America/Lima")


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ("what did I open a fortnight ago", Reason.TIME_NOT_UNDERSTOOD),
        ("what did I see last quarter", Reason.TIME_NOT_UNDERSTOOD),
        ("what did I open before the crash", Reason.TIME_NOT_UNDERSTOOD),
        ("what was on the screen while the call was open", Reason.TIME_NOT_UNDERSTOOD),
        ("what did I read every weekday", Reason.TIME_NOT_UNDERSTOOD),
        ("what did I see on 30 February 2026", Reason.TIME_INVALID),
        ("what did I see at 25:00", Reason.TIME_INVALID),
        ("what did I see at 13pm yesterday", Reason.TIME_INVALID),
        ("what did I see on 2026-13-01", Reason.TIME_INVALID),
        ("what did I see tomorrow", Reason.TIME_FUTURE),
        ("what did I see next week", Reason.TIME_FUTURE),
        ("what did I see yesterday on 2026-03-02", Reason.TIME_REVERSED),
    ],
)
def test_times_that_cannot_be_looked_at_are_said(question: str, problem: Reason) -> None:
    assert parse(question, now_us=at(NOW), zone=ZONE).problem is problem


@pytest.mark.parametrize(
    "question",
    [
        "What happens after 30 days?",
        "What is the total of the May report?",
        "What is due tomorrow?",
        "Which backup runs every night?",
        "What is the second invoice about?",
        "Which port is used at 10.0.7.12?",
        "How many minutes does the march take?",
        "What does version 2026.3 add?",
        "What is the weekly budget?",
    ],
)
def test_time_words_that_are_content_filter_nothing(question: str) -> None:
    parsed = parse(question, now_us=at(NOW), zone=ZONE)

    assert parsed.windows == () and parsed.problem is None


def test_a_bare_date_may_be_either_and_says_so() -> None:
    assert parse("What is the price on 8 March 2026?", now_us=at(NOW), zone=ZONE).role == "unsure"
    assert parse("What did I see on 8 March 2026?", now_us=at(NOW), zone=ZONE).role == "seen"


@given(st.text(max_size=60), st.sampled_from(["UTC", ZONE, "Asia/Kathmandu", "Pacific/Apia"]))
def test_no_text_raises(text: str, zone: str) -> None:
    parse(text, now_us=at(NOW), zone=zone)


WORDS = tuple(
    word
    for line in (
        "what did I see on at last next this yesterday monday 30 february 25:00 9 to 5 am pm ago week month",
        "year march 2026 2026-02-31 since before the a in hours days 99999 night between and",
    )
    for word in line.split()
)


@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_no_heap_of_time_words_raises(words: list[str]) -> None:
    parsed = parse(" ".join(words), now_us=at(NOW), zone=ZONE)

    assert parsed.problem is not None or all(not found.is_empty for found in parsed.windows)
