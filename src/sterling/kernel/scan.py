"""Hashing everything again while nobody waits, a step at a time.

A step hashes files until its budget is used up, and keeps its place in
`index/scan.json`; a lost or odd place begins the pass anew. Home first, then the
archives that are attached, in the order of the names. A pass ends in one entry,
`scan.completed`. The caller decides when a step may run and how large it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sterling.kernel.batch import Batch, Draft
from sterling.kernel.blobs import Blobs, Stored, store_id
from sterling.kernel.verify_blobs import NamedBlobs

if TYPE_CHECKING:
    from sterling.kernel.home import Home

__all__ = ["ScanProgress", "scan_step"]

_BAD_MAX = 20
_COUNTS = ("ok", "altered", "unchecked")


@dataclass(frozen=True, slots=True)
class ScanProgress:
    """What one step did: bytes read, addresses found altered, and whether the pass ended with it."""

    read_bytes: int
    altered: tuple[str, ...]
    completed: dict[str, Any] | None


def scan_step(home: Home, budget_bytes: int) -> ScanProgress:
    """Hash files from where the last step stopped until the budget is used up; at least one file.

    Errors: as `Ledger.commit`, at the end of a pass.
    """
    place = home.path / "index" / "scan.json"
    state, used, altered = _load(place), 0, list[str]()
    for at, blobs, stored in _files(home, state["at"]):
        if used >= budget_bytes:
            _save(place, state)
            return ScanProgress(used, tuple(altered), None)
        try:
            used += stored.path.stat().st_size
        except OSError:
            if not stored.path.is_symlink():
                continue  # Moved away since it was listed.
        result = blobs.check(stored)
        if result != "ok" and not os.path.lexists(stored.path):
            continue
        state[result if result in _COUNTS else "unchecked"] += 1
        if result == "altered":
            altered.append(blobs.claim(stored) or stored.name)
            state["bad"] = [*state["bad"], altered[-1]][:_BAD_MAX]
        state["at"] = at
    completed = _complete(home, state)
    place.unlink(missing_ok=True)
    return ScanProgress(used, tuple(altered), completed)


def _complete(home: Home, state: dict[str, Any]) -> dict[str, Any]:
    """Compare what entries name with what is there, and write the entry."""
    named = NamedBlobs()
    for entry in home.ledger.read():
        named.observe(entry.index, entry.body)
    for _ in named.inner(home.blobs):
        pass
    missing, archived = list[str](), 0
    unchecked = int(state["unchecked"])
    for address in sorted(named.first):
        known = home.blobs.whereabouts(address)
        archived += known is not None
        if home.blobs.forms(address):
            continue
        store = None if known is None else home.blobs.attached(known)
        if known is not None and store is None:
            unchecked += 1
        elif store is None or not store.forms(address):
            missing.append(address)
    payload = {
        "ok": state["ok"],
        "altered": state["altered"],
        "missing": len(missing),
        "archived": archived,
        "unreferenced": sum(address not in named.first for address in home.blobs.addresses()),
        "unchecked": unchecked,
        "bad": [*state["bad"], *missing][:_BAD_MAX],
    }
    home.ledger.commit(Batch(drafts=[Draft("scan.completed", payload)]))
    return payload


def _files(home: Home, after: list[str]) -> Iterator[tuple[list[str], Blobs, Stored]]:
    """Every file after a place, with its place: the store's id (empty for the home) and the file's name."""
    attached = {identity: path for path in home.blobs.stores if (identity := store_id(path))}
    holders = {"": home.blobs} | {each: Blobs(attached[each], home.blobs.crypt) for each in sorted(attached)}
    for identity, blobs in holders.items():
        for stored in blobs.stored():
            at = [identity, stored.path.parent.name + stored.path.name]
            if at > after:
                yield at, blobs, stored


def _load(place: Path) -> dict[str, Any]:
    fresh: dict[str, Any] = {"at": ["", ""], "bad": []} | dict.fromkeys(_COUNTS, 0)
    try:
        state = json.loads(place.read_bytes())
        fits = set(state) == set(fresh) and all(type(state[each]) is type(fresh[each]) for each in fresh)
        named = fits and all(isinstance(each, str) for each in (*state["at"], *state["bad"]))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return fresh
    return state if named and len(state["at"]) == 2 else fresh


def _save(place: Path, state: dict[str, Any]) -> None:
    place.parent.mkdir(mode=0o700, exist_ok=True)
    growing = place.with_suffix(".incoming")
    growing.write_text(json.dumps(state), encoding="ascii")
    growing.replace(place)
