"""The hash chain: sealing entries and checking them.

An entry's hash covers a tag, its index, the hash before it and its body, so
changing any entry changes every hash after it. A chain cut short still holds:
compare the returned head with a copy kept somewhere else (anchors.py).

Nothing here opens a file or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.hashing import ENTRY_TAG, tagged_hash, u64

__all__ = ["GENESIS", "ChainBroken", "Entry", "EntryAltered", "seal", "verify"]

GENESIS = bytes(32)


class ChainBroken(SterlingError):
    """An entry does not follow from the one before it."""

    code = "integrity.chain-broken"
    hint = "Stop writing. Compare with the newest backup, then run `sterling verify` on it."
    exit = EXIT_BROKEN

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"entry {index}: {message}", index=index)
        self.index = index


class EntryAltered(SterlingError):
    """An entry's stored hash is not the hash of what is stored."""

    code = "integrity.entry-altered"
    hint = "Stop writing. Compare with the newest backup, then run `sterling verify` on it."
    exit = EXIT_BROKEN

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"entry {index}: {message}", index=index)
        self.index = index


@dataclass(frozen=True, slots=True)
class Entry:
    """One sealed line of the ledger. `body` is canonical JSON."""

    index: int
    previous: bytes
    hash: bytes
    body: bytes


def seal(index: int, previous: bytes, body: bytes) -> Entry:
    """The entry that these three make."""
    return Entry(index, previous, tagged_hash(ENTRY_TAG, u64(index), previous, body), body)


def verify(entries: Iterable[Entry], *, first: int = 0, previous: bytes = GENESIS) -> bytes:
    """Recompute every hash in order and return the head.

    Raises:
        ChainBroken: an index or a `previous` does not follow (cut, inserted, reordered).
        EntryAltered: index and previous follow, but the hash is of other bytes.
    """
    head = previous
    for expected, entry in enumerate(entries, start=first):
        if entry.index != expected:
            raise ChainBroken(expected, f"expected index {expected}, found {entry.index}")
        if entry.previous != head:
            raise ChainBroken(expected, f"expected previous {head.hex()}, found {entry.previous.hex()}")
        sealed = seal(expected, head, entry.body)
        if sealed.hash != entry.hash:
            raise EntryAltered(expected, f"expected hash {sealed.hash.hex()}, found {entry.hash.hex()}")
        head = entry.hash
    return head
