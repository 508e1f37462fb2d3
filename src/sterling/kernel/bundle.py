"""Bundles: a part of a ledger, or all of it, as one file that verifies without a home.

A bundle is an uncompressed tar whose bytes follow from its content: sorted
members, no times, no owners. It holds entries, their proofs, checkpoints, the
first key, the contracts used and the blobs that the entries name. What is left
out is listed with a reason; nothing is quietly absent. `bundle_verify.py` checks
one, docs/reference/bundle-format.md is enough to write another program that does.

Exporting signs a checkpoint first and then copies rows as they stand: whether
they hold is for whoever receives them to find out. A redactor changes copies,
never the store.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sterling.kernel import merkle
from sterling.kernel.blobs import Blobs
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.checkpoint import note_checkpoint, origin_of
from sterling.kernel.contracts import Contracts
from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home
from sterling.kernel.key_history import KEY_KINDS
from sterling.kernel.keys import load_public_key
from sterling.kernel.signing import verifier_text
from sterling.kernel.store_sqlite import read_node, record_row
from sterling.kernel.verify_blobs import addresses_in, is_spilled
from sterling.kernel.verify_log import read_canonical

__all__ = [
    "BLOCK_BYTES",
    "FORMAT",
    "LINE_BYTES_MAX",
    "MANIFEST_BYTES_MAX",
    "MEMBERS_MAX",
    "MEMBER_BYTES_MAX",
    "BundleNotWritten",
    "BundleTooLarge",
    "Exported",
    "NothingSelected",
    "Redactor",
    "Selection",
    "Shelf",
    "closure",
    "export_bundle",
    "read_redactions",
    "records_named",
    "tar_header",
    "write_bundle",
]

FORMAT = "sterling/bundle/1"
BLOCK_BYTES = 512
MEMBERS_MAX = 250_000
MEMBER_BYTES_MAX = 8**11 - 1  # What eleven octal digits hold.
MANIFEST_BYTES_MAX = 64 * 1024 * 1024  # Of any member that is read whole.
LINE_BYTES_MAX = 1024 * 1024
_PIECE_BYTES = 1024 * 1024

Redactor = Callable[[bytes], bytes | None]  # The copy that may leave, or None: leave it out.


class BundleNotWritten(SterlingError):
    """The disk refuses a bundle at a path, or something is there already."""

    code = "bundle.not-written"
    hint = "Name a file that does not exist yet: `sterling ledger export -o FILE.tar`."
    exit = EXIT_USAGE


class BundleTooLarge(SterlingError):
    """More than a bundle can hold."""

    code = "bundle.too-large"
    hint = "Select less: `sterling ledger export --range A:B -o FILE.tar`."
    exit = EXIT_USAGE


class NothingSelected(SterlingError):
    """No entry of the log matches what was to be exported."""

    code = "bundle.nothing-selected"
    hint = "See what there is: `sterling ledger show`."
    exit = EXIT_USAGE


class RedactionsUnreadable(SterlingError):
    """The map of redacted copies does not open with this key."""

    code = "bundle.redactions-unreadable"
    hint = "Use the key file that was written beside the bundle: `sterling ledger export --help`."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export: `all`; or `run`, `record` (a value is its id) or `range` (`A:B`, B not included)."""

    by: str = "all"
    value: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export gave. `key_file` opens the map of redacted copies; None without a redactor."""

    file: Path
    sha256: str
    origin: str
    entries: int
    blobs: int
    withheld: tuple[dict[str, str], ...]
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the parts of a bundle are taken from, whatever state they are in."""

    connection: sqlite3.Connection
    home_id: str
    verifier: str
    blobs: Blobs
    contracts: Contracts


