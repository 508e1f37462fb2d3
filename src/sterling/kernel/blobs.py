"""Blobs: bytes addressed by their SHA-256, written once, never changed, never deleted.

`put` streams to `.incoming`, syncs, then links the file to its address, so a
crash leaves at worst an unreferenced blob. `get` hashes what it reads and
refuses a file that is not what its name says.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.hashing import address_of, hash_file, is_address

__all__ = ["BlobAbsent", "BlobAltered", "BlobNoSpace", "BlobSourceUnreadable", "Blobs"]

_PIECE_BYTES = 1024 * 1024


class BlobAltered(SterlingError):
    """The file at an address does not hash to it."""

    code = "blob.altered"
    hint = "Restore the file from a backup, then run `sterling verify --blobs`."
    exit = EXIT_BROKEN


class BlobAbsent(SterlingError):
    """Nothing is stored at an address."""

    code = "blob.absent"
    hint = "Check the address, then run `sterling verify --blobs`."
    exit = EXIT_BROKEN


class BlobNoSpace(SterlingError):
    """The disk has no room for a blob."""

    code = "blob.no-space"
    hint = "Free some space and run the command again; nothing was recorded. See `sterling status`."


class BlobSourceUnreadable(SterlingError):
    """A file that was to be stored cannot be read."""

    code = "blob.source-unreadable"
    hint = "Name a regular file that you may read. See `sterling ingest --help`."
    exit = 2


class Blobs:
    """The blobs of one home."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, address: str) -> Path:
        """Where the bytes of this address lie, whether or not they are there."""
        assert is_address(address), f"not an address: {address!r}"
        return self.root / address[:2] / address[2:]

    def has(self, address: str) -> bool:
        """Whether something is stored at this address (its bytes are not checked)."""
        return is_address(address) and self.path(address).is_file()

    def put(self, data: bytes) -> str:
        """Store these bytes durably and return their address.

        Cost: one file sync and one folder sync, or one read when already there.
        """
        address = address_of(data)
        if self.quick_check(address) == "ok":
            return address
        incoming = self._incoming()
        with _space():
            with incoming.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._settle(incoming, address)
        return address

    def put_file(self, source: Path) -> str:
        """Store a file's bytes durably, in 1 MiB pieces, and return their address.

        Errors: BlobSourceUnreadable, BlobNoSpace.
        """
        incoming = self._incoming()
        digest = hashlib.sha256()
        try:
            reader = source.open("rb", buffering=0)
        except OSError as problem:
            raise BlobSourceUnreadable(
                f"expected a readable file, found {source}: {problem.strerror}"
            ) from problem
        with reader, _space(), incoming.open("xb") as file:
            try:
                while piece := _read_piece(reader, source):
                    digest.update(piece)
                    file.write(piece)
            except BlobSourceUnreadable:
                incoming.unlink()
                raise
            file.flush()
            os.fsync(file.fileno())
        address = digest.hexdigest()
        if self.quick_check(address) == "ok":
            incoming.unlink()
            return address
        with _space():
            self._settle(incoming, address)
        return address

    def get(self, address: str) -> bytes:
        """The bytes of this address, checked.

        Errors: BlobAbsent, BlobAltered.
        """
        try:
            data = self.path(address).read_bytes()
        except FileNotFoundError:
            raise BlobAbsent(f"expected a blob at {address}, found none", address=address) from None
        found = address_of(data)
        if found != address:
            raise BlobAltered(
                f"blob {address}: expected bytes with that hash, found {found}", address=address, found=found
            )
        return data

    def quick_check(self, address: str) -> str:
        """What lies at this address: `ok`, `altered` or `absent`. Reads the whole file."""
        if not self.has(address):
            return "absent"
        return "ok" if hash_file(self.path(address)) == address else "altered"

    def addresses(self) -> Iterator[str]:
        """Every address that has a file, in order."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for file in sorted(folder.iterdir()):
                yield folder.name + file.name

    def _incoming(self) -> Path:
        folder = self.root / ".incoming"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / secrets.token_hex(16)

    def _settle(self, incoming: Path, address: str) -> None:
        target = self.path(address)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        os.chmod(incoming, 0o444)
        try:
            os.link(incoming, target)
        except FileExistsError:
            if hash_file(target) != address:
                self._quarantine(target, address)
                os.link(incoming, target)
        incoming.unlink()
        _sync_folder(target.parent)
        _sync_folder(self.root)

    def _quarantine(self, target: Path, address: str) -> None:
        folder = self.root / ".quarantine"
        folder.mkdir(mode=0o700, exist_ok=True)
        target.rename(folder / f"{address}.{secrets.token_hex(4)}")


def _read_piece(reader: RawIOBase, source: Path) -> bytes:
    try:
        return reader.read(_PIECE_BYTES) or b""
    except OSError as problem:
        raise BlobSourceUnreadable(
            f"expected a readable file, found {source}: {problem.strerror}"
        ) from problem


class _space:
    """Turns a full disk into the project's error."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, problem: BaseException | None, _trace: object) -> None:
        if isinstance(problem, OSError) and problem.errno in (28, 122):
            raise BlobNoSpace(f"expected room for a blob, found none: {problem.strerror}") from problem


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
