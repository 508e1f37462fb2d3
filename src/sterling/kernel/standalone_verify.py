#!/usr/bin/env python3
"""Check a Sterling home, or a bundle out of one, without Sterling.

    python standalone_verify.py HOME [--pin KEY] [--anchor FILE] [--blobs] [--json]
    python standalone_verify.py FILE.tar [--pin KEY] [--json]

One file, Python's standard library and `cryptography`. It shares no code with Sterling
and follows docs/reference/ledger-format.md and bundle-format.md alone, so the two check each other.

Exit status: 0 holds and something outside vouches for it, 2 nothing here to check,
3 broken, 4 cannot judge; without `cryptography` the best answer is 4.

KEY is a verifier string (`name+id+key`) or a file that holds one. FILE is a signed
checkpoint kept elsewhere. The user's own anchor folder is read by itself.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import mmap
import os
import re
import sqlite3
import stat
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    CAN_CHECK_SIGNATURES = True
except ImportError:
    CAN_CHECK_SIGNATURES = False

__all__ = ["main", "verify", "verify_bundle"]

OK, USAGE, BROKEN, CANNOT_JUDGE = 0, 2, 3, 4
TEXTS = ("kind", "contract", "subject", "run", "step")
TYPES = {"v": int, "at_us": int, "actor": dict} | dict.fromkeys(TEXTS, str)
REQUIRED = {"v", "kind", "at_us", "actor", "payload"}
FIELDS = REQUIRED | {"contract", "subject", "run", "step", "fence", "trace"}
HEX64 = re.compile(r"[0-9a-f]{64}")
PURPOSE = re.compile(r"ledger|attest|witness|person:[a-z0-9][a-z0-9._-]{0,63}")
FORM = re.compile(r"[0-9a-f]{62}(\.[a-z0-9]{1,16}){1,2}")  # A blob that is not stored as its plain bytes.
HOME_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
KEY_NAME = re.compile(r"[\x21-\x2a\x2c-\x7e]{1,200}")
NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
Answer = dict[str, Any]  # What `--json` prints.
ENTRIES = (
    'SELECT "index", hash, previous, kind, contract, subject, run, at_us, body FROM entries ORDER BY "index"'
)
BUSY = {3, 5, 6, 8, 14, 23}


class Bad(Exception):
    """The log is broken: from entry `low` to entry `high`."""

    def __init__(self, low: int | None, high: int | None, code: str, message: str) -> None:
        super().__init__(message)
        self.place = {"low": low, "high": high, "code": "integrity." + code, "message": message}


class Nothing(Exception):
    """There is nothing to check, or it cannot be opened: exit 2."""


def canonical(value: Any, depth: int = 0) -> str:
    """The one spelling of a value; ValueError when it has none."""
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > 2**53 - 1:
            raise ValueError("integer too large")
        return str(value)
    if depth > 64:
        raise ValueError("nested too deep")
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(item, depth + 1) for item in value) + "]"
    keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
    pairs = (f"{canonical(key)}:{canonical(value[key], depth + 1)}" for key in keys)
    return "{" + ",".join(pairs) + "}"


def number_text(value: float) -> str:
    """How ECMAScript writes a number: the shortest digits that read back the same."""
    if value == 0:
        return "0"
    parts = Decimal(repr(value)).as_tuple()  # repr gives the shortest digits too.
    if not isinstance(parts.exponent, int):
        raise ValueError("not a finite number")
    digits = "".join(map(str, parts.digits))
    point = len(digits) + parts.exponent
    digits = digits.rstrip("0")
    count, sign = len(digits), "-" if value < 0 else ""
    if 0 < point <= 21:
        text = digits + "0" * (point - count) if count <= point else digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        text = digits[0] + ("." + digits[1:] if count > 1 else "") + f"e{point - 1:+d}"
    return sign + text


def parse_body(index: int, data: bytes) -> dict[str, Any]:
    """An entry's body, or Bad when it is no canonical entry of version 1."""
    try:
        if len(data) > 64 * 1024:
            raise ValueError("too large")
        body = json.loads(data.decode("utf-8"))
        same = canonical(body).encode("utf-8") == data
    except (ValueError, RecursionError) as problem:
        raise Bad(index, index, "entry-altered", f"its body is no canonical JSON: {problem}") from problem
    if not same or not isinstance(body, dict):
        raise Bad(index, index, "entry-altered", "its body is not in canonical form")
    typed = all(type(body[name]) is kind for name, kind in TYPES.items() if name in body)
    if not typed or not REQUIRED <= set(body) <= FIELDS or body["v"] != 1:
        raise Bad(index, index, "entry-altered", "its body is no entry of version 1")
    return body


class Tree:
    """Peaks of the tree so far, highest first, as (level, hash)."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[tuple[int, bytes]] = []

    def add(self, entry_hash: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add a leaf; give every full subtree that it completes as (level, position, hash)."""
        level, node = 0, hashlib.sha256(b"\x00" + entry_hash).digest()
        yield 0, self.size, node
        while self.peaks and self.peaks[-1][0] == level:
            node = hashlib.sha256(b"\x01" + self.peaks.pop()[1] + node).digest()
            level += 1
            yield level, self.size >> level, node
        self.peaks.append((level, node))
        self.size += 1

    def root(self) -> bytes:
        node = self.peaks[-1][1] if self.peaks else hashlib.sha256(b"").digest()
        for _, left in reversed(self.peaks[:-1]):
            node = hashlib.sha256(b"\x01" + left + node).digest()
        return node


class Note:
    """A checkpoint with its signature lines; ValueError when a text is none."""

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str) or len(text) > 16 * 1024:
            raise ValueError("no text, or too much")
        head, blank, tail = text.rpartition("\n\n")
        lines = (head + "\n").split("\n")
        if not blank or not tail.endswith("\n") or len(lines) != 4 or lines[3] or tail.count("\n") > 16:
            raise ValueError("no checkpoint with signatures")
        self.origin = lines[0]
        if not KEY_NAME.fullmatch(self.origin) or not NUMBER.fullmatch(lines[1]):
            raise ValueError("no origin or no size")
        self.size, self.root = int(lines[1]), exact_base64(lines[2], 32)
        self.message = (head + "\n").encode("utf-8")
        self.signatures: list[tuple[str, bytes, bytes]] = []
        for line in tail[:-1].split("\n"):
            parts = line.split(" ")
            if len(parts) != 3 or parts[0] != "—" or not KEY_NAME.fullmatch(parts[1]):
                raise ValueError("no signature line")
            blob = exact_base64(parts[2], 68)
            self.signatures.append((parts[1], blob[:4], blob[4:]))

    def signed_by(self, key: Key) -> bool:
        """Whether a line claims this key; ValueError when a claim is false."""
        claims = [line[2] for line in self.signatures if line[:2] == (key.name, key.id)]
        for signature in claims:
            check_signature(key.public, signature, self.message)
        return bool(claims)


