"""Going on after a loss: only openly, only by a holder of the key, and told for ever."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel import recover, standalone_verify
from sterling.kernel.anchors import Anchors, anchors_root
from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import Batch
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import open_home
from sterling.kernel.integrity import TailMissing
from sterling.kernel.locks import RoleTaken
from sterling.kernel.records import RecordMissing
from sterling.kernel.recover import Recovery, recover_log
from sterling.testing.clock import FakeClock
from sterling.testing.forged_ledgers import (
    SIZE,
    STRANGER,
    Forge,
    anchors_of,
    both,
    copy_home,
    generate,
    next_batch,
)

REASON = "the disk died; this is last night's backup"


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


def grow(home: Path, count: int) -> None:
    """Write on; every entry gets a checkpoint."""
    with open_home(home) as opened:
        for _ in range(count):
            opened.ledger.commit(next_batch(opened))
            opened.ledger.checkpoint()


def back_up(home: Path) -> Path:
    return Path(shutil.copytree(home, home.with_name(f"backup{os.urandom(3).hex()}")))


def restore(home: Path, backup: Path) -> None:
    shutil.rmtree(home)
    backup.rename(home)


@pytest.fixture
def restored(home: Path) -> Path:
    """A home of 20 entries, put back after it had 25 of them."""
    backup = back_up(home)
    grow(home, 5)
    restore(home, backup)
    return home


def recovered(home: Path) -> Recovery:
    with open_home(home) as opened:
        return recover_log(opened, reason=REASON)


# What it gives


def test_a_restored_log_goes_on_and_both_verifiers_tell_of_the_loss_for_ever(restored: Path) -> None:
    assert both(restored).code == "integrity.rolled-back"

    done = recovered(restored)

    grow(restored, 3)
    found = both(restored)
    assert (found.verdict, found.exit, found.size, found.anchored_to) == ("ok", 0, SIZE + 4, SIZE + 4)
    assert done.entry == SIZE
    assert found.losses == ({"entry": SIZE, **done.payload},)
    assert done.payload["lost"] == {"from": SIZE, "to": SIZE + 4}
    assert (done.payload["anchored"]["size"], done.payload["reason"]) == (SIZE + 5, REASON)
    assert both(restored, notes=()).exit == 0 and Anchors.latest(anchors_of(restored)) is not None


def test_before_it_nothing_can_be_written(restored: Path) -> None:
    with pytest.raises(TailMissing):
        grow(restored, 1)


def test_as_many_entries_again_as_were_lost_are_no_reason_for_alarm(restored: Path) -> None:
    recovered(restored)

    for _ in range(7):
        grow(restored, 1)
        assert both(restored).exit == 0


def test_a_tail_that_ends_between_two_checkpoints_can_be_recovered(home: Path) -> None:
    forge = Forge(home)
    forge.forget_after(17)
    forge.database.close()
    assert both(home).code == "integrity.tail-missing"

    done = recovered(home)

    assert (done.entry, done.payload["lost"]) == (17, {"from": 17, "to": SIZE - 1})
    assert both(home).exit == 0


def test_a_clock_that_fell_meanwhile_is_told_too(restored: Path) -> None:
    clock = FakeClock()
    clock.step_wall(-(10**15))
    with open_home(restored, clock=clock) as opened:
        done = recover_log(opened, reason=REASON)

    assert (done.entry, done.payload["lost"]["from"]) == (SIZE + 1, SIZE)
    grow(restored, 2)
    assert both(restored).exit == 0


def test_a_second_loss_is_told_beside_the_first(restored: Path) -> None:
    recovered(restored)
    backup = back_up(restored)
    grow(restored, 2)
    restore(restored, backup)

    second = recovered(restored)

    grow(restored, 4)
    found = both(restored)
    assert found.exit == 0 and [loss["entry"] for loss in found.losses] == [SIZE, SIZE + 1]
    assert second.payload["lost"] == {"from": SIZE + 1, "to": SIZE + 2}


def test_a_backup_from_before_the_first_recovery_loses_that_too(home: Path) -> None:
    oldest, backup = back_up(home), None
    grow(home, 1)
    backup = back_up(home)
    grow(home, 6)
    restore(home, backup)
    recovered(home)
    grow(home, 1)
    restore(home, oldest)

    done = recovered(home)

    assert done.payload["lost"] == {"from": SIZE, "to": SIZE + 6}
    grow(home, 8)
    assert both(home).exit == 0


def test_what_cites_the_lost_range_fails_its_check(home: Path) -> None:
    backup = back_up(home)
    with open_home(home) as opened:
        batch = Batch()
        session = {"source": "images", "name": "x", "machine": "", "zone": "UTC", "rules_hash": "1" * 64}
        lost = opened.records.put(batch, "recall.session", session)
        opened.ledger.commit(batch)
        cited = opened.ledger.entry(SIZE)
    restore(home, backup)
    recovered(home)

    with open_home(home, read_only=True) as opened:
        now = opened.ledger.entry(SIZE)
        with pytest.raises(RecordMissing):
            opened.records.get(lost.id)
    assert cited is not None and now is not None and cited.hash != now.hash


def test_a_lost_note_that_was_kept_elsewhere_is_known_as_lost(restored: Path) -> None:
    lost = anchors_of(restored).history()[-2]
    recovered(restored)

    assert both(restored, notes=(lost,)).exit == 0


# What it refuses


def test_a_log_that_lost_nothing_has_nothing_to_recover(home: Path) -> None:
    with pytest.raises(PreconditionFailed):
        recovered(home)

    assert both(home).losses == ()


def test_a_home_without_any_copy_outside_has_nothing_to_recover(home: Path) -> None:
    shutil.rmtree(anchors_root())

    with pytest.raises(PreconditionFailed):
        recovered(home)


def resealed(forge: Forge) -> None:
    bodies = forge.bodies()[:17]
    bodies[6] = bodies[6].replace(b'"tool"', b'"fool"')
    forge.reseal(bodies)
    forge.database.execute("DELETE FROM checkpoints WHERE size > 4")


def resealed_and_signed(forge: Forge) -> None:
    resealed(forge)
    forge.sign(forge.key, (9, 14))


def entries_alone_cut(forge: Forge) -> None:
    forge.delete(*range(17, SIZE))


def tree_left(forge: Forge) -> None:
    entries_alone_cut(forge)
    forge.database.execute("DELETE FROM checkpoints WHERE size > 17")


def edited(forge: Forge) -> None:
    forge.forget_after(17)
    forge.edit(3, "subject", "x")


@pytest.mark.parametrize("attack", [resealed, resealed_and_signed, entries_alone_cut, tree_left, edited])
def test_a_log_that_is_no_earlier_state_of_the_anchored_one_is_refused(home: Path, attack: object) -> None:
    forge = Forge(home)
    attack(forge)  # type: ignore[operator]
    before = forge.bodies()
    history = (anchors_of(home).folder / "history.jsonl").read_bytes()

    with pytest.raises(TailMissing):
        recovered(home)

    assert forge.bodies() == before
    assert (anchors_of(home).folder / "history.jsonl").read_bytes() == history


def test_an_empty_log_is_refused(home: Path) -> None:
    Forge(home).forget_after(0)

    with pytest.raises(SterlingError):
        recovered(home)
    assert both(home).exit == 3


@pytest.mark.parametrize("reason", ["", "short", "x" * 3000])
def test_a_reason_that_says_nothing_or_too_much_is_refused(restored: Path, reason: str) -> None:
    with open_home(restored) as opened, pytest.raises(RecordInvalid):
        recover_log(opened, reason=reason)

    assert both(restored).code == "integrity.rolled-back"


def test_nobody_recovers_under_a_writer(restored: Path) -> None:
    with open_home(restored, settings=["store.wait_ms_max=50"]) as opened:
        holder = recover.Role(restored / "run", "writer")
        holder.take()
        with pytest.raises(RoleTaken):
            recover_log(opened, reason=REASON)
        holder.release()


# Killed on the way


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["sign_note", "_append_line", "_replace"])
def test_killed_anywhere_it_completes_when_it_is_run_again(
    restored: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(recover if at == "sign_note" else Anchors, at, killed)
        with pytest.raises(Killed):
            recovered(restored)
    if at != "_replace":  # With its line written it is done; the newest note is mended by the next.
        assert both(restored).exit == 3
        done = recovered(restored)
        assert (done.entry, done.payload["lost"]) == (SIZE, {"from": SIZE, "to": SIZE + 4})

    grow(restored, 2)
    found = both(restored)
    assert (found.exit, len(found.losses)) == (0, 1)


# An attacker without the key


@pytest.fixture
def forge(home: Path) -> Iterator[Forge]:
    made = Forge(home)
    yield made
    made.database.close()


def admission(forge: Forge, kept: int, size: int = SIZE) -> bytes:
    """The body of an entry that admits what a cut took away."""
    body = json.loads(forge.bodies()[kept - 1])
    root = forge.note(size, forge.key).split("\n")[2]
    lost = {"from": kept, "to": size - 1}
    anchored = {"size": size, "root": standalone_verify.exact_base64(root, 32).hex()}
    body |= {"kind": "ledger.recovered", "payload": {"lost": lost, "anchored": anchored, "reason": REASON}}
    return canonical_bytes(body)


def cut_and_admitted(forge: Forge, kept: int) -> tuple[int, str]:
    """A cut log with the entry that a recovery would write, and what names it."""
    body = admission(forge, kept)
    forge.forget_after(kept)
    forge.reseal([*forge.bodies(), body])
    return kept, forge.value(kept, "hash").hex()


@pytest.mark.parametrize("kept", [9, 17, 19])
def test_an_admission_that_nobody_signed_hides_no_cut(home: Path, forge: Forge, kept: int) -> None:
    cut_and_admitted(forge, kept)

    assert both(home).exit == 3


@pytest.mark.parametrize("kept", [9, 17, 19])
@pytest.mark.parametrize("note", ["old", "newest", "unsigned", "stranger"])
def test_an_admission_hides_no_cut_even_when_the_copies_are_marked_for_it(
    home: Path, forge: Forge, kept: int, note: str
) -> None:
    genuine = anchors_of(home).history()
    mark = cut_and_admitted(forge, kept)
    unsigned = forge.note(kept + 1, STRANGER)
    signature = genuine[-1].rpartition("\n\n")[2]
    line = {
        "old": genuine[0],
        "newest": genuine[-1],
        "unsigned": unsigned.rpartition("\n\n")[0] + "\n\n" + signature,
        "stranger": unsigned,
    }[note]
    with (anchors_of(home).folder / "history.jsonl").open("a") as history:
        history.write(json.dumps({"note": line, "recovered": {"entry": mark[0], "hash": mark[1]}}) + "\n")

    assert both(home).exit == 3


def test_without_its_entry_a_mark_hides_nothing(restored: Path) -> None:
    before = back_up(restored)
    recovered(restored)
    restore(restored, before)

    assert both(restored).code in ("integrity.rolled-back", "integrity.tail-missing")


def test_an_honest_recovery_is_no_cover_for_a_later_cut(restored: Path) -> None:
    recovered(restored)
    backup = back_up(restored)
    grow(restored, 3)
    restore(restored, backup)

    found = both(restored)

    assert (found.exit, found.first_bad and found.first_bad.low) == (3, SIZE + 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: payload["lost"].update({"from": "0"}),
        lambda payload: payload["anchored"].update(size="25"),
        lambda payload: payload["anchored"].update(size=19),
        lambda payload: payload["anchored"].update(root="0" * 64),
        lambda payload: payload.update(lost=[]),
        lambda payload: payload.pop("anchored"),
    ],
)
def test_an_admission_of_something_else_leaves_the_proof_of_the_loss(
    home: Path, forge: Forge, spoil: object
) -> None:
    """Signed by the key, in place, and marked, but it does not say what is gone."""
    body = json.loads(admission(forge, 17))
    spoil(body["payload"])  # type: ignore[operator]
    forge.forget_after(17)
    forge.reseal([*forge.bodies(), canonical_bytes(body)])
    note = forge.note(18, forge.key)
    forge.put_checkpoint(18, note)
    anchors_of(home).append(note, recovered=(17, forge.value(17, "hash").hex()))

    assert both(home).exit == 3


@pytest.mark.parametrize(
    "mark", ['{"entry": 1}', "[]", "7", '{"entry": "x", "hash": ""}', '{"entry": {}, "hash": 1}', "{}"]
)
def test_a_mark_that_is_none_makes_the_copies_unreadable(home: Path, mark: str) -> None:
    history = anchors_of(home).folder / "history.jsonl"
    lines = history.read_text().splitlines()
    lines[-1] = lines[-1][:-1] + f', "recovered": {mark}}}'
    history.write_text("\n".join(lines) + "\n")

    found = both(home)

    assert found.exit in (3, 4)


@pytest.mark.parametrize("entry", [-1, 99, 2**70])
def test_a_mark_for_no_entry_counts_as_a_plain_note(home: Path, entry: int) -> None:
    history = anchors_of(home).folder / "history.jsonl"
    lines = history.read_text().splitlines()
    lines[-1] = lines[-1][:-1] + f', "recovered": {{"entry": {entry}, "hash": "x"}}}}'
    history.write_text("\n".join(lines) + "\n")

    assert both(home).exit == 0