def export_bundle(
    home: Home, selection: Selection, file: Path, *, redactor: Redactor | None = None
) -> Exported:
    """Sign a checkpoint and write what it covers of this selection to a new file.

    The same log and selection give the same bytes, except with a redactor: then a
    fresh key, written beside the file with mode 0600, seals which copy is of what.
    Cost:   one pass; one blob at a time in memory, and with a redactor every changed copy.
    Errors: BundleNotWritten, NothingSelected, BundleTooLarge, record.absent, ledger.closed.
    """
    size = note_checkpoint(home.ledger.checkpoint()).size
    indexes = None if selection.by == "all" else closure(home, _selected(home, selection, size), size)
    public = load_public_key(home.path / "keys", "ledger")  # The first key: ADR 14.
    verifier = "" if public is None else verifier_text(origin_of(home.id), public)
    shelf = Shelf(home.ledger.connection(), home.id, verifier, home.blobs, home.contracts)
    key = b"" if redactor is None else AESGCM.generate_key(256)
    key_file = None if redactor is None else file.with_name(file.name + ".key")
    try:
        with _growing(file) as target:
            made = write_bundle(target, shelf, selection, indexes, size=size, redactor=redactor, key=key)
            if key_file is not None:
                with _growing(key_file) as secret:
                    secret.write(key.hex().encode("ascii") + b"\n")
    except OSError as problem:
        raise BundleNotWritten(f"expected to write {file}, found: {problem.strerror}") from problem
    named = ("sha256", "entries", "blobs", "withheld")
    return Exported(
        file, origin=origin_of(home.id), key_file=key_file, **{name: made[name] for name in named}
    )


def read_redactions(sealed: bytes, key: bytes, origin: str) -> dict[str, str]:
    """The map in `copies.bin`: address of the original, or `entry:<index>`, to the address of its copy.

    Errors: RedactionsUnreadable.
    """
    try:
        data = AESGCM(key).decrypt(sealed[:12], sealed[12:], origin.encode("ascii"))
    except (InvalidTag, ValueError) as problem:
        raise RedactionsUnreadable("expected the key of this bundle, found another") from problem
    found: dict[str, str] = parse_canonical(data, limit=len(data))
    return found


def closure(home: Home, indexes: Iterable[int], size: int) -> list[int]:
    """These entries and those of every record that their records came from, in order."""
    found, waiting = set[int](), set(indexes)
    while waiting:
        index = waiting.pop()
        found.add(index)
        entry = home.ledger.entry(index)
        for record in () if entry is None else records_named(entry.kind, entry.payload):
            row = record_row(home.ledger.connection(), record)
            if row is not None and row[2] not in found:
                waiting.add(row[2])
    return sorted(index for index in found if index < size)


def records_named(kind: str, payload: Json) -> list[str]:
    """The records that an entry's record came from."""
    sources = payload.get("sources") if kind == "record.put" and isinstance(payload, dict) else None
    listed = sources if isinstance(sources, list) else []
    return [each["record"] for each in listed if isinstance(each, dict) and type(each.get("record")) is str]


def write_bundle(
    file: BinaryIO,
    shelf: Shelf,
    selection: Selection,
    indexes: list[int] | None,
    *,
    size: int,
    redactor: Redactor | None = None,
    key: bytes = b"",
) -> dict[str, Json]:
    """Write these entries (None: all) with everything they need, as it stands; nothing is verified.

    What lies beyond `size` came while this was written and is left out; with -1 nothing is.
    """
    tar, gathered = _Tar(file), _Gathered(shelf, redactor)
    with tempfile.TemporaryFile() as lines:
        entries = 0
        for line in _entry_lines(shelf, gathered, indexes, size):
            lines.write(line)
            entries += 1
        blobs = 0
        for address in gathered.named():
            data = gathered.blob(address)
            if data is not None:
                tar.add(f"blobs/{address}", [data], len(data))
                blobs += 1
        notes = b"".join(_checkpoint_lines(shelf, indexes, size))
        tar.add("checkpoints.jsonl", [notes], len(notes))
        for contract in shelf.contracts:
            if contract.name in gathered.contracts:
                tar.add(f"contracts/{contract.id}.json", [contract.raw], len(contract.raw))
        if key:
            sealed = _seal_map(gathered.copies_of, key, origin_of(shelf.home_id))
            tar.add("copies.bin", [sealed], len(sealed))
        for address, data in sorted(gathered.copies.items()):
            tar.add(f"copies/{address}", [data], len(data))
        length = lines.tell()
        lines.seek(0)
        tar.add("entries.jsonl", iter(lambda: lines.read(_PIECE_BYTES), b""), length)
    keys = canonical_bytes({"ledger": shelf.verifier})
    tar.add("keys.json", [keys], len(keys))
    withheld = [{"id": id, "reason": reason} for id, reason in sorted(gathered.withheld.items())]
    manifest = {
        "format": FORMAT,
        "members": tar.members,
        "origin": origin_of(shelf.home_id),
        "selection": {"by": selection.by, "value": selection.value},
        "withheld": withheld,
    }
    data = canonical_bytes(manifest)
    if max(len(data), len(notes)) > MANIFEST_BYTES_MAX:
        raise BundleTooLarge(f"expected at most {MANIFEST_BYTES_MAX} bytes of manifest, found {len(data)}")
    tar.add("manifest.json", [data], len(data))
    return {"sha256": tar.close(), "entries": entries, "blobs": blobs, "withheld": tuple(withheld)}


