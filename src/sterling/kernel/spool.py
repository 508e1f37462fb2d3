"""The spool: a place on a second disk that takes batches and their blobs while the home's disk is full.

One item is one file: a header, the batch, its blobs, and a SHA-256 over all of it,
written whole and synced before anybody is told. Only a batch that asks nothing of
the log can wait there: no lease, no effect, no precondition. Draining puts each
batch into the log under its own submission id, so one that was there already is
not written twice, and takes the file away after that. An item that is not what its
trailer says, or that no contract allows, goes to `quarantine` and is an entry;
draining goes on behind it.

    SPOOL/<home id>/<accepted_us>-<submission>.item
    SPOOL/<home id>/quarantine/
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel import wire
from sterling.kernel.append import Receipt
from sterling.kernel.batch import Batch
from sterling.kernel.blob_codec import FormBroken
from sterling.kernel.blobs import BlobNoSpace
from sterling.kernel.crypt import Crypt
from sterling.kernel.durable import replace_file
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.group import LedgerBusy, LedgerIo
from sterling.kernel.hashing import address_of
from sterling.kernel.locks import Role, RoleTaken
from sterling.kernel.writer import StorePressure

__all__ = ["Drained", "Spool", "SpoolCollision", "SpoolCorrupt"]

_FORMAT = "sterling/spool/1"
_HEADER_BYTES_MAX = 1024 * 1024
_HASH_BYTES = 64
# What no later try can mend: the item's bytes, or a batch that the home's contracts refuse.
_OWN_FAULTS = ("spool.corrupt", "ledger.request-invalid", "record.", "contracts.unknown", "canonical.")


class SpoolCollision(SterlingError):
    """A batch with the same submission id and other content waits already."""

    code = "spool.collision"
    hint = "Give every batch an id of its own; nothing was written. See `sterling status`."


class SpoolCorrupt(SterlingError):
    """A spool item is not what was written."""

    code = "spool.corrupt"
    hint = "Look at the file in the spool's quarantine; `sterling status` names the spool."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class Drained:
    """What one pass over the spool did: batches written, items set aside, items that still wait."""

    written: int
    quarantined: int
    left: int


class Spool:
    """The spool of one home. Nothing is made before the first item."""

    def __init__(self, root: Path, home_id: str, crypt: Crypt | None = None) -> None:
        self._root, self._crypt = root, crypt  # An encrypted home's items are sealed whole.
        self.folder = root / home_id
        self._home_id = home_id

    def free_bytes(self) -> int:
        """Room on the spool's disk; 0 when the disk is not there."""
        try:
            disk = os.statvfs(self._root)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def accept(self, batch: Batch, blobs: dict[str, bytes], accepted_us: int) -> Path:
        """Keep a batch and the bytes of its blobs until the home has room.

        Errors: StorePressure for a batch that asks something of the log, SpoolCollision, BlobNoSpace.
        """
        if batch.operations or batch.conditions:
            raise StorePressure("expected room on the home's disk: a batch with conditions cannot be spooled")
        data = _item(self._home_id, batch, blobs, accepted_us)
        name = f"{accepted_us:020d}-{batch.submission}.item"
        growing = self.folder / f".{name}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for waiting in self.folder.glob(f"*-{batch.submission}.item"):
                return _same(waiting, self._opened(waiting), data)
            stored = data if self._crypt is None else self._crypt.seal_bytes(data)
            replace_file(self.folder / name, stored, growing=growing)
        except OSError as problem:
            growing.unlink(missing_ok=True)
            raise BlobNoSpace(f"expected room in the spool {self._root}, found: {problem}") from problem
        return self.folder / name

    def waiting(self) -> list[Path]:
        """Every whole item, oldest first."""
        return sorted(self.folder.glob("[0-9]*.item"))

    def drain(
        self, put: Callable[[bytes], str], commit: Callable[[Batch], Receipt], run: Path, limit: int
    ) -> Drained:
        """Write up to `limit` items into the home; one process at a time. Stops where the disk is full again.

        An item that can never be written, damaged or against a contract, is set aside.
        Errors: those of the store, such as anchor.unwritable; the items wait on.
        Cost: the items' bytes, and one commit an item.
        """
        if not self.waiting():
            return Drained(0, 0, 0)
        role = Role(run, "spool")
        try:
            role.take()
        except RoleTaken:
            return Drained(0, 0, len(self.waiting()))
        written = quarantined = 0
        try:
            for path in self.waiting()[:limit]:
                try:
                    batch, blobs = _read(path, self._opened(path), self._home_id)
                    for data in blobs:
                        put(data)
                    commit(batch)
                except SterlingError as problem:
                    if not problem.code.startswith(_OWN_FAULTS):
                        raise
                    self._set_aside(path, problem, commit)
                    quarantined += 1
                    continue
                path.unlink()
                written += 1
        except (StorePressure, BlobNoSpace, LedgerIo, LedgerBusy):
            pass  # There is no room, or no turn, after all: what is left waits on, and the count says so.
        finally:
            role.release()
        return Drained(written, quarantined, len(self.waiting()))

    def _opened(self, path: Path) -> bytes:
        """What was accepted under this name. Errors: SpoolCorrupt."""
        data = path.read_bytes()
        try:
            return data if self._crypt is None else self._crypt.unseal_bytes(data)
        except FormBroken as problem:
            raise SpoolCorrupt(f"expected the sealed bytes of {path.name}, found: {problem}") from problem

    def _set_aside(self, path: Path, problem: SterlingError, commit: Callable[[Batch], Receipt]) -> None:
        data = path.read_bytes()
        batch = Batch(submission=address_of(b"quarantine" + path.name.encode() + data)[:32])
        payload = {"item": path.name, "sha256": address_of(data), "size_bytes": len(data)}
        batch.append("spool.quarantined", payload | {"problem": problem.message[:400]})
        commit(batch)
        folder = self.folder / "quarantine"
        folder.mkdir(mode=0o700, exist_ok=True)
        path.rename(folder / path.name)


