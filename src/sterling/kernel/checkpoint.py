"""Checkpoints as signed notes: the root of the tree at one size, signed.

The text is a C2SP tlog-checkpoint without extension lines, signed as a C2SP
signed note with Ed25519:

    sterling/home-abc
    42
    qg0yC1z4...=

    — sterling/home-abc 3q2+7w...

Parsing accepts exactly what `format_checkpoint` can have written. Nothing here
does I/O.

Source: c2sp.org/tlog-checkpoint, c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.signing import (
    SIGNATURE_BYTES,
    Signer,
    Verifier,
    base64_text,
    is_key_name,
    key_id,
    parse_verifier,
    verify_signature,
)

__all__ = [
    "NOTE_BYTES_MAX",
    "Checkpoint",
    "NoteMalformed",
    "format_checkpoint",
    "note_checkpoint",
    "note_signers",
    "open_note",
    "origin_of",
    "parse_checkpoint",
    "sign_note",
]

NOTE_BYTES_MAX = 16 * 1024
_ROOT_BYTES = 32
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNATURES_MAX = 16


class NoteMalformed(SterlingError):
    """A text is no signed note over a checkpoint."""

    code = "checkpoint.malformed"
    hint = "Print a fresh one: `sterling ledger checkpoint`."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log claims: its name, how many entries it has, and their root."""

    origin: str
    size: int
    root: bytes


def origin_of(home_id: str) -> str:
    """The name under which a home's log signs: `sterling/<home id>`."""
    return f"sterling/{home_id}"


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The three lines that are signed.

    Errors: NoteMalformed for an origin, a size or a root that no note can hold.
    """
    if not is_key_name(checkpoint.origin):
        raise NoteMalformed(f"expected a plain origin, found {checkpoint.origin[:80]!r}")
    if not _SIZE.fullmatch(str(checkpoint.size)) or len(checkpoint.root) != _ROOT_BYTES:
        raise NoteMalformed(
            f"expected a size and a 32-byte root, found {checkpoint.size}, {len(checkpoint.root)}"
        )
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64_text(checkpoint.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the three lines again.

    Errors: NoteMalformed, also for extension lines: our logs never write any.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteMalformed(f"expected three lines, found {len(lines) - 1}")
    origin, size, root = lines[:3]
    if not is_key_name(origin) or not _SIZE.fullmatch(size):
        raise NoteMalformed(f"expected an origin and a size, found {origin[:80]!r} and {size[:30]!r}")
    return Checkpoint(origin, int(size), _bytes_of(root, _ROOT_BYTES, "a root"))


def sign_note(checkpoint: Checkpoint, signer: Signer) -> str:
    """The checkpoint with one signature line by a `ledger` or `witness` key, named after its origin.

    Errors: KeyPurpose, NoteMalformed.
    """
    signer.require("ledger", "witness")
    text = format_checkpoint(checkpoint)
    signature = signer.sign(text.encode("utf-8"))
    line = base64_text(key_id(checkpoint.origin, signer.public_key) + signature)
    return f"{text}\n— {checkpoint.origin} {line}\n"


def open_note(text: str, verifiers: Sequence[str | Verifier]) -> Checkpoint:
    """The checkpoint of a note that at least one of these keys signed.

    Lines by other keys are ignored. A line that carries the name and id of a
    given key must verify.

    Raises:
        NoteMalformed: the text is no note over a checkpoint.
        SignatureInvalid: a line claims a given key and is not its signature.
        KeyUnknown: no line is by a given key.
    """
    message, lines = _split_note(text)
    checkpoint = parse_checkpoint(message)
    known = {}
    for item in verifiers:
        verifier = parse_verifier(item) if isinstance(item, str) else item
        known[(verifier.name, key_id(verifier.name, verifier.public_key))] = verifier.public_key
    signed = False
    for name, identity, signature in lines:
        public_key = known.get((name, identity))
        if public_key is not None:
            verify_signature(public_key, signature, message.encode("utf-8"))
            signed = True
    if not signed:
        names = ", ".join(f"{name}+{identity.hex()}" for name, identity, _ in lines)
        raise KeyUnknown(f"expected a note signed by a pinned key, found signatures by {names}")
    return checkpoint


def note_checkpoint(text: str) -> Checkpoint:
    """The checkpoint of a note whose signatures nobody has checked yet.

    Errors: NoteMalformed.
    """
    return parse_checkpoint(_split_note(text)[0])


def note_signers(text: str) -> list[tuple[str, str]]:
    """Who claims to have signed a note: (name, key id in hex) a line; nothing is checked."""
    return [(name, identity.hex()) for name, identity, _ in _split_note(text)[1]]


def _split_note(text: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The signed text and its signature lines: (name, key id, signature)."""
    if len(text) > NOTE_BYTES_MAX:
        raise NoteMalformed(f"expected at most {NOTE_BYTES_MAX} characters, found {len(text)}")
    message, blank, tail = text.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteMalformed("expected a text, an empty line and signatures, found otherwise")
    lines = tail[:-1].split("\n")
    if len(lines) > _SIGNATURES_MAX:
        raise NoteMalformed(f"expected at most {_SIGNATURES_MAX} signatures, found {len(lines)}")
    return message + "\n", [_signature_line(line) for line in lines]


def _signature_line(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not is_key_name(parts[1]):
        raise NoteMalformed(f"expected a signature line, found {line[:120]!r}")
    encoded = _bytes_of(parts[2], 4 + SIGNATURE_BYTES, "a key id and a signature")
    return parts[1], encoded[:4], encoded[4:]


def _bytes_of(text: str, length: int, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise NoteMalformed(f"expected {what} in base64, found {text[:80]!r}") from problem
    if len(data) != length or base64_text(data) != text:
        raise NoteMalformed(f"expected {what} of {length} bytes, found {len(data)}")
    return data
