"""Question sets that anybody can bring: reading them, and naming the line that breaks the format.

The format is `docs/reference/recall-set.md`. What the answering side may see is
split off here; answers, accepted frames and boxes stay with the scorer.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.hashing import hash_file
from sterling.packs.recall.ingest.items import SetInvalid, bad_line, lines_of, list_offer
from sterling.packs.recall.moments import MomentInvalid, ZoneUnknown, moment_us, zone_of

__all__ = ["EvalSet", "SetFrame", "SetQuestion", "load_predictions", "load_set", "write_public_part"]

UNANSWERABLE = "unanswerable"
_PUBLIC_FRAME = ("id", "file", "ts", "zone", "app", "title", "url", "monitor")
_PUBLIC_QUESTION = ("id", "question", "now", "zone")
Boxes = dict[str, list[list[int]]]


@dataclass(frozen=True, slots=True)
class SetFrame:
    """A frame of a set: its id, its size where the set states it, and the frame it repeats."""

    id: str
    width: int
    height: int
    same_as: str
    has_pixels: bool


@dataclass(frozen=True, slots=True)
class SetQuestion:
    """A question with its truth. No accepted answer means that it cannot be answered from the set."""

    id: str
    type: str
    question: str
    answers: tuple[str, ...]
    frames: tuple[str, ...]
    boxes: Boxes
    state: str

    @property
    def is_answerable(self) -> bool:
        return self.type != UNANSWERABLE and bool(self.answers)


@dataclass(frozen=True, slots=True)
class EvalSet:
    """A whole set, checked."""

    path: Path
    name: str
    zone: str
    hash: str
    frames: dict[str, SetFrame]
    questions: tuple[SetQuestion, ...]
    public_questions: tuple[dict[str, Json], ...]


def load_set(path: Path) -> EvalSet:
    """Read and check a set. Errors: PathMissing, SetInvalid naming file and line, ZoneUnknown."""
    offer = list_offer(path, zone="UTC", kind="set")
    frames = {
        frame.id: frame
        for number, line in lines_of(path / "frames.jsonl")
        for frame in [_frame(path, number, line)]
    }
    asked = path / "questions.jsonl"
    if not asked.is_file():
        raise SetInvalid(f"expected questions.jsonl in {path}, found none", path=str(path))
    questions: list[SetQuestion] = []
    public: list[dict[str, Json]] = []
    known: set[str] = set()
    for number, line in lines_of(asked):
        question = _question(asked, number, line, frames, offer.zone)
        if question.id in known:
            raise bad_line(asked, number, f"expected each id once, found {question.id!r} again")
        known.add(question.id)
        questions.append(question)
        public.append({name: line[name] for name in _PUBLIC_QUESTION if name in line})
    if not questions:
        raise SetInvalid(f"expected questions in {asked}, found none", path=str(asked))
    digest = hashlib.sha256()
    for name in sorted(item.name for item in path.iterdir() if item.suffix in (".jsonl", ".json")):
        digest.update(f"{name}\0{hash_file(path / name)}\n".encode())
    return EvalSet(path, offer.name, offer.zone, digest.hexdigest(), frames, tuple(questions), tuple(public))


def write_public_part(loaded: EvalSet, folder: Path) -> None:
    """Write what the answering side may see: pixels by link, frames and question texts without truth."""
    folder.mkdir(parents=True)
    frames: list[dict[str, Json]] = []
    for _, line in lines_of(loaded.path / "frames.jsonl"):
        public = {name: line[name] for name in _PUBLIC_FRAME if name in line}
        if not isinstance(public.get("file"), str):
            continue
        source = (loaded.path / public["file"]).resolve()
        target = folder / f"{len(frames):06}{source.suffix.lower()}"
        if source.is_file():
            target.hardlink_to(source) if _same_disk(source, folder) else target.write_bytes(
                source.read_bytes()
            )
        frames.append({**public, "file": target.name})
    _write_lines(folder / "frames.jsonl", frames)
    _write_lines(folder / "questions.jsonl", list(loaded.public_questions))
    about = {"name": loaded.name, "zone": loaded.zone}
    (folder / "set.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def load_predictions(path: Path) -> dict[str, dict[str, Json]]:
    """Predictions by question id. Errors: SetInvalid naming the line."""
    if not path.is_file():
        raise SetInvalid(f"expected predictions at {path}, found none", path=str(path))
    found: dict[str, dict[str, Json]] = {}
    for number, line in lines_of(path):
        name = line.get("id")
        if not isinstance(name, str) or name in found:
            raise bad_line(path, number, f"expected an id of its own, found {name!r}"[:200])
        answer = line.get("answer")
        if answer is not None and not isinstance(answer, str):
            raise bad_line(path, number, f"expected text or null as answer, found {type(answer).__name__}")
        citations = line.get("citations", [])
        if not isinstance(citations, list) or not all(isinstance(item, dict) for item in citations):
            raise bad_line(path, number, "expected a list of objects as citations")
        found[name] = line
    if not found:
        raise SetInvalid(f"expected predictions in {path}, found none", path=str(path))
    return found


def _write_lines(path: Path, lines: list[dict[str, Json]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def _same_disk(source: Path, folder: Path) -> bool:
    return source.stat().st_dev == folder.stat().st_dev


def _frame(path: Path, number: int, line: dict[str, Json]) -> SetFrame:
    sizes = [line.get("w", 0), line.get("h", 0)]
    if not all(isinstance(size, int) and 0 <= size < 1_000_000 for size in sizes):
        raise bad_line(path / "frames.jsonl", number, f"expected w and h as whole numbers, found {sizes}")
    same_as = line.get("dup_of") or ""
    if not isinstance(same_as, str):
        raise bad_line(path / "frames.jsonl", number, "expected a frame id as dup_of")
    return SetFrame(str(line["id"]), sizes[0], sizes[1], same_as, isinstance(line.get("file"), str))


def _question(
    path: Path, number: int, line: dict[str, Json], frames: dict[str, SetFrame], zone: str
) -> SetQuestion:
    texts = {}
    for name, needed in (("id", True), ("question", True), ("type", True), ("state", False)):
        value = line.get(name, "" if not needed else None)
        if not isinstance(value, str) or (needed and not value.strip()):
            raise bad_line(path, number, f"expected text as {name}, found {value!r}"[:200])
        texts[name] = value
    answers, accepted = line.get("answers", []), line.get("frames", [])
    for name, value in (("answers", answers), ("frames", accepted)):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise bad_line(path, number, f"expected a list of texts as {name}")
    unknown = [name for name in accepted if name not in frames]
    if unknown:
        raise bad_line(path, number, f"expected frames of the set, found {unknown[0]!r}")
    boxes = _boxes(path, number, line.get("boxes", {}))
    try:
        zone_of(str(line.get("zone", zone)))
        if "now" in line:
            moment_us(str(line["now"]), str(line.get("zone", zone)))
    except (MomentInvalid, ZoneUnknown) as problem:
        raise bad_line(path, number, problem.message) from problem
    return SetQuestion(
        texts["id"], texts["type"], texts["question"], tuple(answers), tuple(accepted), boxes, texts["state"]
    )


def _boxes(path: Path, number: int, value: Json) -> Boxes:
    whole = isinstance(value, dict) and all(
        isinstance(boxes, list)
        and all(
            isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
            for box in boxes
        )
        for boxes in value.values()
    )
    if not whole:
        raise bad_line(path, number, "expected boxes as {frame: [[left, top, right, bottom]]}")
    return {frame: [[round(side) for side in box] for box in boxes] for frame, boxes in value.items()}