def _item(home_id: str, batch: Batch, blobs: dict[str, bytes], accepted_us: int) -> bytes:
    body = wire.encode(batch)
    header = {
        "accepted_us": accepted_us,
        "batch_bytes": len(body),
        "blobs": [[address, len(data)] for address, data in sorted(blobs.items())],
        "format": _FORMAT,
        "home_id": home_id,
    }
    start = json.dumps(header, sort_keys=True).encode("ascii") + b"\n"
    whole = b"".join([start, body, *(data for _, data in sorted(blobs.items()))])
    return whole + hashlib.sha256(whole).hexdigest().encode("ascii")


def _same(waiting: Path, found: bytes, data: bytes) -> Path:
    """The item that waits under this submission id, if it holds the same batch and blobs."""
    if _without_time(found) != _without_time(data):
        raise SpoolCollision(f"expected the batch of {waiting.name}, found another under its id")
    return waiting


def _without_time(data: bytes) -> tuple[dict[str, object], bytes]:
    start, _, rest = data.partition(b"\n")
    header = json.loads(start)
    header.pop("accepted_us")
    return header, rest[:-_HASH_BYTES]


def _read(path: Path, data: bytes, home_id: str) -> tuple[Batch, list[bytes]]:
    """The batch and the blobs of an item. Errors: SpoolCorrupt."""
    whole, trailer = data[:-_HASH_BYTES], data[-_HASH_BYTES:]
    if hashlib.sha256(whole).hexdigest().encode("ascii") != trailer:
        raise SpoolCorrupt(f"expected the bytes that were accepted in {path.name}, found others")
    header = json.loads(whole[: whole.index(b"\n", 0, _HEADER_BYTES_MAX)])
    if header["home_id"] != home_id:
        raise SpoolCorrupt(f"expected an item of {home_id} in {path.name}, found one of {header['home_id']}")
    at = whole.index(b"\n") + 1
    batch = wire.decode(whole[at : at + header["batch_bytes"]])
    blobs = list(_pieces(whole, at + header["batch_bytes"], [size for _, size in header["blobs"]]))
    return batch, blobs


def _pieces(data: bytes, at: int, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[at : at + size]
        at += size
