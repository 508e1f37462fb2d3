"""SHA-256 everywhere, tagged so that no two kinds of thing can share a hash.

A blob's address is the plain SHA-256 of its bytes, so `sha256sum` agrees. Any
other hash starts with a tag and a zero byte. Integers enter as unsigned 64-bit
big-endian numbers, hashes as 32 bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = [
    "CONFIG_TAG",
    "EFFECT_TAG",
    "ENTRY_TAG",
    "RECORD_TAG",
    "address_of",
    "hash_file",
    "is_address",
    "tagged_hash",
    "u64",
]

ENTRY_TAG = b"sterling/entry/1"
RECORD_TAG = b"sterling/record/1"
EFFECT_TAG = b"sterling/effect/1"
CONFIG_TAG = b"sterling/config/1"

_PIECE_BYTES = 1024 * 1024
_HEX = frozenset("0123456789abcdef")


def address_of(data: bytes) -> str:
    """The address of these bytes: 64 lower-case hex digits of their SHA-256."""
    return hashlib.sha256(data).hexdigest()


def is_address(text: object) -> bool:
    """Whether this is 64 lower-case hex digits."""
    return isinstance(text, str) and len(text) == 64 and _HEX.issuperset(text)


def tagged_hash(tag: bytes, *fields: bytes) -> bytes:
    """SHA-256 over the tag, a zero byte and the fields in order; 32 bytes."""
    digest = hashlib.sha256(tag + b"\x00")
    for field in fields:
        digest.update(field)
    return digest.digest()


def u64(number: int) -> bytes:
    """An unsigned 64-bit big-endian number."""
    return number.to_bytes(8, "big")


def hash_file(path: Path) -> str:
    """The address of a file's bytes, read in 1 MiB pieces."""
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
    return digest.hexdigest()
