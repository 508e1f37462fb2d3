"""One screen as the scorer sees it: words under their matching keys, segments, surroundings.

Pure: built from an index row, holds no connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sterling.packs.recall.pixels.read import Box
from sterling.packs.recall.screen.lines import Segment
from sterling.packs.recall.search.words import Word, root, skeleton, stem, words_of

__all__ = ["Screen", "keys_of", "kin_of", "load_screen"]

_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Screen:
    """The text of one frame with its places. `surroundings` are the keys of titles, apps and addresses."""

    record: str
    state: str
    frame: str
    reading: str
    entry: int
    body: str
    segments: tuple[Segment, ...]
    spans: tuple[tuple[int, int, Box], ...]
    words: tuple[Word, ...] = ()
    homes: tuple[int, ...] = ()  # The segment of each word.
    keys: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # Key -> numbers of words.
    surroundings: frozenset[str] = frozenset()

    def text_of(self, segment: Segment) -> str:
        """The words of one segment."""
        return self.body[segment.start : segment.end]

    def boxes_of(self, start: int, end: int) -> list[Box]:
        """The boxes of the words that share characters with this span."""
        return [box for first, last, box in self.spans if first < end and last > start]

    def row_of(self, row: int) -> list[int]:
        """The numbers of the segments in a row, from the left."""
        return [number for number, segment in enumerate(self.segments) if segment.row == row]


def keys_of(word: str) -> tuple[str, ...]:
    """Every key under which a normal word matches: its stem, its skeleton, a number without grouping."""
    found = [stem(word)]
    flat = skeleton(word)
    if flat != word:
        found.append(stem(flat))
    if _GROUPED.fullmatch(word):
        found.append(word.replace(",", ""))
    return tuple(dict.fromkeys(found))


def kin_of(word: str) -> str:
    """The weaker key that a word shares with the words made from it."""
    return "~" + root(word)


def load_screen(row: Sequence[object], surroundings: Iterable[str]) -> Screen:
    """A screen from a row of `documents`: entry, record, state, frame, reading, body, places."""
    entry, record, state, frame, reading, body, places = row
    text = str(body)
    parsed = json.loads(str(places))
    segments = tuple(
        Segment(row_, block, (left, top, right, bottom), start, end, confidence)
        for row_, block, left, top, right, bottom, start, end, confidence in parsed["segments"]
    )
    spans = tuple((start, end, (a, b, c, d)) for start, end, a, b, c, d in parsed["spans"])
    words = tuple(words_of(text))
    ends = [segment.end for segment in segments]
    homes: list[int] = []
    place = 0
    for word in words:
        while place < len(ends) - 1 and word.start >= ends[place]:
            place += 1
        homes.append(place)
    keys: dict[str, list[int]] = {}
    for number, word in enumerate(words):
        for key in (*keys_of(word.normal), kin_of(word.normal)):
            keys.setdefault(key, []).append(number)
    around = {
        key
        for words_around in surroundings
        for word in words_of(words_around)
        for key in (*keys_of(word.normal), kin_of(word.normal))
    }
    return Screen(
        str(record),
        str(state),
        str(frame),
        str(reading),
        int(str(entry)),
        text,
        segments,
        spans,
        words,
        tuple(homes),
        {key: tuple(numbers) for key, numbers in keys.items()},
        frozenset(around),
    )