def tar_header(name: str, size: int) -> bytes:
    """The one header that a member of this name and size can have."""
    fields = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    fields += b"%011o\0" % size + b"00000000000\0" + b" " * 8 + b"0" + bytes(100) + b"ustar\x0000"
    fields = fields.ljust(BLOCK_BYTES, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


class _Tar:
    """A tar in the making; `members` lists what is in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.members: list[Json] = []

    def add(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        if size > MEMBER_BYTES_MAX or len(self.members) >= MEMBERS_MAX:
            raise BundleTooLarge(f"expected at most {MEMBERS_MAX} members of 8 GiB, found more at {name}")
        digest = hashlib.sha256()
        self._write(tar_header(name, size))
        for piece in pieces:
            digest.update(piece)
            self._write(piece)
        self._write(bytes(-size % BLOCK_BYTES))
        self.members.append({"name": name, "sha256": digest.hexdigest(), "size_bytes": size})

    def close(self) -> str:
        self._write(bytes(2 * BLOCK_BYTES))
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


@dataclass
class _Gathered:
    """What the entries of a bundle name, and what of it stays out or goes as a copy."""

    shelf: Shelf
    redactor: Redactor | None
    contracts: set[str] = field(default_factory=set)
    withheld: dict[str, str] = field(default_factory=dict)
    copies: dict[str, bytes] = field(default_factory=dict)
    copies_of: dict[str, str] = field(default_factory=dict)
    _blobs: set[str] = field(default_factory=set)
    _hidden: set[str] = field(default_factory=set)  # What only withheld bytes name.
    _documents: set[str] = field(default_factory=set)
    _records: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))  # Put and named.

    def take(self, index: Json, data: bytes) -> str:
        """Note what an entry names; the reason to withhold its body, if there is one."""
        try:
            body = read_canonical(data)
            kind, payload = str(body["kind"]), body["payload"]
        except (SterlingError, LookupError, TypeError):
            return ""  # No entry of ours. It goes out as it stands, and whoever verifies says so.
        is_record = kind in ("record.put", "record.again") and isinstance(payload, dict)
        record = str(payload.get("id")) if is_record else ""
        if self._redact(f"entry:{index}", data) is None:
            if record:
                self.withheld[record] = "redacted"
            self._hidden.update(addresses_in(payload))
            return self.withheld[f"entry:{index}"]
        self.contracts.add(kind)
        if is_record:
            self._records[0].add(record)
            self.contracts.add(str(payload.get("contract")).partition("@")[0])
        self._blobs.update(addresses_in(payload))
        self._records[1].update(records_named(kind, payload))
        if is_spilled(body):
            self._documents.add(payload["blob"])
        return ""

    def named(self) -> list[str]:
        """Every address that the bundle's entries and their documents name, in order."""
        put, wanted = self._records
        self.withheld = dict.fromkeys(wanted - put, "record.absent") | self.withheld
        for address in sorted(self._documents):
            data = self.blob(address)
            try:
                whole = self.shelf.blobs.get(address) if data is None else data
                inner = set(addresses_in(parse_canonical(whole, limit=MANIFEST_BYTES_MAX)))
            except SterlingError:
                continue  # No document of ours, or one too large to look into: it names nothing.
            (self._hidden if data is None else self._blobs).update(inner)
        hidden = dict.fromkeys(self._hidden - self._blobs, "named-by-withheld")
        self.withheld = hidden | self.withheld
        return sorted(self._blobs)

    def blob(self, address: str) -> bytes | None:
        """The bytes as they may leave under this address; None when they may not, with the reason kept."""
        try:
            data = self.shelf.blobs.get(address)
        except SterlingError as problem:
            self.withheld[address] = problem.code
            return None
        return self._redact(address, data)

    def _redact(self, id: str, data: bytes) -> bytes | None:
        copy = data if self.redactor is None else self.redactor(data)
        if copy == data:
            return data
        self.withheld[id] = "left-out" if copy is None else "redacted"
        if copy is not None:
            self.copies[address_of(copy)] = copy
            self.copies_of[id] = address_of(copy)
        return None


def _selected(home: Home, selection: Selection, size: int) -> set[int]:
    """The entries that were asked for, with those that say whose log it is and which keys signed it."""
    ledger = home.ledger
    if selection.by == "run":
        found = {entry.index for entry in ledger.read(run=selection.value)} if selection.value else set()
    elif selection.by == "record":
        found = {home.records.get(selection.value).entry}
    else:
        low, _, high = selection.value.partition(":")
        is_range = all(part.isascii() and part.isdigit() and len(part) < 19 for part in (low, high))
        found = set(range(int(low), min(int(high), size))) if is_range else set()
    if not found:
        raise NothingSelected(f"expected entries of {selection.by} {selection.value!r}, found none")
    return found | {0} | {entry.index for kind in KEY_KINDS for entry in ledger.read(kind=kind)}


def _entry_lines(shelf: Shelf, gathered: _Gathered, indexes: list[int] | None, size: int) -> Iterator[bytes]:
    def node(level: int, position: int) -> bytes:
        return read_node(shelf.connection, level, position)

    until = "" if indexes is None else 'WHERE "index" = ?'
    query = f'SELECT "index", hash, previous, body FROM entries {until} ORDER BY "index"'
    given: Iterable[tuple[int, ...]] = [()] if indexes is None else ((index,) for index in indexes)
    for parameters in given:
        for index, digest, previous, body in shelf.connection.execute(query, parameters):
            if indexes is None and type(index) is int and index >= size >= 0:
                continue  # Written after the checkpoint.
            data = body if isinstance(body, bytes) else b""
            line: dict[str, Json] = {"hash": _hex(digest), "index": index, "previous": _hex(previous)}
            reason = gathered.take(index, data)
            line |= {"withheld": reason} if reason else {"body": data.decode("utf-8", "replace")}
            if indexes is not None:
                line["proof"] = [each.hex() for each in merkle.inclusion(index, size, node)]
            yield canonical_bytes(line, floats=True) + b"\n"


def _checkpoint_lines(shelf: Shelf, indexes: list[int] | None, size: int) -> Iterator[bytes]:
    """All checkpoints with all entries; else the first that covers the selection, and the newest."""
    rows = shelf.connection.execute("SELECT size, note FROM checkpoints ORDER BY size").fetchall()
    rows = [row for row in rows if size < 0 or row[0] <= size]  # Others came while this was written.
    if indexes is not None:
        rows = sorted({next(row for row in rows if row[0] > indexes[-1]), rows[-1]})
    for old, note in rows:
        line = {"note": note if isinstance(note, str) else "", "size": old}
        if indexes is not None:
            nodes = merkle.consistency(old, size, lambda level, at: read_node(shelf.connection, level, at))
            line["consistency"] = [each.hex() for each in nodes]
        yield canonical_bytes(line, floats=True) + b"\n"


def _seal_map(copies_of: dict[str, str], key: bytes, origin: str) -> bytes:
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, canonical_bytes(copies_of), origin.encode("ascii"))


def _hex(value: Json) -> str:
    return value.hex() if isinstance(value, bytes) else ""


class _growing:
    """A new file of ours alone, synced when it is whole and taken away when it does not become so."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
            if kind is not None:
                self._path.unlink()