class Key:
    """A public key under a name."""

    def __init__(self, name: str, public: bytes) -> None:
        self.name, self.public = name, public
        self.id = hashlib.sha256(name.encode("ascii") + b"\n\x01" + public).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> Key:
        name, _, rest = text.strip().partition("+")
        identity, _, encoded = rest.partition("+")
        typed = exact_base64(encoded, 33)
        if not KEY_NAME.fullmatch(name) or typed[0] != 1 or cls(name, typed[1:]).id.hex() != identity:
            raise ValueError("no verifier string, or its id does not fit its key")
        return cls(name, typed[1:])


def check_signature(public: bytes, signature: bytes, message: bytes) -> None:
    """ValueError when it is not of this key; without `cryptography` anything passes, and costs exit 0."""
    if CAN_CHECK_SIGNATURES:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except InvalidSignature as problem:
            raise ValueError("the signature is not of this key") from problem


def exact_base64(text: str, length: int) -> bytes:
    data = base64.b64decode(text, validate=True)
    if len(data) != length or base64.b64encode(data).decode("ascii") != text:
        raise ValueError(f"no base64 of {length} bytes")
    return data


def anchors_root() -> Path:
    """Where Sterling keeps its copies outside of homes."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "sterling" / "anchors"
    state = os.environ.get("XDG_STATE_HOME", "").strip()
    return (Path(state) if state else Path.home() / ".local" / "state") / "sterling" / "anchors"


def read_pin(folder: Path) -> tuple[Key, str] | None:
    try:
        content = json.loads((folder / "pin.json").read_bytes().decode("utf-8"))
        return Key.parse(str(content["verifier"])), str(content["path"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ValueError(f"the pin in {folder} cannot be read") from problem


def read_history(folder: Path) -> list[tuple[str, Any]]:
    """Every remembered note with its mark; a torn last line does not count, the latest always does."""
    history, latest, notes = folder / "history.jsonl", folder / "latest", list[tuple[str, Any]]()
    try:
        if history.exists():
            lines = history.read_bytes().decode("utf-8").split("\n")[:-1]
            for content in (json.loads(line) for line in lines if line):
                mark = content.get("recovered")
                mark = None if mark is None else (int(mark["entry"]), str(mark["hash"]))
                notes.append((str(content["note"]), mark))
        newest = latest.read_bytes().decode("utf-8") if latest.exists() else None
        if newest is not None and newest not in [note for note, _ in notes]:
            notes.append((newest, None))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"the copies in {folder} cannot be read") from problem
    return notes


def remembered_at(root: Path, home: Path) -> str | None:
    """The id of the home that was newest pinned at this path."""
    found = []
    for file in root.glob("*/pin.json"):
        try:
            pin = read_pin(file.parent)
        except ValueError:
            continue
        if pin is not None and pin[1] == str(home.resolve()):
            found.append((file.stat().st_mtime_ns, file.parent.name))
    return max(found)[1] if found else None


def own_key(home: Path, origin: str) -> Key | None:
    """The public key that lies in the home: it shows whether the home agrees with itself."""
    try:
        data = base64.b64decode((home / "keys" / "ledger.pub").read_bytes()[:4096].strip(), validate=True)
    except (OSError, ValueError):
        return None
    return Key(origin, data) if len(data) == 32 else None


class KeyChanges:
    """Which key is in force for each purpose; it begins with the first `ledger` key and follows rotations."""

    ROTATED = {"purpose": str, "old": str, "new": str, "from_index": int, "reason": str} | dict.fromkeys(
        ("by_old", "by_new"), str
    )
    REVOKED = {"purpose": str, "key": str, "from_index": int, "reason": str} | dict.fromkeys(
        ("by", "signature"), str
    )

    def __init__(self, home_id: str, first: bytes) -> None:
        self.home_id = home_id
        self.current = {"ledger": first.hex()}
        self.purposes = {first.hex(): "ledger"}
        self.revoked: set[str] = set()

    def follow(self, index: int, body: dict[str, Any]) -> None:
        """Take in a `key.rotated` or `key.revoked`; ValueError when it may not stand where it stands."""
        is_rotation, change = body["kind"] == "key.rotated", body["payload"]
        types = self.ROTATED if is_rotation else self.REVOKED
        if not isinstance(change, dict) or {name: type(value) for name, value in change.items()} != types:
            raise ValueError("it is not shaped like a change of keys")
        purpose, start = change["purpose"], change["from_index"]
        hexes = [change[name] for name in ("old", "new", "key", "by") if name in change]
        signatures = {
            name: exact_base64(change[name], 64)
            for name in ("by_old", "by_new", "signature")
            if name in change
        }
        if not all(HEX64.fullmatch(text) for text in hexes) or not PURPOSE.fullmatch(purpose):
            raise ValueError("it names no keys or no purpose")
        if body.get("subject") != f"key/{purpose}" or start < 0:
            raise ValueError("its subject is not its purpose, or it begins nowhere")
        if is_rotation:
            self.rotate(index, change, signatures)
        else:
            self.revoke(index, change, signatures)

    def rotate(self, index: int, change: dict[str, Any], signatures: dict[str, bytes]) -> None:
        purpose, old, new = change["purpose"], change["old"], change["new"]
        if change["from_index"] != index or self.current.get(purpose, old) != old or new in self.purposes:
            raise ValueError("it does not lead from the key in force, at this entry, to a new key")
        if self.purposes.get(old, purpose) != purpose or old in self.revoked or old == new:
            raise ValueError("its old key cannot pass anything on")
        message = self.message("key-rotation", change, ("purpose", "old", "new", "from_index"))
        check_signature(bytes.fromhex(old), signatures["by_old"], message)
        check_signature(bytes.fromhex(new), signatures["by_new"], message)
        self.current[purpose] = new
        self.purposes |= {old: purpose, new: purpose}

    def revoke(self, index: int, change: dict[str, Any], signatures: dict[str, bytes]) -> None:
        purpose, key, start = change["purpose"], change["key"], change["from_index"]
        if start > index or (purpose == "ledger" and start != index):
            raise ValueError("it begins at another entry than it may")
        if self.purposes.get(key, purpose) != purpose:
            raise ValueError("its key is for something else")
        if purpose in ("ledger", "attest") and self.current.get(purpose) == key:
            raise ValueError("its key is in force")
        if change["by"] != self.current["ledger"]:
            raise ValueError("it is not by the ledger key in force")
        message = self.message("key-revocation", change, ("purpose", "key", "from_index"))
        check_signature(bytes.fromhex(change["by"]), signatures["signature"], message)
        self.purposes[key] = purpose
        self.revoked.add(key)

    def message(self, name: str, change: dict[str, Any], fields: tuple[str, ...]) -> bytes:
        signed = {field: change[field] for field in fields} | {"home_id": self.home_id}
        return f"sterling/{name}/1\0{canonical(signed)}".encode()


class Log:
    """One pass over the tables of a home."""

    def __init__(self, database: sqlite3.Connection, home_id: str, key: Key | None) -> None:
        self.database, self.home_id, self.key = database, home_id, key
        self.keys = None if key is None else KeyChanges(home_id, key.public)
        self.origin = f"sterling/{home_id}"
        self.size, self.head, self.at_us = 0, bytes(32), 0
        self.tree, self.nodes_seen = Tree(), 0
        self.cursors: dict[int, sqlite3.Cursor] = {}
        self.good, self.checkpoints = 0, 0
        self.anchored_to: int | None = None
        self.has_copies, self.unread = False, list[str]()
        self.anchors: dict[int, list[tuple[Note, bool]]] = {}  # size: (note, must be stored)
        self.strangers: list[tuple[str, str]] = []
        self.admitting: list[Note] = []  # Notes whose mark leaves others out.
        self.losses: list[Answer] = []
        self.restored_at: list[int] = []
        self.blobs: dict[str, int] = {}
        self.documents: dict[str, int] = {}
        self.archived: set[str] = set()
        self.unchecked: list[str] = []

    def read_note(self, text: str) -> Note | None:
        """An outside note; anything else is counted and gives None. Its key is judged at its size."""
        try:
            return Note(text)
        except ValueError as problem:
            self.unread.append(str(problem))
        return None

    def remember(self, history: list[tuple[str, Any]], brought: tuple[str, ...]) -> None:
        """Take the outside notes into account, except those of a loss that the log admits."""
        lines = [(self.read_note(text), mark) for text, mark in history]
        lost = set[tuple[int, bytes]]()
        for at, (note, mark) in enumerate(lines):
            admitted = None if note is None or mark is None else self.admitted(mark, note.size)
            if admitted is None:
                continue
            first, size, root = admitted
            self.admitting += [] if note is None else [note]
            for earlier, (old, _) in enumerate(lines[:at]):
                if old and first < old.size <= size and (old.size < size or old.root.hex() == root):
                    lost.add((old.size, old.root))
                    lines[earlier] = (None, None)
        for note, stored in [(line[0], True) for line in lines] + [
            (self.read_note(t), False) for t in brought
        ]:
            if note is not None and (stored or (note.size, note.root) not in lost):
                self.anchors.setdefault(note.size, []).append((note, stored))

    def judge_copies(self, size: int) -> list[tuple[Note, bool]]:
        """The copies of a size that the key of that size signed.

        Beyond the end of the log a remembered copy counts whoever signed it: its key may
        have come with a rotation that was cut off.
        """
        judged = []
        for note, must_be_stored in self.anchors.pop(size, []):
            try:
                known = self.key is None or note.signed_by(self.key)
            except ValueError as problem:
                if note in self.admitting:
                    self.strangers.append(("key-unknown", "an admitted loss under no signature"))
                else:
                    self.unread.append(str(problem))
                continue
            if not known and not (size > self.size and must_be_stored):
                self.strangers.append(("key-unknown", "an outside copy is signed by another key"))
            elif note.origin != self.origin:
                self.strangers.append(("forked", "an outside copy is of another log"))
            else:
                judged.append((note, must_be_stored))
        return judged

    def admitted(self, mark: tuple[int, str], covered: int) -> tuple[int, int, Any] | None:
        """First entry, size and root of the loss that a marked note's entry admits."""
        query = 'SELECT hash, body FROM entries WHERE kind = ? AND "index" = ?'
        if not 0 <= mark[0] < min(covered, 2**63):
            return None
        row = self.database.execute(query, ("ledger.recovered", mark[0])).fetchone()
        try:
            payload = json.loads(row[1])["payload"]
            first, size, root = (
                payload["lost"]["from"],
                payload["anchored"]["size"],
                payload["anchored"]["root"],
            )
            is_named = row[0].hex() == mark[1] and type(first) is type(size) is int
        except (AttributeError, ValueError, TypeError, KeyError, RecursionError):
            return None  # No such entry, or one that the pass will find altered.
        return (first, size, root) if is_named else None

    def check(self) -> None:
        stored = self.database.execute("SELECT size, note FROM checkpoints ORDER BY size")
        waiting = stored.fetchone()
        if waiting is not None and (type(waiting[0]) is not int or waiting[0] < 1):
            raise Bad(0, 0, "checkpoint-order", "a checkpoint of no size")
        self.check_anchors(stored=False)
        for row in self.database.execute(ENTRIES):
            self.check_entry(row)
            has_note = waiting is not None and waiting[0] == self.size and waiting[1] is not None
            if has_note:
                self.check_checkpoint(waiting[1])
                waiting = stored.fetchone()
            self.check_anchors(stored=has_note)
        self.check_end(waiting)

    def check_entry(self, row: tuple[Any, ...]) -> None:
        stored, digest, previous, *columns, data = row
        index = self.size
        if type(stored) is not int or stored != index:
            raise Bad(index, index, "chain-broken", f"expected index {index}, found {stored!r}")
        if not isinstance(digest, bytes) or not isinstance(data, bytes):
            raise Bad(index, index, "entry-altered", "a hash or a body is not bytes")
        fields = b"sterling/entry/1\x00" + index.to_bytes(8, "big") + self.head + data
        expected = hashlib.sha256(fields).digest()
        if previous != self.head and expected != digest:
            raise Bad(index, index, "chain-broken", "it does not follow the entry before it")
        if previous != self.head or expected != digest:
            raise Bad(index, index, "entry-altered", "its hash is not the hash of what is stored")
        body = parse_body(index, data)
        for name, found in zip(("kind", "contract", "subject", "run", "at_us"), columns, strict=True):
            if body.get(name, "") != found or type(body.get(name, "")) is not type(found):
                raise Bad(index, index, "entry-altered", f"column {name} does not say what the body says")
        self.check_meaning(index, body)
        for level, position, node in self.tree.add(digest):
            if level not in self.cursors:
                query = "SELECT position, hash FROM nodes WHERE level = ? ORDER BY position"
                self.cursors[level] = self.database.execute(query, (level,))
            if self.cursors[level].fetchone() != (position, node):
                raise Bad(position << level, index, "root-mismatch", f"tree node {level}/{position}")
            self.nodes_seen += 1
        self.size, self.head = index + 1, digest
        if body["kind"] == "ledger.recovered" and isinstance(body["payload"], dict):
            self.losses.append({"entry": index} | body["payload"])
        elif body["kind"] == "anchor.restored":
            self.restored_at.append(index)
        self.collect_blobs(index, body)

    def check_meaning(self, index: int, body: dict[str, Any]) -> None:
        """Time never falls unexplained, and the first entry names the home and its key."""
        payload, at_us = body["payload"], body["at_us"]
        if at_us < self.at_us:
            stepped = {"before_us": self.at_us, "after_us": at_us}
            if body["kind"] != "clock.stepped" or payload != stepped:
                raise Bad(index, index, "time-unexplained", "time falls and no clock.stepped says so")
        self.at_us = at_us
        if index > 0 and body["kind"] in ("key.rotated", "key.revoked"):
            self.check_key_change(index, body)
        if index > 0:
            return
        if body["kind"] != "home.created" or not isinstance(payload, dict):
            raise Bad(0, 0, "forked", "the first entry does not create a home")
        if payload.get("home_id") != self.home_id:
            raise Bad(0, 0, "forked", "the log belongs to another home")
        if self.key is not None and payload.get("key") != hashlib.sha256(self.key.public).hexdigest():
            raise Bad(0, 0, "key-unknown", "the home began with another key")

    def check_key_change(self, index: int, body: dict[str, Any]) -> None:
        if self.key is not None and self.keys is not None:
            try:
                self.keys.follow(index, body)
            except ValueError as problem:
                raise Bad(index, index, "key-unknown", f"a change of keys: {problem}") from problem
            self.key = Key(self.key.name, bytes.fromhex(self.keys.current["ledger"]))

    def check_checkpoint(self, text: Any) -> None:
        low, high = self.good, self.size - 1
        try:
            note = Note(text)
            known = self.key is None or note.signed_by(self.key)
        except ValueError as problem:
            raise Bad(low, high, "root-mismatch", f"checkpoint {self.size}: {problem}") from problem
        if not known:
            raise Bad(low, high, "key-unknown", f"checkpoint {self.size} is signed by another key")
        if note.size != self.size:
            raise Bad(low, high, "checkpoint-order", f"checkpoint {self.size} speaks of {note.size}")
        if note.origin != self.origin:
            raise Bad(low, high, "forked", f"checkpoint {self.size} is of {note.origin}")
        if note.root != self.tree.root():
            raise Bad(low, high, "root-mismatch", f"checkpoint {self.size} was signed over other entries")
        self.checkpoints += 1
        self.good = self.size

    def check_anchors(self, *, stored: bool) -> None:
        here = self.judge_copies(self.size)
        low, high = self.anchored_to or 0, max(0, self.size - 1)
        for note, must_be_stored in here:
            if note.root != self.tree.root():
                raise Bad(low, high, "forked", f"the copy of size {self.size} saw other entries")
            if must_be_stored and not stored:
                raise Bad(low, high, "checkpoint-order", f"checkpoint {self.size} is gone from the log")
        if here:
            self.anchored_to = self.good = self.size

    def check_end(self, waiting: Any) -> None:
        size, vouched = self.size, self.anchored_to or 0
        extra = self.database.execute("SELECT count(*) FROM nodes").fetchone()[0] != self.nodes_seen
        beyond = [beyond for beyond in sorted(self.anchors) if self.judge_copies(beyond)]
        if self.strangers:
            raise Bad(vouched, max(vouched, size - 1), *self.strangers[0])
        if beyond:
            whole = waiting is None and not extra and self.anchored_to == size
            code, newest = "rolled-back" if whole else "tail-missing", beyond[-1]
            raise Bad(size, newest - 1, code, f"a copy outside proves {newest} entries")
        if waiting is not None:
            raise Bad(size, None, "checkpoint-order", "a checkpoint beyond the last entry")
        if extra:
            raise Bad(size, None, "root-mismatch", "tree nodes beyond the last entry")

    def doubt(self) -> str:
        """Why a log without faults cannot be vouched for; empty when it can."""
        if self.unread:
            return f"{len(self.unread)} outside copies cannot be read: {self.unread[0]}"
        if self.unchecked:
            return f"{len(self.unchecked)} blobs were not checked, the first is {self.unchecked[0]}"
        if self.key is None or self.anchored_to is None:
            return "nothing outside vouches for its tail, or nobody knows its key"
        return "" if CAN_CHECK_SIGNATURES else "without the package cryptography no signature was checked"

    def collect_blobs(self, index: int, body: dict[str, Any]) -> None:
        payload = body["payload"]
        for address in addresses(payload):
            self.blobs.setdefault(address, index)
        if body["kind"] in ("blob.archived", "blob.restored") and isinstance(payload, dict):
            away = body["kind"] == "blob.archived"
            (self.archived.add if away else self.archived.discard)(str(payload.get("address")))
        if isinstance(payload, dict) and HEX64.fullmatch(str(payload.get("blob"))):
            record = body["kind"] == "record.put" and "document" not in payload
            if record or set(payload) == {"blob", "size_bytes"}:
                self.documents.setdefault(payload["blob"], index)


