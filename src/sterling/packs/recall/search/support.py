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

__all__ = ["HELD_LEAST", "RELATIONS", "Support", "Term", "rarity", "supports"]

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
_ISLAND_HEIGHTS = 60  # A gap this wide inside a row parts two windows beside each other.
_HEADING_TIMES = 1.3  # A word this much taller, above a place, heads it.
_IDF_LEAST = 0.35
HELD_LEAST = 0.72  # Less of the question than this on a screen, and the screen is about something else.


@dataclass(frozen=True, slots=True)
class Term:
    """A word to look for; one that `must` stand on the screen, or a `soft` one that counts only there."""

    text: str
    keys: tuple[str, ...]
    weight: float
    must: bool = False
    soft: bool = False
    follows: bool = False  # Right behind the term before it, as in one name.


@dataclass(frozen=True, slots=True)
class Support:
    """How one segment is supported: share of rarity covered, where each term was found, what is lacking."""

    segment: int
    share: float
    relations: tuple[str, ...]
    lacking: tuple[str, ...]


def rarity(found: int, total: int) -> float:
    """The weight of a term that `found` of `total` screens hold; never below a floor."""
    return max(_IDF_LEAST, math.log(1 + (total - found + 0.5) / (found + 0.5)))


def supports(screen: Screen, terms: Sequence[Term]) -> list[Support]:
    """The support of every segment of a screen, in order."""
    places = [_places(screen, term) for term in terms]
    titled = [any(key in screen.surroundings for key in term.keys) for term in terms]
    here = [bool(segments) or in_title for segments, in_title in zip(places, titled, strict=True)]
    weights, total = _weights(terms, here)
    lacking = tuple(
        term.text
        for number, (term, held) in enumerate(zip(terms, here, strict=True))
        if term.must and (not held or _is_broken(terms, here, number))
    )
    if _held_share(terms, here) < HELD_LEAST:
        lacking = lacking or tuple(term.text for term, held in zip(terms, here, strict=True) if not held)
    form = _Form.of(screen)
    found: list[Support] = []
    for place, segment in enumerate(screen.segments):
        relations = tuple(
            _best(screen, segment, place, segments, form, in_title)
            for segments, in_title in zip(places, titled, strict=True)
        )
        pairs = zip(weights, relations, strict=True)
        covered = sum(weight * RELATIONS[relation] for weight, relation in pairs) / 10_000
        found.append(Support(place, covered / total, relations, lacking))
    return found


def _held_share(terms: Sequence[Term], here: Sequence[bool]) -> float:
    """How much of the question's rarity stands on the screen at all, soft words left out."""
    pairs = [(term.weight, held) for term, held in zip(terms, here, strict=True) if not term.soft]
    total = sum(weight for weight, _ in pairs)
    return sum(weight for weight, held in pairs if held) / total if total else 1.0


def _weights(terms: Sequence[Term], here: Sequence[bool]) -> tuple[list[float], float]:
    """What each term counts on this screen, and what all of them could count.

    A soft term counts half, and only where it stands. A term that the screen
    lacks counts no more than the rarest of those it holds. A term whose
    neighbour in the question is lacking counts half: half of a name is not it.
    """
    held = [term.weight for term, found in zip(terms, here, strict=True) if found and not term.soft]
    ceiling = max(held, default=float("inf"))
    counts, total = [], 0.0
    for number, (term, found) in enumerate(zip(terms, here, strict=True)):
        if term.soft:
            counts.append(term.weight / 2 if found else 0.0)
            total += counts[-1]
            continue
        total += term.weight if found else min(term.weight, ceiling)
        counts.append((term.weight / 2 if _is_broken(terms, here, number) else term.weight) if found else 0.0)
    return counts, total or 1.0


def _is_broken(terms: Sequence[Term], here: Sequence[bool], number: int) -> bool:
    """Whether a term stands on the screen without the neighbour it forms a name with."""
    before = terms[number].follows and number > 0 and not terms[number - 1].soft and not here[number - 1]
    after = (
        number + 1 < len(terms)
        and terms[number + 1].follows
        and not terms[number + 1].soft
        and not here[number + 1]
    )
    return before or after


@dataclass(frozen=True, slots=True)
class _Form:
    """What rows are like: which have cells, which head the row under them, how tall they are."""

    tabular: frozenset[int]
    headers: frozenset[int]
    tops: dict[int, int]  # Row of cells -> the row that heads it.
    heights: dict[int, int]
    islands: dict[int, int]  # Start of a segment -> its part of the row; parts are far from each other.

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
        islands = {
            start: part for row, items in rows.items() for start, part in _islands(items, heights[row])
        }
        return _Form(tabular, headers, _tops(sorted(tabular), headers), heights, islands)


def _tops(tabular: Sequence[int], headers: frozenset[int]) -> dict[int, int]:
    """For each row of cells the row that heads it: the nearest header above, else the first of its run."""
    found: dict[int, int] = {}
    top = before = -2
    for row in tabular:
        if row != before + 1 or row in headers:
            top = row
        found[row] = top
        before = row
    return found


def _islands(row: Sequence[Segment], height: int) -> list[tuple[int, int]]:
    """The parts of a row between very wide gaps, as (start of segment, number of part)."""
    found: list[tuple[int, int]] = []
    part, right = 0, row[0].box[2]
    for segment in row:
        if segment.box[0] - right > _ISLAND_HEIGHTS * height:
            part += 1
        right = max(right, segment.box[2])
        found.append((segment.start, part))
    return found


def _heads(screen: Screen, upper: Sequence[Segment], lower: Sequence[Segment]) -> bool:
    """Whether a row of words stands over a row with more figures, cell above cell."""
    aligned = sum(any(_aligned(one, other) for other in upper) for one in lower)
    above, below = _figures(screen, upper), _figures(screen, lower)
    return aligned >= 2 and above <= 0.25 and below >= above + 0.3 and (aligned >= 3 or below == 1.0)


def _figures(screen: Screen, row: Sequence[Segment]) -> float:
    return sum(any(letter.isdigit() for letter in screen.text_of(item)) for item in row) / len(row)


def _aligned(one: Segment, other: Segment) -> bool:
    beside = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    narrower = max(1, min(one.box[2] - one.box[0], other.box[2] - other.box[0]))
    return beside >= narrower // 2 or abs(one.box[0] - other.box[0]) <= one.box[3] - one.box[1]


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
        together = form.islands[segment.start] == form.islands[holder.start]
        return "row" if together and segment.row not in form.headers else "row-far"
    if holder.block == segment.block:
        return "paragraph"
    rows = segment.row - holder.row
    gap = segment.box[1] - holder.box[3]
    if rows > 0 and _aligned(segment, holder):
        cells = segment.row in form.tabular and holder.row in form.tabular
        if not cells and gap <= 1.6 * height:
            return "label"
        if cells and form.tops.get(segment.row) == holder.row:
            return "label" if gap <= 1.6 * height else "column"
    if rows > 0 and form.heights[holder.row] >= _HEADING_TIMES * height:
        return "heading"
    if abs(rows) <= 2 and gap <= 5 * height:
        return "near"
    return "around" if abs(rows) <= 5 else "screen"
