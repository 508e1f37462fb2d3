"""Rotations and revocations that somebody forged: every verifier refuses them where they stand.

Each forgery is asked of both verifiers of a home, and within a bundle of all three of those.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel.anchors import Anchors, anchors_root
from sterling.kernel.batch import Batch
from sterling.kernel.canonical import canonical_bytes, parse_canonical
from sterling.kernel.checkpoint import Checkpoint, origin_of, sign_note
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_change import rotate_key
from sterling.kernel.key_history import KEY_KINDS, KeyHistory, revocation_payload, rotation_payload
from sterling.kernel.keys import load_key
from sterling.kernel.signing import Signer
from sterling.kernel.signing_keys import read_key_changes
from sterling.kernel.verify import Verification, verify_home
from sterling.testing.forged_bundles import ask, dump
from sterling.testing.forged_ledgers import Forge

STRANGER_SEED = b"\x07" * 32
STRANGER = Signer("ledger", STRANGER_SEED)
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


# What both verifiers refuse


class Attack:
    """A home with one rotation, and somebody who rewrites that entry, or the checkpoints around it."""

    in_member = "entries.jsonl"

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_home(path) as home:
            write(home, 2)
            self.home_id, self.old = home.id, load_key(path / "keys", "ledger")
            self.index = rotate_key(home, "ledger", WHY).index
            self.new = load_key(path / "keys", "ledger")
        shutil.rmtree(anchors_root())
        self.pin = self.old.verifier(origin_of(self.home_id))

    def forge(
        self, payload: dict[str, Any], *, subject: str = "key/ledger", key: Signer | None = None
    ) -> None:
        """Put another payload in its place, seal everything again and sign with `key` from there on."""
        forge = Forge(self.path)
        bodies = forge.bodies()
        body = parse_canonical(bodies[self.index]) | {"payload": payload, "subject": subject}
        bodies[self.index] = canonical_bytes(body)
        forge.reseal(bodies)
        forge.sign(key or self.new, [self.index + 1])
        forge.database.close()

    def found(self) -> tuple[str, int | None, int | None]:
        verified = both(self.path, pin=self.pin)
        assert verified.exit == 3 and verified.first_bad is not None, verified
        found = (verified.code, verified.first_bad.low, verified.first_bad.high)
        self.carry_away(found)
        return found

    def carry_away(self, found: tuple[str, int | None, int | None]) -> None:
        """A bundle of everything is wrong at the same place; one of the changes alone, where they are."""
        forge = Forge(self.path)
        forge.key = self.old
        bodies = forge.bodies()
        whole = dump(forge, self.path)
        if forge.database.execute("SELECT max(size) FROM checkpoints").fetchone()[0] < len(bodies):
            forge.sign(self.new, [len(bodies)])
        changes = [at for at, body in enumerate(bodies) if parse_canonical(body)["kind"] in KEY_KINDS]
        part = dump(forge, self.path, only=[0, *changes])
        forge.database.close()

        answers = [(each["exit"], each["first_bad"]) for each in ask([whole, part], self.pin)]
        assert answers[0] == (3, [self.in_member, found[1], found[2], found[0]])
        if self.in_member == "entries.jsonl":
            assert answers[1] == answers[0]

    def honest(self) -> dict[str, Any]:
        return rotation_payload(self.home_id, self.old, self.new, self.index, WHY)


@pytest.fixture
def attack(path: Path) -> Attack:
    return Attack(path)


def test_the_untouched_twin_of_the_attacks_holds(attack: Attack) -> None:
    attack.forge(attack.honest())

    assert both(attack.path, pin=attack.pin).exit == 4  # No anchor; and nothing is wrong.
    forge = Forge(attack.path)
    forge.key = attack.old
    bundles = [dump(forge, attack.path), dump(forge, attack.path, only=[0, attack.index])]
    assert [found["exit"] for found in ask(bundles, attack.pin)] == [0, 0]


def posing(as_key: Signer) -> Signer:
    """The stranger under the name of another key."""
    made = Signer("ledger", STRANGER_SEED)
    made.public_key = as_key.public_key
    return made


def by_the_new_key_alone(attack: Attack) -> dict[str, Any]:
    return rotation_payload(attack.home_id, posing(attack.old), STRANGER, attack.index, WHY)


def by_the_old_key_alone(attack: Attack) -> dict[str, Any]:
    unheard = posing(attack.new)
    return rotation_payload(attack.home_id, attack.old, unheard, attack.index, WHY)


def by_a_stranger(attack: Attack) -> dict[str, Any]:
    return rotation_payload(attack.home_id, STRANGER, attack.new, attack.index, WHY)


def with_the_index_moved(attack: Attack) -> dict[str, Any]:
    return attack.honest() | {"from_index": attack.index - 1}


def signed_for_another_index(attack: Attack) -> dict[str, Any]:
    return rotation_payload(attack.home_id, attack.old, attack.new, attack.index + 1, WHY)


def signed_for_another_index_and_moved(attack: Attack) -> dict[str, Any]:
    return signed_for_another_index(attack) | {"from_index": attack.index}


def from_another_home(attack: Attack) -> dict[str, Any]:
    return rotation_payload("home-" + "a" * 26, attack.old, attack.new, attack.index, WHY)


def of_another_purpose_than_signed(attack: Attack) -> dict[str, Any]:
    old, new = Signer("attest", b"\x01" * 32), Signer("attest", b"\x02" * 32)
    return rotation_payload(attack.home_id, old, new, attack.index, WHY) | {"purpose": "ledger"}


def to_itself(attack: Attack) -> dict[str, Any]:
    return rotation_payload(attack.home_id, attack.old, attack.old, attack.index, WHY)


def without_a_field(attack: Attack) -> dict[str, Any]:
    return {name: value for name, value in attack.honest().items() if name != "by_old"}


def with_one_field_more(attack: Attack) -> dict[str, Any]:
    return attack.honest() | {"more": 1}


def with_an_index_of_another_type(attack: Attack) -> dict[str, Any]:
    return attack.honest() | {"from_index": True}


def with_a_signature_in_another_spelling(attack: Attack) -> dict[str, Any]:
    return attack.honest() | {"by_old": attack.honest()["by_old"].rstrip("=")}


def with_a_key_in_capitals(attack: Attack) -> dict[str, Any]:
    return attack.honest() | {"new": attack.honest()["new"].upper()}


def that_is_a_blob(attack: Attack) -> dict[str, Any]:
    return {"blob": "0" * 64, "size_bytes": 5}


FORGERIES = [
    by_the_new_key_alone,
    by_the_old_key_alone,
    by_a_stranger,
    with_the_index_moved,
    signed_for_another_index,
    signed_for_another_index_and_moved,
    from_another_home,
    of_another_purpose_than_signed,
    to_itself,
    without_a_field,
    with_one_field_more,
    with_an_index_of_another_type,
    with_a_signature_in_another_spelling,
    with_a_key_in_capitals,
    that_is_a_blob,
]


@pytest.mark.parametrize("make", FORGERIES)
def test_a_rotation_that_is_not_by_both_keys_for_this_place_is_refused_where_it_stands(
    attack: Attack, make: Callable[[Attack], dict[str, Any]]
) -> None:
    attack.forge(make(attack), key=STRANGER)

    assert attack.found() == ("integrity.key-unknown", attack.index, attack.index)


def test_a_rotation_under_another_subject_is_refused(attack: Attack) -> None:
    attack.forge(attack.honest(), subject="key/attest")

    assert attack.found() == ("integrity.key-unknown", attack.index, attack.index)


def test_a_checkpoint_by_the_old_key_after_the_rotation_is_of_an_unknown_key(attack: Attack) -> None:
    attack.forge(attack.honest(), key=attack.old)
    attack.in_member = "checkpoints.jsonl"

    assert attack.found() == ("integrity.key-unknown", attack.index, attack.index)


def test_a_checkpoint_by_the_new_key_before_the_rotation_is_of_an_unknown_key(attack: Attack) -> None:
    forge = Forge(attack.path)
    bodies = forge.bodies()
    forge.reseal(forge.bodies()[: attack.index])
    note = forge.note(attack.index, attack.new)
    forge.reseal(bodies)
    forge.put_checkpoint(attack.index, note)
    forge.database.close()

    attack.in_member = "checkpoints.jsonl"
    code, _, high = attack.found()
    assert (code, high) == ("integrity.key-unknown", attack.index - 1)


def second(attack: Attack, kind: str, payload: dict[str, Any]) -> int:
    """Append another change of keys by hand; gives its index."""
    forge = Forge(attack.path)
    bodies = forge.bodies()
    body = parse_canonical(bodies[attack.index])
    body |= {"kind": kind, "payload": payload, "subject": f"key/{payload['purpose']}"}
    forge.reseal([*bodies, canonical_bytes(body)])
    forge.database.close()
    return len(bodies)


def test_a_former_key_never_comes_back(attack: Attack) -> None:
    at = attack.index + 1
    index = second(attack, "key.rotated", rotation_payload(attack.home_id, attack.new, attack.old, at, WHY))

    assert attack.found() == ("integrity.key-unknown", index, index)


def test_a_rotation_is_not_replayed_later(attack: Attack) -> None:
    index = second(attack, "key.rotated", attack.honest())

    assert attack.found() == ("integrity.key-unknown", index, index)


@pytest.mark.parametrize(
    "make",
    [
        lambda a, at: revocation_payload(a.home_id, "ledger", a.old.public_key, at, WHY, a.old),
        lambda a, at: revocation_payload(a.home_id, "ledger", a.old.public_key, at, WHY, STRANGER),
        lambda a, at: revocation_payload(a.home_id, "ledger", a.new.public_key, at, WHY, a.new),
        lambda a, at: revocation_payload(a.home_id, "ledger", a.old.public_key, at - 1, WHY, a.new),
        lambda a, at: revocation_payload(a.home_id, "attest", a.old.public_key, at, WHY, a.new),
        lambda a, at: revocation_payload(a.home_id, "person:x", b"\1" * 32, at + 1, WHY, a.new),
        lambda a, at: revocation_payload(a.home_id, "person:X", b"\1" * 32, at, WHY, a.new),
        lambda a, at: revocation_payload("home-x", "person:x", b"\1" * 32, at, WHY, a.new),
        lambda a, at: (
            revocation_payload(a.home_id, "person:x", b"\1" * 32, at, WHY, a.new) | {"key": "02" * 32}
        ),
    ],
)
def test_a_revocation_that_does_not_count_is_refused_where_it_stands(
    attack: Attack, make: Callable[[Attack, int], dict[str, Any]]
) -> None:
    index = second(attack, "key.revoked", make(attack, attack.index + 1))

    assert attack.found() == ("integrity.key-unknown", index, index)


def test_a_revoked_key_of_which_nobody_else_heard_passes_nothing_on(attack: Attack) -> None:
    person, other = Signer("person:x", b"\1" * 32), Signer("person:x", b"\2" * 32)
    at = attack.index + 1
    payload = revocation_payload(attack.home_id, "person:x", person.public_key, at, WHY, attack.new)
    second(attack, "key.revoked", payload)
    payload = rotation_payload(attack.home_id, person, other, at + 1, WHY)
    index = second(attack, "key.rotated", payload)

    assert attack.found() == ("integrity.key-unknown", index, index)


def test_revoking_a_key_of_which_nobody_heard_changes_no_other_key(attack: Attack) -> None:
    payload = revocation_payload(attack.home_id, "ledger", b"\1" * 32, attack.index + 1, WHY, attack.new)
    second(attack, "key.revoked", payload)

    with open_home(attack.path) as home:
        write(home)
        rotate_key(home, "ledger", WHY)
    assert both(attack.path, pin=attack.pin).exit == 0


@pytest.mark.parametrize(("back", "code"), [(0, "rolled-back"), (1, "tail-missing"), (4, "tail-missing")])
def test_a_log_cut_before_a_rotation_lost_its_tail_and_met_no_stranger(
    path: Path, back: int, code: str
) -> None:
    with open_home(path) as home:
        write(home, 2)
        index = rotate_key(home, "ledger", WHY).index
        write(home, 3)
    forge = Forge(path)
    forge.forget_after(index - back)
    forge.database.close()

    found = both(path)
    assert (found.code, found.exit) == (f"integrity.{code}", 3)


def test_a_note_brought_along_by_a_key_that_no_rotation_reaches_is_of_an_unknown_key(path: Path) -> None:
    with open_home(path) as home:
        rotate_key(home, "ledger", WHY)
        size, root = home.ledger.size(), home.ledger.root()
    brought = sign_note(Checkpoint(origin_of(home.id), size, root), STRANGER)
    later = sign_note(Checkpoint(origin_of(home.id), size + 9, root), STRANGER)

    assert both(path, notes=(brought,)).code == "integrity.key-unknown"
    assert both(path, notes=(later,)).code == "integrity.key-unknown"


def test_the_anchor_folder_takes_no_note_that_the_rotations_do_not_reach(path: Path) -> None:
    with open_home(path) as home:
        old = load_key(path / "keys", "ledger")
        rotate_key(home, "ledger", WHY)
        new = load_key(path / "keys", "ledger")
        write(home)
        size, root = home.ledger.size(), home.ledger.root()
        changes = list(read_key_changes(home.ledger.connection(), "ledger"))
        anchors = Anchors.open(home.id)
        for key, given in ((old, changes), (STRANGER, changes), (new, [])):
            with pytest.raises(KeyUnknown):
                anchors.append(sign_note(Checkpoint(origin_of(home.id), size, root), key), given)

        anchors.append(sign_note(Checkpoint(origin_of(home.id), size, root), new), changes)


def test_a_note_that_comes_late_is_judged_by_the_key_of_its_size(path: Path, tmp_path: Path) -> None:
    with open_home(path) as home:
        old = load_key(path / "keys", "ledger")
        index = rotate_key(home, "ledger", WHY).index
        new, root = load_key(path / "keys", "ledger"), home.ledger.root(index)
        changes = list(read_key_changes(home.ledger.connection(), "ledger"))
    late = Anchors.open(home.id, tmp_path / "second disk")
    late.pin(old.verifier(origin_of(home.id)), path)

    with pytest.raises(KeyUnknown):
        late.append(sign_note(Checkpoint(origin_of(home.id), index, root), new), changes)
    late.append(sign_note(Checkpoint(origin_of(home.id), index, root), old), changes)


def test_a_strangers_note_in_the_anchor_folder_within_the_log_is_of_an_unknown_key(path: Path) -> None:
    with open_home(path) as home:
        rotate_key(home, "ledger", WHY)
        size, root, folder = home.ledger.size(), home.ledger.root(), home.anchors.folder
    note = sign_note(Checkpoint(origin_of(home.id), size - 1, root), STRANGER)
    lines = (folder / "history.jsonl").read_text()
    (folder / "history.jsonl").write_text(json.dumps({"note": note}) + "\n" + lines)

    assert both(path).code == "integrity.key-unknown"


# Two readings of the same rules


def changed(payload: dict[str, Any], draw: random.Random, keys: list[Signer]) -> dict[str, Any]:
    """The payload, as it is or with one field put otherwise."""
    name = draw.choice([*payload, "", "", "", ""])
    if not name:
        return payload
    others: dict[str, list[Any]] = {
        "purpose": ["ledger", "attest", "person:ada", "x", 5],
        "from_index": [0, 3, payload["from_index"] + 1, -1, None],
        "reason": ["", "other", 5],
    }
    return payload | {
        name: draw.choice(others.get(name, [key.public_key.hex() for key in keys] + ["", None]))
    }


def drawn(
    draw: random.Random, home_id: str, keys: list[Signer], ours: KeyHistory, index: int
) -> tuple[str, dict[str, Any]]:
    """Kind and payload of some change of keys that counts more often than not."""
    purpose = draw.choice(["ledger", "ledger", "attest", "person:ada"])
    in_force = ours.current(purpose) or keys[index % 6].public_key
    held = next(key for key in keys if key.public_key == in_force)
    old, new, by = draw.choice([held, draw.choice(keys)]), draw.choice(keys), draw.choice(keys)
    if draw.random() < 0.6:
        old, new = as_purpose(old, purpose), as_purpose(new, purpose)
        return "key.rotated", changed(rotation_payload(home_id, old, new, index, WHY), draw, keys)
    by = draw.choice([by, next(key for key in keys if key.public_key == ours.current("ledger"))])
    since = draw.choice([index, max(0, index - 2)])
    payload = revocation_payload(home_id, purpose, old.public_key, since, WHY, by)
    return "key.revoked", changed(payload, draw, keys)


@pytest.mark.parametrize("seed", range(40))
def test_both_verifiers_follow_and_refuse_the_same_changes(seed: int) -> None:
    draw, home_id = random.Random(seed), "home-" + "a" * 26
    keys = [Signer("ledger", bytes([at]) * 32) for at in range(1, 7)]
    ours = KeyHistory(home_id, {"ledger": keys[0].public_key})
    theirs = standalone_verify.KeyChanges(home_id, keys[0].public_key)
    accepted = 0

    for index in range(1, 60):
        kind, payload = drawn(draw, home_id, keys, ours, index)
        subject = f"key/{payload['purpose']}"
        body = {"kind": kind, "subject": subject, "payload": payload}
        verdicts = [counts(ours.observe, index, kind, subject, payload), counts(theirs.follow, index, body)]
        assert len(set(verdicts)) == 1, (index, kind, payload, verdicts)
        accepted += verdicts[0]
        current = ours.current("ledger")
        assert current is not None and theirs.current["ledger"] == current.hex()

    assert accepted


def test_three_verifiers_follow_and_refuse_the_same_changes_in_a_bundle(path: Path) -> None:
    draw, forge = random.Random(7), Forge(path)
    created = forge.bodies()[0]
    keys = [forge.key, *(Signer("ledger", bytes([at]) * 32) for at in range(2, 7))]
    bundles, wanted = [], []

    for _ in range(250):
        ours = KeyHistory(forge.home_id, {"ledger": forge.key.public_key})
        bodies, bad, tries = [created], None, draw.randrange(1, 25)
        while bad is None and tries:
            tries -= 1
            index = len(bodies)
            kind, payload = drawn(draw, forge.home_id, keys, ours, index)
            subject = draw.choice([f"key/{payload['purpose']}"] * 9 + ["key/ledger"])
            body = {"subject": subject, "kind": kind, "payload": payload}
            body |= {name: parse_canonical(created)[name] for name in ("v", "at_us", "actor")}
            if not counts(ours.observe, index, kind, subject, payload):
                if draw.random() < 0.7:
                    continue
                bad = ["entries.jsonl", index, index, "integrity.key-unknown"]
            bodies.append(canonical_bytes(body))
        forge.reseal(bodies)
        forge.database.execute("DELETE FROM checkpoints")
        forge.sign(next(key for key in keys if key.public_key == ours.current("ledger")), [len(bodies)])
        bundles.append(dump(forge, path))
        wanted.append(bad)
    forge.database.close()

    found = ask(bundles, forge.key.verifier(origin_of(forge.home_id)))
    assert [each["first_bad"] for each in found] == wanted
    assert 20 < wanted.count(None) < 230


def counts(follow: Callable[..., None], *arguments: Any) -> bool:
    try:
        follow(*arguments)
    except (KeyUnknown, ValueError):
        return False
    return True


def as_purpose(key: Signer, purpose: str) -> Signer:
    """The same key, said to be for something else."""
    return Signer(purpose, key._private.private_bytes_raw())
