"""Moving blobs away, bringing them back, and changing the form they are stored in.

The order is always the same: a second copy, synced, read back and hashed; then
the entry that says so; and only then the first file is released. Killed
anywhere there are two copies, never none.

An archive is a folder with an id file of its own. A folder that once was another
archive is refused, and so is one whose id file is gone: that is an empty mount
point, or the wrong disk. Sealed blobs stay sealed there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.batch import Batch, Draft
from sterling.kernel.blob_codec import Codec
from sterling.kernel.blobs import (
    STORE_FILE,
    BlobAbsent,
    Blobs,
    Stored,
    store_id,
)
from sterling.kernel.durable import replace_file, sync_folder
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.ids import random_id
from sterling.kernel.verify_blobs import NamedBlobs

if TYPE_CHECKING:
    from sterling.kernel.home import Home

__all__ = [
    "ArchiveUnusable",
    "Moved",
    "archive_blobs",
    "blobs_before",
    "recode_blob",
    "restore_blobs",
]

_BATCH_BLOBS = 64


class ArchiveUnusable(SterlingError):
    """A folder that cannot be used as the archive that was asked for."""

    code = "archive.unusable"
    hint = "Attach the right disk, or name another folder. See `sterling archive --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did: the archive, and the addresses in order."""

    store: str
    place: str
    addresses: tuple[str, ...]


def archive_blobs(home: Home, addresses: Iterable[str], to: Path, reason: str) -> Moved:
    """Move blobs to the archive at a folder; it becomes one when it is new and empty.

    Errors: ArchiveUnusable; BlobAbsent, BlobAltered, BlobNoSpace, BlobNotDurable before anything is released.
    """
    store = _open_store(home, to, create=True)
    identity, moved = store_id(store.root), list[str]()
    waiting = iter(dict.fromkeys(addresses))
    while some := list(islice(waiting, _BATCH_BLOBS)):
        batch = Batch()
        for address in some:
            local = home.blobs.forms(address)
            known = home.blobs.whereabouts(address)
            if local:
                store.adopt(local[0], address)
            elif known is None or known.store != identity:
                raise BlobAbsent(f"expected blob {address} in this home, found none", address=address)
            if known is None or known.store != identity:
                payload = {"address": address, "store": identity, "place": str(store.root), "reason": reason}
                batch.append("blob.archived", payload, subject=address)
        if batch.drafts:
            home.ledger.commit(batch)
        for address in some:
            known = home.blobs.whereabouts(address)
            if known is not None and known.store == identity:  # In the log, not on its way.
                _release(home.blobs.forms(address))
                moved.append(address)
    return Moved(identity, str(store.root), tuple(moved))


def restore_blobs(home: Home, addresses: Sequence[str] | None, source: Path) -> Moved:
    """Bring blobs (None: all of them) back from an archive, which keeps its copies.

    Errors: ArchiveUnusable, BlobAbsent, BlobAltered, BlobNoSpace, BlobNotDurable.
    """
    store = _open_store(home, source, create=False)
    identity, moved = store_id(store.root), list[str]()
    if addresses is None:
        ever = {entry.subject: None for entry in home.ledger.read(kind="blob.archived")}
        lying = ((address, home.blobs.whereabouts(address)) for address in ever)
        addresses = [address for address, known in lying if known is not None and known.store == identity]
    for address in dict.fromkeys(addresses):
        if not (forms := store.forms(address)):
            raise BlobAbsent(f"expected blob {address} in {identity}, found none", address=address)
        home.blobs.adopt(forms[0], address)
        if home.blobs.whereabouts(address) is not None:
            told = Draft("blob.restored", {"address": address, "store": identity}, subject=address)
            home.ledger.commit(Batch(drafts=[told]))
        moved.append(address)
    return Moved(identity, str(store.root), tuple(moved))


def blobs_before(home: Home, before_us: int) -> Iterator[str]:
    """Local blobs that no entry from a time on names, without those that hold entries' own documents."""
    named, newest = NamedBlobs(), dict[str, int]()
    for entry in home.ledger.read():
        for address in named.observe(entry.index, entry.body):
            newest[address] = entry.at_us
    for address, inner in named.inner(home.blobs):
        newest[inner] = max(newest.get(inner, 0), newest[address])
    for address in sorted(newest):
        if newest[address] < before_us and address not in named.documents and home.blobs.forms(address):
            yield address


def recode_blob(home: Home, address: str, codec: Codec) -> bool:
    """Store a blob in another form; false when it lies in that form alone already.

    Errors: as `Blobs.get` and `Blobs.put`.
    """
    before = home.blobs.forms(address)
    if [each.codec for each in before] == [codec]:
        return False
    written = home.blobs.write_form(address, codec)
    old = [each for each in before if each.path != written]
    payload = {"address": address, "before": [_suffix(each) for each in old], "after": written.name[62:]}
    home.ledger.commit(Batch(drafts=[Draft("blob.recoded", payload, subject=address)]))
    _release(old)
    return True


def _open_store(home: Home, place: Path, *, create: bool) -> Blobs:
    place = Path(os.path.realpath(place))
    if not place.is_dir():
        raise ArchiveUnusable(
            f"expected a folder that is there already, found none at {place}", place=str(place)
        )
    if place.is_relative_to(os.path.realpath(home.path)):
        raise ArchiveUnusable(f"expected a folder outside the home, found {place}", place=str(place))
    found, was = store_id(place), _stores_once_at(home, place)
    if was and found not in was:
        expected = ", ".join(sorted(was))
        raise ArchiveUnusable(
            f"expected archive {expected} at {place}, found {found or 'none'}", place=str(place)
        )
    if not found:
        growing = place / f".{STORE_FILE}.incoming"
        if not create or any(file != growing for file in place.iterdir()):
            raise ArchiveUnusable(f"expected an archive or an empty folder, found {place}", place=str(place))
        content = {"format": "sterling/archive/1", "id": random_id("archive")}
        try:
            text = json.dumps(content, sort_keys=True) + "\n"
            replace_file(place / STORE_FILE, text.encode("ascii"), growing=growing, mode=0o666)
        except OSError as problem:
            raise ArchiveUnusable(
                f"expected to write in {place}, found: {problem.strerror}", place=str(place)
            ) from problem
    return Blobs(place, home.blobs.crypt)


def _stores_once_at(home: Home, place: Path) -> set[str]:
    entries = home.ledger.read(kind="blob.archived")
    return {str(entry.payload["store"]) for entry in entries if entry.payload["place"] == str(place)}


def _release(files: Sequence[Stored]) -> None:
    """Let go of files whose entry is durable."""
    for stored in files:
        stored.path.unlink(missing_ok=True)
        sync_folder(stored.path.parent)


def _suffix(stored: Stored) -> str:
    return stored.path.name[62:]