def addresses(value: Any) -> Iterator[str]:
    """Every address under `blob`, or in a list under `blobs`, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            named = [item] if key == "blob" else item if key == "blobs" and isinstance(item, list) else []
            yield from (each for each in named if isinstance(each, str) and HEX64.fullmatch(each))
            yield from addresses(item)
    elif isinstance(value, list):
        for item in value:
            yield from addresses(item)


def blob_state(file: Path, address: str) -> str:
    """`ok`, `altered` or `missing`."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            return "altered"
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "altered"
    return "ok" if found == address else "altered"


def check_blobs(folder: Path, log: Log) -> None:
    """Hash every file, and look for every address that an entry names.

    Archived blobs, and forms other than plain bytes, are not checked here.
    """
    sealed = any(folder.glob("??/*.sealed"))  # Their names do not say which addresses they hold.
    for address, index in sorted(log.documents.items(), key=lambda item: item[1]):
        file = folder / address[:2] / address[2:]
        if blob_state(file, address) == "ok":
            try:
                inner = list(addresses(json.loads(file.read_bytes())))
            except (ValueError, RecursionError, OSError):
                inner = []
            for each in inner:
                log.blobs[each] = min(index, log.blobs.get(each, index))
    for address, index in sorted(log.blobs.items(), key=lambda item: (item[1], item[0])):
        file = folder / address[:2] / address[2:]
        state = blob_state(file, address)
        other = sealed or address in log.archived or any(file.parent.glob(f"{file.name}.*"))
        if state == "missing" and other:
            log.unchecked.append(address)
        elif state != "ok":
            raise Bad(index, index, f"blob-{state}", f"entry {index}: blob {address} is {state}")
    for sub in sorted(folder.glob("[0-9a-f][0-9a-f]")):
        for file in sorted(sub.iterdir()) if sub.is_dir() and not sub.is_symlink() else []:
            if FORM.fullmatch(file.name):
                log.unchecked.append(sub.name + file.name)
            elif blob_state(file, sub.name + file.name) != "ok":
                raise Bad(None, None, "blob-altered", f"{sub.name}/{file.name} is not what its name says")


