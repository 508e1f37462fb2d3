"""Anchors: copies of a home's checkpoints that lie outside the home.

A chain cannot see its own missing tail, so the newest signed note is also kept
in the user's state folder, one folder a home:

    <state>/sterling/anchors/<home id>/pin.json        the first public key and the home's path
    <state>/sterling/anchors/<home id>/history.jsonl   every note, oldest first
    <state>/sterling/anchors/<home id>/latest          the newest note

The folder, not the home, says which notes exist, so editing the home cannot drop
one. `append` refuses a note that is older than, or another than, what is there:
the home was rolled back or forked, and a copy that follows it would hide that.

One line may go back: where a key holder accepted a loss, recover.py appends a note
marked `recovered`, naming the entry that admits it. Whether that entry is there,
and signed, is for every verifier to check; without it the notes before the mark
stay proof of the loss.

A line of the history that a crash tore off is moved to `history.jsonl.torn` by the
next append and ignored by readers; the note it belonged to was acknowledged by
nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from sterling.kernel.checkpoint import Checkpoint, NoteMalformed, note_checkpoint, open_note
from sterling.kernel.durable import append_synced, cut_torn_line, replace_file
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError
from sterling.kernel.integrity import Forked, KeyUnknown, RolledBack
from sterling.kernel.key_history import KeyChange, KeyHistory
from sterling.kernel.signing import Verifier, VerifierInvalid, parse_verifier

__all__ = ["AnchorUnreadable", "AnchorUnwritable", "Anchors", "Mark", "Pin", "anchors_root", "is_home_id"]

_TAIL_BYTES = 64 * 1024  # More than one line: a note has at most 16 KiB.
_HOME_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


class AnchorUnwritable(SterlingError):
    """The copy outside cannot be written."""

    code = "anchor.unwritable"
    hint = "Make room in, or give yourself the right to write to, the state folder; then `sterling status`."


class AnchorUnreadable(SterlingError):
    """The copy outside is there, but cannot be read as what it should be."""

    code = "anchor.unreadable"
    hint = "Compare with another copy of the checkpoint: `sterling verify --anchor FILE --pin KEY`."
    exit = EXIT_CANNOT_JUDGE


@dataclass(frozen=True, slots=True)
class Pin:
    """What was known of a home when it was made: its first key (a verifier string) and its path."""

    verifier: str
    path: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a history goes on after a loss: the note at `position` covers `entry`, which admits it."""

    position: int
    entry: int
    hash: str


def anchors_root() -> Path:
    """The folder of all anchors of this user."""
    return Path(platformdirs.user_state_dir("sterling", appauthor=False)) / "anchors"


def is_home_id(text: str) -> bool:
    """Whether a text can name a home; anything else must never become part of a path."""
    return _HOME_ID.fullmatch(text) is not None


