"""What a path offers: the looks in a folder of images, a set, or one image.

An item is one look that somebody else took: a file, the moment it shows (from
a sidecar `NAME.json` or a set's `frames.jsonl`, else the file's own time) and
what stood around it. Nothing here opens an image or touches a home.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.packs.recall.ingest.decode import IMAGE_ENDINGS
from sterling.packs.recall.moments import MomentInvalid, ZoneUnknown, moment_us, zone_of

__all__ = [
    "Item",
    "NothingToIngest",
    "Offer",
    "PathMissing",
    "SetInvalid",
    "bad_line",
    "lines_of",
    "list_offer",
]

_SIDECAR_BYTES_MAX = 64 * 1024
_LINE_BYTES_MAX = 8 * 1024 * 1024
_TEXT_MAX = 2000


class PathMissing(SterlingError):
    """There is nothing at a path that should be ingested."""

    code = "recall.path-missing"
    hint = "Name a folder of images, a set or an image: `sterling ingest PATH`."
    exit = EXIT_USAGE


class NothingToIngest(SterlingError):
    """A path holds no image and no set."""

    code = "recall.nothing-to-ingest"
    hint = "Name a folder with PNG, WebP, JPEG, BMP or TIFF files, or a set: `sterling ingest PATH`."
    exit = EXIT_USAGE


class SetInvalid(SterlingError):
    """A line of a set breaks its format."""

    code = "recall.set-invalid"
    hint = "Mend the named line; the format is docs/reference/recall-set.md. See `sterling ingest --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Item:
    """One look. `at_us` is None where only the file's own time is known (`file_us`)."""

    name: str
    file: Path | None
    at_us: int | None
    file_us: int = 0
    monitor: str = "0"
    context: dict[str, str] = field(default_factory=dict)
    refusal: str = ""  # Why the words around this item cannot be used; it is then refused.


@dataclass(frozen=True, slots=True)
class Offer:
    """A source and its items in the order in which they are taken."""

    source: str  # images or set
    name: str
    zone: str
    items: tuple[Item, ...]


def list_offer(path: Path, *, zone: str, kind: str | None = None) -> Offer:
    """What lies at a path. `kind` is images or set, or None to look.

    Errors: PathMissing, NothingToIngest, SetInvalid, ZoneUnknown.
    """
    zone_of(zone)
    if not path.exists():
        raise PathMissing(f"expected a file or folder at {path}, found none", path=str(path))
    if path.is_dir():
        if kind == "set" or (kind is None and (path / "frames.jsonl").exists()):
            return _list_set(path, zone)
        return _list_folder(path, zone)
    if kind == "set":
        raise SetInvalid(f"expected a folder with frames.jsonl, found the file {path}", path=str(path))
    return Offer(
        "images", _told(path.resolve().parent.name), zone, (_image_item(path, _told(path.name), zone),)
    )


def _list_folder(path: Path, zone: str) -> Offer:
    files = [file for file in path.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS and file.is_file()]
    if not files:
        raise NothingToIngest(f"expected images in {path}, found none", path=str(path))
    items = [_image_item(file, _told(file.relative_to(path).as_posix()), zone) for file in files]
    items.sort(key=lambda item: (item.file_us if item.at_us is None else item.at_us, item.name))
    return Offer("images", _told(path.resolve().name), zone, tuple(items))


