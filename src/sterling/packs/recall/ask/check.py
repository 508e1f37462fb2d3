"""The second reading: the pixels of a claim, read once more in another way.

The cited run of words is cut out, enlarged further and read as one block of
text by the same engine in a worker of its own; the two readings are compared
word by word. It catches what depends on scale and segmentation. It does not
catch what the model itself always confuses; a second engine does, and takes
this place when it is there (ADR 7).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Source
from sterling.packs.recall.ask.cite import boxes_of
from sterling.packs.recall.ocr.agree import Agreement, agree
from sterling.packs.recall.ocr.language import find_language_folder
from sterling.packs.recall.ocr.reading import (
    ReadingSettings,
    load_reading,
    put_text,
    reading_inputs,
    second_look,
)
from sterling.packs.recall.pixels.read import Box
from sterling.packs.recall.search.index import RecallIndex
from sterling.packs.recall.search.screens import Screen

__all__ = ["Check", "Checker", "known_check"]

PLUGIN_ID = "ocr_tesseract"


@dataclass(frozen=True, slots=True)
class Check:
    """What a second reading says: agreed, single (there is none) or disagreed."""

    verdict: str
    agreement: str | None = None
    second: str = ""
    because: str = ""

    def as_json(self) -> dict[str, Json]:
        return {"verdict": self.verdict, "agreement": self.agreement, "second": self.second[:4000]}


SINGLE = Check("single")


def known_check(
    home: Home, index: RecallIndex, screen: Screen, spans: Sequence[tuple[int, int]]
) -> Check | None:
    """The newest comparison of these very pixels that is on record, or None."""
    boxes = str([list(box) for box in boxes_of(screen, spans)]).replace(" ", "")
    row = index.connection.execute(
        "SELECT record FROM checks WHERE frame = ? AND reading = ? AND boxes = ? ORDER BY entry DESC LIMIT 1",
        (screen.frame, screen.reading, boxes),
    ).fetchone()
    if row is None:
        return None
    record = home.records.get(str(row[0]))
    second = " ".join(pair["b"] for pair in record.document["tokens"] if pair["b"])
    return Check(str(record.document["verdict"]), record.id, second)


class Checker:
    """Reads cited pixels again, as an attended step: the person who asked is waiting."""

    def __init__(self, home: Home, run: str, step: str) -> None:
        self._home, self._run, self._step = home, run, step

    def check(self, screen: Screen, spans: Sequence[tuple[int, int]]) -> Check:
        """Read the runs of words that hold these spans once more and keep the comparison.

        An engine that is missing or fails gives `single` with the reason, never agreement.
        """
        regions = [
            segment.box
            for segment in screen.segments
            if any(start < segment.end and end > segment.start for start, end in spans)
        ]
        try:
            return self._compare(screen, spans, regions)
        except SterlingError as problem:
            return Check("single", because=f"{problem.code}: {problem.message}")

    def _compare(self, screen: Screen, spans: Sequence[tuple[int, int]], regions: Sequence[Box]) -> Check:
        from sterling.runtime.engine import Task
        from sterling.runtime.engine_local import LocalEngine
        from sterling.runtime.registry import load_registry

        frame = self._home.records.get(screen.frame)
        heights = sorted(box[3] - box[1] for box in regions)
        settings = second_look(heights[len(heights) // 2])
        folder = find_language_folder(settings.languages)
        plugin = load_registry("recall").get("recall", PLUGIN_ID)
        with tempfile.TemporaryDirectory(prefix="sterling-check-") as scratch, LocalEngine(1) as engine:
            task = Task(
                key=f"check/{screen.frame}",
                plugin=plugin,
                provider="sterling.packs.recall.provider",
                inputs=reading_inputs(self._home, frame, folder, regions),
                settings=settings.as_json(),
                out_dir=Path(scratch) / "out",
            )
            (end,) = engine.run([task])
            if end.end != "returned":
                return Check("single", because=f"{end.reason or end.end}: {end.message}")
            size = (int(frame.document["width"]), int(frame.document["height"]))
            reading = load_reading(task.out_dir / "reading.json", *size)
        return self._keep(screen, spans, regions, reading, settings, f"{plugin.id}@{plugin.version}")

    def _keep(
        self,
        screen: Screen,
        spans: Sequence[tuple[int, int]],
        regions: Sequence[Box],
        reading: dict[str, Json],
        settings: ReadingSettings,
        plugin: str,
    ) -> Check:
        first = _whole_words(screen, spans)
        agreement = agree(first, [str(token["text"]) for token in reading["tokens"]])
        batch = Batch(run=self._run, step=self._step)
        text = put_text(self._home, batch, screen.frame, reading, settings, plugin=plugin, regions=regions)
        document = _document(screen, spans, text.id, agreement)
        sources = [
            Source("frame", record=screen.frame),
            Source("first", record=screen.reading),
            Source("second", record=text.id),
        ]
        ref = self._home.records.put(batch, "recall.agreement", document, sources)
        self._home.ledger.commit(batch)
        second = " ".join(pair.second for pair in agreement.pairs if pair.second)
        return Check("agreed" if agreement.agreed else "disagreed", ref.id, second)


def _whole_words(screen: Screen, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The words that these characters belong to: a reading is of words, a claim may be a part of one."""
    return [
        screen.body[first:last]
        for first, last, _ in screen.spans
        if any(start < last and end > first for start, end in spans)
    ]


def _document(
    screen: Screen, spans: Sequence[tuple[int, int]], second: str, agreement: Agreement
) -> dict[str, Json]:
    return {
        "frame": screen.frame,
        "a": screen.reading,
        "b": second,
        "boxes": [list(box) for box in boxes_of(screen, spans)],
        "verdict": "agreed" if agreement.agreed else "disagreed",
        "tokens": [{"a": pair.first, "b": pair.second, "verdict": pair.verdict} for pair in agreement.pairs],
    }