def open_database(database: Path) -> sqlite3.Connection:
    quoted = str(database).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    journal = database.with_name(database.name + "-wal")
    has_journal = journal.exists() and journal.stat().st_size > 0
    failure: sqlite3.Error | None = None
    for mode in ["mode=ro"] + ([] if has_journal else ["mode=ro&immutable=1"]):
        try:
            connection = sqlite3.connect(f"file:{quoted}?{mode}", uri=True, isolation_level=None, timeout=10)
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return connection
        except sqlite3.DatabaseError as problem:
            failure = problem
    assert failure is not None
    raise failure


def find_database(home: Path, given: Path, remembered: str | None) -> None:
    """Return when there is a database to read."""
    database, start = home / "ledger.db", b""
    if given.is_file() and given.name != "ledger.db":
        raise Nothing(f"{given} is neither a home nor a ledger.db")
    try:
        with database.open("rb") as file:
            start = file.read(16)
    except (FileNotFoundError, NotADirectoryError) as problem:
        if remembered is None and not (home / "keys").is_dir() and not (home / "blobs").is_dir():
            raise Nothing(f"there is no home at {given}") from problem
        raise Bad(0, None, "ledger-missing", f"there is no ledger at {database}") from problem
    except OSError as problem:
        raise Nothing(f"{database} cannot be read: {problem.strerror}") from problem
    if start != b"SQLite format 3\x00":
        code = "ledger-unreadable" if start else "ledger-missing"
        raise Bad(0, None, code, f"{database} is empty, or no SQLite database")


