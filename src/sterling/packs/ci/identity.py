"""Test ids: one spelling for one test, whatever the report called it.

An id is `path::Class::name[parameters]`: relative to the root, forward slashes,
NFC, case kept. A JUnit report of pytest or unittest names modules with dots, and
dots cannot be turned back into folders by themselves, so `PathMap` asks the list
of files. Without a list the split is a guess by capital letters, and the reader
says so in a note.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass

from sterling.packs.ci.facts import clean_text

__all__ = ["PathMap", "Placed", "file_of", "id_of_test", "is_under", "normal_path"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A dotted name split into a file and what stands inside it; `sure` if the file list settled it."""

    path: str
    inside: tuple[str, ...]
    sure: bool


class PathMap:
    """Files by the dotted names that runners give them."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._by_dots: dict[str, str] = {}
        self._doubtful: set[str] = set()
        self._cache: dict[tuple[str, bool], Placed] = {}
        for path in sorted({normal_path(path) for path in paths}):
            dotted = path.removesuffix(".py").replace("/", ".")
            if self._by_dots.setdefault(dotted, path) != path:
                self._doubtful.add(dotted)

    def place(self, dotted: str, *, whole: bool = False) -> Placed:
        """Split a dotted name at the longest prefix that is a file.

        With `whole` the name is a file or folder by itself, as a failed
        collector is. Two files with one dotted name leave `sure` false.
        """
        key = (dotted, whole)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = self._place(dotted, whole=whole)
        return found

    def _place(self, dotted: str, *, whole: bool) -> Placed:
        parts = dotted.split(".")
        for cut in range(len(parts), 0, -1):
            prefix = ".".join(parts[:cut])
            if path := self._by_dots.get(prefix):
                return Placed(path, tuple(parts[cut:]), sure=prefix not in self._doubtful)
        if whole:
            return Placed("/".join(parts) + ".py", (), sure=False)
        cut = next((at for at, part in enumerate(parts) if at and part[:1].isupper()), len(parts))
        return Placed("/".join(parts[:cut]) + ".py", tuple(parts[cut:]), sure=False)


def normal_path(path: str) -> str:
    """Forward slashes, no leading `./`, NFC."""
    path = clean_text(path).replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def id_of_test(path: str, inside: Iterable[str], name: str) -> str:
    """The id of a test from its file, the classes around it and its own name."""
    text = "::".join(part for part in (normal_path(path), *inside, clean_text(name)) if part)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def file_of(name: str) -> str:
    """The file part of an id."""
    return name.partition("::")[0]


def is_under(name: str, collectors: Container[str]) -> bool:
    """Whether a test stands in a file, class or folder among these that could not be loaded."""
    path, _, inside = name.partition("::")
    if path in collectors or "." in collectors:
        return True
    at = path.rfind("/")
    while at > 0:
        if path[:at] in collectors:
            return True
        at = path.rfind("/", 0, at)
    at = inside.find("::")
    while at >= 0:
        if f"{path}::{inside[:at]}" in collectors:
            return True
        at = inside.find("::", at + 2)
    return False
