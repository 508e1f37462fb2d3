"""Ledgers to tamper with: a generated home, and the tools of somebody who edits it.

For everybody who writes or measures a verifier: all of them are given the same
files. `generate` needs the user's state folder to be somebody else's than the
real one, because a home anchors itself there.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sterling.kernel import merkle, standalone_verify
from sterling.kernel.anchors import Anchors
from sterling.kernel.batch import Batch
from sterling.kernel.chain import GENESIS, Entry, seal
from sterling.kernel.checkpoint import Checkpoint, origin_of, sign_note
from sterling.kernel.home import Home, init_home
from sterling.kernel.keys import load_key
from sterling.kernel.records import Source
from sterling.kernel.signing import Signer
from sterling.kernel.verify import Verification, verify_home
from sterling.testing.clock import FakeClock

__all__ = [
    "BLOB_ENTRY",
    "COLUMNS",
    "SIZE",
    "SIZES",
    "SPILLED_ENTRY",
    "STRANGER",
    "Forge",
    "anchors_of",
    "both",
    "copy_home",
    "flips",
    "generate",
    "next_batch",
]

STRANGER = Signer("ledger", b"\x07" * 32)
SIZES = [1, 4, 9, 14, 20]  # Where the generated log has checkpoints; all of them are anchored.
SIZE = SIZES[-1]
BLOB_ENTRY, SPILLED_ENTRY = 2, 10
_SAME = (
    *("verdict", "exit", "code", "home_id", "size", "head", "anchored_to", "unanchored", "checkpoints"),
    *("losses", "restored_at"),
)
COLUMNS = ("hash", "previous", "kind", "contract", "subject", "run", "at_us", "body")


def generate(path: Path, sizes: Sequence[int] = SIZES) -> None:
    """A home with checkpoints at these sizes: plain entries, a record with a blob, a large payload."""
    clock = FakeClock()
    with init_home(path, clock=clock) as home:
        for size in sizes[1:]:
            while home.ledger.size() < size:
                clock.advance(1_000_000)
                home.ledger.commit(next_batch(home))
            home.ledger.checkpoint()


def next_batch(home: Home) -> Batch:
    at = home.ledger.size()
    batch = Batch(run=f"run-{at // 5}", step="step-é" if at % 2 else "")
    if at == BLOB_ENTRY:
        source = Source("image", blob=home.blobs.put(b"pixels that somebody saw"))
        session = {"source": "images", "name": "день", "machine": "", "zone": "UTC", "rules_hash": "0" * 64}
        home.records.put(batch, "recall.session", session, [source])
    elif at == SPILLED_ENTRY:
        batch.append("process.started", {"command": "x" * 40_000, "pid": 1, "boot": "b"})
    else:
        batch.append("process.ended", {"command": "tool", "exit": at}, subject=f"tool/{at % 3}")
    return batch


def copy_home(home: Path, state: Path, target: Path) -> None:
    """A copy of a home, with a copy of the anchors in `state` that remember it at its new path."""
    shutil.copytree(home, target)
    shutil.copytree(state, Path(os.environ["XDG_STATE_HOME"]), dirs_exist_ok=True)
    anchors = anchors_of(target)
    pin = anchors.read_pin()
    assert pin is not None, "a generated home is pinned"
    anchors.pin(pin.verifier, target)


def anchors_of(home: Path) -> Anchors:
    return Anchors.open(_home_id_of(home))


def both(
    home: Path,
    *,
    blobs: bool = False,
    notes: tuple[str, ...] = (),
    pin: str | None = None,
) -> Verification:
    """What both verifiers say of a home; they must say the same."""
    ours = verify_home(home, blobs=blobs, notes=notes, pin=pin)
    theirs = standalone_verify.verify(home, pin, notes, blobs=blobs)
    told = ours.as_json()
    for name in _SAME:
        assert told[name] == theirs[name], f"{name}: {told[name]} and {theirs[name]}"
    for name in ("low", "high", "code"):
        assert (told["first_bad"] or {}).get(name) == (theirs["first_bad"] or {}).get(name)
    return ours


class Forge:
    """Write access to a ledger, and nothing else."""

    def __init__(self, home: Path) -> None:
        self.home_id = _home_id_of(home)
        self.key = load_key(home / "keys", "ledger")
        self.database = sqlite3.connect(home / "ledger.db", isolation_level=None)
        self.database.execute("PRAGMA synchronous=OFF")
        for (name,) in self.database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            self.database.execute(f"DROP TRIGGER {name}")

    def value(self, index: int, column: str) -> Any:
        return self.database.execute(f'SELECT {column} FROM entries WHERE "index" = ?', (index,)).fetchone()[
            0
        ]

    def edit(self, index: int, column: str, value: Any) -> None:
        self.database.execute(f'UPDATE entries SET "{column}" = ? WHERE "index" = ?', (value, index))

    def bodies(self) -> list[bytes]:
        return [row[0] for row in self.database.execute('SELECT body FROM entries ORDER BY "index"')]

    def delete(self, *indexes: int) -> None:
        for index in indexes:
            self.database.execute('DELETE FROM entries WHERE "index" = ?', (index,))

    def insert(self, entry: Entry) -> None:
        """Store an entry with the columns that its body gives."""
        self.database.execute(
            'INSERT INTO entries ("index", hash, previous, kind, contract, subject, run, at_us, body)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (entry.index, entry.hash, entry.previous, *_twins_of(entry.body), entry.body),
        )

    def reseal(self, bodies: Sequence[bytes]) -> None:
        """Make a log of these bodies whose chain, columns and tree hold; checkpoints stay as they are."""
        self.database.execute("DELETE FROM entries")
        self.database.execute("DELETE FROM nodes")
        nodes: dict[tuple[int, int], bytes] = {}
        head = GENESIS
        for index, body in enumerate(bodies):
            entry = seal(index, head, body)
            self.insert(entry)
            for level, position, node in merkle.grow(
                index, merkle.leaf_hash(entry.hash), lambda *at: nodes[at]
            ):
                nodes[level, position] = node
                self.database.execute("INSERT INTO nodes VALUES (?, ?, ?)", (level, position, node))
            head = entry.hash

    def note(self, size: int, key: Signer, *, origin: str = "") -> str:
        """A checkpoint over what is stored now."""

        def get(level: int, position: int) -> bytes:
            query = "SELECT hash FROM nodes WHERE level = ? AND position = ?"
            return bytes(self.database.execute(query, (level, position)).fetchone()[0])

        return sign_note(Checkpoint(origin or origin_of(self.home_id), size, merkle.root(size, get)), key)

    def sign(self, key: Signer, sizes: Sequence[int]) -> None:
        """Put checkpoints by this key in place of what is stored for these sizes."""
        for size in sizes:
            self.put_checkpoint(size, self.note(size, key))

    def put_checkpoint(self, size: int, note: str) -> None:
        self.database.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (size, note))

    def forget_after(self, size: int) -> None:
        """Cut the log cleanly: entries, tree and checkpoints."""
        self.reseal(self.bodies()[:size])
        self.database.execute("DELETE FROM checkpoints WHERE size > ?", (size,))


def flips(value: Any) -> Iterator[Any]:
    """The value with one bit of each of its bytes flipped."""
    if isinstance(value, int):
        yield from (value ^ (1 << bit) for bit in range(0, 64, 8))
        return
    raw = value.encode() if isinstance(value, str) else bytes(value)
    for at in range(len(raw)):
        flipped = bytes([*raw[:at], raw[at] ^ 1 << (at % 8), *raw[at + 1 :]])
        yield flipped


def _home_id_of(home: Path) -> str:
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE name = 'home_id'").fetchone()[0])


def _twins_of(body: bytes) -> list[Any]:
    """The columns that a body gives; made-up ones where it gives none."""
    try:
        parsed = json.loads(body)
        return [parsed.get(name, "") for name in ("kind", "contract", "subject", "run")] + [parsed["at_us"]]
    except (ValueError, KeyError, AttributeError, RecursionError):
        return ["process.ended", "", "", "", 0]
