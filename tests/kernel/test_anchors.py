"""Anchors: what lies outside a home stays true to it, or says that it cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sterling.kernel.anchors import (
    Anchors,
    AnchorUnreadable,
    AnchorUnwritable,
    Mark,
    Pin,
    anchors_root,
    is_home_id,
)
from sterling.kernel.checkpoint import Checkpoint, NoteMalformed, origin_of, sign_note
from sterling.kernel.integrity import Forked, KeyUnknown, RolledBack
from sterling.kernel.signing import SignatureInvalid, Signer, VerifierInvalid

HOME_ID = "home-abc"
KEY = Signer("ledger", b"\x01" * 32)
OTHER_KEY = Signer("ledger", b"\x02" * 32)
VERIFIER = KEY.verifier(origin_of(HOME_ID))


def note(size: int, *, root: int = 0, key: Signer = KEY, origin: str = origin_of(HOME_ID)) -> str:
    return sign_note(Checkpoint(origin, size, bytes([root]) * 32), key)


@pytest.fixture
def anchors(tmp_path: Path) -> Anchors:
    made = Anchors.open(HOME_ID)
    made.pin(VERIFIER, tmp_path / "home")
    return made


def test_looking_makes_nothing() -> None:
    anchors = Anchors.open(HOME_ID)

    assert not anchors.exists() and anchors.latest() is None and anchors.latest_size() is None
    assert anchors.history() == [] and anchors.read_pin() is None
    assert Anchors.remembered_homes() == {}
    assert not anchors_root().exists()


def test_anchors_lie_in_the_users_state_folder(anchors: Anchors) -> None:
    assert anchors.folder == Path(os.environ["XDG_STATE_HOME"]) / "sterling" / "anchors" / HOME_ID
    assert anchors.folder.stat().st_mode & 0o777 == 0o700


def test_notes_are_kept_in_order_and_the_newest_is_the_latest(anchors: Anchors) -> None:
    notes = [note(size) for size in (1, 5, 9)]
    for each in notes:
        anchors.append(each)

    again = Anchors.open(HOME_ID)
    assert again.history() == notes
    assert again.latest() == notes[2] and again.latest_size() == 9
    assert (anchors.folder / "latest").read_text() == notes[2]
    assert {file.stat().st_mode & 0o777 for file in anchors.folder.iterdir()} == {0o600}


def test_the_same_note_again_is_kept_once(anchors: Anchors) -> None:
    anchors.append(note(5))
    anchors.append(note(5))

    assert anchors.history() == [note(5)]


def test_an_older_note_is_refused_as_a_roll_back(anchors: Anchors) -> None:
    anchors.append(note(9))

    with pytest.raises(RolledBack):
        anchors.append(note(5))

    assert anchors.latest_size() == 9


def test_another_root_at_the_same_size_is_refused_as_a_fork(anchors: Anchors) -> None:
    anchors.append(note(9, root=1))

    with pytest.raises(Forked):
        anchors.append(note(9, root=2))

    assert anchors.history() == [note(9, root=1)]


def test_a_note_by_another_key_is_refused(anchors: Anchors) -> None:
    with pytest.raises(KeyUnknown):
        anchors.append(note(5, key=OTHER_KEY))
    assert anchors.latest() is None


def test_a_note_whose_signature_is_false_is_refused(anchors: Anchors) -> None:
    forged = note(5).replace("\n5\n", "\n6\n")

    with pytest.raises(SignatureInvalid):
        anchors.append(forged)


def test_a_note_of_another_log_is_refused_even_without_a_pin() -> None:
    anchors = Anchors.open(HOME_ID)
    anchors.restore_pin()
    anchors.append(note(5))

    with pytest.raises(Forked):
        anchors.append(note(9, origin=origin_of("home-other")))


@pytest.mark.parametrize("text", ["", "note", "\n\n", "a\n\nb\n"])
def test_a_text_that_is_no_note_is_refused(anchors: Anchors, text: str) -> None:
    with pytest.raises(NoteMalformed):
        anchors.append(text)


def test_the_first_key_stays_pinned(anchors: Anchors, tmp_path: Path) -> None:
    with pytest.raises(KeyUnknown):
        anchors.pin(OTHER_KEY.verifier(origin_of(HOME_ID)), tmp_path / "home")

    assert anchors.read_pin() == Pin(VERIFIER, str(tmp_path / "home"))


def test_a_home_that_moved_is_remembered_at_its_new_place_only(anchors: Anchors, tmp_path: Path) -> None:
    anchors.pin(VERIFIER, tmp_path / "moved")

    assert Anchors.remembered_homes() == {str(tmp_path / "moved"): HOME_ID}


def test_of_two_homes_pinned_at_one_path_the_newest_counts(anchors: Anchors, tmp_path: Path) -> None:
    newer = Anchors.open("home-newer")
    newer.pin(KEY.verifier(origin_of("home-newer")), tmp_path / "home")
    os.utime(anchors.folder / "pin.json", ns=(1, 1))

    assert Anchors.remembered_homes() == {str(tmp_path / "home"): "home-newer"}


def test_a_pin_that_is_no_verifier_string_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerifierInvalid):
        Anchors.open(HOME_ID).pin("nonsense", tmp_path)


@pytest.mark.parametrize(
    "home_id", ["", ".", "..", "../x", "a/b", "A", "home abc", "-a", "a" * 81, "home\n", "é"]
)
def test_a_text_that_could_lead_elsewhere_names_no_home(home_id: str) -> None:
    assert not is_home_id(home_id)
    with pytest.raises(AnchorUnreadable):
        Anchors.open(home_id)


def test_a_torn_last_line_is_ignored_by_readers_and_put_aside_by_the_next_append(anchors: Anchors) -> None:
    anchors.append(note(5))
    history = anchors.folder / "history.jsonl"
    history.write_bytes(history.read_bytes() + b'{"note": "half a li')

    assert anchors.history() == [note(5)] and anchors.latest_size() == 5

    anchors.append(note(9))
    assert anchors.history() == [note(5), note(9)]
    assert (anchors.folder / "history.jsonl.torn").read_bytes() == b'{"note": "half a li\n'


def test_a_crash_between_history_and_latest_loses_nothing(anchors: Anchors) -> None:
    anchors.append(note(5))
    old = (anchors.folder / "latest").read_text()
    anchors.append(note(9))
    (anchors.folder / "latest").write_text(old)

    assert anchors.latest_size() == 9 and anchors.latest() == note(9)


def test_a_lost_history_leaves_the_latest(anchors: Anchors) -> None:
    anchors.append(note(5))
    anchors.append(note(9))
    (anchors.folder / "history.jsonl").unlink()

    assert anchors.history() == [note(9)] and anchors.latest_size() == 9
    with pytest.raises(RolledBack):
        anchors.append(note(5))


@pytest.mark.parametrize("content", [b"not json\n", b"[]\n", b'{"other":1}\n', b"\xff\n", b"null\n"])
def test_a_history_that_was_overwritten_is_unreadable_and_not_empty(anchors: Anchors, content: bytes) -> None:
    anchors.append(note(5))
    (anchors.folder / "history.jsonl").write_bytes(content)

    with pytest.raises(AnchorUnreadable):
        anchors.history()
    with pytest.raises(AnchorUnreadable):
        anchors.latest_size()
    with pytest.raises(AnchorUnreadable):
        anchors.append(note(9))


def test_a_latest_that_was_overwritten_is_unreadable(anchors: Anchors) -> None:
    anchors.append(note(5))
    (anchors.folder / "latest").write_text("nothing of ours")

    with pytest.raises(AnchorUnreadable):
        anchors.latest_size()


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 9999, json.dumps({"verifier": "x", "path": "/"}).encode()],
)
def test_a_pin_that_was_overwritten_is_unreadable_and_remembers_no_home(
    anchors: Anchors, content: bytes
) -> None:
    (anchors.folder / "pin.json").write_bytes(content)

    with pytest.raises(AnchorUnreadable):
        anchors.read_pin()
    with pytest.raises(AnchorUnreadable):
        anchors.append(note(5))
    assert Anchors.remembered_homes() == {}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the folder should be")

    with pytest.raises(AnchorUnwritable) as caught:
        Anchors.open(HOME_ID, root=blocked).pin(VERIFIER, tmp_path)

    assert caught.value.code == "anchor.unwritable"


def test_a_folder_that_is_gone_is_not_made_again_without_a_word(anchors: Anchors) -> None:
    anchors.append(note(5))
    for file in anchors.folder.iterdir():
        file.unlink()
    anchors.folder.rmdir()

    with pytest.raises(AnchorUnwritable):
        anchors.append(note(9))

    assert not anchors.exists()


def test_only_a_marked_note_may_go_back(anchors: Anchors) -> None:
    anchors.append(note(9))
    with pytest.raises(RolledBack):
        anchors.append(note(5))

    anchors.append(note(5), recovered=(4, "0" * 64))

    assert anchors.latest_size() == 5 and anchors.latest() == note(5)
    assert anchors.history() == [note(9), note(5)] and anchors.marks() == [Mark(1, 4, "0" * 64)]
    anchors.append(note(6))
    assert anchors.latest() == note(6) and anchors.history()[-1] == note(6)
    with pytest.raises(RolledBack):
        anchors.append(note(5))


def test_a_crash_between_a_mark_and_latest_keeps_the_mark(anchors: Anchors) -> None:
    anchors.append(note(9))
    old = (anchors.folder / "latest").read_text()
    anchors.append(note(5), recovered=(4, "0" * 64))
    (anchors.folder / "latest").write_text(old)

    assert anchors.latest_size() == 5 and anchors.latest() == note(5)
    anchors.append(note(6))
    assert anchors.latest_size() == 6


def test_a_full_disk_is_named_and_keeps_the_note_before(
    anchors: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors.append(note(5))

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(AnchorUnwritable):
        anchors.append(note(9))
    monkeypatch.undo()

    assert (anchors.folder / "latest").read_text() == note(5)
    anchors.append(note(9))
    assert anchors.latest() == note(9)


def test_a_link_in_place_of_the_history_is_not_followed(anchors: Anchors, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (anchors.folder / "history.jsonl").symlink_to(victim)

    with pytest.raises((AnchorUnwritable, AnchorUnreadable)):
        anchors.append(note(5))

    assert victim.read_text() == "precious"


def test_the_newest_of_a_long_history_is_found_from_its_end(anchors: Anchors) -> None:
    for size in range(1, 400):
        anchors._append_line(json.dumps({"note": note(size)}, ensure_ascii=False))

    assert (anchors.folder / "history.jsonl").stat().st_size > 64 * 1024
    assert anchors.latest_size() == 399
    with pytest.raises(RolledBack):
        anchors.append(note(398))
