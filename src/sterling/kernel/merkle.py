"""The Merkle tree over entry hashes: roots and proofs by RFC 6962.

Leaf data is the 32-byte entry hash. Leaves are hashed with the prefix 0x00,
inner nodes with 0x01. Only *full* subtrees are stored, addressed by
`(level, position)`: the one at level L and position P covers the 2^L leaves
that start at P * 2^L. Everything else is computed from at most one full subtree
a level, so a proof costs O(log n) reads.

A proof that is asked for or checked with a size of 0, an index outside the tree,
a hash of another length, or one node too few or too many is refused. Nothing
here does I/O: the caller passes `get`.

Source: RFC 6962, section 2.1; checking follows RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError

__all__ = [
    "EMPTY_ROOT",
    "GetNode",
    "ProofInvalid",
    "ProofRange",
    "consistency",
    "grow",
    "inclusion",
    "leaf_hash",
    "node_hash",
    "root",
    "verify_consistency",
    "verify_inclusion",
]

GetNode = Callable[[int, int], bytes]  # (level, position) -> the stored 32-byte hash.

EMPTY_ROOT = hashlib.sha256(b"").digest()
_HASH_BYTES = 32
_SIZE_MAX = 2**63 - 1  # What an INTEGER column holds.


class ProofRange(SterlingError):
    """A proof was asked for an entry or a size that the tree does not have."""

    code = "ledger.proof-range"
    hint = "See how many entries there are: `sterling ledger head`."
    exit = EXIT_USAGE


class ProofInvalid(SterlingError):
    """A proof does not lead to the root it is checked against."""

    code = "integrity.proof-invalid"
    hint = "Ask for the proof again: `sterling ledger prove INDEX`."
    exit = EXIT_BROKEN


def leaf_hash(entry_hash: bytes) -> bytes:
    """The leaf of an entry: SHA-256 over 0x00 and the 32-byte entry hash."""
    _check_hash(entry_hash, "an entry hash")
    return hashlib.sha256(b"\x00" + entry_hash).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two nodes: SHA-256 over 0x01 and both."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def grow(size: int, leaf: bytes, get: GetNode) -> list[tuple[int, int, bytes]]:
    """The full subtrees that become complete when `leaf` joins a tree of `size` leaves.

    `leaf` is what `leaf_hash` gives. The first triple `(level, position, hash)` is
    the leaf itself at level 0; `get` reads full subtrees that were complete before.
    """
    _check_size(size, least=0)
    _check_hash(leaf, "a leaf hash")
    level, position, current = 0, size, leaf
    grown = [(0, size, leaf)]
    while position & 1:
        current = node_hash(get(level, position - 1), current)
        level, position = level + 1, position >> 1
        grown.append((level, position, current))
    return grown


def root(size: int, get: GetNode) -> bytes:
    """The root of the first `size` leaves; of none, SHA-256 of nothing."""
    _check_size(size, least=0)
    return _range_root(0, size, get) if size else EMPTY_ROOT


def inclusion(index: int, size: int, get: GetNode) -> list[bytes]:
    """The audit path of leaf `index` in the tree of the first `size` leaves, lowest first.

    Errors: ProofRange for size 0 or an index outside the tree.
    """
    _check_size(size, least=1)
    _check_index(index, size)
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, get))
            end = middle
        else:
            path.append(_range_root(start, middle, get))
            start = middle
    path.reverse()
    return path


def consistency(old: int, new: int, get: GetNode) -> list[bytes]:
    """The proof that the tree of the first `old` leaves is the start of that of `new`.

    Errors: ProofRange unless 1 <= old <= new.
    """
    _check_size(new, least=1)
    _check_size(old, least=1)
    if old > new:
        raise ProofRange(f"expected an old size of at most {new}, found {old}", old=old, new=new)
    path: list[bytes] = []
    start, end, whole = 0, new, True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range_root(middle, end, get))
            end = middle
        else:
            path.append(_range_root(start, middle, get))
            start, whole = middle, False
    if not whole:
        path.append(_range_root(start, end, get))
    path.reverse()
    return path


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is leaf `index` of the tree with this size and root.

    Raises:
        ProofInvalid: the proof is too short, too long, or leads elsewhere.
        ProofRange: size 0, or an index outside the tree.
    """
    _check_size(size, least=1)
    _check_index(index, size)
    _check_proof(leaf, root, *proof)
    current = leaf
    for sibling, is_left in _climb(index, size - 1, proof):
        current = node_hash(sibling, current) if is_left else node_hash(current, sibling)
    _check_equal(current, root, f"root of size {size}")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree `(new, new_root)` starts with the tree `(old, old_root)`.

    Raises:
        ProofInvalid: the proof is too short, too long, or leads elsewhere.
        ProofRange: unless 1 <= old <= new.
    """
    _check_size(new, least=1)
    _check_size(old, least=1)
    if old > new:
        raise ProofRange(f"expected an old size of at most {new}, found {old}", old=old, new=new)
    _check_proof(old_root, new_root, *proof)
    nodes = list(proof)
    if old == new:
        if nodes:
            raise ProofInvalid(f"expected an empty proof, found {len(nodes)} nodes")
        _check_equal(old_root, new_root, f"root of size {new}")
        return
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        raise ProofInvalid("expected a longer proof, found 0 nodes")
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = nodes[0]
    for sibling, is_left in _climb(position, last, nodes[1:]):
        if is_left:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
        else:
            second = node_hash(second, sibling)
    _check_equal(first, old_root, f"root of size {old}")
    _check_equal(second, new_root, f"root of size {new}")


def _climb(position: int, last: int, siblings: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """From a node to the root: each sibling, and whether it stands to the left.

    Raises:
        ProofInvalid: there are more or fewer siblings than the way has steps.
    """
    for sibling in siblings:
        if last == 0:
            raise ProofInvalid(f"expected a shorter proof, found {len(siblings)} nodes on the way")
        is_left = position & 1 == 1 or position == last
        yield sibling, is_left
        while is_left and position and not position & 1:
            position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofInvalid(f"expected a longer proof, found {len(siblings)} nodes on the way")


def _range_root(start: int, end: int, get: GetNode) -> bytes:
    """The root over leaves [start, end); start is a multiple of the largest power of two in it."""
    peaks: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(get(level, start >> level))
        start += 1 << level
    current = peaks.pop()
    while peaks:
        current = node_hash(peaks.pop(), current)
    return current


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_size(size: int, *, least: int) -> None:
    if type(size) is not int or not least <= size <= _SIZE_MAX:
        raise ProofRange(f"expected a size of at least {least}, found {size!r}")


def _check_index(index: int, size: int) -> None:
    if type(index) is not int or not 0 <= index < size:
        raise ProofRange(f"expected an index below {size}, found {index!r}")


def _check_hash(value: bytes, what: str) -> None:
    if not isinstance(value, bytes) or len(value) != _HASH_BYTES:
        found = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise ProofInvalid(f"expected {what} of {_HASH_BYTES} bytes, found {found}")


def _check_proof(*hashes: bytes) -> None:
    for value in hashes:
        _check_hash(value, "a node")


def _check_equal(found: bytes, expected: bytes, what: str) -> None:
    if found != expected:
        raise ProofInvalid(f"expected {what} {expected.hex()}, found {found.hex()}")
