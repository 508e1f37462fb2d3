"""How well a place on a screen is supported by the words of a question.

Every term counts with its rarity times the best of its distances to the place:
in the same run of words, in the same row, above it in the same column, right
above it, in the same paragraph, in a larger line over it, near, elsewhere on the
screen, in the title.
The support is the share of the question's rarity that is covered this way.

Pure, deterministic, no learnt weight: the table below is the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sterling.packs.recall.screen.lines import Segment
from sterling.packs.recall.search.screens import Screen

__all__ = ["RELATIONS", "Support", "Term", "rarity", "supports"]

# How much a term counts at a place, by where it stands from there; in basis points.
RELATIONS = {
    "same": 10_000,
    "row": 9_200,
    "paragraph": 9_000,
    "label": 8_800,
    "column": 8_500,
    "title": 7_500,
    "heading": 7_000,
    "near": 6_500,
    "row-far": 5_600,
    "around": 5_600,
    "screen": 5_000,
    "nowhere": 0,
}
_HEADING_TIMES = 1.3  # A word this much taller, above a place, heads it.
_IDF_LEAST = 0.35


@dataclass(frozen=True, slots=True)
class Term:
    """A word to look for; one that `must` stand on the screen, or a `soft` one that counts only there."""

    text: str
    keys: tuple[str, ...]
    weight: float
    must: bool = False
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Support:
    """How one segment is supported: share of rarity covered, and where each term was found."""

    segment: int
    share: float
    relations: tuple[str, ...]
    missing_must: tuple[str, ...]


def rarity(found: int, total: int) -> float:
    """The weight of a term that `found` of `total` screens hold; never below a floor."""
    return max(_IDF_LEAST, math.log(1 + (total - found + 0.5) / (found + 0.5)))


def supports(screen: Screen, terms: Sequence[Term]) -> list[Support]:
    """The support of every segment of a screen, in order."""
    places = [_places(screen, term) for term in terms]
    titled = [any(key in screen.surroundings for key in term.keys) for term in terms]
    here = [bool(segments) or in_title for segments, in_title in zip(places, titled, strict=True)]
    weights = _weights(terms, here)
    total = sum(weights) or 1.0
    missing = tuple(term.text for term, held in zip(terms, here, strict=True) if term.must and not held)
    form = _Form.of(screen)
    found: list[Support] = []
    for place, segment in enumerate(screen.segments):
        relations = tuple(
            _best(screen, segment, place, segments, form, in_title)
            for segments, in_title in zip(places, titled, strict=True)
        )
        pairs = zip(weights, relations, strict=True)
        covered = sum(weight * RELATIONS[relation] for weight, relation in pairs) / 10_000
        found.append(Support(place, covered / total, relations, missing))
    return found


@dataclass(frozen=True, slots=True)
class _Form:
    """What rows are like: which have cells, which head the row under them, how tall they are."""

    tabular: frozenset[int]
    headers: frozenset[int]
    heights: dict[int, int]

    @staticmethod
    def of(screen: Screen) -> _Form:
        rows: dict[int, list[Segment]] = {}
        for segment in screen.segments:
            rows.setdefault(segment.row, []).append(segment)
        heights = {row: max(item.box[3] - item.box[1] for item in items) for row, items in rows.items()}
        tabular = frozenset(row for row, items in rows.items() if len(items) >= 2)
        headers = frozenset(
            row for row in tabular if row + 1 in tabular and _heads(screen, rows[row], rows[row + 1])
        )
        return _Form(tabular, headers, heights)


def _heads(screen: Screen, upper: Sequence[Segment], lower: Sequence[Segment]) -> bool:
    """Whether a row of words stands over a row with more figures, cell above cell."""
    aligned = sum(any(_aligned(one, other) for other in upper) for one in lower)
    figures = _figures(screen, lower)
    return aligned >= 2 and _figures(screen, upper) < figures and (aligned >= 3 or figures == 1.0)


def _figures(screen: Screen, row: Sequence[Segment]) -> float:
    return sum(any(letter.isdigit() for letter in screen.text_of(item)) for item in row) / len(row)


def _aligned(one: Segment, other: Segment) -> bool:
    beside = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    narrower = max(1, min(one.box[2] - one.box[0], other.box[2] - other.box[0]))
    return beside >= narrower // 2 or abs(one.box[0] - other.box[0]) <= one.box[3] - one.box[1]


def _weights(terms: Sequence[Term], here: Sequence[bool]) -> list[float]:
    """What each term counts on this screen.

    A soft term counts half, and only where it stands. A term that the screen
    lacks counts no more than the mean of those it holds, so that one unusual
    verb does not outweigh everything that fits.
    """
    held = [term.weight for term, found in zip(terms, here, strict=True) if found and not term.soft]
    ceiling = sum(held) / len(held) if held else float("inf")
    return [
        (term.weight / 2 if found else 0.0)
        if term.soft
        else (term.weight if found else min(term.weight, ceiling))
        for term, found in zip(terms, here, strict=True)
    ]


def _places(screen: Screen, term: Term) -> list[int]:
    """The segments that hold a term."""
    return sorted({screen.homes[number] for key in term.keys for number in screen.keys.get(key, ())})


def _best(
    screen: Screen, segment: Segment, place: int, holders: Sequence[int], form: _Form, in_title: bool
) -> str:
    best = "title" if in_title else "nowhere"
    for holder in holders:
        relation = "same" if holder == place else _relation(segment, screen.segments[holder], form)
        if RELATIONS[relation] > RELATIONS[best]:
            best = relation
            if best == "same":
                break
    return best


def _relation(segment: Segment, holder: Segment, form: _Form) -> str:
    """Where a term's holder stands, seen from the segment."""
    height = max(1, form.heights[segment.row])
    if holder.row == segment.row:
        gap = max(segment.box[0] - holder.box[2], holder.box[0] - segment.box[2])
        return "row" if gap <= 60 * height and segment.row not in form.headers else "row-far"
    if holder.block == segment.block:
        return "paragraph"
    rows = segment.row - holder.row
    aligned = _aligned(segment, holder)
    gap = segment.box[1] - holder.box[3]
    if rows > 0 and aligned and gap <= 1.6 * height:
        return "label"
    if 0 < rows <= 60 and aligned and segment.row in form.tabular and holder.row in form.tabular:
        return "column"
    if rows > 0 and form.heights[holder.row] >= _HEADING_TIMES * height:
        return "heading"
    if abs(rows) <= 2 and gap <= 5 * height:
        return "near"
    return "around" if abs(rows) <= 5 else "screen"
