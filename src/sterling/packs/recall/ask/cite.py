"""Citations: from a claim's characters to the frame, the look, the reading and their hashes.

A citation is made from the records themselves, read and checked again, never
from the index alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from sterling.kernel.canonical import Json
from sterling.kernel.home import Home
from sterling.packs.recall.ask.extract import Candidate
from sterling.packs.recall.ask.retrieve import Sighting
from sterling.packs.recall.pixels.read import Box
from sterling.packs.recall.screen.lines import union
from sterling.packs.recall.search.screens import Screen

__all__ = ["boxes_of", "cite", "line_of", "quote_of"]


def cite(home: Home, screen: Screen, spans: Sequence[tuple[int, int]], sighting: Sighting) -> dict[str, Json]:
    """The citation of these characters of a screen, as one look showed it.

    Errors: whatever reading the records raises: an altered record is never cited.
    """
    state_text = home.records.get(screen.record)
    text = home.records.get(screen.reading)
    frame = home.records.get(screen.frame)
    return {
        "frame": frame.id,
        "frame_record_hash": frame.hash,
        "frame_hash": frame.document["frame_hash"],
        "tick": sighting.tick,
        "tick_entry": sighting.entry,
        "at_us": sighting.at_us,
        "app": sighting.app,
        "title": sighting.title,
        "text": text.id,
        "text_hash": text.hash,
        "state": screen.state,
        "state_text": state_text.id,
        "state_text_hash": state_text.hash,
        "engine": f"{text.document['engine']} {text.document['engine_version']}",
        "models": [model["sha256"] for model in text.document["models"]],
        "spans": [list(span) for span in spans],
        "quote": quote_of(str(state_text.document["text"]), spans),
        "boxes": [list(box) for box in boxes_of(screen, spans)],
        "entry": state_text.entry,
    }


def quote_of(text: str, spans: Sequence[Sequence[int]]) -> str:
    """The cited characters, spans joined by a space."""
    return " ".join(text[start:end] for start, end in spans)


def boxes_of(screen: Screen, spans: Sequence[tuple[int, int]]) -> list[Box]:
    """One box for each span: around the words that share characters with it."""
    return [union(boxes) for start, end in spans if (boxes := screen.boxes_of(start, end))]


def line_of(candidate: Candidate) -> str:
    """The row a candidate stands in, as a person would read it."""
    screen = candidate.screen
    row = screen.segments[candidate.segment].row
    words = [screen.text_of(screen.segments[number]) for number in screen.row_of(row)]
    return "  ".join(words)[:4000]
