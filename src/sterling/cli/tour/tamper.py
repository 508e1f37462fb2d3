"""Scene `tamper`: somebody edits the past, on a copy of the home."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from sterling.cli.tour.stage import Scene, Stage

__all__ = ["SCENE"]


def play(stage: Stage) -> None:
    stage.command("verify", "--blobs")
    before = stage.run("verify", "--blobs").data
    stage.tell(f"Untouched: {before['size']} entries and {before['blobs']['checked']} blobs hold.")
    with tempfile.TemporaryDirectory(prefix="sterling-tamper-") as folder:
        altered = _copy(stage.home, Path(folder) / "altered")
        victim = before["size"] // 2
        _flip_byte_of_entry(altered, victim)
        found = stage.run("verify", str(altered), expect=(3,)).data["first_bad"]
        stage.demand(found["low"] == victim, f"expected entry {victim} to be named, found {found['low']}")
        stage.tell(f"One byte of entry {victim} flipped: {found['code']} at entry {found['low']}, exit 3.")
        cut = _copy(stage.home, Path(folder) / "cut")
        _cut_tail(cut, keep=max(0, before["size"] - 3))
        found = stage.run("verify", str(cut), expect=(3,)).data["first_bad"]
        stage.tell(f"The last 3 entries cut off: {found['code']}, exit 3.")
        if before["blobs"]["checked"]:
            swapped = _copy(stage.home, Path(folder) / "swapped")
            address = _flip_byte_of_blob(swapped)
            found = stage.run("verify", str(swapped), "--blobs", expect=(3,)).data["first_bad"]
            stage.demand(address in found["message"], f"expected blob {address} to be named, found {found}")
            stage.tell(f"One byte of blob {address[:12]}… flipped: {found['code']}, exit 3.")


def _copy(home: Path, target: Path) -> Path:
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("*.lock", "authority"))
    return target


def _flip_byte_of_entry(home: Path, index: int) -> None:
    """Edit one byte the way somebody with the file could: triggers off, write, triggers on."""
    connection = sqlite3.connect(home / "ledger.db", isolation_level=None)
    trigger = connection.execute(
        "SELECT sql FROM sqlite_master WHERE name = 'entries_are_never_updated'"
    ).fetchone()
    body = bytearray(connection.execute('SELECT body FROM entries WHERE "index" = ?', (index,)).fetchone()[0])
    body[len(body) // 2] ^= 1
    connection.execute("DROP TRIGGER entries_are_never_updated")
    connection.execute('UPDATE entries SET body = ? WHERE "index" = ?', (bytes(body), index))
    connection.execute(trigger[0])
    connection.close()


def _cut_tail(home: Path, *, keep: int) -> None:
    connection = sqlite3.connect(home / "ledger.db", isolation_level=None)
    connection.execute("DROP TRIGGER entries_are_never_deleted")
    for table, column in (("entries", '"index"'), ("records", "entry")):
        connection.execute(f"DELETE FROM {table} WHERE {column} >= ?", (keep,))
    connection.execute("DELETE FROM checkpoints WHERE size > ?", (keep,))
    connection.close()


def _flip_byte_of_blob(home: Path) -> str:
    file = min(path for path in (home / "blobs").glob("??/*") if path.stat().st_size > 0)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(file, 0o600)
    file.write_bytes(bytes(data))
    return file.parent.name + file.name


SCENE = Scene("tamper", "Would anybody notice if the past were edited?", play)
