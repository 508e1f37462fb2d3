"""Time words of a question: which windows they name, and what role they play.

A phrase can be the time of *seeing* or a part of what is asked for (*content*).
Deictic words (yesterday, an hour ago) and verbs of seeing make it the first; a
bare date or clock may be either, and then both are tried. What stands where a
time stands and is not understood is said, never passed over. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from sterling.packs.recall.moments import civil
from sterling.packs.recall.reasons import Reason
from sterling.packs.recall.time.rules import (
    CLOCK_RULES,
    DAY_RULES,
    TIME_WORDS,
    WHOLE_RULES,
    Clock,
    Now,
    TimeInvalid,
)
from sterling.packs.recall.time.window import Window, between, day

__all__ = ["TimeParse", "is_about_seeing", "parse"]

_SEEING = re.compile(
    r"\b(?:did|have|had|do|was|were|am|are) (?:i|we)\b"
    r"|\b(?:i|we) (?:saw|see|seen|looked|read|opened|viewed|visited|had)\b"
    r"|\b(?:on|across) (?:the |my |this )?(?:screen|display|monitor)\b"
    r"|\b(?:was|were|is|been) (?:\w+ )?(?:shown|displayed|visible|open|opened|seen|on screen)\b"
    r"|\b(?:appear|appeared|show up|showed up|come up|came up)\b"
)
_OPEN_END = re.compile(r"\b(?P<word>since|after|before|until|till|by) $")
_POSITION = re.compile(
    r"(?:^|\b(?:on|in|at|by|around|about|last|this|past|next|since|until|till|before|after|during|every|each|few|\d+))"
    r"(?: the| a| an)?$"
)
_ANCHOR = re.compile(r"\b(?:before|after|while|since|until|till)\b[^\0]{0,60}")
_AGO = re.compile(r"[\w-]+(?: [\w-]+)? ago\b")


@dataclass(frozen=True, slots=True)
class TimeParse:
    """How the time words were understood. `spans` are characters of the question.

    `problem` is set when they name no time that can be looked at; `because` says why.
    """

    windows: tuple[Window, ...] = ()
    role: str = "none"  # none, seen, content or unsure
    spans: tuple[tuple[int, int], ...] = ()
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Reason | None = None
    because: str = ""


@dataclass(slots=True)
class _Found:
    days: list[Window]
    clocks: list[Clock]
    wholes: list[Window]
    spans: list[tuple[int, int]]
    deictic: bool = False


def is_about_seeing(question: str) -> bool:
    """Whether the question asks when or what somebody saw, not only what a screen said."""
    return _SEEING.search(question.casefold()) is not None


def parse(question: str, *, now_us: int, zone: str) -> TimeParse:
    """The windows that a question's time words name. Never raises."""
    now = Now(now_us, zone)
    text = question.casefold()
    found = _Found([], [], [], [])
    try:
        rest = _scan(text, now, found)
    except TimeInvalid as problem:
        return TimeParse(
            role="seen",
            words=(str(problem),),
            problem=Reason.TIME_INVALID,
            because=f"There is no {problem}.",
        )
    seeing = is_about_seeing(text)
    left = _not_understood(_without_ends(rest, found), seeing)
    words = tuple(question[start:end] for start, end in sorted(found.spans))
    if left:
        return TimeParse(
            role="seen",
            words=(*words, left),
            problem=Reason.TIME_NOT_UNDERSTOOD,
            because=f"The words {left!r} stand where a time stands, and no rule knows them.",
        )
    if not found.spans:
        return TimeParse()
    role = "seen" if seeing or found.deictic else "unsure"
    window, notes = _combine(found, text, now)
    parsed = TimeParse((window,), role, tuple(sorted(found.spans)), words, tuple(notes))
    return _refuse_impossible(parsed, seeing, now)


