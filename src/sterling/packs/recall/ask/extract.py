"""The shortest piece of a screen that can be the answer, with its support.

A screen is taken apart into *units*: sentences, which may run over several
lines of a paragraph, and cells. Every supported unit offers candidates: spans of
the kind asked for, what stands after a label, or the unit itself. A candidate
made only of the question's own words is no answer. Candidates are ordered by
support, then by how well the kind fits, then by how near the matching words
stand. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sterling.packs.recall.ask.kinds import FALLBACKS, spans_of_kind
from sterling.packs.recall.ask.lexicon import STOPWORDS
from sterling.packs.recall.search.screens import Screen, keys_of, kin_of
from sterling.packs.recall.search.support import RELATIONS, Ground, Support, Term, ground
from sterling.packs.recall.search.words import words_of

__all__ = ["ANSWER_WORDS_MAX", "SUPPORT_LEAST", "Candidate", "candidates_of"]

ANSWER_WORDS_MAX = 40
SUPPORT_LEAST = 0.6  # Set on generated screens; docs/concepts/recall.md names the sets and the bound.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_LABEL = re.compile(r"^\s*([^\W_][^:=]{0,60}?)\s*[:=]\s+(?=\S)|^\s*([^\W_][^:=\d]{0,60}?)[:=](?=\S)")
_ENDS_AS_LABEL = re.compile(r"[:=]\s*$")
_OUT_OF = re.compile(r"\b\d[\d.,]* of (?:the )?(\d)")
_PAUSE = re.compile(r"[,;.()]\s")
_SETTINGS = frozenset({"on", "off", "yes", "no", "none"})
_OTHER_SENTENCE = ("paragraph", float(RELATIONS["paragraph"]))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer: spans of the state text, its words, why it is supported, how well."""

    screen: Screen
    spans: tuple[tuple[int, int], ...]
    text: str
    kind: str
    segment: int
    score: float
    support: Support


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence or a cell: its pieces in the state text, and its words in one line."""

    segments: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]
    text: str

    def spans(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """Where characters of the line stand in the state text."""
        found = []
        offset = 0
        for first, last in self.pieces:
            left, right = max(start, offset), min(end, offset + last - first)
            if left < right:
                found.append((first + left - offset, first + right - offset))
            offset += last - first + 1
        return tuple(found)

    def holds(self, place: int) -> bool:
        """Whether a character of the state text belongs to this unit."""
        return any(first <= place < last for first, last in self.pieces)


def candidates_of(screen: Screen, terms: Sequence[Term], kind: str, most: int = 12) -> list[Candidate]:
    """The best candidates of a screen, best first; none is below the least support."""
    base = ground(screen, terms)
    if base.lacking:
        return []
    found: list[Candidate] = []
    asked = {key for term in terms for key in (*term.keys, *term.weak)}
    for unit in _units(screen):
        support = _support_of(screen, base, terms, unit)
        if support.share >= SUPPORT_LEAST:
            found += _of_unit(screen, support, terms, kind, asked, unit)
    found.sort(key=lambda item: (-round(item.score, 6), len(item.text), item.spans))
    return found[:most]


def _units(screen: Screen) -> list[_Unit]:
    blocks: dict[int, list[int]] = {}
    for number, segment in enumerate(screen.segments):
        blocks.setdefault(segment.block, []).append(number)
    units: list[_Unit] = []
    for numbers in blocks.values():
        line = " ".join(screen.text_of(screen.segments[number]) for number in numbers)
        start = 0
        for end, after in [*((m.start(), m.end()) for m in _SENTENCE_END.finditer(line)), (len(line), 0)]:
            units.append(_unit(screen, numbers, start, end))
            start = after
    return units


def _unit(screen: Screen, numbers: Sequence[int], start: int, end: int) -> _Unit:
    """The unit of these characters of a block's line."""
    segments, pieces = [], []
    offset = 0
    for number in numbers:
        segment = screen.segments[number]
        length = segment.end - segment.start
        left, right = max(start, offset), min(end, offset + length)
        if left < right:
            segments.append(number)
            pieces.append((segment.start + left - offset, segment.start + right - offset))
        offset += length + 1
    text = " ".join(screen.body[first:last] for first, last in pieces)
    return _Unit(tuple(segments), tuple(pieces), text)


def _support_of(screen: Screen, base: Ground, terms: Sequence[Term], unit: _Unit) -> Support:
    """A unit's support: its own words count whole, those of another sentence beside it a little less."""
    near: list[tuple[str, float]] = []
    for number, term in enumerate(terms):
        best = max((base.near[segment][number] for segment in unit.segments), key=lambda item: item[1])
        if best[0] == "same" and not _stands_in(screen, term, unit):
            best = _OTHER_SENTENCE
        near.append(best)
    return base.support(unit.segments[0], near)


