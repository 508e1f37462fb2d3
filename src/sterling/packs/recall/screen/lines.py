"""Reading order: tokens of one frame become segments, rows, blocks and one searchable text.

A *segment* is a run of words without a wide gap: a sentence part, a label, a
cell. Segments whose heights overlap by half form a *row*. A *block* is a
paragraph: long lines under each other with one left edge. The text holds rows
from the top, segments of a row from the left with two spaces between them, and
a map from every word's characters to its box.

Pure: tokens in, text and places out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sterling.packs.recall.pixels.read import Box

__all__ = ["SCREEN_VERSION", "Segment", "StateText", "Token", "arrange", "union"]

SCREEN_VERSION = "lines/1"
_GAP_HEIGHTS = 1.7  # A gap wider than this many line heights parts two segments.
_ROW_OVERLAP = 0.5
_PARAGRAPH_HEIGHTS = 18  # A line at least this many heights wide may go on in the next one.
_PLAIN_WORD = re.compile(r"[(\"'“‘]?[^\W\d_]+(?:['’-][^\W\d_]+)*[,.;)!?\"'”’]*")
_COLUMN_ROWS = 8  # Rows above and below that tell how wide a column is.
_BROKEN_SHARE = 0.6  # Of the column's width, where the next line begins with a small letter.
_FULL_SHARE = 0.92  # Where it does not.


@dataclass(frozen=True, slots=True)
class Token:
    """One word as an engine read it: where it is and how sure the engine was."""

    text: str
    box: Box
    confidence_bp: int
    line: int
    block: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of words: its row, its block, its box, and its place in the text."""

    row: int
    block: int
    box: Box
    start: int
    end: int
    confidence_bp: int


@dataclass(frozen=True, slots=True)
class StateText:
    """All words of a frame in reading order; `spans` gives (start, end, box) of every word."""

    text: str
    segments: tuple[Segment, ...]
    spans: tuple[tuple[int, int, Box], ...]


@dataclass(slots=True)
class _Run:
    tokens: list[Token]
    box: Box

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]


def arrange(tokens: Sequence[Token]) -> StateText:
    """The state text of one frame. Tokens may come in any order; the result does not depend on it."""
    rows = _rows(_runs(tokens))
    blocks = _blocks(rows)
    pieces: list[str] = []
    segments: list[Segment] = []
    spans: list[tuple[int, int, Box]] = []
    position = 0
    for number, row in enumerate(rows):
        for place, run in enumerate(row):
            if place:
                pieces.append("  ")
                position += 2
            start = position
            for order, token in enumerate(run.tokens):
                if order:
                    pieces.append(" ")
                    position += 1
                pieces.append(token.text)
                spans.append((position, position + len(token.text), token.box))
                position += len(token.text)
            confidence = sum(token.confidence_bp for token in run.tokens) // len(run.tokens)
            segments.append(Segment(number, blocks[id(run)], run.box, start, position, confidence))
        pieces.append("\n")
        position += 1
    return StateText("".join(pieces), tuple(segments), tuple(spans))


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around these boxes."""
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )


def _runs(tokens: Sequence[Token]) -> list[_Run]:
    """The engine's own lines, cut wherever the space between two words is wide."""
    lines: dict[tuple[int, int], list[Token]] = {}
    for token in sorted(tokens, key=lambda token: (token.block, token.line, token.box, token.text)):
        lines.setdefault((token.block, token.line), []).append(token)
    runs: list[_Run] = []
    for line in lines.values():
        line.sort(key=lambda token: (token.box[0], token.box[1], token.text))
        heights = sorted(token.box[3] - token.box[1] for token in line)
        wide = max(8.0, heights[len(heights) // 2] * _GAP_HEIGHTS)
        run: list[Token] = [line[0]]
        for token in line[1:]:
            if token.box[0] - run[-1].box[2] > wide:
                runs.append(_Run(run, union([item.box for item in run])))
                run = []
            run.append(token)
        runs.append(_Run(run, union([item.box for item in run])))
    return _joined(runs)


def _joined(runs: list[_Run]) -> list[_Run]:
    """Join runs that an engine cut in the middle of a line: same height, a word space apart."""
    runs.sort(key=lambda run: (run.box[0], run.box[1], run.box))
    joined: list[_Run] = []
    for run in runs:
        near = [
            other
            for other in joined
            if _overlap(other.box, run.box) >= 0.7
            and 0 <= run.box[0] - other.box[2] <= 0.55 * min(other.height, run.height)
        ]
        if near:
            other = max(near, key=lambda item: (item.box[2], item.box))
            other.tokens += run.tokens
            other.box = union([other.box, run.box])
        else:
            joined.append(run)
    return joined


def _rows(runs: list[_Run]) -> list[list[_Run]]:
    runs.sort(key=lambda run: (run.box[1] + run.box[3], run.box))
    rows: list[list[_Run]] = []
    for run in runs:
        fitting = [
            row for row in rows[-6:] if min(_overlap(other.box, run.box) for other in row) >= _ROW_OVERLAP
        ]
        if fitting:
            fitting[-1].append(run)
        else:
            rows.append([run])
    rows.sort(key=lambda row: (min(run.box[1] + run.box[3] for run in row), row[0].box))
    for row in rows:
        row.sort(key=lambda run: run.box)
    return rows


def _blocks(rows: list[list[_Run]]) -> dict[int, int]:
    """A number for each run; a long line and the line right under it share one."""
    numbers: dict[int, int] = {}
    above: list[_Run] = []
    fresh = 0
    for place, row in enumerate(rows):
        around = [run for near in rows[max(0, place - _COLUMN_ROWS) : place + _COLUMN_ROWS] for run in near]
        for run in row:
            joins = [
                other for other in above if _flows(other, run, around) and not _has_cells(other, run, row)
            ]
            if joins:
                numbers[id(run)] = numbers[id(joins[0])]
            else:
                numbers[id(run)] = fresh
                fresh += 1
        above = [*row, *(run for run in above if run.box[3] > max(item.box[1] for item in row))]
    return numbers


def _has_cells(upper: _Run, lower: _Run, row: list[_Run]) -> bool:
    """Whether the lower line is a row of cells under the upper one."""
    short = lower.box[2] - lower.box[0] < 0.6 * (upper.box[2] - upper.box[0])
    alone = lower.tokens[0].text[:1].islower()
    return any(
        lower.box[2] < run.box[0] and (run.box[0] < upper.box[2] or (short and not alone)) for run in row
    )


def _flows(upper: _Run, lower: _Run, around: Sequence[_Run]) -> bool:
    """Whether a line goes on in the one under it: it is long, and it was broken where its column ends."""
    height = max(1, min(upper.height, lower.height))
    width = upper.box[2] - upper.box[0]
    aligned = abs(upper.box[0] - lower.box[0]) <= height
    gap = lower.box[1] - upper.box[3]
    close = -height // 2 <= gap <= height and upper.height <= 2 * lower.height
    if width < _PARAGRAPH_HEIGHTS * height or not aligned or not close:
        return False
    column = max(run.box[2] - run.box[0] for run in around if abs(run.box[0] - upper.box[0]) <= height)
    if not _PLAIN_WORD.fullmatch(lower.tokens[0].text):
        return False  # A prompt, a label or a figure begins something of its own.
    goes_on = lower.tokens[0].text[:1].islower()
    return width >= (_BROKEN_SHARE if goes_on else _FULL_SHARE) * column


def _overlap(one: Box, other: Box) -> float:
    """How much two boxes share in height, as a share of the smaller height."""
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return shared / max(1, min(one[3] - one[1], other[3] - other[1]))