def read_home_id(connection: sqlite3.Connection) -> str:
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    if ("entries",) not in tables:
        raise Bad(0, None, "ledger-missing", "the database holds no entries")
    row = connection.execute("SELECT value FROM meta WHERE name = 'home_id'").fetchone()
    if row is None or not isinstance(row[0], str) or not HOME_ID.fullmatch(row[0]):
        raise Bad(0, None, "forked", "the database does not say which home it belongs to")
    return row[0]


def open_log(home: Path, trusted: Key | None, notes: tuple[str, ...]) -> tuple[Log, str]:
    """The log with everything that is known outside, which is read before the snapshot; and doubts."""
    connection = open_database(home / "ledger.db")
    home_id = read_home_id(connection)
    folder, doubt, history, key = anchors_root() / home_id, "", list[tuple[str, Any]](), trusted
    try:
        history = read_history(folder)
        pin = read_pin(folder)
        key = key or (None if pin is None else pin[0])
    except ValueError as problem:
        doubt = str(problem)
    log = Log(connection, home_id, key or own_key(home, f"sterling/{home_id}"))
    log.has_copies = bool(history)
    connection.execute("BEGIN")
    log.remember(history, notes)
    return log, doubt


def verify(
    given: Path, pin: str | None = None, notes: tuple[str, ...] = (), *, blobs: bool = False
) -> Answer:
    """The verdict on a home. Errors: Nothing when there is nothing to check, ValueError for a bad pin."""
    trusted = None if pin is None else Key.parse(pin)
    home = given if given.is_dir() or given.name != "ledger.db" else given.parent
    remembered = remembered_at(anchors_root(), home)
    log: Log | None = None
    place: Answer | None = None
    doubt = ""
    try:
        find_database(home, given, remembered)
        log, doubt = open_log(home, trusted, notes)
        log.check()
        if remembered not in (None, log.home_id) and not log.has_copies:
            raise Bad(0, max(0, log.size - 1), "forked", f"this path belongs to {remembered}")
        if blobs:
            check_blobs(home / "blobs", log)
        doubt = doubt or log.doubt()
    except sqlite3.DatabaseError as problem:
        if (getattr(problem, "sqlite_errorcode", 0) or 0) & 0xFF in BUSY:
            raise Nothing(f"the ledger cannot be opened: {problem}") from problem
        low = 0 if log is None else log.size
        place = Bad(low, None, "ledger-unreadable", f"SQLite cannot read on: {problem}").place
    except Bad as problem:
        place = problem.place
    finally:
        if log is not None:
            log.database.close()
    return answer(log, remembered or "", place, doubt)


def answer(log: Log | None, home_id: str, place: Answer | None, doubt: str) -> Answer:
    """What `--json` prints."""
    size, anchored_to = (0, None) if log is None else (log.size, log.anchored_to)
    verdict, status = ("broken", BROKEN) if place else ("cannot-judge", CANNOT_JUDGE) if doubt else ("ok", OK)
    code = place["code"] if place else "integrity.no-anchor" if doubt else ""
    return {
        "verdict": verdict, "exit": status, "code": code, "message": place["message"] if place else doubt,
        "home_id": home_id if log is None else log.home_id, "size": size, "verified_to": size,
        "head": bytes(32).hex() if log is None else log.head.hex(), "first_bad": place,
        "anchored_to": anchored_to, "unanchored": size - (anchored_to or 0),
        "checkpoints": 0 if log is None else log.checkpoints, "losses": [] if log is None else log.losses,
        "restored_at": [] if log is None else log.restored_at,
        "not_checked": [] if log is None else log.unchecked[:20],
    }  # fmt: skip


# Bundles: docs/reference/bundle-format.md

MEMBER = re.compile(
    r"(blobs|copies)/[0-9a-f]{64}|(checkpoints|entries)\.jsonl|(keys|manifest)\.json|copies\.bin"
    r"|contracts/[a-z][a-z0-9.-]*@[0-9]+\.[0-9]+\.json"
)
LINE_MAX, MEMBERS_MAX, TEXT_MAX = 1 << 20, 250_000, 1 << 26


class BadMember(Bad):
    """A bundle is broken, in a member."""

    def __init__(
        self, member: str, message: str, code: str = "", low: int | None = None, high: int | None = None
    ) -> None:
        super().__init__(low, high, code, message)
        known = f"integrity.{code}" if code else "bundle.malformed"
        self.place |= {"member": member, "code": "bundle.too-large" if code == "too-large" else known}


