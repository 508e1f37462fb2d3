"""Hashing every stored byte again.

Two questions: does every file under `blobs/` hash to its name, and is every
address there that an entry names? Addresses are found in payloads under the key
`blob` and in lists under `blobs`, at any depth, and in documents that an entry
keeps as a blob.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.hashing import hash_file, is_address
from sterling.kernel.verify_log import FirstBad

__all__ = ["BlobCheck", "addresses_in", "is_spilled"]

_LISTED_MAX = 20


class BlobCheck:
    """Collects addresses while a log is read, then checks the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named: dict[str, int] = {}  # Address to the first entry that names it.
        self._documents: dict[str, int] = {}  # Those that hold a document of our own.
        self._altered: list[str] = []
        self._missing: list[str] = []
        self._checked = 0

    def observe(self, index: int, body: dict[str, Json]) -> None:
        """Take note of the addresses that an entry names."""
        payload = body["payload"]
        for address in addresses_in(payload):
            self._named.setdefault(address, index)
        if is_spilled(body):
            self._documents.setdefault(payload["blob"], index)

    def run(self) -> FirstBad | None:
        """Check every file; the result is the first entry whose bytes are not there, or are others."""
        self._read_documents()
        states = {address: self._state(address) for address in sorted(self._named)}
        strays = [name for name in self._files() if name not in states]
        wrong_strays = [name for name in strays if self._state(name) != "ok"]
        bad = sorted((self._named[each], each) for each, state in states.items() if state != "ok")
        self._missing = sorted(each for _, each in bad if states[each] == "missing")
        self._altered = sorted([each for _, each in bad if states[each] == "altered"] + wrong_strays)
        self._checked = len(states) + len(strays) - len(self._missing)
        if bad:
            index, address = bad[0]
            message = f"entry {index}: blob {address} is {states[address]}"
            return FirstBad(index, index, f"integrity.blob-{states[address]}", message)
        if wrong_strays:
            message = f"file {wrong_strays[0]} is not what its name says; no entry names it"
            return FirstBad(None, None, "integrity.blob-altered", message)
        return None

    def report(self) -> dict[str, Json]:
        """Counts, and the first addresses of each fault."""
        return {
            "altered": sorted(self._altered)[:_LISTED_MAX],
            "altered_count": len(self._altered),
            "checked": self._checked,
            "missing": sorted(self._missing)[:_LISTED_MAX],
            "missing_count": len(self._missing),
            "named": len(self._named),
        }

    def _read_documents(self) -> None:
        """Documents that lie in blobs name further blobs."""
        for address, index in sorted(self._documents.items(), key=lambda item: (item[1], item[0])):
            if self._state(address) != "ok":
                continue
            try:
                document = json.loads(self._path(address).read_bytes())
            except (ValueError, RecursionError, OSError):
                continue  # Not a document of ours; `deep` says so, and its bytes are what they were.
            for inner in addresses_in(document):
                self._named[inner] = min(index, self._named.get(inner, index))

    def _state(self, name: str) -> str:
        """`ok`, `altered` or `missing`."""
        try:
            mode = self._path(name).lstat().st_mode
            if not stat.S_ISREG(mode) or not is_address(name):
                return "altered"
            found = hash_file(self._path(name))
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "altered"
        return "ok" if found == name else "altered"

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name[2:]

    def _files(self) -> Iterator[str]:
        """Everything that lies where a blob could lie, by the name it claims."""
        for folder in sorted(self._root.glob("[0-9a-f][0-9a-f]")):
            if folder.is_dir() and not folder.is_symlink():
                for file in sorted(folder.iterdir()):
                    yield folder.name + file.name


def addresses_in(value: Json) -> Iterator[str]:
    """Every address under a key `blob`, or in a list under `blobs`, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "blob" and is_address(item):
                yield item
            elif key == "blobs" and isinstance(item, list):
                yield from (each for each in item if is_address(each))
            if isinstance(item, dict | list):
                yield from addresses_in(item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                yield from addresses_in(item)


def is_spilled(body: dict[str, Json]) -> bool:
    """Whether an entry keeps its payload, or its record's document, as a blob."""
    payload = body["payload"]
    if not isinstance(payload, dict) or not is_address(payload.get("blob")):
        return False
    return set(payload) == {"blob", "size_bytes"} or (
        body["kind"] == "record.put" and "document" not in payload
    )
