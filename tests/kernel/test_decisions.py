"""Decisions: a person's yes holds for exactly what was looked at, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.batch import Actor, Batch
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.decisions import Bound, decision_holds, sign_decision
from sterling.kernel.home import init_home
from sterling.kernel.key_change import read_key_history, revoke_key
from sterling.kernel.key_history import KeyHistory
from sterling.kernel.person_keys import make_person_key, make_throwaway_key, unlock_person_key
from sterling.kernel.signing import KeyPurpose, Signer
from sterling.kernel.verify import verify_home

HOME = "home-" + "a" * 26
ADA, EVE = Signer("person:ada", b"\x09" * 32), Signer("person:eve", b"\x08" * 32)
PERSON = Actor("person", "ada")
ABOUT = Bound("task/1", {"policy": "1" * 64, "diff": "0" * 64})
NOW_US, END_US = 1_000, 2_000


@pytest.fixture
def history() -> KeyHistory:
    return KeyHistory(HOME, {"ledger": b"\x01" * 32, "person:ada": ADA.public_key})


@pytest.fixture
def decision() -> dict[str, Any]:
    return sign_decision(HOME, ABOUT, "yes", "the diff is what was asked for", END_US, ADA, PERSON)


def test_a_decision_about_what_is_still_there_holds_and_allows(
    decision: dict[str, Any], history: KeyHistory
) -> None:
    standing = decision_holds(decision, ABOUT, NOW_US, history)

    assert (standing.holds, standing.allows, standing.reason) == (True, True, "")
    assert list(decision["binds"]) == ["diff", "policy"]


def test_a_no_holds_and_allows_nothing(history: KeyHistory) -> None:
    told = sign_decision(HOME, ABOUT, "no", "the diff does more", END_US, ADA, PERSON)
    standing = decision_holds(told, ABOUT, NOW_US, history)

    assert standing.holds and not standing.allows


def test_a_standing_is_neither_true_nor_false_by_itself(
    decision: dict[str, Any], history: KeyHistory
) -> None:
    with pytest.raises(TypeError):
        bool(decision_holds(decision, ABOUT, NOW_US, history))


@pytest.mark.parametrize("name", ["diff", "policy"])
@pytest.mark.parametrize("at", range(0, 64, 7))
def test_one_changed_digit_of_what_was_looked_at_voids_it(
    decision: dict[str, Any], history: KeyHistory, name: str, at: int
) -> None:
    before = ABOUT.binds[name]
    changed = before[:at] + "f" + before[at + 1 :]
    standing = decision_holds(decision, Bound("task/1", {**ABOUT.binds, name: changed}), NOW_US, history)

    assert not standing.holds and not standing.allows and name in standing.reason


@pytest.mark.parametrize("binds", [{}, {"diff": "0" * 64}, {**ABOUT.binds, "more": "2" * 64}])
def test_less_or_more_to_look_at_voids_it(
    decision: dict[str, Any], history: KeyHistory, binds: dict[str, str]
) -> None:
    assert not decision_holds(decision, Bound("task/1", binds), NOW_US, history).holds


def test_it_is_not_replayed_on_another_subject_in_another_home_or_after_its_end(
    decision: dict[str, Any], history: KeyHistory
) -> None:
    elsewhere = KeyHistory("home-" + "b" * 26, {"person:ada": ADA.public_key})

    assert not decision_holds(decision, Bound("task/2", ABOUT.binds), NOW_US, history).holds
    assert not decision_holds(decision, ABOUT, NOW_US, elsewhere).holds
    assert not decision_holds(decision, ABOUT, END_US, history).holds
    assert decision_holds(decision, ABOUT, END_US - 1, history).holds
    moved = decision | {"subject": "task/2"}
    assert not decision_holds(moved, Bound("task/2", ABOUT.binds), NOW_US, history).holds


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "no"},
        {"reason": "another"},
        {"expires_us": END_US + 1},
        {"key": EVE.public_key.hex()},
        {"signature": "A" * 86 + "=="},
        {"signature": ""},
        {"signature": "!"},
        {"signature": 5},
        {"key": "zz"},
        {"verdict": "maybe"},
        {"expires_us": True},
        {"expires_us": 2**70},
        {"binds": None},
        {"binds": {"diff": 5}},
        {"subject": "\ud800"},
        {"more": 1},
    ],
)
def test_a_decision_that_was_altered_or_is_none_does_not_hold_and_raises_nothing(
    decision: dict[str, Any], history: KeyHistory, changed: dict[str, Any]
) -> None:
    altered = decision | changed
    about = Bound(str(altered["subject"]), ABOUT.binds)

    assert not decision_holds(altered, about, NOW_US, history).holds


@pytest.mark.parametrize("value", [None, [], "yes", {}, 1])
def test_another_value_is_no_decision(history: KeyHistory, value: Any) -> None:
    assert not decision_holds(value, ABOUT, NOW_US, history).holds


def test_a_key_that_nobody_knows_or_that_is_no_persons_decides_nothing(history: KeyHistory) -> None:
    stranger = sign_decision(HOME, ABOUT, "yes", "fine", END_US, EVE, PERSON)
    posing = Signer("person:ledger", b"\x05" * 32)
    as_ledger = KeyHistory(HOME, {"ledger": posing.public_key})
    own = sign_decision(HOME, ABOUT, "yes", "fine", END_US, posing, PERSON)

    assert "known person" in decision_holds(stranger, ABOUT, NOW_US, history).reason
    assert "person's key" in decision_holds(own, ABOUT, NOW_US, as_ledger).reason


@pytest.mark.parametrize("actor", [Actor("agent", "robot"), Actor("program", "sterling"), Actor("", "")])
def test_only_a_person_signs(actor: Actor) -> None:
    with pytest.raises(KeyPurpose):
        sign_decision(HOME, ABOUT, "yes", "fine", END_US, ADA, actor)


@pytest.mark.parametrize("purpose", ["ledger", "attest", "witness"])
def test_only_with_a_key_of_their_own(purpose: str) -> None:
    with pytest.raises(KeyPurpose):
        sign_decision(HOME, ABOUT, "yes", "fine", END_US, Signer(purpose, bytes(32)), PERSON)


def test_not_over_an_agents_channel() -> None:
    with pytest.raises(KeyPurpose):
        sign_decision(HOME, ABOUT, "yes", "fine", END_US, ADA, PERSON, is_over_agent_channel=True)


@pytest.mark.parametrize(
    "given",
    [
        {"about": Bound("task/1", {})},
        {"about": Bound("", ABOUT.binds)},
        {"about": Bound("task/1", {"diff": "short"})},
        {"about": Bound("task/1", {"diff": "A" * 64})},
        {"about": Bound("task/1", {"": "0" * 64})},
        {"about": Bound("task/1", {f"n{at}": "0" * 64 for at in range(65)})},
        {"verdict": "approved"},
        {"reason": " "},
        {"expires_us": 0},
        {"expires_us": 1.5},
    ],
)
def test_a_decision_that_would_bind_or_say_nothing_is_not_signed(given: dict[str, Any]) -> None:
    whole = {"about": ABOUT, "verdict": "yes", "reason": "fine", "expires_us": END_US} | given
    spent: list[bytes] = []
    sign: Callable[[bytes], bytes] = lambda message: spent.append(message) or b""  # noqa: E731
    key = Signer("person:ada", bytes(32))
    key_like: Any = type("Watched", (), {"purpose": key.purpose, "public_key": key.public_key, "sign": sign})

    with pytest.raises(RecordInvalid):
        sign_decision(HOME, key=key_like, actor=PERSON, **whole)
    assert spent == []


def test_a_decision_in_a_ledger_holds_until_its_key_is_revoked_there(tmp_path: Path) -> None:
    public = make_person_key("person:ada", b"a long passphrase")
    with init_home(tmp_path / "home") as home:
        key = unlock_person_key("person:ada", b"a long passphrase")
        batch = Batch(actor=PERSON)
        payload = sign_decision(home.id, ABOUT, "yes", "fine", END_US, key, PERSON)
        batch.append("decision.signed", payload, subject=ABOUT.subject)
        index = home.ledger.commit(batch).last
        stored = home.ledger.entry(index)
        assert stored is not None

        assert decision_holds(stored.payload, ABOUT, NOW_US, read_key_history(home)).allows
        assert not decision_holds(stored.payload, ABOUT, NOW_US, read_key_history(home, {})).holds
        revoke_key(home, "person:ada", public, "the passphrase was seen")
        standing = decision_holds(stored.payload, ABOUT, NOW_US, read_key_history(home))
        assert not standing.holds and "revoked" in standing.reason
    assert verify_home(tmp_path / "home", deep=True).exit == 0


def test_a_throw_away_key_decides_in_its_demo_home_alone(tmp_path: Path) -> None:
    with init_home(tmp_path / "demo", demo=True) as demo, init_home(tmp_path / "home") as home:
        key = make_throwaway_key(demo, "person:demo")
        told = sign_decision(demo.id, ABOUT, "yes", "a demonstration", END_US, key, PERSON)

        assert decision_holds(told, ABOUT, NOW_US, read_key_history(demo)).allows
        with pytest.raises(KeyPurpose):
            make_throwaway_key(home, "person:demo")
        with pytest.raises(KeyPurpose):
            make_throwaway_key(demo, "attest")
        assert not decision_holds(told, ABOUT, NOW_US, read_key_history(home)).holds