def is_bundle(path: Path) -> bool:
    if not path.is_file() or path.suffix == ".tar":
        return path.is_file()
    with path.open("rb") as file:
        return file.read(512)[257:262] == b"ustar"


def plain_header(name: bytes, size: int) -> bytes:
    """The header of a plain file in a bundle, byte for byte."""
    start = name + bytes(100 - len(name)) + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size
    start += b"0" * 11 + b"\0"
    end = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)
    return start + b"%06o\0 " % (sum(start) + 8 * 32 + sum(end)) + end


def list_members(data: Any) -> dict[str, tuple[int, int]]:
    """Name to start and end."""
    members: dict[str, tuple[int, int]] = {}
    at, last = 0, ""
    while data[at : at + 512] != bytes(512):
        head = data[at : at + 512]
        name, digits = head[:100].rstrip(b"\0"), head[124:135]
        shown = name.decode("ascii") if re.fullmatch(rb"[\x21-\x7e]{1,100}", name) else ""
        size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
        if not shown or size < 0 or head != plain_header(name, size):
            raise BadMember(shown, "not the header of a plain file")
        if not MEMBER.fullmatch(shown) or shown <= last:
            raise BadMember(shown, "a name that no bundle has here")
        last = shown
        start, end = at + 512, at + 512 + size
        at = end + (512 - size % 512) % 512
        if at > len(data) or any(data[end:at]):
            raise BadMember(shown, "cut short, or followed by something")
        members[shown] = (start, end)
        if len(members) > MEMBERS_MAX:
            raise BadMember(shown, "too many members", "too-large")
    if len(data) - at != 1024 or any(data[at:]):
        raise BadMember("", "the end is not two empty blocks")
    return members


def proved_root(index: int, size: int, leaf: bytes, nodes: list[bytes]) -> bytes:
    """The root that an RFC 6962 audit path leads to; ValueError when it is too long or too short."""
    if size == 1:
        if nodes:
            raise ValueError("a node too many")
        return leaf
    if not nodes or not 0 <= index < size:
        raise ValueError("a node too few, or an index outside the tree")
    half = 1 << ((size - 1).bit_length() - 1)
    if index < half:
        return hashlib.sha256(b"\x01" + proved_root(index, half, leaf, nodes[:-1]) + nodes[-1]).digest()
    right = proved_root(index - half, size - half, leaf, nodes[:-1])
    return hashlib.sha256(b"\x01" + nodes[-1] + right).digest()


def proved_roots(old: int, new: int, whole: bytes | None, nodes: list[bytes]) -> tuple[bytes, bytes]:
    """The two roots that an RFC 6962 consistency proof leads to; `whole` is the old root, once known."""
    if old == new:
        if len(nodes) != (whole is None):
            raise ValueError("a node too many or too few")
        node = nodes[0] if whole is None else whole
        return node, node
    if not nodes or not 0 < old < new:
        raise ValueError("a node too few, or sizes that do not follow")
    half, last = 1 << ((new - 1).bit_length() - 1), nodes[-1]
    if old <= half:
        before, after = proved_roots(old, half, whole, nodes[:-1])
        return before, hashlib.sha256(b"\x01" + after + last).digest()
    before, after = proved_roots(old - half, new - half, None, nodes[:-1])
    return hashlib.sha256(b"\x01" + last + before).digest(), hashlib.sha256(b"\x01" + last + after).digest()


def hashes(value: Any) -> list[bytes]:
    if not isinstance(value, list) or not all(
        isinstance(each, str) and HEX64.fullmatch(each) for each in value
    ):
        raise ValueError("no list of hashes")
    return [bytes.fromhex(each) for each in value]


def is_hash(value: Any) -> bool:
    return isinstance(value, str) and HEX64.fullmatch(value) is not None


