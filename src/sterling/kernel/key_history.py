"""Key history: which key of a purpose may sign, and from which entry on.

A history begins with the keys that were known from outside and takes in the
entries `key.rotated` and `key.revoked` of one log, in order. A rotation counts
only when the key in force and the new key both signed it, for this home and for
the very index at which it stands; a revocation when the home's ledger key in
force signed it. Anything else is `integrity.key-unknown` at that entry.

An entry at index i has index i; a checkpoint of size s is made after index s - 1.
A rotation at index i leaves everything up to i to the old key, also the checkpoint
of size i, and gives what follows to the new one. A revoked key keeps what it
signed before `from_index`. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import is_address
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.signing import (
    SignatureInvalid,
    Signer,
    base64_text,
    parse_signature,
    verify_signature,
)

__all__ = [
    "KEY_KINDS",
    "KeyChange",
    "KeyHistory",
    "KeyRevoked",
    "KeySpan",
    "is_purpose",
    "revocation_payload",
    "rotation_payload",
    "subject_of",
]

KeyChange = tuple[int, str, str, Json]  # index, kind, subject, payload
KEY_KINDS = ("key.rotated", "key.revoked")
_PURPOSE = re.compile(r"ledger|attest|witness|person:[a-z0-9][a-z0-9._-]{0,63}")


class _Shape(NamedTuple):
    """Which fields of a change hold keys and signatures, and what is signed."""

    tag: bytes
    signed: tuple[str, ...]
    keys: tuple[str, ...]
    signatures: tuple[str, ...]


_SHAPES = {
    "key.rotated": _Shape(
        b"sterling/key-rotation/1\x00",
        ("purpose", "old", "new", "from_index"),
        ("old", "new"),
        ("by_old", "by_new"),
    ),
    "key.revoked": _Shape(
        b"sterling/key-revocation/1\x00", ("purpose", "key", "from_index"), ("key", "by"), ("signature",)
    ),
}


class KeyRevoked(SterlingError):
    """Something is signed by a key that was revoked before."""

    code = "keys.revoked"
    hint = "See since when: `sterling keys list`. Have it signed again by the key in force."


@dataclass(frozen=True, slots=True)
class KeySpan:
    """One key of a purpose: it may sign what stands after index `after` and not after `until`.

    `after` is None for a key that was there from the beginning, `until` None for
    the key in force. From `revoked_from` on it may sign nothing.
    """

    purpose: str
    key: bytes
    after: int | None = None
    until: int | None = None
    revoked_from: int | None = None

    @property
    def state(self) -> str:
        """`in-force`, `rotated` or `revoked`."""
        return (
            "revoked"
            if self.revoked_from is not None
            else "rotated"
            if self.until is not None
            else "in-force"
        )

    def covers(self, index: int) -> bool:
        """Whether the rotations leave something at this index to this key."""
        return (self.after is None or index > self.after) and (self.until is None or index <= self.until)


class KeyHistory:
    """The keys of one home, in the order in which they came. `first` maps purposes to public keys."""

    def __init__(self, home_id: str, first: Mapping[str, bytes]) -> None:
        self.home_id = home_id
        self._spans = [KeySpan(purpose, key) for purpose, key in sorted(first.items())]

    def spans(self, purpose: str | None = None) -> tuple[KeySpan, ...]:
        """Every key of a purpose (None: of all), oldest first."""
        return tuple(span for span in self._spans if purpose in (None, span.purpose))

    def current(self, purpose: str) -> bytes | None:
        """The key in force after everything observed, or None when nobody knows one."""
        return next((span.key for span in self.spans(purpose) if span.until is None), None)

    def key_at(self, purpose: str, size: int) -> bytes | None:
        """The key that signs for a log of this size, or None when nobody knows one."""
        return next((span.key for span in self.spans(purpose) if span.covers(size)), None)

    def span_of(self, key: bytes) -> KeySpan | None:
        """The span of a key, or None for a key that nobody introduced."""
        return next((span for span in self._spans if span.key == key), None)

    def require(self, purpose: str, key: bytes, index: int) -> None:
        """Refuse what this key signed at this index unless it was the right one, and not revoked.

        Errors: KeyUnknown, KeyRevoked.
        """
        span = self.span_of(key)
        if span is None or span.purpose != purpose or not span.covers(index):
            raise KeyUnknown(f"expected the {purpose} key in force at {index}, found {key.hex()[:16]}")
        if span.revoked_from is not None and index >= span.revoked_from:
            raise KeyRevoked(
                f"expected a key in force at {index}, found one revoked from {span.revoked_from}"
            )

    def observe(self, index: int, kind: str, subject: str, payload: Json) -> None:
        """Take in one entry; other kinds than `key.rotated` and `key.revoked` say nothing here.

        Errors: KeyUnknown when the entry is not what its key could have signed.
        """
        if kind not in KEY_KINDS:
            return
        if not _is_shaped(payload, _SHAPES[kind]):
            raise _refused(index, "it is not shaped like one")
        if subject != subject_of(payload["purpose"]):
            raise _refused(index, f"its subject is {subject!r:.80}")
        if kind == "key.rotated":
            self._rotate(index, payload)
        else:
            self._revoke(index, payload)

    def _rotate(self, index: int, payload: dict[str, Any]) -> None:
        purpose, old, new = payload["purpose"], bytes.fromhex(payload["old"]), bytes.fromhex(payload["new"])
        known = self.current(purpose)
        if payload["from_index"] != index:
            raise _refused(index, f"it speaks of index {payload['from_index']}")
        if known not in (None, old) or self.span_of(new) is not None:
            raise _refused(index, "it does not lead from the key in force to a new one")
        span = self.span_of(old) or KeySpan(purpose, old)
        if span.purpose != purpose or span.revoked_from is not None or new == old:
            raise _refused(index, "its old key cannot pass anything on")
        message = _message("key.rotated", self.home_id, payload)
        _check_signed(index, old, payload["by_old"], message)
        _check_signed(index, new, payload["by_new"], message)
        self._spans = [each for each in self._spans if each.key != old]
        self._spans += [replace(span, until=index), KeySpan(purpose, new, after=index)]

    def _revoke(self, index: int, payload: dict[str, Any]) -> None:
        """A key in force of `ledger` or `attest` is rotated first: the home could not go on without it."""
        purpose, key, by = payload["purpose"], bytes.fromhex(payload["key"]), bytes.fromhex(payload["by"])
        span = self.span_of(key) or KeySpan(
            purpose, key, until=-1
        )  # A key of which nobody heard signs nothing.
        start = payload["from_index"]
        if start > index or (purpose == "ledger" and start != index):
            raise _refused(index, f"it speaks of index {start}")
        if span.purpose != purpose or (purpose in ("ledger", "attest") and key == self.current(purpose)):
            raise _refused(index, f"its key is the {span.purpose} key in force")
        if by != self.current("ledger"):
            raise _refused(index, "it is not by the ledger key in force")
        _check_signed(index, by, payload["signature"], _message("key.revoked", self.home_id, payload))
        earliest = start if span.revoked_from is None else min(start, span.revoked_from)
        revoked = replace(span, revoked_from=earliest)
        self._spans = [revoked if each == span else each for each in self._spans]
        if revoked not in self._spans:
            self._spans.append(revoked)


def is_purpose(text: str) -> bool:
    """Whether there is such a purpose: ledger, attest, witness or person:NAME."""
    return _PURPOSE.fullmatch(text) is not None


def subject_of(purpose: str) -> str:
    """What the entries about a purpose's keys are about."""
    return f"key/{purpose}"


