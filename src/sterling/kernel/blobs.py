"""Blobs: bytes addressed by their SHA-256, written once, never changed, never deleted.

`put` streams to `.incoming`, syncs, then links the file to its address without
replacing anything, so a crash leaves at worst an unreferenced blob. What is read
is hashed, and a file that does not hold what its name says is refused.

How the bytes are stored is told by the file's name: `ab/<62 hex>` are the plain
bytes, a codec adds its suffix, and in an encrypted home the name is an HMAC of
the address and ends in `.sealed`. A blob that `archive.py` moved away is read
from its store while that is attached.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from sterling.kernel.blob_codec import CODECS, PIECE_BYTES, PLAIN, Codec, FormBroken
from sterling.kernel.crypt import Crypt, load_crypt
from sterling.kernel.durable import sync_folder
from sterling.kernel.errors import EXIT_BROKEN, EXIT_CANNOT_JUDGE, SterlingError
from sterling.kernel.hashing import address_of, is_address
from sterling.kernel.keys import KeyUnusable

__all__ = [
    "STORE_FILE",
    "Archived",
    "BlobAbsent",
    "BlobAltered",
    "BlobArchivedAway",
    "BlobFormUnknown",
    "BlobNoSpace",
    "BlobNotDurable",
    "BlobSourceUnreadable",
    "Blobs",
    "PendingReader",
    "Stored",
    "open_blobs",
    "store_id",
]

STORE_FILE = "sterling-archive.json"
_SEALED = ".sealed"
_READ_BYTES = 64 * 1024  # Fits a near cache; larger buffers cost a page fault for every page.
_FORM = re.compile(r"(?P<name>[0-9a-f]{62})(?P<suffix>(\.[a-z0-9]{1,16}){0,2})")


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


class BlobArchivedAway(SterlingError):
    """A blob lies in an archive that is not attached."""

    code = "blob.archived-away"
    hint = "Attach the archive and name its folder in the setting archive.stores: `sterling config set`."
    exit = EXIT_CANNOT_JUDGE


class BlobFormUnknown(SterlingError):
    """A blob is stored in a form that this program cannot read."""

    code = "blob.form-unknown"
    hint = "Use the newer Sterling that wrote it, then run `sterling verify --blobs`."
    exit = EXIT_CANNOT_JUDGE


class BlobNoSpace(SterlingError):
    """The disk has no room for a blob."""

    code = "blob.no-space"
    hint = "Free some space and run the command again; nothing was recorded. See `sterling status`."


class BlobNotDurable(SterlingError):
    """The disk did not keep a blob, or a batch names one that is not kept."""

    code = "blob.not-durable"
    hint = "Look at the disk, then run the command again; nothing was recorded. See `sterling status`."


class BlobSourceUnreadable(SterlingError):
    """A file that was to be stored cannot be read."""

    code = "blob.source-unreadable"
    hint = "Name a regular file that you may read. See `sterling ingest --help`."
    exit = 2


@dataclass(frozen=True, slots=True)
class Archived:
    """Where a blob was moved to: the id of the store, and the folder it had then."""

    store: str
    place: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A file and its form; `codec` is None for one that this program does not know."""

    path: Path
    name: str
    codec: Codec | None
    sealed: bool