class Bundle:
    """One pass over the bytes of a bundle."""

    def __init__(self, data: Any, pin: Key | None) -> None:
        self.data, self.pin = data, pin
        self.members: dict[str, tuple[int, int]] = {}
        self.manifest: dict[str, Any] = {}
        self.size = self.entries = 0
        self.signers: list[tuple[int, str]] = []  # After which entry which key signs checkpoints.
        self.last: tuple[int, str, int | None] = (-1, bytes(32).hex(), None)
        self.tree, self.roots, self.sizes = Tree(), dict[int, bytes](), set[Any]()
        self.known, self.contracts = set[str](), set[str]()
        self.wanted, self.documents = dict[str, int](), dict[str, int]()

    def check(self) -> None:
        self.members = list_members(self.data)
        self.check_manifest()
        self.check_key()
        self.part("checkpoints.jsonl")  # Refuses one that is too large to be held.
        notes = list(self.lines("checkpoints.jsonl"))
        if not notes:
            raise BadMember("checkpoints.jsonl", "it is empty")
        newest = None
        if self.manifest["selection"]["by"] != "all":
            try:
                newest = Note(notes[-1].get("note"))
            except ValueError as problem:
                raise BadMember("checkpoints.jsonl", str(problem), "root-mismatch", 0) from problem
        self.sizes = {line.get("size") for line in notes if type(line.get("size")) is int}
        for line in self.lines("entries.jsonl"):
            self.check_line(line, newest)
            self.entries += 1
        for line in notes:
            self.check_note(line, newest)
        if newest is None and self.size != self.entries:
            message = "no checkpoint covers the entries after it"
            raise BadMember("entries.jsonl", message, "root-mismatch", self.size, self.entries - 1)
        self.check_named()

    def part(self, name: str) -> Any:
        """The bytes of a member."""
        start, end = self.members.get(name, (0, 0))
        if name not in self.members:
            raise BadMember(name, "it is missing")
        if end - start > TEXT_MAX:
            raise BadMember(name, "it is too large", "too-large")
        return self.data[start:end]

    def json_of(self, name: str, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data.decode("utf-8"))
            if canonical(value).encode("utf-8") != data or not isinstance(value, dict):
                raise ValueError("it is no object in canonical form")
        except (ValueError, RecursionError) as problem:
            raise BadMember(name, str(problem)) from problem
        return value

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        if name not in self.members:
            raise BadMember(name, "it is missing")
        at, end = self.members[name]
        while at < end:
            stop = self.data.find(b"\n", at, min(end, at + LINE_MAX))
            if stop < 0:
                raise BadMember(name, "a line that does not end")
            yield self.json_of(name, self.data[at:stop])
            at = stop + 1

    def check_manifest(self) -> None:
        content = self.json_of("manifest.json", self.part("manifest.json"))
        shape = {"format": str, "members": list, "origin": str, "selection": dict, "withheld": list}
        if {name: type(value) for name, value in content.items()} != shape:
            raise BadMember("manifest.json", "other fields than a manifest has")
        prefix, _, home_id = content["origin"].partition("/")
        chosen, rows = content["selection"], [*content["withheld"], {"id": "", "reason": ""}]
        if content["format"] != "sterling/bundle/1" or prefix != "sterling" or not HOME_ID.fullmatch(home_id):
            raise BadMember("manifest.json", "no format or origin of ours")
        texts = all(isinstance(row, dict) and set(row) == {"id", "reason"} for row in rows)
        if not texts or any(type(text) is not str for row in rows for text in row.values()):
            raise BadMember("manifest.json", "what is withheld is not listed as it should")
        by = chosen.get("by") if set(chosen) == {"by", "value"} and type(chosen["value"]) is str else None
        if by not in ("all", "run", "record", "range"):
            raise BadMember("manifest.json", "it does not say what was selected")
        self.check_listed(content["members"])
        self.manifest, self.known = content, {row["id"] for row in content["withheld"]}

    def check_listed(self, listed: list[Any]) -> None:
        found = []
        for name, (start, end) in self.members.items():
            digest = hashlib.sha256()
            for at in range(start, end, 1 << 20):
                digest.update(self.data[at : min(end, at + (1 << 20))])
            found.append({"name": name, "sha256": digest.hexdigest(), "size_bytes": end - start})
        found = [row for row in found if row["name"] != "manifest.json"]
        if canonical(found) != canonical(listed):
            rows = [row for row in listed if isinstance(row, dict) and type(row.get("name")) is str]
            ours, theirs = ({row["name"]: canonical(row) for row in each} for each in (found, rows))
            names = sorted({*ours, *theirs}, key=lambda name: str(name).encode("utf-16-be"))
            wrong = [str(name) for name in names if ours.get(name) != theirs.get(name)]
            raise BadMember((wrong or ["manifest.json"])[0], "not what the manifest lists")
        for row in found:
            folder, _, address = str(row["name"]).partition("/")
            if folder in ("blobs", "copies") and row["sha256"] != address:
                raise BadMember(str(row["name"]), "its bytes do not hash to its name")

    def check_key(self) -> None:
        content = self.json_of("keys.json", self.part("keys.json"))
        try:
            own = Key.parse(str(content.get("ledger")))
        except ValueError as problem:
            raise BadMember("keys.json", str(problem)) from problem
        if set(content) != {"ledger"} or own.name != self.manifest["origin"]:
            raise BadMember("keys.json", "not the first key of its origin")
        if self.pin is not None and (self.pin.name, self.pin.public) != (own.name, own.public):
            raise BadMember("keys.json", "not the pinned key", "key-unknown", 0)
        self.changes = KeyChanges(own.name.removeprefix("sterling/"), own.public)
        self.signers = [(0, own.public.hex())]

    def check_line(self, line: dict[str, Any], newest: Note | None) -> None:
        content = "body" if "body" in line else "withheld"
        texts = [line.get(name) for name in ("hash", "previous", content)]
        fields = {"hash", "index", "previous", content} | (set() if newest is None else {"proof"})
        if set(line) != fields or not all(isinstance(text, str) for text in texts):
            raise BadMember("entries.jsonl", "a line with other fields")
        index, (digest, previous, text) = line["index"], [str(text) for text in texts]
        if newest is None and (type(index) is not int or index != self.entries):
            raise self.bad(self.entries, "chain-broken", f"expected index {self.entries}, found {index!r}")
        last, head, _ = self.last
        if type(index) is not int or index <= last or (last < 0 < index):
            raise BadMember("entries.jsonl", "lines out of order, or no entry 0")
        follows, body = last == index - 1, text.encode("utf-8")
        before = head if follows else previous
        if not is_hash(before) or not is_hash(digest):
            raise self.bad(index, "entry-altered", "a hash is none")
        fields_hashed = b"sterling/entry/1\x00" + index.to_bytes(8, "big") + bytes.fromhex(before) + body
        fits = hashlib.sha256(fields_hashed).hexdigest() == digest
        if previous != before and (content == "withheld" or not fits):
            raise self.bad(index, "chain-broken", "it does not follow the entry before it")
        if previous != before or (content == "body" and not fits):
            raise self.bad(index, "entry-altered", "its hash is not the hash of its bytes")
        if content == "withheld" and f"entry:{index}" not in self.known:
            raise BadMember("entries.jsonl", f"entry {index} is withheld and not listed")
        self.last = (index, digest, self.check_body(index, body) if content == "body" else None)
        self.check_place(index, bytes.fromhex(digest), line, newest)

    def check_place(self, index: int, digest: bytes, line: dict[str, Any], newest: Note | None) -> None:
        if newest is None:
            for _ in self.tree.add(digest):
                pass
            if index + 1 in self.sizes:
                self.roots[index + 1] = self.tree.root()
            return
        try:
            leaf = hashlib.sha256(b"\x00" + digest).digest()
            found = proved_root(index, newest.size, leaf, hashes(line["proof"])) if newest.size else b""
        except ValueError:
            found = b""
        if found != newest.root or index >= newest.size:
            raise self.bad(index, "proof-invalid", "its proof leads elsewhere")

    def check_body(self, index: int, data: bytes) -> int:
        try:
            body = parse_body(index, data)
        except Bad as problem:
            raise self.bad(index, "entry-altered", str(problem)) from problem
        kind, payload, at_us = body["kind"], body["payload"], int(body["at_us"])
        before_us = self.last[2] if self.last[0] == index - 1 else None
        stepped = canonical(["clock.stepped", {"before_us": before_us, "after_us": at_us}])
        if before_us is not None and at_us < before_us and canonical([kind, payload]) != stepped:
            raise self.bad(index, "time-unexplained", "time falls and no clock.stepped says so")
        told = payload if isinstance(payload, dict) else {}
        if index == 0:
            if kind != "home.created" or f"sterling/{told.get('home_id')}" != self.manifest["origin"]:
                raise self.bad(0, "forked", "the first entry does not create this home")
            if told.get("key") != hashlib.sha256(bytes.fromhex(self.signers[0][1])).hexdigest():
                raise self.bad(0, "key-unknown", "the home began with another key")
        elif kind in ("key.rotated", "key.revoked"):
            try:
                self.changes.follow(index, body)
            except ValueError as problem:
                raise self.bad(index, "key-unknown", f"a change of keys: {problem}") from problem
            self.signers.append((index, self.changes.current["ledger"]))
        self.note_names(index, kind, body, told)
        return at_us

    def note_names(self, index: int, kind: str, body: dict[str, Any], told: dict[str, Any]) -> None:
        """Remember what an entry puts and what it names."""
        self.contracts.add(kind)
        named = list(addresses(body["payload"]))
        if kind in ("record.put", "record.again"):
            self.known.add(str(told.get("id")))
            self.contracts.add(str(told.get("contract")).partition("@")[0])
        sources = told.get("sources") if kind == "record.put" else None
        for source in sources if isinstance(sources, list) else []:
            if isinstance(source, dict) and isinstance(source.get("record"), str):
                named.append(source["record"])
        for each in named:
            self.wanted.setdefault(each, index)
        is_apart = set(told) == {"blob", "size_bytes"} or (kind == "record.put" and "document" not in told)
        if is_apart and is_hash(told.get("blob")):
            self.documents.setdefault(told["blob"], index)

    def check_note(self, line: dict[str, Any], newest: Note | None) -> None:
        size, good = line.get("size"), self.size
        fields = {"note", "size"} | (set() if newest is None else {"consistency"})
        if set(line) != fields or not isinstance(line["note"], str):
            raise BadMember("checkpoints.jsonl", "a line with other fields")

        def bad(code: str, message: str, *, is_open: bool = False) -> BadMember:
            return BadMember(
                "checkpoints.jsonl", message, code, good, None if is_open else int(str(size)) - 1
            )

        if type(size) is not int or size <= good:
            raise bad("checkpoint-order", "sizes do not rise", is_open=True)
        public = bytes.fromhex([key for since, key in self.signers if not since or size > since][-1])
        try:
            note = Note(line["note"])
            known = note.signed_by(Key(self.manifest["origin"], public))
        except ValueError as problem:
            raise bad("root-mismatch", str(problem)) from problem
        if not known:
            raise bad("key-unknown", "signed by another key")
        if note.size != size:
            raise bad("checkpoint-order", f"it speaks of size {note.size}")
        if note.origin != self.manifest["origin"]:
            raise bad("forked", "it is of another log")
        if newest is None and size > self.entries:
            raise BadMember("entries.jsonl", "the tail is missing", "tail-missing", self.entries, size - 1)
        try:
            leads = newest is None and self.roots[size] == note.root
            if newest is not None:
                found = proved_roots(size, newest.size, note.root, hashes(line["consistency"]))
                leads = found == (note.root, newest.root)
        except ValueError:
            leads = False
        if not leads:
            raise bad("root-mismatch", "it was signed over other entries")
        self.size = size

    def check_named(self) -> None:
        """What is named is here or listed, and nothing else is here."""
        for address, index in self.documents.items():
            start, end = self.members.get(f"blobs/{address}", (0, 0))
            if 0 < end - start <= TEXT_MAX:
                try:
                    text = self.data[start:end].decode("utf-8")
                    inner = list(addresses(json.loads(text))) if canonical(json.loads(text)) == text else []
                except (ValueError, RecursionError):
                    inner = []
                for each in inner:
                    self.wanted[each] = min(index, self.wanted.get(each, index))
        for each, index in sorted(self.wanted.items(), key=lambda item: (item[1], item[0])):
            if f"blobs/{each}" not in self.members and each not in self.known:
                if is_hash(each):
                    message = f"entry {index} names blob {each}"
                    raise BadMember(f"blobs/{each}", message, "blob-missing", index, index)
                message = f"entry {index} names record {each}"
                raise BadMember("entries.jsonl", message, "", index, index)
        for name in self.members:
            folder, _, rest = name.partition("/")
            stray = folder == "blobs" and rest not in self.wanted
            if stray or (folder == "contracts" and rest.partition("@")[0] not in self.contracts):
                raise BadMember(name, "no entry here names it")

    def bad(self, index: int, code: str, message: str) -> BadMember:
        return BadMember("entries.jsonl", message, code, index, index)


