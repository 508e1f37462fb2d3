"""Names for things: random ids, and ids made from a hash."""

from __future__ import annotations

import base64
import secrets

__all__ = ["id_from_hash", "random_id"]


def random_id(prefix: str) -> str:
    """A fresh id of 128 random bits: `prefix-` and 26 lower-case base32 letters."""
    return f"{prefix}-{_letters(secrets.token_bytes(16))}"


def id_from_hash(prefix: str, digest: bytes) -> str:
    """The id that a hash gives: `prefix-` and its first 26 base32 letters."""
    return f"{prefix}-{_letters(digest)}"


def _letters(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").lower().rstrip("=")[:26]
