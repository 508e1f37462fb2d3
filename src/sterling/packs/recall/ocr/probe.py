"""Trying the reading engine: language data found, engine started, one blank picture read."""

from __future__ import annotations

from collections.abc import Sequence

from sterling.packs.recall.ocr.language import find_language_folder

__all__ = ["try_reading"]


def try_reading(languages: Sequence[str]) -> str:
    """Start the engine with these languages and read a blank picture; says what was tried.

    Errors: LanguageMissing; whatever the engine raises when its data is damaged.
    """
    folder = find_language_folder(languages)
    import tesserocr
    from PIL import Image

    with tesserocr.PyTessBaseAPI(path=str(folder), lang="+".join(languages)) as engine:
        engine.SetImage(Image.new("L", (64, 32), 255))
        engine.GetUTF8Text()
    return f"{tesserocr.tesseract_version().split()[1]} reads {', '.join(languages)} from {folder}"
