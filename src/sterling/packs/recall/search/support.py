"""How well a place on a screen is supported by the words of a question.

Every term counts with its rarity times the best of its distances to the place:
in the same run of words, beside it, in the same row, above it in the same column, right
above it, in the same paragraph, in a larger line over it, near, elsewhere on the
screen, in the title.
The support is the share of the question's rarity that is covered this way.

Pure, deterministic, no learnt weight: the table below is the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sterling.packs.recall.screen.lines import Segment
from sterling.packs.recall.search.screens import Screen

__all__ = ["HELD_LEAST", "RELATIONS", "Ground", "Support", "Term", "ground", "rarity", "supports"]

# How much a term counts at a place, by where it stands from there; in basis points.
RELATIONS = {
    "same": 10_000,
    "beside": 9_400,
    "row": 9_000,
    "paragraph": 9_000,
    "label": 8_800,
    "column": 8_500,
    "section": 8_000,
    "title": 7_500,
    "heading": 7_000,
    "near": 6_500,
    "row-far": 5_600,
    "around": 5_600,
    "screen": 5_000,
    "nowhere": 0,
}
_ISLAND_HEIGHTS = 110  # A gap this wide inside a row parts two windows beside each other.
_WEAK_BP = 8_500
_LABEL_HEIGHTS = 22  # What stands over a value and is wider than this is a sentence, not its label.
_TOPIC_PLACES = 2
_HEADING_TIMES = 1.3  # A word this much taller, above a place, heads it.
_IDF_LEAST = 0.35
HELD_LEAST = 0.72  # Less of the question than this on a screen, and the screen is about something else.


@dataclass(frozen=True, slots=True)
class Term:
    """A word to look for; one that `must` stand on the screen, or a `soft` one that counts only there."""

    text: str
    keys: tuple[str, ...]  # Forms of the word itself and of words that mean the same.
    weight: float
    must: bool = False
    soft: bool = False
    follows: bool = False  # Right behind the term before it, as in one name.
    weak: tuple[str, ...] = ()  # Words made from it and abbreviations, which count less.


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


@dataclass(frozen=True, slots=True)
class Ground:
    """Where every term stands, seen from every segment of a screen, and what it counts."""

    weights: tuple[float, ...]
    total: float
    lacking: tuple[str, ...]
    near: tuple[tuple[tuple[str, float], ...], ...]  # Segment, then term: relation and its value.

    def support(self, segment: int, near: Sequence[tuple[str, float]] | None = None) -> Support:
        """The support of a segment, or of a place in it whose nearness is given."""
        found = self.near[segment] if near is None else near
        covered = sum(weight * value for weight, (_, value) in zip(self.weights, found, strict=True)) / 10_000
        return Support(segment, covered / self.total, tuple(relation for relation, _ in found), self.lacking)


def ground(screen: Screen, terms: Sequence[Term]) -> Ground:
    """Look from every segment of a screen for every term."""
    places = [_places(screen, term.keys) for term in terms]
    kin = [_places(screen, term.weak) for term in terms]
    titled = [any(key in screen.surroundings for key in (*term.keys, *term.weak)) for term in terms]
    here = [any(found) for found in zip(places, kin, titled, strict=True)]
    weights, total = _weights(terms, here)
    lacking = tuple(
        term.text
        for number, (term, held) in enumerate(zip(terms, here, strict=True))
        if term.must and (not held or _is_broken(terms, here, number))
    )
    if _held_share(terms, here) < HELD_LEAST:
        lacking = lacking or tuple(term.text for term, held in zip(terms, here, strict=True) if not held)
    form = _Form.of(screen)
    known = [
        in_title or _is_topic(screen, form, segments)
        for segments, in_title in zip(places, titled, strict=True)
    ]
    near = tuple(
        tuple(
            _nearer(
                _best(screen, segment, place, segments, form, is_known),
                _best(screen, segment, place, related, form, False),
            )
            for segments, related, is_known in zip(places, kin, known, strict=True)
        )
        for place, segment in enumerate(screen.segments)
    )
    return Ground(tuple(weights), total, lacking, near)


def supports(screen: Screen, terms: Sequence[Term]) -> list[Support]:
    """The support of every segment of a screen, in order."""
    found = ground(screen, terms)
    return [found.support(place) for place in range(len(screen.segments))]


def _is_topic(screen: Screen, form: _Form, holders: Sequence[int]) -> bool:
    """Whether a screen is about a term: it stands in several places, or in a larger line."""
    if len(holders) >= _TOPIC_PLACES:
        return True
    usual = sorted(form.heights.values())[len(form.heights) // 2]
    return any(form.heights[screen.segments[holder].row] >= _HEADING_TIMES * usual for holder in holders)


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
    """What rows are like: which have cells, which row heads each of them, how tall they are."""

    tabular: frozenset[int]
    headers: frozenset[int]
    heads: dict[int, int]  # Start of a cell -> start of the cell that heads its column.
    sections: dict[int, int]  # Row of cells -> the single line right over its run.
    heights: dict[int, int]
    follows: dict[int, int]  # Start of a cell -> start of the cell on its left.
    islands: dict[int, int]  # Start of a segment -> its part of the row; parts are far from each other.

    @staticmethod
    def of(screen: Screen) -> _Form:
        rows: dict[int, list[Segment]] = {}
        for segment in screen.segments:
            rows.setdefault(segment.row, []).append(segment)
        heights = {row: max(item.box[3] - item.box[1] for item in items) for row, items in rows.items()}
        tabular = frozenset(row for row, items in rows.items() if len(items) >= 2)
        heads: dict[int, int] = {}
        headers: set[int] = set()
        sections: dict[int, int] = {}
        for run in _runs_of(sorted(tabular)):
            found = _header_rows(screen, rows, run)
            headers |= found
            for row in run:
                top = max((head for head in found if head < row), default=run[0])
                if top != row:
                    heads |= _heads_of(rows[row], rows[top])
                if run[0] - 1 in rows:
                    sections[row] = run[0] - 1
        islands = {
            start: part for row, items in rows.items() for start, part in _islands(items, heights[row])
        }
        follows = {cell.start: before.start for items in rows.values() for before, cell in pairwise(items)}
        return _Form(tabular, frozenset(headers), heads, sections, heights, follows, islands)


def _runs_of(rows: Sequence[int]) -> list[list[int]]:
    """Rows that follow each other without a gap."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and runs[-1][-1] == row - 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _header_rows(screen: Screen, rows: Mapping[int, list[Segment]], run: Sequence[int]) -> set[int]:
    """The rows that head at least two columns of figures under them."""
    columns: dict[int, set[int]] = {}
    for place, row in enumerate(run):
        for cell in rows[row]:
            if not _is_figure(screen, cell):
                continue
            for above in reversed(run[:place]):
                head = _cell_above(cell, rows[above])
                if head is not None and not _is_figure(screen, head):
                    columns.setdefault(above, set()).add(head.start)
                    break
    return {row for row, heads in columns.items() if len(heads) >= 2}