def _scan(text: str, now: Now, found: _Found) -> str:
    """Take every phrase that a rule knows; returns the text with those phrases blanked."""
    rest = text
    for whole in WHOLE_RULES:
        while (match := whole.pattern.search(rest)) is not None:
            found.wholes.append(whole.mean(match, now))
            rest = _blank(rest, match, found, deictic=True)
    for rule in DAY_RULES:
        while (match := rule.pattern.search(rest)) is not None:
            found.days.append(rule.mean(match, now))
            rest = _blank(rest, match, found, deictic=rule.deictic)
    for clock in CLOCK_RULES:
        while (match := clock.pattern.search(rest)) is not None:
            found.clocks.append(clock.mean(match, now))
            rest = _blank(rest, match, found, deictic=match.group().startswith("this "))
    return rest


def _blank(text: str, match: re.Match[str], found: _Found, *, deictic: bool) -> str:
    found.spans.append(match.span())
    found.deictic = found.deictic or deictic
    return text[: match.start()] + "\0" * (match.end() - match.start()) + text[match.end() :]


def _combine(found: _Found, text: str, now: Now) -> tuple[Window, list[str]]:
    """One window out of everything that was found, and remarks on how."""
    notes: list[str] = []
    window = Window(None, None)
    for whole in found.wholes:
        window = window.meet(whole)
    for days in found.days:
        window = window.meet(days)
    if found.clocks:
        base = window if found.days else day(now.today, now.zone)
        part = _part_of(base, found.clocks, now.zone)
        if not found.days and not found.wholes and part.from_us is not None and part.from_us > now.at_us:
            base = day(now.today - timedelta(days=1), now.zone)
            part = _part_of(base, found.clocks, now.zone)
            notes.append("No day was named and this time of today has not come: yesterday is meant.")
        window = part if not found.wholes else window.meet(part)
    return _open_ends(window, found, text), notes


def _part_of(days: Window, clocks: list[Clock], zone: str) -> Window:
    """The named parts of the first day of a window, by the clock on the wall."""
    midnight = datetime.combine(civil(days.from_us or 0, zone).date(), time())
    part = Window(None, None)
    for clock in clocks:
        start = midnight + timedelta(minutes=clock.from_minute)
        part = part.meet(between(start, midnight + timedelta(minutes=clock.to_minute), zone))
    return part


def _open_ends(window: Window, found: _Found, text: str) -> Window:
    """`since X` ends now or never, `before X` has no start."""
    first = min(start for start, _ in found.spans)
    match = _OPEN_END.search(text[:first])
    if match is None:
        return window
    found.spans.append((match.start(), match.end() - 1))
    word = match["word"]
    if word == "since":
        return Window(window.from_us, None)
    if word == "after":
        return Window(window.to_us, None)
    if word == "before":
        return Window(None, window.from_us)
    return Window(None, window.to_us)


def _refuse_impossible(parsed: TimeParse, seeing: bool, now: Now) -> TimeParse:
    window = parsed.windows[0]
    if window.is_empty:
        return replace(parsed, problem=Reason.TIME_REVERSED, because="These times have no moment in common.")
    if window.from_us is None or window.from_us <= now.at_us:
        return parsed
    if not seeing:  # Something that is due tomorrow is content, not a look into the future.
        return replace(parsed, windows=(), role="content")
    because = f"{' '.join(parsed.words)!r} lies after now."
    return replace(parsed, problem=Reason.TIME_FUTURE, because=because)


def _without_ends(rest: str, found: _Found) -> str:
    """The rest without the preposition that stands before a phrase that was taken."""
    if not found.spans:
        return rest
    match = _OPEN_END.search(rest[: min(start for start, _ in found.spans)])
    return rest if match is None else rest[: match.start()] + "\0" * 8 + rest[match.end() :]


def _not_understood(rest: str, seeing: bool) -> str:
    """The first phrase of time that no rule took, or ''."""
    match = _AGO.search(rest) or (_ANCHOR.search(rest) if seeing else None)
    if match is not None:
        return match.group().rstrip(" ?.!")
    for word in re.finditer(r"[\w']+", rest):
        if word.group() not in TIME_WORDS:
            continue
        before = rest[: word.start()].rstrip(" ")
        lead = re.search(r"[\w']+$", before)
        spoken = lead.group() if lead else ""
        if spoken in ("last", "past", "next", "since", "until") or (seeing and _POSITION.search(before)):
            return f"{spoken} {word.group()}".strip()
    return ""
