"""What each kind of question does with the screens that were found.

An operator gives *proposals*: a text, the characters that show it, and the looks
that showed them. Proposals are claims only after they are entailed and checked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sterling.packs.recall.ask.extract import SUPPORT_LEAST, Candidate, candidates_of
from sterling.packs.recall.ask.plan import Plan
from sterling.packs.recall.ask.retrieve import Found, Sighting, sightings_of
from sterling.packs.recall.moments import civil
from sterling.packs.recall.search.screens import Screen
from sterling.packs.recall.search.support import Support, supports
from sterling.packs.recall.search.words import normal
from sterling.packs.recall.time.window import Window

__all__ = ["SEEN_AT", "Proposal", "Question", "propose", "seen_text"]

SEEN_AT = "seen-at"  # The kind of a claim whose text is the time of a look.
_CITATIONS_MAX = 5
_LIST_MAX = 12
_TIE = 0.02
_LIST_SLACK = 0.08


@dataclass(frozen=True, slots=True)
class Question:
    """What an operator works on."""

    connection: sqlite3.Connection
    plan: Plan
    found: Found
    windows: tuple[Window, ...]
    zone: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A possible claim. `places` are the screens, spans and looks that show it, best first."""

    text: str
    kind: str
    score: float
    candidate: Candidate
    places: tuple[tuple[Screen, tuple[tuple[int, int], ...], Sighting], ...]


def propose(question: Question) -> list[Proposal]:
    """The proposals of a question, best first."""
    return _OPERATORS[question.plan.operator](question)


def seen_text(at_us: int, zone: str) -> str:
    """A look's time as an answer: `2026-03-02 14:05 (Monday 2 March 2026)`."""
    local = civil(at_us, zone)
    return f"{local:%Y-%m-%d %H:%M} ({local:%A} {local.day} {local:%B %Y})"


def _lookup(question: Question) -> list[Proposal]:
    return _grouped(question, _LIST_MAX)


def _list(question: Question) -> list[Proposal]:
    proposals = _grouped(question, 4 * _LIST_MAX)
    if not proposals:
        return []
    best = proposals[0]
    near = [item for item in proposals if item.kind == best.kind and item.score >= best.score - _LIST_SLACK]
    return near[:_LIST_MAX]


def _grouped(question: Question, most: int) -> list[Proposal]:
    """Candidates of all screens, equal texts together, newest look first among equals."""
    rated: list[tuple[Candidate, Sighting]] = []
    for screen in question.found.screens:
        seen = sightings_of(question.connection, screen.frame, question.windows)
        if seen:
            rated += [
                (candidate, seen[-1])
                for candidate in candidates_of(screen, question.found.terms, question.plan.kind)
            ]
    rated.sort(
        key=lambda pair: (-round(pair[0].score, 6), -pair[1].at_us, len(pair[0].text), pair[0].screen.frame)
    )
    groups: dict[str, list[tuple[Candidate, Sighting]]] = {}
    for candidate, sighting in rated:
        groups.setdefault("".join(normal(candidate.text).split()), []).append((candidate, sighting))
    return [_proposal(group) for group in list(groups.values())[:most]]


