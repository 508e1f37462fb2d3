"""Tesseract: words with boxes out of plain pixels.

The pixels are made grey and larger, then read with the LSTM model and the
layout asked for. Boxes come back in the pixels of the frame. Before anything
else the engine reads a known picture; what it read there is part of the result,
so an empty list of words can be told from an engine that sees nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tesserocr
from PIL import Image, ImageDraw, ImageFont

from sterling.runtime.plugin_api import Artifact, Ok, Outcome, out_dir, progress, should_stop

__all__ = ["run"]

Box = tuple[int, int, int, int]

_LAYOUTS = {
    "sparse": tesserocr.PSM.SPARSE_TEXT,
    "block": tesserocr.PSM.SINGLE_BLOCK,
    "line": tesserocr.PSM.SINGLE_LINE,
    "column": tesserocr.PSM.SINGLE_COLUMN,
}
_DPI_AT_ONE = 96
_MARGIN_SHARE = 4  # A region grows by a quarter of its height, because glyphs need air.


class Pixels(Protocol):
    """The picture as the pack hands it over."""

    width: int
    height: int
    rgb: bytes


def run(
    picture: Pixels,
    regions: Sequence[Sequence[int]],
    language_folder: str,
    known_words: str,
    settings: Mapping[str, Any],
) -> Outcome:
    """Read the whole frame, or only the regions when some are named."""
    languages, scale_bp = list(settings["languages"]), int(settings["scale_bp"])
    model = "+".join(languages)
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.rgb).convert("L")
    with tesserocr.PyTessBaseAPI(
        path=language_folder, lang=model, oem=tesserocr.OEM.LSTM_ONLY, psm=_LAYOUTS["block"]
    ) as engine:
        probe = _probe(engine, known_words)
        engine.SetPageSegMode(_LAYOUTS[settings["layout"]])
        parts = [_grown(region, picture) for region in regions] or [(0, 0, picture.width, picture.height)]
        tokens: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            if should_stop():
                raise InterruptedError("asked to stop between two regions")
            tokens += _read(engine, image, part, scale_bp, first_block=len(tokens) + 1, part_number=number)
            progress(number + 1, len(parts))
    result = {
        "engine": "tesseract",
        "engine_version": _version(),
        "models": [_model(Path(language_folder), language) for language in languages],
        "probe": {"expected": known_words, "read": probe},
        "tokens": tokens,
    }
    (out_dir() / "reading.json").write_text(json.dumps(result, ensure_ascii=True), encoding="ascii")
    return Ok(
        artifacts=[Artifact("reading", "reading.json", "application/json")], metrics={"tokens": len(tokens)}
    )


def _read(
    engine: Any, image: Image.Image, part: Box, scale_bp: int, *, first_block: int, part_number: int
) -> Iterator[dict[str, Any]]:
    left, top, right, bottom = part
    size = (max(1, (right - left) * scale_bp // 10_000), max(1, (bottom - top) * scale_bp // 10_000))
    engine.SetImage(image.crop(part).resize(size, Image.Resampling.LANCZOS))
    engine.SetSourceResolution(_DPI_AT_ONE * scale_bp // 10_000)
    engine.Recognize()
    words = engine.GetIterator()
    block, line = first_block - 1, 0
    for word in tesserocr.iterate_level(words, tesserocr.RIL.WORD) if words else ():
        if word.Empty(tesserocr.RIL.WORD):
            continue
        block += bool(word.IsAtBeginningOf(tesserocr.RIL.BLOCK))
        line += bool(word.IsAtBeginningOf(tesserocr.RIL.TEXTLINE))
        text = word.GetUTF8Text(tesserocr.RIL.WORD).strip()
        found = word.BoundingBox(tesserocr.RIL.WORD)
        if not text or found is None:
            continue
        box = [
            min(max(left + found[0] * 10_000 // scale_bp, left), right - 1),
            min(max(top + found[1] * 10_000 // scale_bp, top), bottom - 1),
            min(left - (-found[2] * 10_000 // scale_bp), right),
            min(top - (-found[3] * 10_000 // scale_bp), bottom),
        ]
        confidence_bp = min(10_000, max(0, round(word.Confidence(tesserocr.RIL.WORD) * 100)))
        yield {
            "text": text,
            "box": box,
            "confidence_bp": confidence_bp,
            "block": max(block, first_block),
            "line": line,
            "part": part_number,
        }


def _probe(engine: Any, known_words: str) -> str:
    """What the engine reads on a picture whose words are known."""
    font = ImageFont.load_default(size=40)
    drawn = Image.new("L", (60 + 26 * len(known_words), 90), 255)
    ImageDraw.Draw(drawn).text((30, 20), known_words, font=font, fill=0)
    engine.SetImage(drawn)
    engine.SetSourceResolution(200)
    return " ".join(engine.GetUTF8Text().split())


def _grown(region: Sequence[int], picture: Pixels) -> Box:
    left, top, right, bottom = region
    margin = max(4, (bottom - top) // _MARGIN_SHARE)
    return (
        max(0, left - 2 * margin),
        max(0, top - margin),
        min(picture.width, right + 2 * margin),
        min(picture.height, bottom + margin),
    )


def _model(folder: Path, language: str) -> dict[str, str]:
    file = folder / f"{language}.traineddata"
    return {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _version() -> str:
    return str(tesserocr.tesseract_version().split("\n")[0].removeprefix("tesseract").strip())
