"""What a writer looks at before it writes: the newest segment and the roots outside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sterling.kernel import verify_tail
from sterling.kernel.anchors import anchors_root
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, origin_of, sign_note
from sterling.kernel.errors import SterlingError
from sterling.kernel.verify_tail import check_tail
from sterling.testing.forged_ledgers import SIZE, SIZES, Forge, anchors_of, copy_home, generate


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    copy_home(original / "home", original / "state", tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def forge(home: Path) -> Iterator[Forge]:
    made = Forge(home)
    yield made
    made.database.close()


def refused(home: Path, forge: Forge) -> str:
    with pytest.raises(SterlingError) as caught:
        check_tail(forge.database, anchors_of(home))
    return caught.value.code


def test_an_untouched_log_passes(home: Path, forge: Forge) -> None:
    check_tail(forge.database, anchors_of(home))


def test_a_log_that_went_on_after_its_anchor_passes(home: Path, forge: Forge) -> None:
    forge.reseal([*forge.bodies(), forge.bodies()[-1]])

    check_tail(forge.database, anchors_of(home))


def test_a_log_without_any_copy_passes_on_its_own_checkpoints(home: Path, forge: Forge) -> None:
    anchors = anchors_of(home)
    shutil.rmtree(anchors_root())

    check_tail(forge.database, anchors)


def test_a_log_of_no_checkpoints_is_checked_from_its_beginning(home: Path, forge: Forge) -> None:
    anchors = anchors_of(home)
    shutil.rmtree(anchors_root())
    forge.database.execute("DELETE FROM checkpoints")
    check_tail(forge.database, anchors)

    forge.edit(3, "body", b"{}")
    assert refused(home, forge) == "integrity.entry-altered"


def cut(forge: Forge) -> None:
    forge.forget_after(19)


def cut_and_grown_again(forge: Forge) -> None:
    """As long as its anchor: only the root tells."""
    bodies = forge.bodies()
    bodies[-1] = bodies[-1].replace(b'"tool"', b'"fool"')
    forge.reseal(bodies)


def cut_and_grown_beyond(forge: Forge) -> None:
    cut_and_grown_again(forge)
    forge.reseal([*forge.bodies(), forge.bodies()[-1]])
    forge.database.execute("DELETE FROM checkpoints WHERE size = ?", (SIZE,))


def resealed_from_the_middle(forge: Forge) -> None:
    bodies = forge.bodies()
    bodies[5] = bodies[5].replace(b'"tool"', b'"fool"')
    forge.reseal(bodies)


def resealed_and_signed(forge: Forge) -> None:
    resealed_from_the_middle(forge)
    forge.sign(forge.key, SIZES)


def checkpoint_taken_out(forge: Forge) -> None:
    forge.database.execute("DELETE FROM checkpoints WHERE size = ?", (SIZE,))


def checkpoint_beyond(forge: Forge) -> None:
    forge.put_checkpoint(99, sign_note(Checkpoint(origin_of(forge.home_id), 99, bytes(32)), forge.key))


def last_body_edited(forge: Forge) -> None:
    forge.edit(SIZE - 1, "body", forge.value(SIZE - 1, "body").replace(b'"tool"', b'"fool"'))


def first_hash_of_the_segment_edited(forge: Forge) -> None:
    forge.edit(13, "hash", bytes(32))


def entry_removed(forge: Forge) -> None:
    forge.delete(16)


def first_entry_of_the_segment_removed(forge: Forge) -> None:
    forge.delete(13)


def node_edited(forge: Forge) -> None:
    forge.database.execute("UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND position = 17")


def old_node_edited(forge: Forge) -> None:
    forge.database.execute("UPDATE nodes SET hash = zeroblob(32) WHERE level = 3 AND position = 0")


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (cut, "tail-missing"),
        (cut_and_grown_again, "forked"),
        (cut_and_grown_beyond, "forked"),
        (resealed_from_the_middle, "forked"),
        (resealed_and_signed, "forked"),
        (checkpoint_taken_out, "checkpoint-order"),
        (checkpoint_beyond, "checkpoint-order"),
        (last_body_edited, "entry-altered"),
        (first_hash_of_the_segment_edited, "chain-broken"),
        (entry_removed, "chain-broken"),
        (first_entry_of_the_segment_removed, "chain-broken"),
        (node_edited, "root-mismatch"),
        (old_node_edited, "root-mismatch"),
    ],
)
def test_a_log_that_was_meddled_with_is_not_written_to(
    home: Path, forge: Forge, attack: Callable[[Forge], None], code: str
) -> None:
    attack(forge)

    assert refused(home, forge) == f"integrity.{code}"


def test_without_copies_the_newest_signed_root_is_compared(home: Path, forge: Forge) -> None:
    cut_and_grown_again(forge)
    anchors = anchors_of(home)
    shutil.rmtree(anchors.folder)

    with pytest.raises(SterlingError) as caught:
        check_tail(forge.database, anchors)
    assert caught.value.code == "integrity.root-mismatch"


def test_cells_of_another_type_are_altered_entries_and_no_defect(home: Path, forge: Forge) -> None:
    forge.database.executescript(
        'CREATE TABLE other ("index" INTEGER, hash, previous, kind, contract, subject, run, at_us, body);'
        "INSERT INTO other SELECT * FROM entries; DROP TABLE entries; ALTER TABLE other RENAME TO entries;"
        'UPDATE entries SET body = CAST(body AS TEXT) WHERE "index" = 19;'
    )

    assert refused(home, forge) == "integrity.entry-altered"


def test_what_is_older_than_the_last_segment_is_not_read(
    home: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    true = verify_tail.read_rows

    def watched(*arguments: object, **named: object) -> Iterator[object]:
        for row in true(*arguments, **named):  # type: ignore[arg-type]
            read.append(row[0])
            yield row

    monkeypatch.setattr(verify_tail, "read_rows", watched)
    check_tail(forge.database, anchors_of(home))

    assert min(read) == SIZES[-2] - 1


def test_a_copy_that_lags_behind_is_still_compared(home: Path, forge: Forge) -> None:
    anchors = anchors_of(home)
    kept = [note for note in anchors.history() if note_checkpoint(note).size <= 9]
    for name in ("history.jsonl", "latest"):
        (anchors.folder / name).unlink()
    for note in kept:
        anchors.append(note)
    check_tail(forge.database, anchors)

    resealed_and_signed(forge)
    assert refused(home, forge) == "integrity.forked"