def _heads_of(cells: Sequence[Segment], header: Sequence[Segment]) -> dict[int, int]:
    pairs = [(cell.start, _cell_above(cell, header)) for cell in cells]
    return {start: head.start for start, head in pairs if head is not None}


def _cell_above(cell: Segment, above: Sequence[Segment]) -> Segment | None:
    """The cell of another row that stands over this one: overlapping it, else beginning the same column."""
    for other in above:
        if _aligned(cell, other):
            return other
    slack = cell.box[3] - cell.box[1]
    for place, other in enumerate(above):
        end = above[place + 1].box[0] if place + 1 < len(above) else cell.box[2]
        if other.box[0] - slack <= cell.box[0] and cell.box[2] <= end + slack:
            return other
    return None


def _is_figure(screen: Screen, segment: Segment) -> bool:
    """Whether a cell begins with a figure."""
    text = screen.text_of(segment).lstrip("+-−$€£¥(~<>≈ ")
    return text[:1].isdigit()


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


def _aligned(one: Segment, other: Segment) -> bool:
    beside = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    narrower = max(1, min(one.box[2] - one.box[0], other.box[2] - other.box[0]))
    return beside >= narrower // 2 or abs(one.box[0] - other.box[0]) <= one.box[3] - one.box[1]


def _places(screen: Screen, keys: Sequence[str]) -> list[int]:
    """The segments that hold a word under one of these keys."""
    return sorted({screen.homes[number] for key in keys for number in screen.keys.get(key, ())})


def _nearer(strong: str, weak: str) -> tuple[str, float]:
    """The better of two relations and what it counts; one of a related word counts a part."""
    value = RELATIONS[weak] * _WEAK_BP / 10_000
    return (weak, value) if value > RELATIONS[strong] else (strong, RELATIONS[strong])


def _best(
    screen: Screen, segment: Segment, place: int, holders: Sequence[int], form: _Form, is_known: bool
) -> str:
    best = "title" if is_known else "nowhere"
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
        if not together or segment.row in form.headers:
            return "row-far"
        return "beside" if form.follows.get(segment.start) == holder.start else "row"
    if holder.block == segment.block:
        return "paragraph"
    rows = segment.row - holder.row
    gap = segment.box[1] - holder.box[3]
    if rows > 0:
        if form.heads.get(segment.start) == holder.start:
            return "label" if gap <= 1.6 * height else "column"
        cells = segment.row in form.tabular and holder.row in form.tabular
        short = holder.box[2] - holder.box[0] <= _LABEL_HEIGHTS * height
        if not cells and short and gap <= 1.6 * height and _aligned(segment, holder):
            return "label"
        if form.sections.get(segment.row) == holder.row:
            return "section"
    if rows > 0 and form.heights[holder.row] >= _HEADING_TIMES * height:
        return "heading"
    if abs(rows) <= 2 and gap <= 5 * height:
        return "near"
    return "around" if abs(rows) <= 5 else "screen"
