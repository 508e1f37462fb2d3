"""A worker's reading into records: judged first, then text, state and state text in one batch.

A reading counts only if its engine read the known picture rightly and every word
lies inside what it was told to read. An empty list of words is a fact; a missing
or odd list is a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Record, RecordRef, Source
from sterling.packs.recall.pixels.read import Box
from sterling.packs.recall.screen.lines import SCREEN_VERSION, StateText, Token, arrange
from sterling.packs.recall.search.words import NORMALIZER

__all__ = [
    "FULL_FRAME",
    "KNOWN_WORDS",
    "EngineBlind",
    "ReadingInvalid",
    "ReadingSettings",
    "further_looks",
    "load_reading",
    "put_state",
    "put_text",
    "reading_inputs",
    "tokens_of",
]

KNOWN_WORDS = "STERLING 4827"
_READING_BYTES_MAX = 64 * 1024 * 1024
_ABSENT = (
    ("elements", "These rules find no window parts."),
    ("tables", "These rules find rows and cells, not tables."),
    ("code", "These rules do not tell code from prose."),
    ("charts", "These rules read no charts."),
    ("cursor", "Files that somebody else made say nothing about the cursor."),
)


class EngineBlind(SterlingError):
    """The engine ran but could not read a picture whose words are known."""

    code = "recall.engine-blind"
    hint = "Run `apt-get install --reinstall tesseract-ocr-eng`, then `sterling drain --force`."
    exit = EXIT_CANNOT_JUDGE


class ReadingInvalid(SterlingError):
    """What the worker left is not a reading."""

    code = "recall.reading-invalid"
    hint = "Run `sterling drain --force` again; if it repeats, look at `sterling run list`."


@dataclass(frozen=True, slots=True)
class ReadingSettings:
    """How a picture is read. Other settings are another reading."""

    languages: tuple[str, ...]
    scale_bp: int
    layout: str

    def as_json(self) -> dict[str, Json]:
        """The plugin's settings."""
        return {"languages": list(self.languages), "scale_bp": self.scale_bp, "layout": self.layout}


FULL_FRAME = ReadingSettings(("eng",), 15_000, "sparse")
_LOOK_HEIGHTS = (32, 24)  # Pixels that a line of text has in a further look, whatever it had on the screen.


def further_looks(height: int) -> tuple[ReadingSettings, ...]:
    """How pixels with lines of this height are read again: each time in a size of its own."""
    scales_bp = [FULL_FRAME.scale_bp]
    for wanted in _LOOK_HEIGHTS:
        scale_bp = min(40_000, max(10_000, wanted * 10_000 // max(1, height)))
        while any(abs(scale_bp - other) < other // 6 for other in scales_bp):
            scale_bp = scale_bp * 5 // 4
        scales_bp.append(scale_bp)
    return tuple(ReadingSettings(FULL_FRAME.languages, scale_bp, "block") for scale_bp in scales_bp[1:])


def reading_inputs(home: Home, frame: Record, folder: Path, regions: Sequence[Box] = ()) -> dict[str, Json]:
    """What the worker is told: which blobs, which parts of the picture, where the language data lies."""
    return {
        "blobs": str(home.blobs.root.resolve()),
        "manifest": frame.document["manifest"],
        "frame_hash": frame.document["frame_hash"],
        "regions": [list(box) for box in regions],
        "language_folder": str(folder),
        "known_words": KNOWN_WORDS,
    }


def load_reading(path: Path, width: int, height: int) -> dict[str, Json]:
    """The reading a worker left for a frame of this size.

    Errors: ReadingInvalid, EngineBlind.
    """
    try:
        if path.stat().st_size > _READING_BYTES_MAX:
            raise ReadingInvalid(f"expected at most {_READING_BYTES_MAX} bytes, found more")
        reading = json.loads(path.read_text(encoding="ascii"))
        probe = reading["probe"]
        if _letters(probe["read"]) != _letters(probe["expected"]) or probe["expected"] != KNOWN_WORDS:
            raise EngineBlind(
                f"expected the engine to read {KNOWN_WORDS!r}, found {str(probe['read'])[:80]!r}",
                engine=str(reading["engine"]),
            )
        for token in reading["tokens"]:
            left, top, right, bottom = token["box"]
            if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                raise ReadingInvalid(f"expected a box inside {width} x {height}, found {token['box']}")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ReadingInvalid(f"expected a reading, found: {type(problem).__name__} {problem}") from problem
    assert isinstance(reading, dict)
    return reading


def put_text(
    home: Home,
    batch: Batch,
    frame: str,
    reading: dict[str, Json],
    settings: ReadingSettings,
    *,
    plugin: str,
    regions: Sequence[Box] = (),
) -> RecordRef:
    """Add the `recall.text` record of a reading to a batch."""
    names = ("text", "box", "confidence_bp", "line", "block")
    document = {
        "frame": frame,
        "scope": "regions" if regions else "frame",
        "regions": [list(box) for box in regions],
        "lane": "ocr",
        "engine": reading["engine"],
        "engine_version": reading["engine_version"],
        "plugin": plugin,
        "models": reading["models"],
        "languages": list(settings.languages),
        "settings": {"scale_bp": settings.scale_bp, "layout": settings.layout},
        "known": {"expected": reading["probe"]["expected"], "read": reading["probe"]["read"]},
        "tokens": [{name: token[name] for name in names} for token in reading["tokens"]],
        "normalizer": NORMALIZER,
    }
    return home.records.put(batch, "recall.text", document, [Source("frame", record=frame)])


def tokens_of(document: dict[str, Json]) -> list[Token]:
    """The tokens of a `recall.text` document."""
    return [
        Token(
            str(token["text"]),
            (token["box"][0], token["box"][1], token["box"][2], token["box"][3]),
            int(token["confidence_bp"]),
            int(token["line"]),
            int(token["block"]),
        )
        for token in document["tokens"]
    ]


def put_state(home: Home, batch: Batch, frame: str, text: str, tokens: Sequence[Token]) -> RecordRef:
    """Add the state and the state text that these tokens give to a batch; returns the state text."""
    arranged = arrange(tokens)
    state = home.records.put(
        batch,
        "recall.state",
        state_document(frame, text, arranged),
        [Source("frame", record=frame), Source("text", record=text)],
    )
    document = {
        "state": state.id,
        "text": arranged.text,
        "spans": [[start, end, *box] for start, end, box in arranged.spans],
    }
    sources = [Source("state", record=state.id), Source("text", record=text)]
    return home.records.put(batch, "recall.state-text", document, sources)


def state_document(frame: str, text: str, arranged: StateText) -> dict[str, Json]:
    """The `recall.state` document of an arranged text."""
    return {
        "frame": frame,
        "text": text,
        "screen": SCREEN_VERSION,
        "lines": [
            {
                "row": segment.row,
                "block": segment.block,
                "box": list(segment.box),
                "start": segment.start,
                "end": segment.end,
                "confidence_bp": segment.confidence_bp,
            }
            for segment in arranged.segments
        ],
        "absent": [{"part": part, "because": because} for part, because in _ABSENT],
    }


def _letters(text: str) -> str:
    return "".join(letter for letter in str(text).casefold() if letter.isalnum())