class Anchors:
    """The outside copies of one home's checkpoints. Nothing is made before the first write."""

    def __init__(self, home_id: str, folder: Path) -> None:
        self.home_id, self.folder = home_id, folder

    @classmethod
    def open(cls, home_id: str, root: Path | None = None) -> Anchors:
        """The anchors of a home, whether or not there are any.

        Errors: AnchorUnreadable when the text cannot name a home.
        """
        if not is_home_id(home_id):
            raise AnchorUnreadable(f"expected a home id, found {home_id[:100]!r}")
        return cls(home_id, (anchors_root() if root is None else root) / home_id)

    @staticmethod
    def remembered_homes(root: Path | None = None) -> dict[str, str]:
        """Path to home id, for every home that was pinned; the newest pin of a path counts.

        A pin that cannot be read remembers nothing.
        """
        found: list[tuple[int, str, str]] = []
        folder = anchors_root() if root is None else root
        for pin_file in sorted(folder.glob("*/pin.json")):
            anchors = Anchors(pin_file.parent.name, pin_file.parent)
            try:
                pin, pinned_ns = anchors.read_pin(), pin_file.stat().st_mtime_ns
            except (AnchorUnreadable, OSError):
                continue
            if pin is not None and pin.path:
                found.append((pinned_ns, anchors.home_id, pin.path))
        return {path: home_id for _, home_id, path in sorted(found)}

    def exists(self) -> bool:
        """Whether anything outside remembers this home."""
        return self.folder.is_dir()

    def pin(self, verifier: str, home_path: Path) -> None:
        """Remember the first key of the home and where it lies; the key never changes again.

        Errors: KeyUnknown when another key was pinned, AnchorUnwritable.
        """
        given = parse_verifier(verifier)
        before = self.read_pin()
        if before is not None and before.verifier and parse_verifier(before.verifier) != given:
            raise KeyUnknown(f"expected the pinned key {before.verifier}, found {verifier}")
        content = {"home_id": self.home_id, "path": str(home_path), "verifier": verifier}
        with self._writing():
            self._replace("pin.json", json.dumps(content, indent=1, sort_keys=True) + "\n")

    def restore_pin(self, verifier: str = "", home_path: Path | None = None) -> None:
        """Begin anew where every copy is gone: the folder, and the pin when a key is given.

        What follows is vouched for from here on only; the caller records that in the ledger.
        """
        if verifier:
            self.pin(verifier, home_path or Path())
        else:
            with self._writing():
                pass

    def read_pin(self) -> Pin | None:
        """The pin, or None when there is none.

        Errors: AnchorUnreadable.
        """
        text = self._read("pin.json")
        if text is None:
            return None
        try:
            content = json.loads(text)
            pin = Pin(str(content["verifier"]), str(content["path"]))
            parse_verifier(pin.verifier)
        except (ValueError, TypeError, KeyError, RecursionError, VerifierInvalid) as problem:
            raise AnchorUnreadable(
                f"expected a pin in {self.folder / 'pin.json'}, found other content"
            ) from problem
        return pin

    def append(
        self,
        note: str,
        changes: Iterable[KeyChange] = (),
        *,
        recovered: tuple[int, str] | None = None,
    ) -> None:
        """Add a note, durably: first to the history, then as the latest.

        `changes` are the log's entries about its `ledger` keys: they lead from the
        pinned key to the one that must have signed a note of this size.
        `recovered` is the index and the hash of the `ledger.recovered` entry under
        the note; only a note marked so may be older than the newest one.

        Errors: RolledBack or Forked when the note does not follow the newest one,
                KeyUnknown and SignatureInvalid when that key did not sign it,
                AnchorUnwritable, AnchorUnreadable.
        Cost:   three file syncs.
        """
        if not self.exists():
            # Made again without a word it would hide that every copy is gone; see `restore_pin`.
            raise AnchorUnwritable(f"expected the folder {self.folder}, found none", folder=str(self.folder))
        pin, checkpoint = self.read_pin(), note_checkpoint(note)
        if pin is not None:
            open_note(note, [self._key_at(parse_verifier(pin.verifier), checkpoint.size, changes)])
        with self._writing():
            newest = self.newest()
            mark = {} if recovered is None else {"recovered": {"entry": recovered[0], "hash": recovered[1]}}
            if newest is not None and not mark:
                _check_follows(newest, checkpoint)
            if newest != checkpoint or mark:
                self._append_line(json.dumps({"note": note, **mark}, ensure_ascii=False))
            self._replace("latest", note)

    def _key_at(self, pinned: Verifier, size: int, changes: Iterable[KeyChange]) -> Verifier:
        history = KeyHistory(self.home_id, {"ledger": pinned.public_key})
        for change in changes:
            history.observe(*change)
        key = history.key_at("ledger", size)
        assert key is not None, "a history that begins with a key has one at any size"
        return Verifier(pinned.name, key)

    def latest(self) -> str | None:
        """The newest note, or None.

        Errors: AnchorUnreadable.
        """
        notes, marks = self.history(), self.marks()
        return max(notes[marks[-1].position if marks else 0 :], key=_size_of, default=None)

    def latest_size(self) -> int | None:
        """The size of the newest note, or None. Signatures are not checked here.

        Errors: AnchorUnreadable.
        """
        newest = self.newest()
        return None if newest is None else newest.size

    def history(self) -> list[str]:
        """Every note that is remembered, in the order they came; the latest is always among them.

        Errors: AnchorUnreadable.
        """
        notes = [_parsed_line(line, self.folder)[0] for line in self._lines()]
        newest = self._read("latest")
        if newest is not None and newest not in notes:
            notes.append(newest)
        return notes

    def marks(self) -> list[Mark]:
        """Every place where the history goes on after an accepted loss.

        Errors: AnchorUnreadable.
        """
        lines = enumerate(_parsed_line(line, self.folder)[1] for line in self._lines())
        return [Mark(position, *named) for position, named in lines if named is not None]

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint, from the last line of the history and the latest; signatures unchecked.

        Errors: AnchorUnreadable.
        """
        last = self._last_line()
        note, mark = _parsed_line(last, self.folder) if last else (None, None)
        latest = self._read("latest") if mark is None else None  # After a mark it may still be the lost one.
        notes = [each for each in (note, latest) if each is not None]
        return max((_parsed(note, self.folder) for note in notes), key=lambda each: each.size, default=None)

    def _lines(self) -> list[str]:
        """The whole lines of the history; a torn last one is left out."""
        text = self._read("history.jsonl")
        return [] if text is None else [line for line in text.split("\n")[:-1] if line]

    def _last_line(self) -> str:
        """The last whole line of the history, found from its end: a history grows for years."""
        try:
            with (self.folder / "history.jsonl").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                return file.read().rpartition(b"\n")[0].rpartition(b"\n")[2].decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, UnicodeDecodeError) as problem:
            raise AnchorUnreadable(
                f"expected to read the history in {self.folder}, found: {problem}"
            ) from problem

    def _read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_bytes().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise AnchorUnreadable(f"expected to read {self.folder / name}, found: {problem}") from problem

    def _append_line(self, line: str) -> None:
        path = self.folder / "history.jsonl"
        cut_torn_line(path)
        append_synced(path, line.encode("utf-8") + b"\n")

    def _replace(self, name: str, text: str) -> None:
        growing = self.folder / f".{name}.incoming"
        replace_file(self.folder / name, text.encode("utf-8"), growing=growing)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the folder, keep other writers out, and name what the disk refuses."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise AnchorUnwritable(
                f"expected to write in {self.folder}, found: {problem.strerror}", folder=str(self.folder)
            ) from problem


def _check_follows(newest: Checkpoint, checkpoint: Checkpoint) -> None:
    if checkpoint.origin != newest.origin:
        raise Forked(f"expected origin {newest.origin}, found {checkpoint.origin}")
    if checkpoint.size < newest.size:
        raise RolledBack(f"expected at least {newest.size} entries (anchored), found {checkpoint.size}")
    if checkpoint.size == newest.size and checkpoint.root != newest.root:
        raise Forked(
            f"expected root {newest.root.hex()} at size {newest.size} (anchored),"
            f" found {checkpoint.root.hex()}"
        )


def _parsed_line(line: str, folder: Path) -> tuple[str, tuple[int, str] | None]:
    """The note of a line, and the entry that it names when it is marked."""
    try:
        content = json.loads(line)
        mark = content.get("recovered")
        return str(content["note"]), None if mark is None else (int(mark["entry"]), str(mark["hash"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise AnchorUnreadable(
            f"expected a note a line in {folder / 'history.jsonl'}, found other text"
        ) from problem


def _parsed(note: str, folder: Path) -> Checkpoint:
    try:
        return note_checkpoint(note)
    except NoteMalformed as problem:
        raise AnchorUnreadable(f"expected signed notes in {folder}, found: {problem.message}") from problem


def _size_of(note: str) -> int:
    """How many entries a note covers; one that cannot be read covers none."""
    try:
        return note_checkpoint(note).size
    except NoteMalformed:
        return -1
