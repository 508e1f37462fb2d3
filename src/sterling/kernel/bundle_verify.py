"""Checking a bundle: without a home, without trusting whoever sent it.

The order of checks stands in docs/reference/bundle-format.md; the first that
fails decides, and names the member and, where it can, the entry.
`standalone_verify.py` and `ui/static/verify.mjs` do the same with other code.

| verdict      | exit | meaning                                                           |
| ok           | 0    | the pinned key signed a tree that holds everything that is here   |
| broken       | 3    | something disagrees; `first_bad` says where                       |
| cannot-judge | 4    | the bundle agrees with itself; nobody vouches for the key         |
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sterling.kernel import merkle
from sterling.kernel.bundle import (
    BLOCK_BYTES,
    FORMAT,
    LINE_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    MEMBERS_MAX,
    records_named,
    tar_header,
)
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.chain import GENESIS, seal
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, open_note
from sterling.kernel.errors import EXIT_BROKEN, EXIT_CANNOT_JUDGE, EXIT_OK, SterlingError
from sterling.kernel.hashing import is_address
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_history import KEY_KINDS, KeyHistory
from sterling.kernel.merkle import ProofInvalid, ProofRange
from sterling.kernel.signing import Verifier, fingerprint_of, parse_verifier
from sterling.kernel.verify import NotALedger
from sterling.kernel.verify_blobs import addresses_in, is_spilled
from sterling.kernel.verify_log import Broken, parse_entry

__all__ = [
    "BundleBad",
    "BundleVerification",
    "Bytes",
    "check_bundle",
    "is_bundle",
    "map_bundle",
    "read_members",
    "verify_bundle",
]

Bytes = bytes | mmap.mmap
Members = dict[str, tuple[int, int]]  # Where each begins, and its size.

_PIECE_BYTES = 1024 * 1024
_NAME = re.compile(rb"[\x21-\x7e]{1,100}")
_SIZE = re.compile(rb"[0-7]{11}")
_MEMBER = re.compile(
    r"blobs/[0-9a-f]{64}|checkpoints\.jsonl|contracts/[a-z][a-z0-9.-]*@[0-9]+\.[0-9]+\.json|copies\.bin"
    r"|copies/[0-9a-f]{64}|entries\.jsonl|keys\.json|manifest\.json"
)
_ORIGIN = re.compile(r"sterling/[a-z0-9][a-z0-9-]{0,79}")
_HINTS = {
    "ok": "",
    "broken": "Believe nothing in it. Ask for the file again: `sterling ledger export --help`.",
    "cannot-judge": "Name the key you trust, as its home's `sterling ledger head` gave it: `--pin KEY`.",
}


@dataclass(frozen=True, slots=True)
class BundleBad:
    """The first thing that is wrong: in which member, and for which entries (None: not one's own)."""

    member: str
    low: int | None
    high: int | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class BundleVerification:
    """What checking a bundle gave; `size` is how many entries its newest checkpoint covers."""

    verdict: str
    exit: int
    code: str
    message: str
    origin: str
    selection: dict[str, str]
    size: int
    entries: int
    blobs: int
    withheld: tuple[dict[str, str], ...]
    first_bad: BundleBad | None

    @property
    def hint(self) -> str:
        """The next step; empty when it holds."""
        return _HINTS[self.verdict]

    def as_json(self) -> dict[str, Json]:
        """The `verify.bundle` document."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        bad = None if self.first_bad is None else asdict(self.first_bad)
        return fields | {"first_bad": bad, "withheld": list(self.withheld), "hint": self.hint}


class _Bad(Exception):
    """Carries the first fault out of the check; never leaves this module."""

    def __init__(self, member: str, low: int | None, high: int | None, code: str, message: str) -> None:
        super().__init__(message)
        self.bad = BundleBad(member, low, high, code, message)


def is_bundle(path: Path) -> bool:
    """Whether this file is or claims to be a bundle, whole or not."""
    try:
        if not path.is_file() or path.suffix == ".tar":
            return path.is_file()
        with path.open("rb") as file:
            return file.read(BLOCK_BYTES)[257:262] == b"ustar"
    except OSError:
        return False  # Whatever it is, it cannot be read; verifying it as a home says so.


def verify_bundle(path: Path, pin: str | None = None) -> BundleVerification:
    """Check a bundle; `pin` is the verifier string of the first key of its home.

    Cost:   one pass; the file is mapped, memory grows with what one entry holds and the manifest.
    Errors: NotALedger for a file that cannot be read, VerifierInvalid for a bad pin.
    """
    trusted = None if pin is None else parse_verifier(pin)
    return check_bundle(map_bundle(path), trusted)


def map_bundle(path: Path) -> Bytes:
    """The bytes of a file, read when they are looked at. Errors: NotALedger."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.read(1) else b""
    except (OSError, ValueError) as problem:
        raise NotALedger(f"expected to read {path}, found: {problem}") from problem


def check_bundle(data: Bytes, pin: Verifier | None) -> BundleVerification:
    """Check the bytes of a bundle."""
    check, bad = _Check(data, pin), None
    try:
        check.run()
    except _Bad as found:
        bad = found.bad
    if bad is not None:
        verdict, status, code, message = "broken", EXIT_BROKEN, bad.code, bad.message
    elif pin is None:
        message = "it agrees with itself, and nobody vouches for the key that signed it"
        verdict, status, code = "cannot-judge", EXIT_CANNOT_JUDGE, "integrity.no-anchor"
    else:
        verdict, status, code, message = "ok", EXIT_OK, "", ""
    counts = (check.size, check.entries, sum(name.startswith("blobs/") for name in check.members))
    manifest = check.manifest
    selection, withheld = manifest.get("selection", {}), tuple(manifest.get("withheld", ()))
    origin = manifest.get("origin", "")
    return BundleVerification(
        verdict, status, code, message, origin, selection, *counts, withheld, first_bad=bad
    )


def read_members(data: Bytes) -> Members:
    """Where each member lies. A header is right only if it is the one its name and size give."""
    members: Members = {}
    at, last = 0, ""
    while (header := data[at : at + BLOCK_BYTES]) != bytes(BLOCK_BYTES):
        raw, digits = header[:100].rstrip(b"\0"), header[124:135]
        name = raw.decode("ascii") if _NAME.fullmatch(raw) else ""
        if not name or not _SIZE.fullmatch(digits) or header != tar_header(name, int(digits, 8)):
            raise _malformed(name, "it is no plain file with the one header that a bundle gives it")
        if not _MEMBER.fullmatch(name):
            raise _malformed(name, "a bundle has no member of that name")
        if name <= last:
            raise _malformed(name, "members are not in order, or one is there twice")
        start, last = at + BLOCK_BYTES, name
        members[name] = (start, int(digits, 8))
        end = start + members[name][1]
        at = end + -end % BLOCK_BYTES
        if at > len(data) or any(data[end:at]):
            raise _malformed(name, "it is cut short, or something stands behind it")
        if len(members) > MEMBERS_MAX:
            raise _Bad(name, None, None, "bundle.too-large", f"it has more than {MEMBERS_MAX} members")
    if len(data) != at + 2 * BLOCK_BYTES or any(data[at:]):
        raise _malformed("", "it does not end with two empty blocks and nothing else")
    return members


@dataclass
class _Check:
    """One pass over one bundle; the counts are readable when it fails."""

    data: Bytes
    pin: Verifier | None
    members: Members = field(default_factory=dict)
    manifest: dict[str, Json] = field(default_factory=dict)
    size: int = 0
    entries: int = 0
    _known: set[str] = field(default_factory=set)  # Ids that are withheld or, if records, were put.
    _wanted: dict[str, int] = field(default_factory=dict)  # Ids to the first entry that names one.
    _documents: dict[str, int] = field(default_factory=dict)
    _contracts: set[str] = field(default_factory=set)
    _keys: KeyHistory = field(init=False)
    _fingerprint: str = ""  # Of the first key.
    _before: tuple[int, str, int | None] = (-1, GENESIS.hex(), None)  # Index, hash and time.
    _frontier: dict[int, bytes] = field(default_factory=dict)
    _roots: dict[int, bytes] = field(default_factory=dict)

    def run(self) -> None:
        self.members = read_members(self.data)
        self._check_manifest()
        self._check_key()
        self._read("checkpoints.jsonl")  # Refuses one that is too large to be held.
        checkpoints = list(self._lines("checkpoints.jsonl"))
        newest = self._newest(checkpoints)
        sizes = {line.get("size") for line in checkpoints if type(line.get("size")) is int}
        for line in self._lines("entries.jsonl"):
            self._check_entry(line, newest, sizes)
        self._check_checkpoints(checkpoints, newest)
        self._check_closure()

    @property
    def _is_whole(self) -> bool:
        return bool(self.manifest["selection"]["by"] == "all")

    @property
    def _home_id(self) -> str:
        return str(self.manifest["origin"]).partition("/")[2]

    # The file

    def _read(self, name: str) -> bytes:
        if name not in self.members:
            raise _malformed(name, "it is missing")
        start, size = self.members[name]
        if size > MANIFEST_BYTES_MAX:
            raise _Bad(name, None, None, "bundle.too-large", f"it has {size} bytes")
        return self.data[start : start + size]

    def _json(self, name: str, data: bytes) -> dict[str, Json]:
        try:
            value = parse_canonical(data, limit=len(data))
        except SterlingError as problem:
            raise _malformed(name, problem.message) from problem
        if not isinstance(value, dict):
            raise _malformed(name, "it is no object")
        return value

    def _lines(self, name: str) -> Iterator[dict[str, Json]]:
        if name not in self.members:
            raise _malformed(name, "it is missing")
        at, size = self.members[name]
        end = at + size
        while at < end:
            stop = self.data.find(b"\n", at, min(end, at + LINE_BYTES_MAX))
            if stop < 0:
                raise _malformed(name, f"a line does not end, or has more than {LINE_BYTES_MAX} bytes")
            yield self._json(name, self.data[at:stop])
            at = stop + 1

    def _check_manifest(self) -> None:
        name = "manifest.json"
        manifest = self._json(name, self._read(name))
        if set(manifest) != {"format", "members", "origin", "selection", "withheld"}:
            raise _malformed(name, "it has other fields")
        selection, withheld, origin = manifest["selection"], manifest["withheld"], manifest["origin"]
        lists = isinstance(manifest["members"], list) and isinstance(withheld, list)
        if manifest["format"] != FORMAT or type(origin) is not str or not _ORIGIN.fullmatch(origin):
            raise _malformed(name, f"it is not of the format {FORMAT}, or names no origin")
        if not lists or not all(_is_texts(each, "id", "reason") for each in withheld):
            raise _malformed(name, "its lists are not of the right form")
        if not _is_texts(selection, "by", "value") or selection["by"] not in (
            "all",
            "run",
            "record",
            "range",
        ):
            raise _malformed(name, "it does not say what was selected")
        self._check_members(manifest["members"])
        self.manifest = manifest
        self._known = {each["id"] for each in withheld}

    def _check_members(self, listed: list[Json]) -> None:
        found: dict[str, Json] = {}
        for name, (start, size) in self.members.items():
            digest = hashlib.sha256()
            for at in range(start, start + size, _PIECE_BYTES):
                digest.update(self.data[at : min(at + _PIECE_BYTES, start + size)])
            found[name] = {"name": name, "sha256": digest.hexdigest(), "size_bytes": size}
        del found["manifest.json"]
        if _spelled(list(found.values())) != _spelled(listed):
            named = [each for each in listed if isinstance(each, dict) and type(each.get("name")) is str]
            theirs = {each["name"]: each for each in named}
            names = sorted({*found, *theirs}, key=lambda name: name.encode("utf-16-be"))
            differ = (each for each in names if _spelled(found.get(each)) != _spelled(theirs.get(each)))
            raise _malformed(next(differ, "manifest.json"), "it is not what the manifest lists")
        for name, each in found.items():
            folder, _, address = name.partition("/")
            if folder in ("blobs", "copies") and address != each["sha256"]:
                raise _malformed(name, "its bytes do not hash to its name")

    def _check_key(self) -> None:
        keys = self._json("keys.json", self._read("keys.json"))
        try:
            own = parse_verifier(keys["ledger"]) if set(keys) == {"ledger"} else None
        except (SterlingError, AttributeError) as problem:
            raise _malformed("keys.json", str(problem)) from problem
        if own is None or own.name != self.manifest["origin"]:
            raise _malformed("keys.json", "it does not hold the first key of its origin")
        if self.pin not in (None, own):
            raise _Bad("keys.json", 0, None, "integrity.key-unknown", "its first key is not the pinned one")
        self._fingerprint = fingerprint_of(own.public_key)
        self._keys = KeyHistory(self._home_id, {"ledger": own.public_key})

    # Entries

    def _check_entry(self, line: dict[str, Json], newest: Checkpoint | None, sizes: set[Json]) -> None:
        content = "body" if "body" in line else "withheld"
        fields = {"hash", "index", "previous", content} | (set() if newest is None else {"proof"})
        texts = [line.get(each) for each in ("hash", "previous", content)]
        if set(line) != fields or not all(isinstance(each, str) for each in texts):
            raise _malformed("entries.jsonl", f"line {self.entries} has other fields")
        index, (digest, previous, text) = line["index"], map(str, texts)
        if newest is None and (type(index) is not int or index != self.entries):
            raise _entry(self.entries, "chain-broken", f"expected index {self.entries}, found {index!r:.40}")
        before, head, _ = self._before
        if type(index) is not int or index <= before or (before < 0 and index != 0):
            raise _malformed("entries.jsonl", f"line {self.entries} is out of order, or entry 0 is missing")
        data = text.encode("utf-8") if content == "body" else None
        self._check_hash(index, digest, previous, head if index == before + 1 else previous, data)
        if data is None and f"entry:{index}" not in self._known:
            raise _malformed("entries.jsonl", f"entry {index} is withheld, and the manifest does not say so")
        self._before = (index, digest, None if data is None else self._check_body(index, data))
        leaf = merkle.leaf_hash(bytes.fromhex(digest))
        if newest is not None:
            self._check_proof(index, leaf, line["proof"], newest)
        else:
            for level, _, node in merkle.grow(index, leaf, self._full):
                self._frontier[level] = node
            if index + 1 in sizes:
                self._roots[index + 1] = merkle.root(index + 1, self._full)
        self.entries += 1

    def _full(self, level: int, _: int) -> bytes:
        """The newest full subtree of a level; no other is ever asked for."""
        return self._frontier[level]

    def _check_hash(self, index: int, digest: str, previous: str, head: str, data: bytes | None) -> None:
        if not is_address(head) or not is_address(digest):
            raise _entry(index, "entry-altered", "a hash is not 64 hex digits")
        fits = data is not None and seal(index, bytes.fromhex(head), data).hash.hex() == digest
        if previous != head and not fits:
            raise _entry(index, "chain-broken", "its previous hash is not the hash of the entry before it")
        if previous != head or (data is not None and not fits):
            raise _entry(index, "entry-altered", "its bytes do not give its hash")

    def _check_body(self, index: int, data: bytes) -> int:
        """Its form and time, and what it names; gives its time."""
        try:
            body = parse_entry(index, data)
        except Broken as found:
            raise _entry(index, "entry-altered", found.first_bad.message) from found
        kind, payload, at_us = body["kind"], body["payload"], body["at_us"]
        last, _, before_us = self._before
        if last == index - 1 and before_us is not None and at_us < before_us:
            stepped = {"before_us": before_us, "after_us": at_us}
            if kind != "clock.stepped" or _spelled(payload) != _spelled(stepped):
                raise _entry(
                    index,
                    "time-unexplained",
                    f"time falls from {before_us} to {at_us} and no clock.stepped says so",
                )
        if index == 0:
            self._check_created(kind, payload)
        elif kind in KEY_KINDS:
            try:
                self._keys.observe(index, kind, body.get("subject", ""), payload)
            except KeyUnknown as problem:
                raise _entry(index, "key-unknown", problem.message) from problem
        elif kind in ("record.put", "record.again") and isinstance(payload, dict):
            self._known.add(str(payload.get("id")))
            self._contracts.add(str(payload.get("contract")).partition("@")[0])
        self._contracts.add(kind)
        for named in (*addresses_in(payload), *records_named(kind, payload)):
            self._wanted.setdefault(named, index)
        if is_spilled(body):
            self._documents.setdefault(payload["blob"], index)
        return int(at_us)

    def _check_created(self, kind: str, payload: Json) -> None:
        if kind != "home.created" or not isinstance(payload, dict) or payload.get("home_id") != self._home_id:
            raise _entry(0, "forked", "the first entry does not create the home that the bundle is of")
        if payload.get("key") != self._fingerprint:
            raise _entry(0, "key-unknown", "the home began with another key")

    # Checkpoints and proofs

    def _newest(self, checkpoints: list[dict[str, Json]]) -> Checkpoint | None:
        """What the proofs of a part lead to; its signature is checked later."""
        if not checkpoints:
            raise _malformed("checkpoints.jsonl", "it is empty")
        if self._is_whole:
            return None
        try:
            return note_checkpoint(str(checkpoints[-1].get("note")))
        except SterlingError as problem:
            raise _Bad("checkpoints.jsonl", 0, None, "integrity.root-mismatch", problem.message) from problem

    def _check_proof(self, index: int, leaf: bytes, proof: Json, newest: Checkpoint) -> None:
        try:
            merkle.verify_inclusion(index, newest.size, leaf, _hashes(proof), newest.root)
        except (ProofInvalid, ProofRange, ValueError, TypeError) as problem:
            raise _entry(
                index, "proof-invalid", f"its proof does not lead to the checkpoint of size {newest.size}"
            ) from problem

    def _check_checkpoints(self, lines: list[dict[str, Json]], newest: Checkpoint | None) -> None:
        fields = {"note", "size"} if newest is None else {"consistency", "note", "size"}
        for line in lines:
            good, size, note = self.size, line.get("size"), line.get("note")
            if set(line) != fields or not isinstance(note, str):
                raise _malformed("checkpoints.jsonl", "a line has other fields")
            if type(size) is not int or size <= good:
                message = f"a checkpoint of size {size!r:.40} follows one of size {good}"
                raise _checkpoint(good, None, "checkpoint-order", message)
            checkpoint = self._check_note(size, note)
            if newest is None and size > self.entries:
                raise _Bad(
                    "entries.jsonl", self.entries, size - 1, "integrity.tail-missing", "the tail is missing"
                )
            if not self._leads(checkpoint, line, newest):
                message = f"checkpoint {size} was signed over other entries"
                raise _checkpoint(good, size - 1, "root-mismatch", message)
            self.size = size
        if newest is None and self.size != self.entries:
            message = "no checkpoint covers the entries after it"
            raise _Bad("entries.jsonl", self.size, self.entries - 1, "integrity.root-mismatch", message)

    def _check_note(self, size: int, note: str) -> Checkpoint:
        key = self._keys.key_at("ledger", size)
        assert key is not None, "the first key is known, and each rotation leads on"
        origin, good = self.manifest["origin"], self.size
        try:
            checkpoint = open_note(note, [Verifier(origin, key)])
        except KeyUnknown as problem:
            raise _checkpoint(good, size - 1, "key-unknown", problem.message) from problem
        except SterlingError as problem:
            raise _checkpoint(good, size - 1, "root-mismatch", problem.message) from problem
        if checkpoint.size != size:
            message = f"the checkpoint listed for size {size} speaks of size {checkpoint.size}"
            raise _checkpoint(good, size - 1, "checkpoint-order", message)
        if checkpoint.origin != origin:
            raise _checkpoint(good, size - 1, "forked", f"it is of {checkpoint.origin:.100}")
        return checkpoint

    def _leads(self, checkpoint: Checkpoint, line: dict[str, Json], newest: Checkpoint | None) -> bool:
        if newest is None:
            return self._roots.get(checkpoint.size) == checkpoint.root
        old, new = checkpoint, newest
        try:
            nodes = _hashes(line["consistency"])
            merkle.verify_consistency(old.size, new.size, old.root, new.root, nodes)
        except (ProofInvalid, ProofRange, ValueError, TypeError):
            return False
        return True

    # What the entries name

    def _check_closure(self) -> None:
        """Everything that is named is here or listed as withheld, and nothing else is here."""
        for address, index in self._documents.items():
            start, size = self.members.get(f"blobs/{address}", (0, 0))
            if 0 < size <= MANIFEST_BYTES_MAX:
                try:
                    inner = list(addresses_in(parse_canonical(self.data[start : start + size], limit=size)))
                except SterlingError:
                    inner = []  # No document of ours: it names nothing.
                for each in inner:
                    self._wanted[each] = min(index, self._wanted.get(each, index))
        for id, index in sorted(self._wanted.items(), key=lambda item: (item[1], item[0])):
            if f"blobs/{id}" not in self.members and id not in self._known:
                name, code = ("entries.jsonl", "bundle.malformed")
                if is_address(id):
                    name, code = (f"blobs/{id}", "integrity.blob-missing")
                raise _Bad(name, index, index, code, f"entry {index} names {id}, which is not here")
        for name in self.members:
            folder, _, rest = name.partition("/")
            is_stray_blob = folder == "blobs" and rest not in self._wanted
            if is_stray_blob or (folder == "contracts" and rest.partition("@")[0] not in self._contracts):
                raise _malformed(name, "no entry here names it")


def _malformed(member: str, message: str) -> _Bad:
    return _Bad(member, None, None, "bundle.malformed", message)


def _entry(index: int, code: str, message: str) -> _Bad:
    return _Bad("entries.jsonl", index, index, f"integrity.{code}", message)


def _checkpoint(low: int, high: int | None, code: str, message: str) -> _Bad:
    return _Bad("checkpoints.jsonl", low, high, f"integrity.{code}", message)


def _is_texts(value: Json, *names: str) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == set(names)
        and all(type(each) is str for each in value.values())
    )


def _spelled(value: Json) -> bytes:
    """A value as its canonical bytes: True and 1 are equal in Python, and here they are not."""
    return canonical_bytes(value, floats=True)


def _hashes(nodes: Json) -> list[bytes]:
    """Errors: TypeError, ValueError unless this is a list of hashes in hex."""
    if not isinstance(nodes, list) or not all(map(is_address, nodes)):
        raise ValueError("expected a list of hashes")
    return [bytes.fromhex(each) for each in nodes]