def _told(name: str) -> str:
    """A name as it can be written down: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _image_item(file: Path, name: str, zone: str) -> Item:
    file_us = file.stat().st_mtime_ns // 1000
    sidecar = file.with_suffix(".json")
    if not sidecar.is_file():
        return Item(name, file, None, file_us)
    try:
        said = _sidecar(sidecar)
        zone_of(said.get("zone", zone))
        at_us = moment_us(said["ts"], said.get("zone", zone)) if "ts" in said else None
    except (ValueError, RecursionError, OSError, MomentInvalid, ZoneUnknown) as problem:
        return Item(name, file, None, file_us, refusal=f"{sidecar.name}: {problem}")
    return Item(name, file, at_us, file_us, said.get("monitor", "0"), _context(said))


def _sidecar(path: Path) -> dict[str, str]:
    if path.stat().st_size > _SIDECAR_BYTES_MAX:
        raise ValueError(f"expected at most {_SIDECAR_BYTES_MAX} bytes, found more")
    return _words(json.loads(path.read_text(encoding="utf-8")), "the sidecar")


def _words(document: Json, what: str) -> dict[str, str]:
    """The known text fields of an object; numbers become text, other fields are not looked at."""
    if not isinstance(document, dict):
        raise ValueError(f"expected an object in {what}, found {type(document).__name__}")
    found: dict[str, str] = {}
    for name in ("ts", "zone", "app", "title", "url", "monitor"):
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is None or value == "":
            continue
        if not isinstance(value, str) or len(value) > _TEXT_MAX:
            raise ValueError(
                f"expected at most {_TEXT_MAX} characters in {name}, found {type(value).__name__}"
            )
        found[name] = value.encode("utf-8", "replace").decode("utf-8")
    return found


def _context(said: dict[str, str]) -> dict[str, str]:
    return {name: said[name] for name in ("app", "title", "url") if name in said}


def _list_set(path: Path, zone: str) -> Offer:
    frames = path / "frames.jsonl"
    if not frames.is_file():
        raise SetInvalid(f"expected frames.jsonl in {path}, found none", path=str(path))
    about = _about(path / "set.json")
    zone = about.get("zone", zone)
    zone_of(zone)
    items: list[Item] = []
    names: set[str] = set()
    for number, document in lines_of(frames):
        item = _set_item(path, number, document, zone)
        if item.name in names:
            raise bad_line(frames, number, f"expected each id once, found {item.name!r} again")
        names.add(item.name)
        items.append(item)
    if not items:
        raise NothingToIngest(f"expected frames in {frames}, found none", path=str(frames))
    items.sort(key=lambda item: (item.at_us or 0, item.name))
    return Offer("set", about.get("name", _told(path.resolve().name)), zone, tuple(items))


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, Json]]]:
    """The objects of a JSONL file with their line numbers, from 1; blank lines are passed over.

    Errors: SetInvalid naming the line.
    """
    for number, line in enumerate(_raw_lines(path), start=1):
        if len(line) > _LINE_BYTES_MAX:
            raise bad_line(path, number, f"expected at most {_LINE_BYTES_MAX} bytes, found more")
        if not line.strip():
            continue
        try:
            document = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as problem:
            raise bad_line(path, number, f"expected JSON in UTF-8, found {problem}") from problem
        if not isinstance(document, dict):
            raise bad_line(path, number, f"expected an object, found {type(document).__name__}")
        yield number, document


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(_LINE_BYTES_MAX + 1):
                yield line
    except OSError as problem:
        raise SetInvalid(f"expected to read {path}, found: {problem.strerror}", path=str(path)) from problem


def _about(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise SetInvalid(f"{path}: expected a JSON object, found {problem}", path=str(path)) from problem
    if not isinstance(document, dict):
        raise SetInvalid(f"{path}: expected a JSON object, found {type(document).__name__}", path=str(path))
    return {name: document[name] for name in ("name", "zone") if isinstance(document.get(name), str)}


def _set_item(folder: Path, number: int, document: dict[str, Json], zone: str) -> Item:
    frames = folder / "frames.jsonl"
    name = document.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise bad_line(frames, number, f"expected an id of 1 to 200 characters, found {name!r}"[:300])
    try:
        said = _words(document, f"line {number}")
        if "ts" not in said:
            raise ValueError("expected ts, found none")
        zone_of(said.get("zone", zone))
        at_us = moment_us(said["ts"], said.get("zone", zone))
    except (ValueError, MomentInvalid, ZoneUnknown) as problem:
        raise bad_line(frames, number, str(problem)) from problem
    file = _set_file(folder, number, document.get("file"))
    if file is None and not isinstance(document.get("text"), str):
        raise bad_line(frames, number, "expected a file or a text, found neither")
    return Item(name, file, at_us, 0, said.get("monitor", "0"), _context(said))


def _set_file(folder: Path, number: int, named: Json) -> Path | None:
    if named is None:
        return None
    frames = folder / "frames.jsonl"
    if not isinstance(named, str) or not named:
        raise bad_line(frames, number, f"expected a file name, found {named!r}"[:300])
    path = folder / named
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError) as problem:
        raise bad_line(frames, number, f"expected a file name, found {problem}") from problem
    if not inside:
        raise bad_line(frames, number, f"expected a file inside the set, found {named!r}")
    return path


def bad_line(path: Path, number: int, found: str) -> SetInvalid:
    return SetInvalid(f"{path.name}, line {number}: {found}", path=str(path), line=number)