class PendingReader(io.RawIOBase):
    """The bytes of a blob, to be believed only once `close` has returned.

    Closing hashes what was not read. Errors of `close`: BlobAltered.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def close(self) -> None:
        """Settle: read to the end and compare with the address."""
        if self.closed:
            return
        try:
            for _ in self._pieces:
                pass
        finally:
            super().close()


class Blobs:
    """The blobs under one folder: a home's, or an archive's."""

    def __init__(self, root: Path, crypt: Crypt | None = None) -> None:
        self.root, self.crypt = root, crypt
        self.lacks_key = False
        self.stores: tuple[Path, ...] = ()
        self.whereabouts: Callable[[str], Archived | None] = lambda _: None
        self._quarantined: list[dict[str, str]] = []
        self._in_memory: dict[str, int] = {}

    # Putting

    def put(self, data: bytes) -> str:
        """Store these bytes durably and return their address.

        Cost: one file sync and two folder syncs, or one read when already there.
        Errors: BlobNoSpace, BlobNotDurable.
        """
        address = address_of(data)
        if not self._holds(address, data):
            pieces = (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
            self._store(pieces, lambda: address)
        return address

    def put_stream(self, source: BinaryIO) -> str:
        """Store what a stream gives, in small pieces, and return its address.

        Errors: BlobNoSpace, BlobNotDurable.
        """
        return self._put_pieces(iter(lambda: source.read(_READ_BYTES), b""))

    def put_file(self, source: Path) -> str:
        """Store a file's bytes durably, in small pieces, and return their address.

        Errors: BlobSourceUnreadable, BlobNoSpace, BlobNotDurable.
        """
        return self._put_pieces(_file_pieces(source))

    def adopt(self, stored: Stored, address: str) -> None:
        """Store a copy of a file in the form that it has, once the copy on this disk was hashed again.

        Errors: BlobAltered, BlobNoSpace, BlobNotDurable.
        """
        self._place(_file_pieces(stored.path), stored, lambda: address)

    def write_form(self, address: str, codec: Codec) -> Path:
        """Store a blob in another form beside those it has; returns the new file.

        Errors: as `get` and `put`.
        """
        form = self._form(codec)
        pieces = self._encoded(self.pieces(address), codec, lambda: address)
        return self._place(pieces, form, lambda: address)

    # Getting

    def has(self, address: str) -> bool:
        """Whether this address is stored here or archived with an entry (its bytes are not checked)."""
        here = is_address(address) and any(stored.path.is_file() for stored in self.forms(address))
        return here or (is_address(address) and self.whereabouts(address) is not None)

    def get(self, address: str) -> bytes:
        """The bytes of this address, checked.

        Errors: BlobAbsent, BlobAltered, BlobArchivedAway, BlobFormUnknown, KeyUnusable.
        """
        return b"".join(self.pieces(address))

    def open_range(self, address: str, start: int = 0) -> PendingReader:
        """A reader for large blobs, from a byte on; it settles on close.

        Errors: as `get`.
        """
        reader = PendingReader(self.pieces(address))
        while start > 0 and (skipped := reader.read(min(start, PIECE_BYTES))):
            start -= len(skipped)
        return reader

    def pieces(self, address: str) -> Iterator[bytes]:
        """The bytes of an address in pieces; the last step fails when the whole is not right.

        Errors: as `get`.
        """
        holder, stored = self._find(address)
        digest = hashlib.sha256()
        try:
            for piece in holder.decoded(stored):
                digest.update(piece)
                yield piece
        except (FormBroken, OSError) as problem:
            if not os.path.lexists(stored.path):  # Moved since it was found; an open file stays readable.
                yield from self.pieces(address)
                return
            raise BlobAltered(f"blob {address}: {problem}", address=address) from problem
        found = digest.hexdigest()
        if found != address:
            raise BlobAltered(
                f"blob {address}: expected bytes with that hash, found {found}", address=address, found=found
            )

    def quick_check(self, address: str) -> str:
        """What lies here: `ok`, `altered`, `absent`, `archived` or `unknown`. Reads the whole file."""
        try:
            for _ in self.pieces(address):
                pass
        except BlobAbsent:
            return "absent"
        except BlobArchivedAway:
            return "archived"
        except BlobAltered:
            return "altered"
        except (BlobFormUnknown, KeyUnusable):
            return "unknown"
        return "ok"

    def path(self, address: str) -> Path:
        """Where the plain bytes of this address lie in a home that is not encrypted."""
        assert is_address(address), f"not an address: {address!r}"
        return self.root / address[:2] / address[2:]

    def file(self, address: str) -> Path:
        """A path at which other programs of this user can read the plain bytes (not checked).

        Of a blob that is not stored plain it is a file in memory, which lives as long
        as this process: nothing readable reaches the disk.
        Errors: as `get`.
        """
        _, stored = self._find(address)
        if stored.codec is PLAIN and not stored.sealed:
            return stored.path
        if address not in self._in_memory:
            descriptor = os.memfd_create(address)
            with open(descriptor, "wb", closefd=False) as memory:
                for piece in self.pieces(address):
                    memory.write(piece)
            self._in_memory[address] = descriptor
        return Path(f"/proc/{os.getpid()}/fd/{self._in_memory[address]}")

    # What is there

    def forms(self, address: str) -> list[Stored]:
        """Every local file that holds this address in a form that can be read here."""
        wanted = [
            Stored(self.root / name[:2] / name[2:], name[:64], codec, sealed)
            for sealed in ((True, False) if self.crypt else (False,))
            for codec in CODECS.values()
            if (name := self._name(address, Stored(self.root, "", codec, sealed)))
        ]
        return [stored for stored in wanted if os.path.lexists(stored.path)]

    def stored(self) -> Iterator[Stored]:
        """Everything that lies where a blob could lie, in the order of the names."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            if folder.is_dir() and not folder.is_symlink():
                for file in sorted(folder.iterdir()):
                    form = _FORM.fullmatch(file.name)
                    suffix = form["suffix"] if form else ""
                    codec = CODECS.get(suffix.removesuffix(_SEALED))
                    name = folder.name + (form["name"] if form else file.name)
                    yield Stored(file, name, codec, suffix.endswith(_SEALED))

    def addresses(self) -> Iterator[str]:
        """Every address that has a local file, in order; files that do not open are left out."""
        found = (self.claim(stored) for stored in self.stored())
        yield from sorted({address for address in found if is_address(address)})

    def claim(self, stored: Stored) -> str:
        """The address that a file says it holds; empty when that cannot be told."""
        if not stored.sealed:
            return stored.name
        try:
            if self.crypt is not None:
                with stored.path.open("rb", buffering=0) as file:
                    address = self.crypt.address_in(file)
                return address if self.crypt.name_of(address) == stored.name else ""
        except (FormBroken, OSError):
            pass
        return ""

    def check(self, stored: Stored, address: str = "") -> str:
        """`ok` or `altered`, or `unknown` for a form that cannot be read here."""
        if stored.codec is None or (stored.sealed and self.crypt is None):
            return "unknown"
        if not stored.path.is_file() or stored.path.is_symlink():
            return "altered"
        digest, expected = hashlib.sha256(), address or self.claim(stored)
        try:
            for piece in self.decoded(stored):
                digest.update(piece)
        except (FormBroken, OSError):
            return "altered"
        return "ok" if digest.hexdigest() == expected else "altered"

    def decoded(self, stored: Stored) -> Iterator[bytes]:
        """The plain bytes of a file, not hashed. Errors: FormBroken, OSError."""
        assert stored.codec is not None, "only a known form can be read"
        with stored.path.open("rb", buffering=0) as file:
            if stored.sealed:
                assert self.crypt is not None, "a sealed file is read with a key"
                yield from stored.codec.decode(self.crypt.unseal(file))
            else:
                yield from stored.codec.decode(iter(lambda: file.read(_READ_BYTES), b""))

    def attached(self, archived: Archived) -> Blobs | None:
        """The store that a blob was moved to, if it lies at a place that is known."""
        for place in (*self.stores, Path(archived.place)):
            if store_id(place) == archived.store:
                return Blobs(place, self.crypt)
        return None

    def take_quarantined(self) -> list[dict[str, str]]:
        """What was set aside since this was last asked, for the ledger to note."""
        taken, self._quarantined = self._quarantined, []
        return taken

    # Inside

    def _find(self, address: str) -> tuple[Blobs, Stored]:
        """The file to read an address from, and the blobs it belongs to."""
        if is_address(address) and (local := self.forms(address)):
            return self, local[0]
        archived = self.whereabouts(address) if is_address(address) else None
        if archived is None:
            self._explain(address)
            raise BlobAbsent(f"expected a blob at {address}, found none", address=address)
        store = self.attached(archived)
        if store is None:
            raise BlobArchivedAway(
                f"blob {address} was archived to {archived.store}, last seen at {archived.place}, "
                "which is not attached",
                address=address,
                store=archived.store,
            )
        if not (moved := store.forms(address)):
            raise BlobAbsent(f"expected blob {address} in {archived.store}, found none", address=address)
        return store, moved[0]

    def _explain(self, address: str) -> None:
        """Raise when an address may well be here and only cannot be read."""
        if self.lacks_key:
            raise KeyUnusable(f"expected the key of this home to look for blob {address}, found none")
        name = self.crypt.name_of(address) if self.crypt and is_address(address) else address
        if is_address(name) and any((self.root / name[:2]).glob(f"{name[2:]}.*")):
            raise BlobFormUnknown(f"expected blob {address} in a known form, found another", address=address)

    def _form(self, codec: Codec) -> Stored:
        return Stored(self.root, "", codec, self.crypt is not None)

    def _name(self, address: str, form: Stored) -> str:
        assert is_address(address) and form.codec is not None, f"not an address: {address!r}"
        if not form.sealed:
            return address + form.codec.suffix
        assert self.crypt is not None, "a sealed name is made with a key"
        return self.crypt.name_of(address) + form.codec.suffix + _SEALED

    def _holds(self, address: str, data: bytes) -> bool:
        """Whether these bytes are stored already; compared, which costs less than hashing."""
        for stored in self.forms(address):
            at = 0
            try:
                for piece in self.decoded(stored):
                    if not data.startswith(piece, at):
                        break
                    at += len(piece)
                else:
                    if at == len(data):
                        self._sync(stored.path.parent)
                        return True
            except (FormBroken, OSError):
                continue
        return False

    def _put_pieces(self, pieces: Iterable[bytes]) -> str:
        digest = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        self._store(hashed(), digest.hexdigest)
        return digest.hexdigest()

    def _store(self, pieces: Iterable[bytes], address: Callable[[], str]) -> None:
        form = self._form(PLAIN)
        self._place(self._encoded(pieces, PLAIN, address), form, address, trusted=True)

    def _encoded(self, pieces: Iterable[bytes], codec: Codec, address: Callable[[], str]) -> Iterator[bytes]:
        encoded = codec.encode(pieces)
        return encoded if self.crypt is None else self.crypt.seal(encoded, address)

    def _place(
        self, pieces: Iterable[bytes], form: Stored, address: Callable[[], str], *, trusted: bool = False
    ) -> Path:
        """Write pieces to `.incoming`, sync them, and link the file to its name; returns that.

        Bytes that were not hashed on the way in are read back from the disk and hashed.
        """
        incoming = self.root / ".incoming" / secrets.token_hex(16)
        try:
            with _disk():
                _write(incoming, pieces)
                name = self._name(address(), form)
                target = Stored(self.root / name[:2] / name[2:], name[:64], form.codec, form.sealed)
                if not trusted:
                    _forget(incoming)
                    if self.check(replace(target, path=incoming), address()) != "ok":
                        raise BlobAltered(f"expected a whole copy of blob {address()}, found it altered")
                self._link(incoming, target, address())
        finally:
            incoming.unlink(missing_ok=True)
        return target.path

    def _link(self, incoming: Path, target: Stored, address: str) -> None:
        target.path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.link(incoming, target.path)
        except FileExistsError:
            if self.check(target, address) != "ok":
                self._quarantine(target.path, address)
                os.replace(incoming, target.path)  # Never a moment without a file.
        self._sync(target.path.parent)

    def _sync(self, folder: Path) -> None:
        sync_folder(folder)
        sync_folder(self.root)

    def _quarantine(self, wrong: Path, address: str) -> None:
        folder = self.root / ".quarantine"
        folder.mkdir(mode=0o700, exist_ok=True)
        aside = folder / f"{wrong.name}.{secrets.token_hex(4)}"
        if wrong.is_file() and not wrong.is_symlink():
            os.link(wrong, aside)
        else:
            wrong.rename(aside)
        sync_folder(folder)
        self._quarantined.append({"address": address, "file": aside.name})