def rotation_payload(home_id: str, old: Signer, new: Signer, from_index: int, reason: str) -> dict[str, Json]:
    """The payload of `key.rotated`, signed by both keys. Errors: KeyPurpose."""
    new.require(old.purpose)
    payload: dict[str, Json] = {"purpose": old.purpose, "from_index": from_index, "reason": reason}
    payload |= {"old": old.public_key.hex(), "new": new.public_key.hex()}
    message = _message("key.rotated", home_id, payload)
    by_old, by_new = base64_text(old.sign(message)), base64_text(new.sign(message))
    return payload | {"by_old": by_old, "by_new": by_new}


def revocation_payload(
    home_id: str, purpose: str, key: bytes, from_index: int, reason: str, by: Signer
) -> dict[str, Json]:
    """The payload of `key.revoked`, signed by the home's ledger key. Errors: KeyPurpose."""
    by.require("ledger")
    payload: dict[str, Json] = {"purpose": purpose, "from_index": from_index, "reason": reason}
    payload |= {"key": key.hex(), "by": by.public_key.hex()}
    return payload | {"signature": base64_text(by.sign(_message("key.revoked", home_id, payload)))}


def _message(kind: str, home_id: str, payload: Mapping[str, Json]) -> bytes:
    shape = _SHAPES[kind]
    return shape.tag + canonical_bytes({name: payload[name] for name in shape.signed} | {"home_id": home_id})


def _is_shaped(payload: Json, shape: _Shape) -> bool:
    fields = {"purpose", "from_index", "reason", *shape.keys, *shape.signatures}
    return (
        isinstance(payload, dict)
        and set(payload) == fields
        and all(is_address(payload[name]) for name in shape.keys)
        and all(parse_signature(payload[name]) for name in shape.signatures)
        and isinstance(payload["purpose"], str)
        and is_purpose(payload["purpose"])
        and isinstance(payload["reason"], str)
        and type(payload["from_index"]) is int
        and payload["from_index"] >= 0
    )


def _check_signed(index: int, key: bytes, text: str, message: bytes) -> None:
    try:
        verify_signature(key, parse_signature(text), message)
    except SignatureInvalid as problem:
        raise _refused(index, f"it is not signed by {key.hex()[:16]}") from problem


def _refused(index: int, because: str) -> KeyUnknown:
    return KeyUnknown(f"expected a change of keys at entry {index} that counts, found that {because}")
