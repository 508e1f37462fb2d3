"""Hashing every stored byte again.

Two questions: does every file under `blobs/` hold what its name says, and is every
address there that an entry names? Addresses are found in payloads under the key
`blob` and in lists under `blobs`, at any depth, and in documents that an entry
keeps as a blob. A blob that was archived with an entry is hashed in its archive.

What cannot be looked at (an archive that is not attached, a form that this
program does not know, a home whose key is not at hand) is not checked, and then
the verdict cannot be that all is well.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from sterling.kernel.blobs import Archived, BlobFormUnknown, Blobs, Stored
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import is_address
from sterling.kernel.keys import KeyUnusable
from sterling.kernel.verify_log import FirstBad

__all__ = ["BlobCheck", "NamedBlobs", "addresses_in", "archived_in", "is_spilled", "state_of"]

_LISTED_MAX = 20
_BAD_STATES = {"blob.altered": "altered", "blob.absent": "missing"}  # Any other refusal: not checked.


class NamedBlobs:
    """The addresses that entries name, and which of them hold documents of our own."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}  # Address to the first entry that names it.
        self.documents: dict[str, int] = {}

    def observe(self, index: int, body: bytes | dict[str, Json]) -> list[str]:
        """Take note of the addresses that an entry names."""
        parsed: dict[str, Json] = json.loads(body) if isinstance(body, bytes) else body
        named = list(addresses_in(parsed["payload"]))
        for address in named:
            self.first.setdefault(address, index)
        if is_spilled(parsed):
            self.documents.setdefault(parsed["payload"]["blob"], index)
        return named

    def inner(self, blobs: Blobs) -> Iterator[tuple[str, str]]:
        """Every document's address with each address that it names; these count as named from then on."""
        for address, index in sorted(self.documents.items(), key=lambda item: (item[1], item[0])):
            try:
                document = json.loads(blobs.get(address))
            except (SterlingError, ValueError, RecursionError):
                continue  # Not a document of ours, or not readable; `deep` says so.
            for each in addresses_in(document):
                self.first[each] = min(index, self.first.get(each, index))
                yield address, each


class BlobCheck:
    """Collects addresses while a log is read, then checks the files."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._named = NamedBlobs()
        self._altered: list[str] = []
        self._missing: list[str] = []
        self._checked = 0
        self.unjudged: dict[str, list[str]] = {}  # Code to what was not checked for it.

    def observe(self, index: int, body: dict[str, Json]) -> None:
        """Take note of the addresses that an entry names."""
        self._named.observe(index, body)

    def run(self) -> FirstBad | None:
        """Check every file; the result is the first entry whose bytes are not there, or are others."""
        for _ in self._named.inner(self._blobs):
            pass
        states = {address: state_of(self._blobs, address) for address in sorted(self._named.first)}
        wrong_strays, strays = [], 0
        for stored in self._blobs.stored():
            if self._blobs.claim(stored) not in states:
                strays += 1
                state = self._blobs.check(stored)
                if state == "altered":
                    wrong_strays.append(f"{stored.path.parent.name}{stored.path.name}")
                elif state == "unknown":
                    lacks_key = stored.sealed and self._blobs.lacks_key
                    self._leave(KeyUnusable.code if lacks_key else BlobFormUnknown.code, stored.name)
        for address, state in states.items():
            if state not in ("ok", *_BAD_STATES.values()):
                self._leave(state, address)
        bad = sorted(
            (self._named.first[each], each) for each in states if states[each] in ("altered", "missing")
        )
        self._missing = sorted(each for _, each in bad if states[each] == "missing")
        self._altered = sorted([each for _, each in bad if states[each] == "altered"] + wrong_strays)
        unjudged = sum(len(each) for each in self.unjudged.values())
        self._checked = len(states) + strays - len(self._missing) - unjudged
        if bad:
            index, address = bad[0]
            message = f"entry {index}: blob {address} is {states[address]}"
            return FirstBad(index, index, f"integrity.blob-{states[address]}", message)
        if wrong_strays:
            message = f"file {wrong_strays[0]} is not what its name says; no entry names it"
            return FirstBad(None, None, "integrity.blob-altered", message)
        return None

    def doubt(self) -> tuple[str, str]:
        """The code and the words for what was not checked; both empty when everything was."""
        for code, left in sorted(self.unjudged.items()):
            return code, f"{len(left)} blobs were not checked ({code}), the first is {left[0]}"
        return "", ""

    def report(self) -> dict[str, Json]:
        """Counts, and the first addresses of each fault."""
        return {
            "altered": sorted(self._altered)[:_LISTED_MAX],
            "altered_count": len(self._altered),
            "checked": self._checked,
            "missing": sorted(self._missing)[:_LISTED_MAX],
            "missing_count": len(self._missing),
            "named": len(self._named.first),
        }

    def _leave(self, code: str, what: str) -> None:
        self.unjudged.setdefault(code, []).append(what)


def state_of(blobs: Blobs, address: str) -> str:
    """`ok`, `altered`, `missing`, or the code of the reason why it could not be checked."""
    local: list[Stored] = blobs.forms(address)
    if local and any(blobs.check(stored, address) != "ok" for stored in local):
        return "altered"
    if local:
        return "ok"
    try:
        for _ in blobs.pieces(address):
            pass
    except SterlingError as problem:
        return _BAD_STATES.get(problem.code, problem.code)
    return "ok"


def archived_in(connection: sqlite3.Connection) -> dict[str, Archived]:
    """Where entries say that blobs were moved to. What is no such entry is left to the log's own check."""
    found: dict[str, Archived] = {}
    query = (
        "SELECT kind, body FROM entries NOT INDEXED WHERE kind IN ('blob.archived', 'blob.restored') "
        'ORDER BY "index"'
    )
    for kind, body in connection.execute(query):
        try:
            payload = json.loads(body)["payload"]
            if kind == "blob.archived":
                found[str(payload["address"])] = Archived(str(payload["store"]), str(payload["place"]))
            else:
                found.pop(str(payload["address"]), None)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return found


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
