"""Where the language data of the reading engine lies.

The system's packages decide: the folders they use are searched in order, newest
version first. No environment variable is read, so two people with the same
packages get the same reading.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError

__all__ = ["LANGUAGE_FOLDERS", "LanguageMissing", "find_language_folder"]

LANGUAGE_FOLDERS = (
    "/usr/share/tesseract-ocr",
    "/usr/share/tessdata",
    "/usr/share/tesseract/tessdata",
    "/usr/local/share/tessdata",
    "/opt/homebrew/share/tessdata",
)
_LANGUAGE = re.compile(r"[a-zA-Z][a-zA-Z_]{1,30}")


class LanguageMissing(SterlingError):
    """The data of a language that should be read is not installed."""

    code = "recall.language-missing"
    hint = "Run `apt-get install tesseract-ocr-eng`, then `sterling drain --force`."
    exit = EXIT_CANNOT_JUDGE


def find_language_folder(languages: Sequence[str], folders: Sequence[str] = LANGUAGE_FOLDERS) -> Path:
    """The first folder that holds the data of every language.

    Errors: LanguageMissing, naming the languages and the package to install.
    """
    wrong = [language for language in languages if not _LANGUAGE.fullmatch(language)]
    if wrong or not languages:
        raise LanguageMissing(f"expected names of languages such as eng, found {', '.join(wrong) or 'none'}")
    for folder in _candidates(folders):
        if all((folder / f"{language}.traineddata").is_file() for language in languages):
            return folder
    packages = " ".join(f"tesseract-ocr-{language.replace('_', '-')}" for language in languages)
    raise LanguageMissing(
        f"expected language data for {', '.join(languages)} in {', '.join(folders)}, found none",
        hint=f"Run `apt-get install {packages}`, then `sterling drain --force`.",
        languages=list(languages),
    )


def _candidates(folders: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for name in folders:
        root = Path(name)
        versions = sorted(root.glob("*/tessdata"), key=lambda path: path.parent.name, reverse=True)
        found += [*versions, root / "tessdata", root]
    return found
