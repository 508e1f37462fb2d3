"""What the rest of Sterling may ask of recall; everything heavy is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sterling.kernel.canonical import Json
    from sterling.kernel.home import Home
    from sterling.packs.recall.ask.answer import Answer
    from sterling.packs.recall.evaluate.run import Evaluation
    from sterling.packs.recall.ingest.ingest import IngestReport
    from sterling.packs.recall.stage2 import ReadingSource
    from sterling.packs.recall.trace import Recheck, Step

__all__ = [
    "ask",
    "check_citation",
    "check_index",
    "evaluate",
    "ingest",
    "job_source",
    "moment_text",
    "moment_us",
    "rebuild_index",
    "recheck",
    "trace_answer",
    "try_reading",
    "write_crop",
]


def ingest(
    path: Path,
    home: Home,
    *,
    kind: str | None = None,
    zone: str = "UTC",
    on_item: Callable[[int, int], None] = lambda done, total: None,
) -> IngestReport:
    """Take in a folder of images, a set, or one image. Repeating it adds nothing."""
    from sterling.packs.recall.ingest.ingest import ingest as take

    return take(path, home, kind=kind, zone=zone, on_item=on_item)


def ask(
    home: Home,
    question: str,
    *,
    now_us: int | None = None,
    zone: str | None = None,
    from_us: int | None = None,
    to_us: int | None = None,
    check: bool = True,
) -> Answer:
    """Ask what was on the screen. The answer is kept as a record, whatever its state."""
    from sterling.packs.recall.ask.answer import answer
    from sterling.packs.recall.time.window import Window

    window = None if from_us is None and to_us is None else Window(from_us, to_us)
    return answer(home, question, now_us=now_us, zone=zone, window=window, check=check)


def job_source() -> ReadingSource:
    """Where the conductor finds frames that were not read yet."""
    from sterling.packs.recall.stage2 import ReadingSource

    return ReadingSource()


def check_citation(home: Home, citation: Mapping[str, Json]) -> list[Step]:
    """Recompute a citation down to the pixels. Errors: CitationBroken naming the step."""
    from sterling.packs.recall.trace import check_citation as walk

    return walk(home, citation)


def trace_answer(home: Home, record_id: str) -> list[tuple[str, list[Step]]]:
    """Every claim of a recorded answer with the steps that lead to its pixels."""
    from sterling.packs.recall.trace import walk_answer

    return walk_answer(home, record_id)


def recheck(home: Home, run_id: str) -> Recheck:
    """Check again what a run of this pack claims."""
    from sterling.packs.recall.trace import recheck as again

    return again(home, run_id)


def write_crop(home: Home, citation: Mapping[str, Json], path: Path) -> None:
    """Write a PNG of the cited pixels in their surroundings, boxes outlined.

    Errors: CropUnwritable, FrameAltered and what an altered store raises.
    """
    from sterling.packs.recall.pixels.draw import write_boxes
    from sterling.packs.recall.pixels.read import rebuild

    document = home.records.get(str(citation["frame"])).document
    picture = rebuild(document["manifest"], str(citation["frame_hash"]), home.blobs.get)
    write_boxes(path, picture, [(box[0], box[1], box[2], box[3]) for box in citation["boxes"]])


def check_index(home: Home) -> dict[str, Json]:
    """Compare the index with one made anew; how far it has come. Errors: IndexAltered, IndexBehind."""
    from sterling.packs.recall.search.index import check, open_index

    manifest = check(home)
    with open_index(home, catch_up=False) as index:
        return {"action": "check", **manifest.as_json(), "digest": index.digest()}


def rebuild_index(home: Home) -> dict[str, Json]:
    """Make the index anew from the records; how far it has come."""
    from sterling.packs.recall.search.index import open_index, rebuild

    manifest = rebuild(home)
    with open_index(home, catch_up=False) as index:
        return {"action": "rebuild", **manifest.as_json(), "digest": index.digest()}


def evaluate(
    set_path: Path,
    *,
    predictions: Path | None = None,
    out: Path | None = None,
    before: bool = False,
    on_step: Callable[[str, int, int], None] = lambda phase, done, total: None,
) -> Evaluation:
    """Answer and score a set, or score somebody else's predictions."""
    from sterling.packs.recall.evaluate.run import evaluate as run

    return run(set_path, predictions=predictions, out=out, before=before, on_step=on_step)


def moment_us(text: str, zone: str = "UTC") -> int:
    """Microseconds UTC of an ISO 8601 text. Errors: MomentInvalid, ZoneUnknown."""
    from sterling.packs.recall.moments import moment_us as parse

    return parse(text, zone)


def moment_text(at_us: int, zone: str = "UTC") -> str:
    """A moment as ISO 8601 with its offset."""
    from sterling.packs.recall.moments import moment_text as write

    return write(at_us, zone)


def try_reading(languages: Sequence[str]) -> str:
    """Start the reading engine and read a blank picture. Errors: recall.language-missing."""
    from sterling.packs.recall.ocr.probe import try_reading as attempt

    return attempt(languages)
