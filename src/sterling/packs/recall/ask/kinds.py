"""Kinds of things an answer can be, and how each looks in a text.

A kind is a pattern, not a fact: it says that a span could be a date, not that it
is the date asked for. Pure; the patterns are data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FALLBACKS", "KINDS", "Span", "spans_of_kind"]

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\.?"
_MONTHS = "january|february|march|april|june|july|august|september|october|november|december"
_DAY = r"(?:mon|tue|tues|wed|thu|thur|thurs|fri|sat|sun)[a-z]*\.?,?"
_CURRENCY = r"(?:[$€£¥₹]|\b(?:eur|usd|gbp|chf|jpy|cad|aud|sek|nok|dkk|pln|czk|inr|cny)\b)"
_AMOUNT = r"[-+−]?\d[\d,.' \u00a0]*\d|[-+−]?\d"

_FIGURE = r"(?<![\w.,])[-+−]?\d[\d.,]*"
_LENGTH = r"mm|cm|km|m|nautical miles?|miles?|feet|ft|inch(?:es)?|kilomet(?:er|re)s?|met(?:er|re)s?|px"
_MASS = r"kg|g|mg|t|pounds?|lbs?|kilograms?|grams?|tons?"
_HEAT = r"°\s?[CFK]?|degrees|[CF]\b"
_OTHER = (
    r"[KMGT]i?B?|l|ml|lit(?:er|re)s?|km/h|mph|kW|kWh|V|W|A|Hz|MHz|GHz|dpi|bytes?|cups?"
    r"|teaspoons?|tablespoons?"
)
_SIZES = r"\d+(?:[.,]\d+)?\s?[x×]\s?\d+(?:[.,]\d+)?(?:\s?[x×]\s?\d+)?(?:\s?(?:mm|cm|m|px))?"

KINDS: dict[str, re.Pattern[str]] = {
    "money": re.compile(rf"{_CURRENCY}\s?(?:{_AMOUNT})(?:\s?[kmb]n?\b)?|(?:{_AMOUNT})\s?{_CURRENCY}", re.I),
    "percent": re.compile(r"[-+−]?\d[\d.,]*\s?(?:%|percent\b|per cent\b)", re.I),
    "date": re.compile(
        rf"\d{{4}}-\d\d-\d\d|(?:{_DAY}\s)?\d{{1,2}}(?:st|nd|rd|th)?\.?\s(?:of\s)?{_MONTH}"
        rf"(?:,?\s\d{{4}})?"
        rf"|(?:{_DAY}\s)?{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s\d{{4}})?|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}"
        rf"|\b{_MONTH}\s\d{{4}}\b|\b(?:{_MONTHS})\b|\bweek \d{{1,2}}\b"
        r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b"
        r"|\b(?:today|tomorrow|yesterday)\b",
        re.I,
    ),
    "time": re.compile(
        r"\b\d{1,2}:\d\d(?::\d\d)?(?:\s?[ap]\.?m\b\.?)?|\b\d{1,2}\s?[ap]\.?m\b\.?|\b\d{1,2}h\d\d\b", re.I
    ),
    "duration": re.compile(
        r"\b(?:(?:\d[\d.,]*|an?|one|two|three|four|five|six|seven|eight|nine|ten|half an?)\s?"
        r"(?:ms|s|sec|secs|seconds?|min|mins|minutes?|h|hrs?|hours?|days?|weeks?|months?|years?)\b\s?)+",
        re.I,
    ),
    "amount": re.compile(r"(?<![\w.,/:])[-+−]?\d{1,3}(?:[,.' \u00a0]?\d{3})*[.,]\d{2}(?![\w/:]|[.,]\d)"),
    "measure": re.compile(rf"{_FIGURE}\s?(?:{_LENGTH}|{_MASS}|{_HEAT}|{_OTHER})(?!\w)|{_SIZES}"),
    "length": re.compile(rf"{_FIGURE}\s?(?:{_LENGTH})(?!\w)|{_SIZES}"),
    "mass": re.compile(rf"{_FIGURE}\s?(?:{_MASS})(?!\w)"),
    "heat": re.compile(rf"{_FIGURE}\s?(?:{_HEAT})(?!\w)"),
    "year": re.compile(r"\b(?:1[0-9]|20)\d\d\b"),
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(
        r"\b(?:https?|ssh|ftp|git|wss?)://[^\s<>\"']+|\bwww\.[^\s<>\"']+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|dev|example|test|local|de|uk|eu)(?:/[^\s<>\"']*)?",
        re.I,
    ),
    "ip": re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b"),
    "iban": re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "port": re.compile(
        r"(?<=[\w\]]:)\d{2,5}\b(?![.:]\d)|(?<=port )\d{2,5}\b|(?<=port=)\d{2,5}\b|(?<=Port )\d{2,5}\b"
    ),
    "phone": re.compile(r"(?<![\w.,-])\+?\(?\d(?=(?:\D{0,2}\d){6})[\d\s()/-]{5,}\d(?![\w.,-]*\d)"),
    "version": re.compile(r"\bv?\d+(?:\.\d+){1,3}(?:[-+.]?(?:rc|alpha|beta|a|b|dev|post)[\d.]*)?\b", re.I),
    "path": re.compile(
        r"(?:~|\.{1,2})?(?:/[\w.@+-]+)+/?|\b[A-Za-z]:\\[^\s\"<>|]+|\b[\w-]+(?:\.[\w-]+)*\.[A-Za-z]\w{0,5}\b"
    ),
    "code": re.compile(
        r"\b(?=[\w#-]*\d)(?=[\w#-]*[A-Za-z])[\w#]+(?:-[\w#]+)*\b|\b[A-Z]{2,}(?:-[A-Z0-9]+)+\b"
        r"|#\d+\b|\b[A-Z]{1,4} \d{2,6}\b|\b\d+(?:-\d+)+\b|(?<![\d.,:])\b\d{3,}\b(?![.,:]\d)"
    ),
    "number": re.compile(rf"(?<![\w.,/:-])(?:[$€£¥]\s?)?(?:{_AMOUNT})(?:\s?[%$€£¥])?(?![\d/:-])"),
    "place": re.compile(
        r"(?:(?<=\bin )|(?<=\bat )|(?<=\bto )|(?<=\bfrom )|(?<=\bnear ))"
        r"[^\W\d_a-z]\w*(?:[ -][^\W\d_a-z]\w*){0,3}(?: \d+[a-z]?\b)?"
    ),
    "command": re.compile(r"(?:(?<=\$ )|(?<=# )|(?<=> )|(?<=% ))\S.*"),
    "person": re.compile(
        r"\b[^\W\d_a-z][^\W\d_]*[.]?(?:[ '’-](?:(?:van|von|de|der|la|da)\s)?[^\W\d_a-z][^\W\d_]*\.?){1,3}"
    ),
}

_DATE, _TIME = KINDS["date"].pattern, KINDS["time"].pattern
KINDS["moment"] = re.compile(rf"(?:{_DATE})(?:,?\s(?:at\s)?(?:{_TIME}))?|{_TIME}", re.I)

# Where nothing of a kind is supported, the next one is tried. A kind with a sure look has no fallback: a
# phone number is a phone number or there is none.
FALLBACKS: dict[str, tuple[str, ...]] = {
    "money": ("money", "amount", "number"),
    "percent": ("percent", "number"),
    "code": ("code",),
    "number": ("number",),
    "date": ("date", "time"),
    "time": ("time", "date"),
    "duration": ("duration",),
    "version": ("version", "number"),
    "ip": ("ip", "url"),
    "url": ("url", "path"),
    "email": ("email",),
    "phone": ("phone",),
    "port": ("port", "number"),
    "iban": ("iban",),
    "path": ("path", "url", "any"),
    "person": ("person", "any"),
    "place": ("place", "any"),
    "command": ("command", "any"),
    "any": ("any",),
    "moment": ("moment",),
    "measure": ("measure",),
    "length": ("length",),
    "mass": ("mass",),
    "heat": ("heat",),
    "year": ("year", "date"),
}


# A figure or a code glued to a stray sign is a piece of something that was read wrongly.
_FREESTANDING = frozenset(
    {"person", "code", "number", "version", "date", "time", "port", "percent", "duration"}
)
_UNIT = re.compile(r"[A-Za-z%°]{1,4}(?!\w)")
_NEIGHBOURS = frozenset(" \t\n\"'()[]{}<>=:/@,;.!?%|#$€£¥+-–—_~*")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text that looks like a kind."""

    start: int
    end: int
    kind: str