def verify_bundle(path: Path, pin: str | None = None) -> Answer:
    """The verdict on a bundle. Errors: OSError, ValueError for a bad pin."""
    trusted = None if pin is None else Key.parse(pin)
    with path.open("rb") as file:
        is_empty = not file.read(1)
        data = b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return verify_bytes(data, trusted)


def verify_bytes(data: Any, trusted: Key | None) -> Answer:
    """The verdict on the bytes of a bundle."""
    bundle, place, doubt = Bundle(data, trusted), None, ""
    try:
        bundle.check()
        doubt = "" if trusted is not None else "nobody vouches for the key that signed it"
        doubt = doubt if CAN_CHECK_SIGNATURES else "without the package cryptography no signature was checked"
    except BadMember as problem:
        place = problem.place
    verdict, status = ("broken", BROKEN) if place else ("cannot-judge", CANNOT_JUDGE) if doubt else ("ok", OK)
    manifest = bundle.manifest
    return {
        "verdict": verdict, "exit": status, "message": place["message"] if place else doubt,
        "code": place["code"] if place else "integrity.no-anchor" if doubt else "",
        "origin": manifest.get("origin", ""), "selection": manifest.get("selection", {}),
        "size": bundle.size, "entries": bundle.entries, "withheld": manifest.get("withheld", []),
        "blobs": sum(name.startswith("blobs/") for name in bundle.members), "first_bad": place,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command; gives the exit status."""
    parser = argparse.ArgumentParser(description="Check a Sterling home without Sterling.")
    parser.add_argument("home", type=Path)
    parser.add_argument("--pin", help="a verifier string, or a file that holds one")
    parser.add_argument("--anchor", type=Path, action="append", default=[], help="a signed checkpoint")
    parser.add_argument("--blobs", action="store_true", help="hash every stored byte again")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    try:
        is_file = given.pin is not None and Path(given.pin).is_file()
        pin = Path(given.pin).read_text(encoding="utf-8") if is_file else given.pin
        notes = tuple(path.read_text(encoding="utf-8") for path in given.anchor)
        if is_bundle(given.home):
            result = verify_bundle(given.home, pin)
        else:
            result = verify(given.home, pin, notes, blobs=given.blobs)
    except (Nothing, OSError, ValueError) as problem:
        print(f"nothing to check: {problem}", file=sys.stderr)
        return USAGE
    words = "{verdict} {size} entries, head {head}, anchored to {anchored_to} {code} {message!r} {first_bad}"
    words += " losses {losses}" if result.get("losses") else ""
    words += " copies outside began anew at entries {restored_at}" if result.get("restored_at") else ""
    if "origin" in result:
        words = "{verdict} {entries} entries of {origin!r} under {size} {code} {message!r} {first_bad}"
    print(json.dumps(result, sort_keys=True) if given.json else words.format(**result))
    return int(result["exit"])


if __name__ == "__main__":
    sys.exit(main())
