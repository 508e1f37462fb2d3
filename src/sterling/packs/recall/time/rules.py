"""The phrases of time that are understood, as a table of patterns and what they mean.

`docs/concepts/recall.md` prints the same table. A *day* rule gives a window of
days, a *clock* rule a part of a day, a *whole* rule a window by itself. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Generic, TypeVar

from sterling.packs.recall.time.window import MINUTE_US, Window, around, day, days, local, month, rolling

__all__ = ["CLOCK_RULES", "DAY_RULES", "MONTHS", "TIME_WORDS", "WHOLE_RULES", "Clock", "Now", "TimeInvalid"]

MONTHS = {
    name: number
    for number, names in enumerate(
        ("january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
         "september sept sep", "october oct", "november nov", "december dec"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
            "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "couple of": 2}  # fmt: skip
_UNIT_US = {"second": 1_000_000, "minute": MINUTE_US, "min": MINUTE_US, "hour": 60 * MINUTE_US,
            "day": 1440 * MINUTE_US, "week": 7 * 1440 * MINUTE_US}  # fmt: skip

_N = r"(?P<n>\d{1,4}|a couple of|an?|one|two|three|four|five|six|seven|eight|nine|ten|twelve)"
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_WEEKDAY = "|".join(_WEEKDAYS)

Meaning = TypeVar("Meaning")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that speak of time. One that no rule took, standing where a time stands, is said not to be understood.
TIME_WORDS = _words(
    "ago fortnight fortnights today yesterday tomorrow tonight noon midnight lunchtime morning mornings "
    "afternoon evening night nights weekend weekends weekday century decade quarter hour hours minute "
    "minutes day days week weeks month months year years oclock o'clock easter christmas recently earlier"
) | frozenset(_WEEKDAYS)


class TimeInvalid(ValueError):
    """A phrase has the form of a time that does not exist; args[0] says which."""


@dataclass(frozen=True, slots=True)
class Now:
    """What relative words stand on."""

    at_us: int
    zone: str

    @property
    def civil(self) -> datetime:
        return local(self.at_us, self.zone)

    @property
    def today(self) -> date:
        return self.civil.date()


@dataclass(frozen=True, slots=True)
class Clock:
    """A part of a day in minutes from midnight; it may reach into the next day."""

    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True)
class _Rule(Generic[Meaning]):
    pattern: re.Pattern[str]
    mean: Callable[[re.Match[str], Now], Meaning]
    deictic: bool = True


def _count(match: re.Match[str]) -> int:
    word = match["n"]
    return int(word) if word.isdigit() else _NUMBERS[word.removeprefix("a ") if "couple" in word else word]


def _rule(
    pattern: str, mean: Callable[[re.Match[str], Now], Meaning], *, deictic: bool = True
) -> _Rule[Meaning]:
    return _Rule(re.compile(rf"(?<![\w.-])(?:{pattern})(?![\w-]|[.:,]\d)"), mean, deictic)


# Days.


def _date(year: int, number: int, dom: int) -> date:
    try:
        return date(year, number, dom)
    except ValueError as problem:
        raise TimeInvalid(f"{year:04}-{number:02}-{dom:02}") from problem


def _named_date(match: re.Match[str], now: Now) -> Window:
    number, dom = MONTHS[match["month"]], int(match["dom"])
    if match["year"]:
        return day(_date(int(match["year"]), number, dom), now.zone)
    for year in (
        now.today.year,
        now.today.year - 1,
        now.today.year - 2,
        now.today.year - 3,
        now.today.year - 4,
    ):
        try:
            found = date(year, number, dom)
        except ValueError:
            continue  # 29 February of another year.
        if found <= now.today:
            return day(found, now.zone)
    raise TimeInvalid(match.group())


def _iso_date(match: re.Match[str], now: Now) -> Window:
    return day(_date(int(match["year"]), int(match["month"]), int(match["dom"])), now.zone)


def _weekday(match: re.Match[str], now: Now) -> Window:
    back = (now.today.weekday() - _WEEKDAYS.index(match["weekday"])) % 7
    if back == 0 and match["last"]:
        back = 7
    return day(now.today - timedelta(days=back), now.zone)


def _units_ago(match: re.Match[str], now: Now) -> Window:
    count, unit = _count(match), match["unit"]
    try:
        if unit == "day":
            return day(now.today - timedelta(days=count), now.zone)
        if unit == "week":
            first = now.today - timedelta(days=now.today.weekday() + 7 * count)
            return days(first, first + timedelta(days=7), now.zone)
        months = now.today.year * 12 + now.today.month - 1 - count * (12 if unit == "year" else 1)
        if unit == "year":
            return days(date(months // 12, 1, 1), date(months // 12 + 1, 1, 1), now.zone)
        return month(months // 12, months % 12 + 1, now.zone)
    except (ValueError, OverflowError) as problem:
        raise TimeInvalid(match.group()) from problem


def _civil_unit(match: re.Match[str], now: Now) -> Window:
    back = 1 if match["which"] == "last" else 0
    return _units_back(match["unit"], back, now)


def _next_unit(match: re.Match[str], now: Now) -> Window:
    return _units_back(match["unit"], -1, now)


def _next_weekday(match: re.Match[str], now: Now) -> Window:
    ahead = (_WEEKDAYS.index(match["weekday"]) - now.today.weekday()) % 7 or 7
    return day(now.today + timedelta(days=ahead), now.zone)


def _units_back(unit: str, back: int, now: Now) -> Window:
    today = now.today
    if unit == "week":
        first = today - timedelta(days=today.weekday() + 7 * back)
        return days(first, first + timedelta(days=7), now.zone)
    if unit == "month":
        months = today.year * 12 + today.month - 1 - back  # Months since year 0, so that years carry.
        return month(months // 12, months % 12 + 1, now.zone)
    return days(date(today.year - back, 1, 1), date(today.year - back + 1, 1, 1), now.zone)


def _in_month(match: re.Match[str], now: Now) -> Window:
    number = MONTHS[match["month"]]
    year = int(match["year"]) if match["year"] else now.today.year - (number > now.today.month)
    return month(year, number, now.zone)


def _in_year(match: re.Match[str], now: Now) -> Window:
    year = int(match["year"])
    return days(date(year, 1, 1), date(year + 1, 1, 1), now.zone)


_ORDINAL = r"(?P<dom>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"

DAY_RULES: tuple[_Rule[Window], ...] = (
    _rule(r"(?:the )?day before yesterday", lambda _, now: day(now.today - timedelta(days=2), now.zone)),
    _rule(r"yesterday", lambda _, now: day(now.today - timedelta(days=1), now.zone)),
    _rule(r"today", lambda _, now: day(now.today, now.zone)),
    _rule(r"tomorrow", lambda _, now: day(now.today + timedelta(days=1), now.zone)),
    _rule(rf"(?:about )?{_N} (?P<unit>day|week|month|year)s? ago", _units_ago),
    _rule(r"(?P<which>last|this) (?P<unit>week|month|year)", _civil_unit),
    _rule(rf"(?:on )?{_YEAR}-(?P<month>\d\d)-(?P<dom>\d\d)", _iso_date, deictic=False),
    _rule(
        rf"(?:on )?(?:the )?{_ORDINAL} (?:of )?(?P<month>{_MONTH})\.?(?:,? {_YEAR})?",
        _named_date,
        deictic=False,
    ),
    _rule(rf"(?:on )?(?P<month>{_MONTH})\.? {_ORDINAL}(?:,? {_YEAR})?", _named_date, deictic=False),
    _rule(r"next (?P<unit>week|month|year)", _next_unit),
    _rule(rf"next (?P<weekday>{_WEEKDAY})", _next_weekday),
    _rule(rf"(?P<last>last )(?P<weekday>{_WEEKDAY})", _weekday),
    _rule(rf"(?:on |this )?(?P<last>)(?P<weekday>{_WEEKDAY})", _weekday, deictic=False),
    _rule(rf"in (?P<month>{_MONTH})(?: {_YEAR})?", _in_month, deictic=False),
    _rule(rf"in {_YEAR}", _in_year, deictic=False),
)


# Parts of a day.

_CLOCK = r"(?P<{0}h>\d{{1,2}})(?:[:.](?P<{0}m>\d\d))?(?:\s?(?P<{0}half>am|pm|a\.m\.|p\.m\.))?"
_PARTS = {"morning": (300, 720), "afternoon": (720, 1020), "evening": (1020, 1320), "night": (1320, 1740),
          "noon": (720, 721), "midnight": (0, 1), "lunchtime": (690, 840)}  # fmt: skip


def _minute(match: re.Match[str], prefix: str, half: str = "") -> int:
    hour, minute = int(match[f"{prefix}h"]), int(match[f"{prefix}m"] or 0)
    said = (match[f"{prefix}half"] or half).replace(".", "")
    if hour > 24 or minute > 59 or (said and not 1 <= hour <= 12) or (hour == 24 and minute):
        raise TimeInvalid(match.group().strip())
    if said:
        hour = hour % 12 + (12 if said == "pm" else 0)
    return hour * 60 + minute


def _at(match: re.Match[str], now: Now) -> Clock:
    minute = _minute(match, "a")
    if match["about"] in ("around", "about"):
        return Clock(minute - 45, minute + 45)
    if match["am"]:
        return Clock(minute - 10, minute + 11)
    return Clock(minute, minute + 60)


def _range(match: re.Match[str], now: Now) -> Clock:
    late = (match["bhalf"] or "").replace(".", "")
    start, end = _minute(match, "a"), _minute(match, "b")
    if late and not match["ahalf"]:
        carried = _minute(match, "a", late) if 1 <= int(match["ah"]) <= 12 else start
        start = carried if carried < end else start
    if end <= start:
        end += 720 if end + 720 > start and not late else 1440
    return Clock(start, end)


def _part(match: re.Match[str], now: Now) -> Clock:
    return Clock(*_PARTS[match["part"]])


CLOCK_RULES: tuple[_Rule[Clock], ...] = (
    _rule(
        rf"(?:from|between) {_CLOCK.format('a')} (?:to|and|until|till) {_CLOCK.format('b')}",
        _range,
        deictic=False,
    ),
    _rule(rf"(?P<about>at|around|about) {_CLOCK.format('a')}(?: o'clock)?", _at, deictic=False),
    _rule(
        r"(?:in the |at |this |during the )?(?P<part>morning|afternoon|evening|noon|midnight|lunchtime)",
        _part,
    ),
    _rule(r"(?:in the |at )(?P<part>night)", _part),
)


# Windows that stand by themselves.


def _last_units(match: re.Match[str], now: Now) -> Window:
    count = _count(match) if match["n"] else 1
    return rolling(now.at_us, count * _UNIT_US[match["unit"]])


def _short_ago(match: re.Match[str], now: Now) -> Window:
    unit = match["unit"]
    length = _UNIT_US[unit] * _count(match)
    slack = 30 * MINUTE_US if unit == "hour" else 5 * MINUTE_US
    found = around(now.at_us - length, slack)
    return Window(found.from_us, min(found.to_us or 0, now.at_us + 1))


def _last_night(match: re.Match[str], now: Now) -> Window:
    today = day(now.today, now.zone)
    yesterday = day(now.today - timedelta(days=1), now.zone)
    assert yesterday.from_us is not None and today.from_us is not None
    return Window(yesterday.from_us + 17 * 60 * MINUTE_US, today.from_us + 5 * 60 * MINUTE_US)


WHOLE_RULES: tuple[_Rule[Window], ...] = (
    _rule(
        rf"(?:in |during |over |within )?(?:the )?(?:last|past) {_N}"
        r" (?P<unit>second|minute|min|hour|day|week)s?",
        _last_units,
    ),
    _rule(
        r"(?:in |during |over |within )?(?:the )?(?:last|past) (?P<n>)(?P<unit>second|minute|min|hour)",
        _last_units,
    ),
    _rule(r"(?:in |during |over |within )?(?:the )?past (?P<n>)(?P<unit>day|week)", _last_units),
    _rule(rf"(?:about )?{_N} (?P<unit>second|minute|min|hour)s? ago", _short_ago),
    _rule(r"last night", _last_night),
)