def spans_of_kind(kind: str, text: str) -> list[Span]:
    """Every span of this kind in a text, without the space around it."""
    pattern = KINDS.get(kind)
    if pattern is None:
        return []
    found = []
    for match in pattern.finditer(text):
        start, end = match.span()
        while end > start and text[end - 1] in " ,.;:'":
            end -= 1
        while start < end and text[start] == " ":
            start += 1
        if start < end and (kind not in _FREESTANDING or _stands_free(text, start, end)):
            found.append(Span(start, end, kind))
    return _without_parts_of_others(kind, text, found)


def _without_parts_of_others(kind: str, text: str, found: list[Span]) -> list[Span]:
    """Figures that belong to a date, a time or an address are not counts or amounts of their own."""
    if kind not in ("number", "amount", "year", "code"):
        return found
    others = ("ip", "time") if kind == "year" else ("date", "time", "ip")
    taken = [match.span() for other in others for match in KINDS[other].finditer(text)]
    return [span for span in found if not any(start < span.end and end > span.start for start, end in taken)]


def _stands_free(text: str, start: int, end: int) -> bool:
    """Whether blanks or usual marks stand around a span (a unit may follow it)."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before in ("$", "€", "£", "¥") and not text[start].isdigit():
        return False
    unit = _UNIT.match(text, end) is not None
    return (not before or before in _NEIGHBOURS) and (not after or after in _NEIGHBOURS or unit)
