"""Each rule of key_history.py and decisions.py taken out once, and the scenario that then goes wrong."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mutants import run_mutants

from sterling.kernel import decisions, key_history
from sterling.kernel.batch import Actor
from sterling.kernel.decisions import Bound
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_history import KeyHistory, revocation_payload, rotation_payload
from sterling.kernel.signing import KeyPurpose, Signer

HOME = "home-" + "a" * 26
A, B, C = (Signer("ledger", bytes([seed]) * 32) for seed in (1, 2, 3))
ADA = Signer("person:ada", b"\x09" * 32)
PERSON, AGENT = Actor("person", "ada"), Actor("agent", "robot")
ABOUT = Bound("task/1", {"diff": "0" * 64, "policy": "1" * 64})


def history(module: ModuleType) -> KeyHistory:
    found: KeyHistory = module.KeyHistory(HOME, {"ledger": A.public_key, "person:ada": ADA.public_key})
    return found


def rotate(keys: KeyHistory, index: int, old: Signer, new: Signer, **changed: Any) -> None:
    payload = rotation_payload(HOME, old, new, index, "why") | changed
    keys.observe(index, "key.rotated", f"key/{old.purpose}", payload)


def revoke(keys: KeyHistory, index: int, key: Signer, by: Signer, since: int | None = None) -> None:
    start = index if since is None else since
    payload = revocation_payload(HOME, key.purpose, key.public_key, start, "why", by)
    keys.observe(index, "key.revoked", f"key/{key.purpose}", payload)


# Who may sign


def refused(act: Callable[..., None], *arguments: Any, **named: Any) -> None:
    with pytest.raises(KeyUnknown):
        act(*arguments, **named)


def moved_index(module: ModuleType) -> None:
    keys = history(module)
    payload = rotation_payload(HOME, A, B, 4, "why")
    refused(keys.observe, 5, "key.rotated", "key/ledger", payload)


def not_the_key_in_force(module: ModuleType) -> None:
    keys = history(module)
    rotate(keys, 5, A, B)
    refused(rotate, keys, 6, A, C)


def a_former_key_again(module: ModuleType) -> None:
    keys = history(module)
    rotate(keys, 5, A, B)
    refused(rotate, keys, 6, B, A)


def new_key_alone(module: ModuleType) -> None:
    alone = rotation_payload(HOME, B, B, 5, "why")["by_new"]
    refused(rotate, history(module), 5, A, B, by_old=alone)


def old_key_alone(module: ModuleType) -> None:
    refused(rotate, history(module), 5, A, B, by_new=rotation_payload(HOME, A, A, 5, "why")["by_old"])


def another_home(module: ModuleType) -> None:
    payload = module.rotation_payload("home-" + "b" * 26, A, B, 5, "why")
    refused(history(module).observe, 5, "key.rotated", "key/ledger", payload)


def another_subject(module: ModuleType) -> None:
    payload = rotation_payload(HOME, A, B, 5, "why")
    refused(history(module).observe, 5, "key.rotated", "key/attest", payload)


def old_key_after_the_boundary(module: ModuleType) -> None:
    keys = history(module)
    rotate(keys, 5, A, B)
    assert keys.key_at("ledger", 6) == B.public_key
    refused(keys.require, "ledger", A.public_key, 6)


def new_key_at_the_boundary(module: ModuleType) -> None:
    keys = history(module)
    rotate(keys, 5, A, B)
    refused(keys.require, "ledger", B.public_key, 5)


def revoked_by_anybody(module: ModuleType) -> None:
    refused(revoke, history(module), 5, ADA, B)


def revoked_in_force(module: ModuleType) -> None:
    refused(revoke, history(module), 5, A, A)


def revoked_from_the_future(module: ModuleType) -> None:
    refused(revoke, history(module), 5, ADA, A, since=6)


def revoked_and_still_signing(module: ModuleType) -> None:
    keys = history(module)
    revoke(keys, 5, ADA, A)
    with pytest.raises(module.KeyRevoked):
        keys.require("person:ada", ADA.public_key, 5)


HISTORY_MUTANTS = [
    ('payload["from_index"] != index', "False", moved_index),
    ("known not in (None, old) or", "", not_the_key_in_force),
    ("or self.span_of(new) is not None", "", a_former_key_again),
    ('_check_signed(index, old, payload["by_old"], message)', "pass", new_key_alone),
    ('_check_signed(index, new, payload["by_new"], message)', "pass", old_key_alone),
    ('for name in shape.signed} | {"home_id": home_id})', "for name in shape.signed})", another_home),
    ('subject != subject_of(payload["purpose"])', "False", another_subject),
    ("index <= self.until)", "True)", old_key_after_the_boundary),
    ("index > self.after)", "index >= self.after)", new_key_at_the_boundary),
    ('by != self.current("ledger")', "False", revoked_by_anybody),
    ("key == self.current(purpose)):", "False):", revoked_in_force),
    ("start > index or", "", revoked_from_the_future),
    ("index >= span.revoked_from", "index > span.revoked_from", revoked_and_still_signing),
]


# Decisions


def signed(**changed: Any) -> dict[str, Any]:
    return decisions.sign_decision(HOME, ABOUT, "yes", "it is fine", 1000, ADA, PERSON) | changed


def void(module: ModuleType, decision: Any, about: Bound = ABOUT, now_us: int = 1) -> None:
    assert not module.decision_holds(decision, about, now_us, history(key_history)).holds


def one_bound_byte(module: ModuleType) -> None:
    void(module, signed(), Bound("task/1", {**ABOUT.binds, "diff": "0" * 63 + "1"}))


def one_bound_hash_gone(module: ModuleType) -> None:
    void(module, signed(), Bound("task/1", {"diff": "0" * 64}))


def one_hash_more_to_look_at(module: ModuleType) -> None:
    void(module, signed(), Bound("task/1", {**ABOUT.binds, "evidence": "2" * 64}))


def another_subject_than_signed(module: ModuleType) -> None:
    void(module, signed(), Bound("task/2", ABOUT.binds))


def expired(module: ModuleType) -> None:
    void(module, signed(), now_us=1000)


def another_signature(module: ModuleType) -> None:
    void(module, signed(reason="another"))


def revoked_person(module: ModuleType) -> None:
    keys = history(key_history)
    revoke(keys, 9, ADA, A)
    assert not module.decision_holds(signed(), ABOUT, 1, keys).holds


def a_homes_own_key(module: ModuleType) -> None:
    unsigned = signed(key=A.public_key.hex())
    message = module._message(HOME, unsigned)
    void(module, unsigned | {"signature": base64.b64encode(A.sign(message)).decode()})


def a_no_is_no_yes(module: ModuleType) -> None:
    told = decisions.sign_decision(HOME, ABOUT, "no", "it is not", 1000, ADA, PERSON)
    standing = module.decision_holds(told, ABOUT, 1, history(key_history))
    assert standing.holds and not standing.allows


def an_agent_signs(module: ModuleType) -> None:
    with pytest.raises(KeyPurpose):
        module.sign_decision(HOME, ABOUT, "yes", "fine", 1000, ADA, AGENT)


def an_agents_channel(module: ModuleType) -> None:
    with pytest.raises(KeyPurpose):
        module.sign_decision(HOME, ABOUT, "yes", "fine", 1000, ADA, PERSON, is_over_agent_channel=True)


def a_program_key_signs(module: ModuleType) -> None:
    with pytest.raises(KeyPurpose):
        module.sign_decision(HOME, ABOUT, "yes", "fine", 1000, A, PERSON)


DECISION_MUTANTS = [
    ("if binds.get(name) != current.binds.get(name)", "if name not in current.binds", one_bound_byte),
    (
        "if binds.get(name) != current",
        "if name in current.binds and binds.get(name) != current",
        one_bound_hash_gone,
    ),
    ("{*binds, *current.binds}", "binds", one_hash_more_to_look_at),
    ('decision["subject"] != current.subject', "False", another_subject_than_signed),
    ('now_us >= decision["expires_us"]', 'now_us > decision["expires_us"]', expired),
    ("verify_signature(key, parse", "(key, parse", another_signature),
    ("span.revoked_from is not None", "False", revoked_person),
    ('not span.purpose.startswith("person:")', "False", a_homes_own_key),
    ('decision["verdict"] == "yes"', "True", a_no_is_no_yes),
    ('actor.type != "person" or', "", an_agent_signs),
    ("if is_over_agent_channel:", "if False:", an_agents_channel),
    ('or not key.purpose.startswith("person:")', "", a_program_key_signs),
]
MUTANTS = [(key_history, *row) for row in HISTORY_MUTANTS] + [(decisions, *row) for row in DECISION_MUTANTS]


@pytest.mark.parametrize(
    ("module", "before", "after", "scenario"), MUTANTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_rule_that_is_taken_out_is_missed(
    module: ModuleType, before: str, after: str, scenario: Callable[[ModuleType], None]
) -> None:
    run_mutants(Path(str(module.__file__)), [(before, before, after)], [scenario])