def _stands_in(screen: Screen, term: Term, unit: _Unit) -> bool:
    return any(
        unit.holds(screen.words[number].start)
        for key in (*term.keys, *term.weak)
        for number in screen.keys.get(key, ())
    )


def _of_unit(
    screen: Screen, support: Support, terms: Sequence[Term], kind: str, asked: set[str], unit: _Unit
) -> list[Candidate]:
    text = unit.text
    for place, wanted in enumerate(FALLBACKS[kind]):
        if wanted == "any":
            spans = _free_spans(text, asked)
        else:
            spans = [(span.start, span.end) for span in spans_of_kind(wanted, text)]
        found: list[Candidate] = []
        for start, end in spans:
            if not _says_more(text[start:end], asked):
                continue
            fit = _fit(wanted, place) - (0.0 if wanted == "any" else _echo(text[start:end], asked))
            near = _nearness(text, start, end, asked) if wanted != "any" else _within(text[start:end], terms)
            places = unit.spans(start, end)
            segment = next(n for n in unit.segments if screen.segments[n].end > places[0][0])
            found.append(
                Candidate(
                    screen, places, text[start:end], wanted, segment, support.share + fit + near, support
                )
            )
        if found:
            return _counts_first(found, text, unit) if wanted == "number" else found
    return []


def _counts_first(found: list[Candidate], text: str, unit: _Unit) -> list[Candidate]:
    """In `3 of 218` the first figure is the count and the second what it is counted from."""
    wholes = {unit.spans(match.start(1), match.start(1) + 1)[0][0] for match in _OUT_OF.finditer(text)}
    return [
        replace(candidate, score=candidate.score - 0.1) if candidate.spans[0][0] in wholes else candidate
        for candidate in found
    ]


def _fit(kind: str, place: int) -> float:
    """What a kind adds: much for one with a sure look, little for names and places, less for a fallback."""
    if kind == "any":
        return 0.0
    if kind in ("person", "place"):
        return 0.06
    return 0.2 if place == 0 else 0.08


def _free_spans(text: str, asked: set[str]) -> list[tuple[int, int]]:
    """What can be an answer where no kind is asked for: what stands after a label, else the whole unit."""
    if _ENDS_AS_LABEL.search(text) and len(text.split()) <= 6:
        return []
    label = _LABEL.match(text)
    if label is not None and (label.group(1) or _is_asked(label.group(2), asked)):
        return [_cut(text, label.end(), len(text))]
    start, end = _cut(text, 0, len(text))
    return [(start, end)] if start < end else []


def _is_asked(text: str, asked: set[str]) -> bool:
    return any(
        key in asked for word in words_of(text) for key in (*keys_of(word.normal), kin_of(word.normal))
    )


def _cut(text: str, start: int, end: int) -> tuple[int, int]:
    """At most the allowed number of words from the start of a span."""
    words = list(re.finditer(r"\S+", text[start:end]))
    if not words:
        return start, start
    last = words[min(len(words), ANSWER_WORDS_MAX) - 1]
    return start + words[0].start(), start + last.end()


def _says_more(text: str, asked: set[str]) -> bool:
    """Whether the piece holds a word that the question does not."""
    words = words_of(text, parts=False)
    if not words:
        return any(letter.isdigit() for letter in text)
    if len(words) == 1 and words[0].normal in _SETTINGS:
        return True
    return any(
        not any(key in asked for key in keys_of(word.normal)) and word.normal not in STOPWORDS
        for word in words
    )


def _echo(text: str, asked: set[str]) -> float:
    """What a candidate loses for repeating a word of the question."""
    repeats = any(key in asked for word in words_of(text, parts=False) for key in keys_of(word.normal))
    return 0.1 if repeats else 0.0


def _nearness(text: str, start: int, end: int, asked: set[str]) -> float:
    """A small share for a matching word close by in the same unit; a comma between counts against it."""
    best = 0.0
    for word in words_of(text):
        if not any(key in asked for key in keys_of(word.normal)):
            continue
        between = text[word.end : start] if word.end <= start else text[end : word.start]
        apart = 1 + len(between) / 12
        if _PAUSE.search(between):
            apart *= 2
        best = max(best, 0.08 / apart)
    return best


def _within(text: str, terms: Sequence[Term]) -> float:
    """A small share for the matching words that the piece itself holds."""
    keys = {key for word in words_of(text) for key in keys_of(word.normal)}
    held = sum(any(key in keys for key in term.keys) for term in terms)
    return 0.08 * held / max(1, len(terms))
