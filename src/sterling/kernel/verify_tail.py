"""Looking at a log's tail before it is written to: the newest segment, and the copy outside.

A writer calls `check_tail` once, when it takes its role. It recomputes the chain
and the tree from the last checkpoint but one on, and compares the roots with the
newest anchored note and the newest stored one; everything older enters through
the stored tree nodes, which those roots bind. What lies in older entries is for
`sterling verify` to say.
"""

from __future__ import annotations

import sqlite3

from sterling.kernel import chain, merkle
from sterling.kernel.anchors import Anchors
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint
from sterling.kernel.integrity import CheckpointOrder, Forked, RootMismatch, TailMissing
from sterling.kernel.store_sqlite import read_node, read_rows, read_size

__all__ = ["check_tail"]


def check_tail(connection: sqlite3.Connection, anchors: Anchors) -> None:
    """Refuse a log that lost its tail, is another than its anchor saw, or whose last segment is altered.

    Errors: integrity.tail-missing, integrity.forked, integrity.checkpoint-order, integrity.root-mismatch,
            integrity.chain-broken, integrity.entry-altered, anchor.unreadable.
    Cost:   the entries since the last checkpoint but one; independent of what is older.
    """
    anchored = anchors.newest()  # First: what is anchored was written before.
    size, stored = read_size(connection)[0], _stored_note(connection, "")
    if anchored is not None and anchored.size > size:
        raise TailMissing(
            f"expected at least {anchored.size} entries (anchored), found {size}",
            anchored=anchored.size,
            found=size,
        )
    if stored is not None and stored.size > size:
        raise CheckpointOrder(f"expected at least {stored.size} entries (signed), found {size}")
    known = [each.size for each in (anchored, stored) if each is not None]
    before = _stored_note(connection, f"WHERE size < {min(known)}") if known else None
    nodes = _check_segment(connection, 0 if before is None else before.size)

    def root(of: int) -> bytes:
        return merkle.root(of, lambda *at: nodes.get(at) or read_node(connection, *at))

    if anchored is not None and root(anchored.size) != anchored.root:
        raise Forked(f"expected the anchored root at size {anchored.size}, found another")
    if anchored is not None and _stored_note(connection, f"WHERE size = {anchored.size}") != anchored:
        raise CheckpointOrder(
            f"expected the anchored checkpoint of size {anchored.size} in the log, found none"
        )
    if stored is not None and root(stored.size) != stored.root:
        raise RootMismatch(f"expected the signed root at size {stored.size}, found another")


def _check_segment(connection: sqlite3.Connection, first: int) -> dict[tuple[int, int], bytes]:
    """Recompute everything from entry `first` on; the tree nodes that these entries complete."""
    rows = list(read_rows(connection, {}, after=first - 2))
    previous = chain.GENESIS
    if first:
        previous, rows = (rows[0][1], rows[1:]) if rows else (previous, rows)
    for row in rows:
        if not all(isinstance(row[column], bytes) for column in (1, 2, 8)):
            raise chain.EntryAltered(row[0], "expected bytes as hash and body, found others")
    chain.verify(
        [chain.Entry(row[0], row[2], row[1], row[8]) for row in rows], first=first, previous=previous
    )
    grown: dict[tuple[int, int], bytes] = {}

    def get(level: int, position: int) -> bytes:
        return grown.get((level, position)) or read_node(connection, level, position)

    for row in rows:
        for level, position, node in merkle.grow(row[0], merkle.leaf_hash(row[1]), get):
            if read_node(connection, level, position) != node:
                raise RootMismatch(
                    f"expected tree node {level}/{position} over entry {row[0]}, found another"
                )
            grown[level, position] = node
    return grown


def _stored_note(connection: sqlite3.Connection, where: str) -> Checkpoint | None:
    """The newest stored checkpoint among these; whether its signature holds is for `verify` to say."""
    row = connection.execute(f"SELECT note FROM checkpoints {where} ORDER BY size DESC LIMIT 1").fetchone()
    return None if row is None else note_checkpoint(str(row[0]))