def open_blobs(root: Path, *, without_key: bool = False) -> Blobs:
    """The blobs of the home around this folder, with its key when it is encrypted.

    `without_key` opens a home whose key is not at hand too: what is sealed then is
    `keys.unusable` when it is asked for.
    Errors: KeyUnusable.
    """
    blobs = Blobs(root)
    try:
        blobs.crypt = load_crypt(root.parent / "keys")
    except KeyUnusable:
        if not without_key:
            raise
        blobs.lacks_key = True
    return blobs


def store_id(place: Path) -> str:
    """The id of the archive at a folder; empty when there is none."""
    try:
        found = json.loads((place / STORE_FILE).read_bytes()[:4096])
        return str(found["id"]) if found["format"] == "sterling/archive/1" else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _write(incoming: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file, read-only and synced."""
    incoming.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with incoming.open("xb", buffering=0) as file:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def _forget(file: Path) -> None:
    """Take a synced file out of the cache, so that reading it asks the disk."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _file_pieces(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                yield piece
    except OSError as problem:
        raise BlobSourceUnreadable(
            f"expected a readable file, found {source}: {problem.strerror}"
        ) from problem


class _disk:
    """Turns what a disk refuses into the project's errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, problem: BaseException | None, _trace: object) -> None:
        if isinstance(problem, OSError):
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BlobNoSpace(f"expected room for a blob, found none: {problem.strerror}") from problem
            raise BlobNotDurable(f"expected the disk to keep a blob, found: {problem.strerror}") from problem