def _proposal(group: Sequence[tuple[Candidate, Sighting]]) -> Proposal:
    best = group[0][0]
    equal = [pair for pair in group if pair[0].score >= best.score - _TIE]
    places: list[tuple[Screen, tuple[tuple[int, int], ...], Sighting]] = []
    frames: set[str] = set()
    for candidate, sighting in equal:
        if candidate.screen.frame not in frames:
            frames.add(candidate.screen.frame)
            places.append((candidate.screen, candidate.spans, sighting))
    return Proposal(best.text, best.kind, best.score, best, tuple(places[:_CITATIONS_MAX]))


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at a frame that shows what is asked for."""

    sighting: Sighting
    candidate: Candidate


def _looks(question: Question) -> list[_Look]:
    """Every look that shows the thing, oldest first."""
    looks: list[_Look] = []
    for screen in question.found.screens:
        shown = _best_place(screen, question)
        if shown is not None:
            seen = sightings_of(question.connection, screen.frame, question.windows)
            looks += [_Look(sighting, shown) for sighting in seen]
    return sorted(looks, key=lambda look: (look.sighting.at_us, look.sighting.entry))


def _best_place(screen: Screen, question: Question) -> Candidate | None:
    rated: list[Support] = [
        support
        for support in supports(screen, question.found.terms)
        if support.share >= SUPPORT_LEAST and not support.lacking
    ]
    if not rated:
        return None
    best = max(rated, key=lambda support: (round(support.share, 6), -support.segment))
    start, end = _matched(screen, best.segment, question)
    text = screen.body[start:end]
    return Candidate(screen, ((start, end),), text, "any", best.segment, best.share, best)


def _matched(screen: Screen, number: int, question: Question) -> tuple[int, int]:
    """From the first to the last matching word of a run, or the whole run when only titles match."""
    keys = {key for term in question.found.terms for key in term.keys}
    words = [
        screen.words[place]
        for key in keys
        for place in screen.keys.get(key, ())
        if screen.homes[place] == number
    ]
    segment = screen.segments[number]
    if not words:
        return segment.start, segment.end
    return min(word.start for word in words), max(word.end for word in words)


def _seen(question: Question, looks: Sequence[_Look]) -> list[Proposal]:
    return [
        Proposal(
            seen_text(look.sighting.at_us, question.zone),
            SEEN_AT,
            look.candidate.score,
            look.candidate,
            ((look.candidate.screen, look.candidate.spans, look.sighting),),
        )
        for look in looks
    ]


def _first_seen(question: Question) -> list[Proposal]:
    return _seen(question, _looks(question)[:1])


def _last_seen(question: Question) -> list[Proposal]:
    return _seen(question, _looks(question)[-1:])


def _when(question: Question) -> list[Proposal]:
    """The start of every stretch of looks that show it."""
    return _seen(question, [stretch[0] for stretch in _stretches(question)][:_LIST_MAX])


def _count(question: Question) -> list[Proposal]:
    """How many separate stretches of looks show it."""
    stretches = _stretches(question)
    if not stretches:
        return []
    firsts = [stretch[0] for stretch in stretches]
    places = tuple(
        (look.candidate.screen, look.candidate.spans, look.sighting) for look in firsts[:_CITATIONS_MAX]
    )
    best = firsts[0].candidate
    return [Proposal(str(len(stretches)), "count", best.score, best, places)]


def _stretches(question: Question) -> list[list[_Look]]:
    """Looks in a row of their stream, without another look between them, belong together."""
    numbers = {
        look.sighting.tick: _number(question.connection, look.sighting.tick) for look in _looks(question)
    }
    stretches: list[list[_Look]] = []
    last: tuple[str, int] | None = None
    for look in sorted(_looks(question), key=lambda look: (numbers[look.sighting.tick], look.sighting.entry)):
        stream, n = numbers[look.sighting.tick]
        if last is not None and last == (stream, n - 1):
            stretches[-1].append(look)
        else:
            stretches.append([look])
        last = (stream, n)
    return sorted(stretches, key=lambda stretch: (stretch[0].sighting.at_us, stretch[0].sighting.entry))


def _number(connection: sqlite3.Connection, tick: str) -> tuple[str, int]:
    row = connection.execute("SELECT stream, n FROM ticks WHERE record = ?", (tick,)).fetchone()
    return str(row[0]), int(row[1])


_OPERATORS: dict[str, Callable[[Question], list[Proposal]]] = {
    "lookup": _lookup,
    "list": _list,
    "when": _when,
    "first_seen": _first_seen,
    "last_seen": _last_seen,
    "count": _count,
}
