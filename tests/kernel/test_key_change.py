"""Rotating and revoking keys in real homes; both verifiers follow, and neither follows anything else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import key_change, standalone_verify
from sterling.kernel.anchors import anchors_root
from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import Batch, SizeIs
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, origin_of, sign_note
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_change import read_key_history, revoke_key, rotate_key
from sterling.kernel.key_history import KeyRevoked, revocation_payload, rotation_payload
from sterling.kernel.keys import KeyUnusable, load_key, load_next_key, make_next_key
from sterling.kernel.locks import Role, RoleTaken
from sterling.kernel.recover import recover_log
from sterling.kernel.signing import KeyPurpose, Signer
from sterling.kernel.signing_keys import key_in_force, put_entered_keys_in_place
from sterling.kernel.statement import attest_statement, predicate_type, verify_statement
from sterling.kernel.verify import Verification, verify_home
from sterling.kernel.writer import checkpoint_every
from sterling.testing.clock import FakeClock

STRANGER = Signer("ledger", b"\x07" * 32)
WHY = "the old laptop was sold"


def both(home: Path, *, notes: tuple[str, ...] = (), pin: str | None = None) -> Verification:
    """What both verifiers say; they must say the same."""
    ours = verify_home(home, notes=notes, pin=pin, deep=False)
    theirs = standalone_verify.verify(home, pin, notes)
    told = ours.as_json()
    for name in ("verdict", "exit", "code", "size", "head", "anchored_to", "unanchored", "checkpoints"):
        assert told[name] == theirs[name], name
    for name in ("low", "high", "code"):
        assert (told["first_bad"] or {}).get(name) == (theirs["first_bad"] or {}).get(name)
    return ours


def write(home: Home, count: int = 1) -> None:
    for _ in range(count):
        batch = Batch()
        batch.append("process.ended", {"command": "tool", "exit": 0})
        home.ledger.commit(batch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with init_home(tmp_path / "home") as home:
        write(home, 3)
    return tmp_path / "home"


# What holds


def test_after_five_rotations_everything_old_still_holds(path: Path) -> None:
    with open_home(path) as home:
        first = load_key(path / "keys", "ledger")
        pin = first.verifier(origin_of(home.id))
        notes, proofs = [home.ledger.checkpoint()], [(2, home.ledger.size(), home.ledger.inclusion(2))]
        for _ in range(5):
            write(home, 2)
            rotate_key(home, "ledger", WHY)
            notes.append(home.ledger.checkpoint())
        write(home)

        found = both(path)
        assert (found.exit, found.unanchored) == (0, 1)
        assert [home.ledger.inclusion(index, size) for index, size, _ in proofs] == [p for *_, p in proofs]
        assert len({span.key for span in read_key_history(home).spans("ledger")}) == 6
    shutil.rmtree(anchors_root())
    assert both(path, notes=tuple(notes), pin=pin).exit == 0
    assert verify_home(path, deep=True, notes=tuple(notes), pin=pin).exit == 0


def test_a_rotation_is_a_checkpoint_by_the_old_key_an_entry_and_a_checkpoint_by_the_new(path: Path) -> None:
    with open_home(path) as home:
        old = load_key(path / "keys", "ledger")
        done = rotate_key(home, "ledger", WHY)
        new = load_key(path / "keys", "ledger")
        signed = dict(home.ledger.connection().execute("SELECT size, note FROM checkpoints").fetchall())
        entry = home.ledger.entry(done.index)

        assert (done.old, done.new) == (old.public_key, new.public_key)
        assert entry is not None and entry.payload["from_index"] == entry.index == done.index
        for size, key in ((done.index, old), (done.index + 1, new)):
            root = home.ledger.root(size)
            assert signed[size] == sign_note(Checkpoint(origin_of(home.id), size, root), key)
            assert signed[size] in home.anchors.history()
        assert not list((path / "keys").glob("*next*"))


def test_the_public_file_and_the_pin_stay_the_first_key_for_ever(path: Path) -> None:
    before = (path / "keys" / "ledger.pub").read_bytes()
    with open_home(path) as home:
        pin = home.anchors.read_pin()
        rotate_key(home, "ledger", WHY)

        assert home.anchors.read_pin() == pin
    assert (path / "keys" / "ledger.pub").read_bytes() == before


def test_a_home_whose_anchors_are_gone_is_pinned_again_by_its_first_key(path: Path) -> None:
    with open_home(path) as home:
        pin = home.anchors.read_pin()
        rotate_key(home, "ledger", WHY)
        shutil.rmtree(anchors_root())
        home.ledger.checkpoint()
        again = home.anchors.read_pin()

    assert pin is not None and again is not None and pin.verifier == again.verifier
    assert both(path).exit == 0


def test_a_log_without_any_anchor_is_checked_from_the_first_key_in_the_home(path: Path) -> None:
    with open_home(path) as home:
        rotate_key(home, "ledger", WHY)
    shutil.rmtree(anchors_root())

    assert both(path).exit == 4


def test_old_statements_verify_after_the_attest_key_was_rotated(path: Path) -> None:
    with open_home(path) as home:
        old = load_key(path / "keys", "attest")
        envelope = attest_statement({"a": "0" * 64}, predicate_type("receipt"), {}, old)
        at = home.ledger.size()
        done = rotate_key(home, "attest", WHY)
        history = read_key_history(home)

        assert verify_statement(envelope, done.old)
        history.require("attest", done.old, at)
        with pytest.raises(KeyUnknown):
            history.require("attest", done.old, done.index + 1)
        history.require("attest", done.new, done.index + 1)
    assert both(path).exit == 0


def test_what_a_revoked_key_signs_later_fails_and_what_it_signed_before_stands(path: Path) -> None:
    with open_home(path) as home:
        done = rotate_key(home, "attest", WHY)
        index = revoke_key(home, "attest", done.old, "it leaked", since=done.index)
        history = read_key_history(home)

        history.require("attest", done.old, done.index - 1)
        with pytest.raises(KeyRevoked):
            history.require("attest", done.old, done.index)
        assert index > done.index
    assert both(path).exit == 0


def test_the_boundary_moves_on_when_somebody_writes_in_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, busy = rotation_payload, [2]

    def slow(*arguments: Any) -> Any:
        if busy[0]:
            busy[0] -= 1
            write(home)
        return real(*arguments)

    monkeypatch.setattr(key_change, "rotation_payload", slow)
    with open_home(path) as home:
        index = rotate_key(home, "ledger", WHY).index
        stored = home.ledger.connection().execute("SELECT size FROM checkpoints").fetchall()

    assert (index,) in stored and (index + 1,) in stored
    assert busy == [0] and both(path).exit == 0


def test_a_rotation_gives_up_when_somebody_always_writes_in_between(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, is_busy = rotation_payload, [True]

    def racing(*arguments: Any) -> Any:
        if is_busy:
            write(home)
        return real(*arguments)

    monkeypatch.setattr(key_change, "rotation_payload", racing)
    with open_home(path) as home:
        with pytest.raises(PreconditionFailed):
            rotate_key(home, "ledger", WHY)
        is_busy.clear()
        rotate_key(home, "ledger", WHY)

    assert both(path).exit == 0


def test_a_clock_that_fell_does_not_shift_the_index(tmp_path: Path) -> None:
    clock = FakeClock()
    with init_home(tmp_path / "home", clock=clock) as home:
        write(home)
        clock.step_wall(-5_000_000)
        done = rotate_key(home, "ledger", WHY)
        entry = home.ledger.entry(done.index)

    assert entry is not None and entry.payload["from_index"] == done.index
    assert both(tmp_path / "home").exit == 0


def test_a_batch_that_names_another_size_is_refused(path: Path) -> None:
    with open_home(path) as home:
        for size in (0, home.ledger.size() - 1, home.ledger.size() + 5):
            batch = Batch()
            batch.append("process.ended", {"command": "tool", "exit": 0})
            batch.require(SizeIs(size))
            with pytest.raises(PreconditionFailed):
                home.ledger.commit(batch)


def test_a_home_put_back_from_before_a_rotation_goes_on_with_the_key_of_that_time(
    path: Path, tmp_path: Path
) -> None:
    shutil.copytree(path, tmp_path / "backup")
    with open_home(path) as home:
        write(home, 2)
        rotate_key(home, "ledger", WHY)
        write(home)
    shutil.rmtree(path)
    shutil.copytree(tmp_path / "backup", path)
    assert both(path).exit == 3

    with open_home(path) as home:
        recover_log(home, reason="the disk died; this is last night's backup")
    assert both(path).exit == 0
    with open_home(path) as home:
        write(home, 5)
        rotate_key(home, "ledger", WHY)
        write(home, 9)
    assert both(path).exit == 0


# What is refused before it is written


@pytest.mark.parametrize("purpose", ["witness", "person:ada", "x", "", "../ledger"])
def test_only_the_homes_own_keys_are_rotated(path: Path, purpose: str) -> None:
    with open_home(path) as home, pytest.raises(KeyPurpose):
        rotate_key(home, purpose, WHY)


def test_two_rotations_at_once_are_refused_by_name(path: Path) -> None:
    role = Role(path / "run", "keys")
    role.take()
    with open_home(path) as home, pytest.raises(RoleTaken):
        rotate_key(home, "ledger", WHY)
    role.release()


@pytest.mark.parametrize("purpose", ["ledger", "attest"])
def test_a_key_in_force_is_rotated_before_it_is_revoked(path: Path, purpose: str) -> None:
    with open_home(path) as home:
        before = home.ledger.size()
        with pytest.raises(KeyPurpose):
            revoke_key(home, purpose, load_key(path / "keys", purpose).public_key, WHY)

        assert home.ledger.size() == before


def test_a_reason_is_demanded(path: Path) -> None:
    with open_home(path) as home, pytest.raises(RecordInvalid):
        rotate_key(home, "attest", "")


def widely_readable(file: Path) -> None:
    file.chmod(0o644)


def linked(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def of_another_purpose(file: Path) -> None:
    shutil.copy(file.with_name("attest.key"), file)


def test_a_checkpoint_in_the_transaction_of_the_rotation_is_by_the_new_key(path: Path) -> None:
    with open_home(path) as home:
        batch = Batch()
        while home.ledger.size() + len(batch.drafts) < checkpoint_every - 1:
            batch.append("process.ended", {"command": "tool", "exit": 0})
        home.ledger.commit(batch)
        seen = []
        real = home.ledger._signer
        home.ledger._writer._signer = lambda each: seen.append(each.in_transaction) or real(each)  # type: ignore[func-returns-value]
        done = rotate_key(home, "ledger", WHY)

        assert done.index == checkpoint_every - 1 and seen == [True, True]
    assert both(path).exit == 0


@pytest.mark.parametrize("spoil", [widely_readable, linked, of_another_purpose])
@pytest.mark.parametrize("name", ["ledger.key", "ledger.next.key"])
def test_a_key_file_that_is_off_stops_a_rotation_and_leaves_the_home_whole(
    path: Path, spoil: Callable[[Path], None], name: str
) -> None:
    make_next_key(path / "keys", "ledger")
    spoil(path / "keys" / name)

    with pytest.raises(KeyUnusable), open_home(path) as home:
        rotate_key(home, "ledger", WHY)
    assert both(path).exit == 0


# What a killed rotation leaves


def entered(path: Path) -> Signer:
    """A home whose rotation was killed after its entry: the next key lies beside the old one."""
    with open_home(path) as home:
        index = note_checkpoint(home.ledger.checkpoint()).size
        old, new = load_key(path / "keys", "ledger"), make_next_key(path / "keys", "ledger")
        batch = Batch()
        batch.append("key.rotated", rotation_payload(home.id, old, new, index, WHY), subject="key/ledger")
        home.ledger.commit(batch)
    return new


def test_a_next_key_whose_entry_is_in_the_log_signs_at_once_and_is_put_in_place(path: Path) -> None:
    new = entered(path)

    assert both(path).exit == 0  # Its checkpoint at the end is by the new key already.
    with open_home(path) as home:
        assert load_key(path / "keys", "ledger").public_key == new.public_key
        assert load_next_key(path / "keys", "ledger") is None
        write(home)
    assert both(path).exit == 0


NEW = Signer("ledger", b"\6" * 32)
Draft = tuple[str, dict[str, Any], str]


def rotation(home: Home, old: Signer, at: int, subject: str = "key/ledger", **changes: Any) -> Draft:
    return "key.rotated", rotation_payload(home.id, old, NEW, at, WHY) | changes, subject


def revocation(home: Home, by: Signer, at: int, **changes: Any) -> Draft:
    payload = revocation_payload(home.id, "person:ada", b"\1" * 32, at, WHY, by) | changes
    return "key.revoked", payload, "key/person:ada"


@pytest.mark.parametrize(
    "make",
    [
        lambda home, old, at: rotation(home, STRANGER, at),
        lambda home, old, at: rotation(home, old, at + 1),
        lambda home, old, at: rotation(home, old, at, subject="key/attest"),
        lambda home, old, at: rotation(home, old, at, by_new=rotation(home, old, at)[1]["by_old"]),
        lambda home, old, at: revocation(home, STRANGER, at),
        lambda home, old, at: revocation(home, old, at + 1),
        lambda home, old, at: revocation(home, old, at, key="02" * 32),
    ],
)
def test_a_writer_refuses_a_change_of_keys_that_no_verifier_would_let_stand(
    path: Path, make: Callable[[Home, Signer, int], Draft]
) -> None:
    with open_home(path) as home:
        old, size = load_key(path / "keys", "ledger"), home.ledger.size()
        batch = Batch()
        kind, payload, subject = make(home, old, size)
        batch.append(kind, payload, subject=subject)

        with pytest.raises(KeyUnusable, match="expected a change of keys at entry"):
            home.ledger.commit(batch)

        (refused,) = home.ledger.read(kind="write.refused")
        assert (refused.payload["code"], home.ledger.size()) == ("keys.unusable", size + 1)
    assert both(path).exit == 0


def test_a_writer_takes_a_change_of_keys_that_counts(path: Path) -> None:
    with open_home(path) as home:
        batch = Batch()
        kind, payload, subject = revocation(home, load_key(path / "keys", "ledger"), home.ledger.size())
        batch.append(kind, payload, subject=subject)
        home.ledger.commit(batch)
    assert both(path).exit == 0


def test_the_second_change_of_a_batch_is_judged_after_the_first(path: Path) -> None:
    with open_home(path) as home:
        old, size = load_key(path / "keys", "ledger"), home.ledger.size()
        other = rotation_payload(home.id, old, Signer("ledger", b"\5" * 32), size + 1, WHY)
        batch = Batch()
        for kind, payload, subject in (rotation(home, old, size), ("key.rotated", other, "key/ledger")):
            batch.append(kind, payload, subject=subject)

        with pytest.raises(KeyUnusable):
            home.ledger.commit(batch)
    assert both(path).exit == 0


def test_a_next_key_without_an_entry_is_nothing(path: Path) -> None:
    stray = make_next_key(path / "keys", "ledger")
    before = load_key(path / "keys", "ledger").public_key

    with open_home(path) as home:
        write(home)
    assert load_key(path / "keys", "ledger").public_key == before
    assert load_next_key(path / "keys", "ledger") is not None
    with open_home(path) as home:
        assert rotate_key(home, "ledger", WHY).new != stray.public_key
    assert both(path).exit == 0


def test_a_read_only_opener_moves_no_key(path: Path) -> None:
    with open_home(path) as home:
        old = load_key(path / "keys", "ledger")
        new = make_next_key(path / "keys", "ledger")
        batch = Batch()
        payload = rotation_payload(home.id, old, new, home.ledger.size(), WHY)
        batch.append("key.rotated", payload, subject="key/ledger")
        home.ledger.commit(batch)
        with open_home(path, read_only=True):
            assert load_next_key(path / "keys", "ledger") is not None
        signer = key_in_force(path / "keys", "ledger", home.ledger.connection())
        assert signer.public_key == new.public_key
    put_entered_keys_in_place(path)
    put_entered_keys_in_place(path)
    assert load_key(path / "keys", "ledger").public_key == new.public_key
