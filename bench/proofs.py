"""What proofs cost, beside pymerkle over the same leaves in the same run.

Cases: making and checking inclusion and consistency proofs, from memory and from
an SQLite file, at two sizes; and each at the large size against the small one.
Leaves are made here and not through a ledger: the tree does not know the difference.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymerkle
from report import line, parse_arguments

from sterling.kernel import merkle
from sterling.kernel.merkle import GetNode
from sterling.kernel.store_sqlite import read_node

ASKED, RUNS = 200, 15
SMALL = 10_000
Case = tuple[Callable[[], object], Callable[[], object]]


def main() -> None:
    arguments = parse_arguments("proofs against pymerkle")
    sizes = (SMALL, 100_000 if arguments.quick else 1_000_000)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        cases = {size: cases_of(Trees(Path(folder), size)) for size in sizes}
    for size in sizes:
        for name, (ours, theirs) in cases[size].items():
            race(name, size, ours, theirs, f"pymerkle {pymerkle.__version__}", "<= 1.5")
    for name, (small, _) in cases[SMALL].items():
        large = cases[sizes[1]][name][0]
        race(f"{name}, large tree", sizes[1], large, small, f"the same at {SMALL} entries", "<= 2.0")


def leaves(size: int) -> Iterator[bytes]:
    for index in range(size):
        yield hashlib.sha256(index.to_bytes(8, "big")).digest()


class Trees:
    """The same leaves in our nodes (memory and SQLite) and in pymerkle's (memory and SQLite)."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self.theirs = pymerkle.InmemoryTree(algorithm="sha256")
        self.theirs_stored = pymerkle.SqliteTree(str(folder / f"theirs{size}.db"), algorithm="sha256")
        self.nodes: dict[tuple[int, int], bytes] = {}
        for index, leaf in enumerate(leaves(size)):
            self.theirs.append_entry(leaf)
            for level, position, node in merkle.grow(index, merkle.leaf_hash(leaf), self.get):
                self.nodes[level, position] = node
        self.theirs_stored.append_entries(list(leaves(size)), chunksize=10_000)
        self.database = sqlite3.connect(folder / f"ours{size}.db")
        self.database.execute(
            "CREATE TABLE nodes (level INTEGER NOT NULL, position INTEGER NOT NULL, hash BLOB NOT NULL,"
            " PRIMARY KEY (level, position)) STRICT, WITHOUT ROWID"
        )
        rows = ((*place, node) for place, node in self.nodes.items())
        self.database.executemany("INSERT INTO nodes VALUES (?, ?, ?)", rows)
        self.database.commit()
        assert merkle.root(size, self.get) == self.theirs.get_root(size)
        assert merkle.root(size, self.read) == self.theirs_stored.get_root(size)

    def get(self, level: int, position: int) -> bytes:
        return self.nodes[level, position]

    def read(self, level: int, position: int) -> bytes:
        return read_node(self.database, level, position)


def cases_of(trees: Trees) -> dict[str, Case]:
    """Every case at one size: what we do, and what pymerkle does."""
    size = trees.size
    asked = random.Random(1).sample(range(1, size), ASKED)
    root, theirs = merkle.root(size, trees.get), trees.theirs
    paths = [(index, merkle.inclusion(index, size, trees.get)) for index in asked]
    their_paths = [(theirs.get_leaf(index + 1), theirs.prove_inclusion(index + 1, size)) for index in asked]
    grown = [(old, merkle.root(old, trees.get), merkle.consistency(old, size, trees.get)) for old in asked]
    their_grown = [(theirs.get_root(old), theirs.prove_consistency(old, size)) for old in asked]
    cases: dict[str, Case] = {}
    for place, get, tree in (("memory", trees.get, theirs), ("SQLite", trees.read, trees.theirs_stored)):
        cases[f"make inclusion from {place}"] = makers(
            merkle.inclusion, get, tree.prove_inclusion, asked, size, 1
        )
        cases[f"make consistency from {place}"] = makers(
            merkle.consistency, get, tree.prove_consistency, asked, size, 0
        )
    cases["check inclusion"] = (
        lambda: [merkle.verify_inclusion(at, size, trees.nodes[0, at], path, root) for at, path in paths],
        lambda: [pymerkle.verify_inclusion(leaf, root, path) for leaf, path in their_paths],
    )
    cases["check consistency"] = (
        lambda: [merkle.verify_consistency(old, size, early, root, path) for old, early, path in grown],
        lambda: [pymerkle.verify_consistency(early, root, path) for early, path in their_grown],
    )
    return cases


def makers(
    ours: Callable[[int, int, GetNode], object],
    get: GetNode,
    theirs: Callable[[int, int], object],
    asked: list[int],
    size: int,
    shift: int,
) -> Case:
    """Both ways of making the same proofs; pymerkle counts leaves from 1."""
    return (
        lambda: [ours(at, size, get) for at in asked],
        lambda: [theirs(at + shift, size) for at in asked],
    )


def race(
    name: str, size: int, ours: Callable[[], object], theirs: Callable[[], object], rival: str, must: str
) -> None:
    """Both in turn, again and again, so that a noisy machine hits both."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for times, action in zip(taken, (ours, theirs), strict=True):
            start = time.perf_counter()
            action()
            times.append((time.perf_counter() - start) / ASKED * 1e6)
    line(
        bench="proofs",
        case=name,
        ours=statistics.median(taken[0]),
        against=statistics.median(taken[1]),
        rival=rival,
        unit="us",
        must=must,
        accepted=ASKED,
        history=size,
        runs=RUNS,
    )


if __name__ == "__main__":
    main()
