"""The shortest piece of a screen that can be the answer, with its support.

Every run of words that the question supports offers candidates: spans of the
kind asked for, what stands after a label, a cell, a sentence. A candidate made
only of the question's own words is no answer. Candidates are ordered by
support, then by how well the kind fits, then by how near the matching words
stand. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sterling.packs.recall.ask.kinds import FALLBACKS, spans_of_kind
from sterling.packs.recall.ask.lexicon import STOPWORDS
from sterling.packs.recall.screen.lines import Segment
from sterling.packs.recall.search.screens import Screen, keys_of
from sterling.packs.recall.search.support import Support, Term, supports
from sterling.packs.recall.search.words import words_of

__all__ = ["ANSWER_WORDS_MAX", "SUPPORT_LEAST", "Candidate", "candidates_of"]

ANSWER_WORDS_MAX = 40
SUPPORT_LEAST = 0.6  # Calibrated on generated screens only; bench and docs name the sets.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_LABEL = re.compile(r"^\s*([^\W_][^:=]{0,60}?)\s*[:=]\s+(?=\S)|^\s*([^\W_][^:=\d]{0,60}?)[:=](?=\S)")
_PAUSE = re.compile(r"[,;.()]\s")
_ENDS_AS_LABEL = re.compile(r"[:=]\s*$")


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


def candidates_of(screen: Screen, terms: Sequence[Term], kind: str, most: int = 12) -> list[Candidate]:
    """The best candidates of a screen, best first; none is below the least support."""
    found: list[Candidate] = []
    asked = {key for term in terms for key in term.keys}
    for support in supports(screen, terms):
        if support.share < SUPPORT_LEAST or support.lacking:
            continue
        found += _of_segment(screen, support, terms, kind, asked)
    found.sort(key=lambda item: (-round(item.score, 6), len(item.text), item.spans))
    return found[:most]


def _of_segment(
    screen: Screen, support: Support, terms: Sequence[Term], kind: str, asked: set[str]
) -> list[Candidate]:
    segment = screen.segments[support.segment]
    text = screen.text_of(segment)
    for place, wanted in enumerate(FALLBACKS[kind]):
        if wanted == "any":
            spans = _free_spans(text, asked)
        else:
            spans = [(span.start, span.end) for span in spans_of_kind(wanted, text)]
        found: list[Candidate] = []
        for start, end in spans:
            if not _says_more(text[start:end], asked):
                continue
            first, last = segment.start + start, segment.start + end
            fit = 0.0 if wanted == "any" else (0.2, 0.08)[min(place, 1)] - _echo(text[start:end], asked)
            near = (
                _within(screen, terms, first, last)
                if wanted == "any"
                else _nearness(screen, terms, segment, first, last)
            )
            score = support.share + fit + near
            found.append(
                Candidate(screen, ((first, last),), text[start:end], wanted, support.segment, score, support)
            )
        if found:
            return found
    return []


def _free_spans(text: str, asked: set[str]) -> list[tuple[int, int]]:
    """What can be an answer where no kind is asked for: after a label, else whole sentences."""
    if _ENDS_AS_LABEL.search(text) and len(text.split()) <= 6:
        return []
    label = _LABEL.match(text)
    if label is not None and text[label.end() :].strip():
        said = label.group(1) or label.group(2)
        if any(key in asked for word in words_of(said) for key in keys_of(word.normal)):
            return [_cut(text, label.end(), len(text))]
    spans = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        spans.append(_cut(text, start, match.start()))
        start = match.end()
    spans.append(_cut(text, start, len(text)))
    return [span for span in spans if span[0] < span[1]]


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
    return any(
        not any(key in asked for key in keys_of(word.normal)) and word.normal not in STOPWORDS
        for word in words
    )


def _echo(text: str, asked: set[str]) -> float:
    """What a candidate loses for repeating a word of the question."""
    repeats = any(key in asked for word in words_of(text, parts=False) for key in keys_of(word.normal))
    return 0.1 if repeats else 0.0


def _nearness(screen: Screen, terms: Sequence[Term], segment: Segment, start: int, end: int) -> float:
    """A small share for a matching word close by in the same run; a comma between counts against it."""
    best = 0.0
    for term in terms:
        for number in {number for key in term.keys for number in screen.keys.get(key, ())}:
            word = screen.words[number]
            if not segment.start <= word.start < segment.end:
                continue
            between = screen.body[word.end : start] if word.end <= start else screen.body[end : word.start]
            apart = 1 + len(between) / 12
            if _PAUSE.search(between):
                apart *= 2
            best = max(best, 0.08 / apart)
    return best


def _within(screen: Screen, terms: Sequence[Term], start: int, end: int) -> float:
    """A small share for the matching words that the piece itself holds."""
    held = sum(
        any(
            start <= screen.words[number].start < end
            for key in term.keys
            for number in screen.keys.get(key, ())
        )
        for term in terms
    )
    return 0.08 * held / max(1, len(terms))
