"""The second reading: the pixels of a claim, read again in another way.

The cited run of words is cut out, brought to another size and read as one block
of text by the same engine in a worker of its own; the two readings are compared
word by word. Where they differ, a third look in a third size decides: a claim
stands if two of three readings agree, and the one that differs is named. It
catches what depends on size and segmentation. It does not catch what the model
itself always confuses; a second engine does, and takes this place when it is
there (ADR 7).
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
    further_looks,
    load_reading,
    put_text,
    reading_inputs,
)
from sterling.packs.recall.pixels.read import Box
from sterling.packs.recall.search.index import RecallIndex
from sterling.packs.recall.search.screens import Screen

__all__ = ["Check", "Checker", "known_check"]

PLUGIN_ID = "ocr_tesseract"


class LookFailed(SterlingError):
    """A further look at cited pixels gave no reading."""

    code = "recall.look-failed"
    hint = "Ask again; if it repeats, run `sterling drain --force` and look at what fails."


@dataclass(frozen=True, slots=True)
class Check:
    """What further readings say: agreed, single (there is none) or disagreed.

    `agreement` is the comparison that decides, `against` those that say otherwise.
    """

    verdict: str
    agreement: str | None = None
    against: tuple[str, ...] = ()
    second: str = ""
    because: str = ""

    def as_json(self) -> dict[str, Json]:
        return {
            "verdict": self.verdict,
            "agreement": self.agreement,
            "against": list(self.against),
            "second": self.second[:4000],
        }


SINGLE = Check("single")


def known_check(
    home: Home, index: RecallIndex, screen: Screen, spans: Sequence[tuple[int, int]]
) -> Check | None:
    """What is on record about these very pixels: None where nothing is, or too little to decide."""
    boxes = str([list(box) for box in boxes_of(screen, spans)]).replace(" ", "")
    rows = index.connection.execute(
        "SELECT record FROM checks WHERE frame = ? AND reading = ? AND boxes = ? ORDER BY entry",
        (screen.frame, screen.reading, boxes),
    ).fetchall()
    found = [(str(row[0]), home.records.get(str(row[0])).document) for row in rows]
    return _verdict(found)


def _verdict(found: Sequence[tuple[str, dict[str, Json]]]) -> Check | None:
    """One comparison that agrees is enough; two that do not are needed to say that readings differ."""
    agreed = [record for record, document in found if document["verdict"] == "agreed"]
    differing = [record for record, document in found if document["verdict"] != "agreed"]
    if not agreed and len(differing) < 2:
        return None
    decides = (agreed or differing)[-1]
    pairs = next(document["tokens"] for record, document in found if record == decides)
    second = " ".join(pair["b"] for pair in pairs if pair["b"])
    against = tuple(record for record in differing if record != decides)
    return Check("agreed" if agreed else "disagreed", decides, against, second)


class Checker:
    """Reads cited pixels again, as an attended step: the person who asked is waiting."""

    def __init__(self, home: Home, run: str, step: str) -> None:
        self._home, self._run, self._step = home, run, step

    def check(self, screen: Screen, spans: Sequence[tuple[int, int]]) -> Check:
        """Read the runs of words that hold these spans again and keep every comparison.

        An engine that is missing or fails gives `single` with the reason, never agreement.
        """
        regions = [
            segment.box
            for segment in screen.segments
            if any(start < segment.end and end > segment.start for start, end in spans)
        ]
        heights = sorted(box[3] - box[1] for box in regions)
        compared: list[tuple[str, dict[str, Json]]] = []
        try:
            for settings in further_looks(heights[len(heights) // 2]):
                compared.append(self._compare(screen, spans, regions, settings))
                verdict = _verdict(compared)
                if verdict is not None:
                    return verdict
        except SterlingError as problem:
            return Check("single", because=f"{problem.code}: {problem.message}")
        raise AssertionError("unreachable: two looks decide")

    def _compare(
        self,
        screen: Screen,
        spans: Sequence[tuple[int, int]],
        regions: Sequence[Box],
        settings: ReadingSettings,
    ) -> tuple[str, dict[str, Json]]:
        """One further look and its comparison, on record."""
        from sterling.runtime.engine import Task
        from sterling.runtime.engine_local import LocalEngine
        from sterling.runtime.registry import load_registry

        frame = self._home.records.get(screen.frame)
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
                raise LookFailed(f"{end.reason or end.end}: {end.message}")
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
    ) -> tuple[str, dict[str, Json]]:
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
        return ref.id, document


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
