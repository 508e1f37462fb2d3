"""Who may sign at which index. That each rule is missed when it is taken out: test_key_mutants.py."""

from __future__ import annotations

from typing import Any

import pytest

from sterling.kernel import key_history
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_history import KeyHistory, KeyRevoked, revocation_payload, rotation_payload
from sterling.kernel.signing import KeyPurpose, Signer

HOME = "home-" + "a" * 26
A, B, C = (Signer("ledger", bytes([seed]) * 32) for seed in (1, 2, 3))
ADA = Signer("person:ada", b"\x09" * 32)


def history() -> KeyHistory:
    return KeyHistory(HOME, {"ledger": A.public_key, "person:ada": ADA.public_key})


def rotate(keys: KeyHistory, index: int, old: Signer, new: Signer, **changed: Any) -> None:
    payload = rotation_payload(HOME, old, new, index, "why") | changed
    keys.observe(index, "key.rotated", f"key/{old.purpose}", payload)


def revoke(keys: KeyHistory, index: int, key: Signer, by: Signer, since: int | None = None) -> None:
    start = index if since is None else since
    payload = revocation_payload(HOME, key.purpose, key.public_key, start, "why", by)
    keys.observe(index, "key.revoked", f"key/{key.purpose}", payload)


def test_a_history_begins_with_what_it_is_given_and_knows_no_other_key() -> None:
    keys = history()

    assert keys.current("ledger") == keys.key_at("ledger", 0) == keys.key_at("ledger", 10**9) == A.public_key
    assert keys.current("attest") is None and keys.span_of(B.public_key) is None
    with pytest.raises(KeyUnknown):
        keys.require("ledger", B.public_key, 5)
    with pytest.raises(KeyUnknown):
        keys.require("attest", A.public_key, 5)


def test_a_checkpoint_of_the_size_of_the_index_is_still_of_the_old_key() -> None:
    keys = history()
    rotate(keys, 5, A, B)
    rotate(keys, 9, B, C)

    signs = {size: keys.key_at("ledger", size) for size in (0, 5, 6, 9, 10)}
    assert signs == {
        0: A.public_key,
        5: A.public_key,
        6: B.public_key,
        9: B.public_key,
        10: C.public_key,
    }
    assert [span.state for span in keys.spans("ledger")] == ["rotated", "rotated", "in-force"]


def test_other_kinds_change_nothing() -> None:
    keys = history()
    keys.observe(3, "process.ended", "key/ledger", {"anything": 1})

    assert keys.current("ledger") == A.public_key


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"purpose": "ledger"}, {"purpose": None}])
@pytest.mark.parametrize("kind", key_history.KEY_KINDS)
def test_a_payload_of_another_shape_is_refused(kind: str, payload: Any) -> None:
    with pytest.raises(KeyUnknown):
        history().observe(3, kind, "key/ledger", payload)


def test_the_first_rotation_of_a_purpose_that_nobody_knew_begins_its_history() -> None:
    old, new, other = (Signer("attest", bytes([seed]) * 32) for seed in (4, 5, 6))
    keys = history()
    rotate(keys, 5, old, new)

    assert keys.key_at("attest", 5) == old.public_key and keys.current("attest") == new.public_key
    with pytest.raises(KeyUnknown):
        rotate(keys, 6, old, other)


def test_a_key_of_one_purpose_cannot_become_one_of_another() -> None:
    attest = Signer("attest", b"\x04" * 32)
    with pytest.raises(KeyUnknown):
        rotate(history(), 5, attest, Signer("attest", b"\x01" * 32))
    with pytest.raises(KeyPurpose):
        rotation_payload(HOME, attest, A, 5, "why")
    with pytest.raises(KeyPurpose):
        revocation_payload(HOME, "attest", A.public_key, 5, "why", attest)


def test_a_revocation_reaches_back_and_never_forward() -> None:
    keys = history()
    revoke(keys, 9, ADA, A, since=4)
    revoke(keys, 12, ADA, A, since=6)

    keys.require("person:ada", ADA.public_key, 3)
    for index in (4, 5, 50):
        with pytest.raises(KeyRevoked):
            keys.require("person:ada", ADA.public_key, index)


def test_a_revoked_key_passes_nothing_on() -> None:
    keys = history()
    revoke(keys, 9, ADA, A)

    with pytest.raises(KeyUnknown):
        rotate(keys, 10, ADA, Signer("person:ada", b"\x0a" * 32))
