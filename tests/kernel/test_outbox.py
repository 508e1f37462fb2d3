"""The outbox: an effect goes out once, in order, approved, or waits for a person; never twice by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from outbox_room import NAME, Room

from sterling.kernel.adapters import (
    Ability,
    Answer,
    Letter,
    Verdict,
)
from sterling.kernel.backoff import delay_us
from sterling.kernel.batch import Actor, Batch, EffectOperation, NewestIs
from sterling.kernel.blobs import BlobAltered
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.effect_table import (
    ATTEMPTS_MAX,
    EffectAbsent,
    EffectMoved,
    EffectState,
)
from sterling.kernel.errors import SterlingError
from sterling.kernel.outbox import (
    LEASE_S,
    AdapterUnknown,
    Effect,
    EffectReasonRequired,
)
from sterling.kernel.projections import rebuild_effects
from sterling.kernel.verify import verify_home

REASON = "the receiver was looked at by hand"
HOUR_US = 3_600_000_000
FORGERIES = (
    "UPDATE effects SET state = 'done'",
    "UPDATE effects SET attempts = 0",
    "UPDATE effects SET requires = '[1]'",
    "UPDATE effects SET state = 'sent'",
    "DELETE FROM effects",
    "INSERT INTO effects SELECT 'e-x', 'k', subject, adapter, order_key, blob, requires, 9, 'done', why,"
    " attempts, attempts_max, due_us, newest FROM effects",
    "DROP TABLE effects",
)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path / "home")
    with made.home:
        yield made
        assert list(rebuild_effects(made.home.ledger.connection()).values()) == made.outbox.effects()


# Putting


def test_an_effect_and_its_decision_are_written_together_or_not_at_all(room: Room) -> None:
    batch = Batch()
    effect = room.outbox.put(batch, Effect("s", NAME, "repo", {"n": 1}))
    batch.append("process.ended", {"command": "decide", "exit": 0}, subject="decision")
    batch.require(NewestIs("decision", 7))

    with pytest.raises(SterlingError):
        room.home.ledger.commit(batch)

    assert room.outbox.effects() == [] and room.home.ledger.newest("decision") is None
    with pytest.raises(EffectAbsent):
        room.outbox.read(effect)


def test_the_same_effect_again_is_the_first_one_and_nothing_new_is_written_about_it(room: Room) -> None:
    first = room.put(1, not_before_us=5)
    before = room.outbox.read(first)

    again = room.put(1, "another-order", not_before_us=9, requires=(NewestIs("x", 3),))

    assert again == first and room.outbox.read(first) == before
    assert room.steps(first) == ["queued"]


def test_the_same_effect_twice_in_one_batch_is_one(room: Room) -> None:
    batch = Batch()
    ids = {room.outbox.put(batch, Effect("s", NAME, "repo", {"n": 1})) for _ in range(2)}
    room.home.ledger.commit(batch)

    assert len(ids) == 1 and len(room.outbox.effects()) == 1


def test_an_effect_that_is_done_is_not_done_again_when_it_is_put_again(room: Room) -> None:
    effect = room.put(1)
    room.run()

    room.put(1)

    assert room.run() == {} and room.seen(effect) == 1


@pytest.mark.parametrize("name", ["smtp", "", "file ", "FILE", "http-loopback2"])
def test_an_adapter_that_no_setting_names_is_refused(room: Room, name: str) -> None:
    with pytest.raises(AdapterUnknown):
        room.outbox.put(Batch(), Effect("s", name, "repo", {}))

    assert room.outbox.effects() == []


@pytest.mark.parametrize("order_key", ["", "a/b", "a b", "x" * 121, "é"])
def test_an_order_key_that_is_no_plain_name_is_refused(room: Room, order_key: str) -> None:
    with pytest.raises(RecordInvalid):
        room.outbox.put(Batch(), Effect("s", NAME, order_key, {}))


def test_a_key_that_is_not_the_ids_own_is_refused(room: Room) -> None:
    batch = Batch()
    room.outbox.put(batch, Effect("s", NAME, "repo", {"n": 1}))
    good = batch.operations[0]
    assert isinstance(good, EffectOperation)
    batch.operations[0] = replace(good, payload={**good.payload, "key": "0" * 64})

    with pytest.raises(EffectMoved):
        room.home.ledger.commit(batch)


# Sending


def test_a_sent_effect_is_done_with_the_receivers_receipt(room: Room) -> None:
    effect = room.put()

    assert room.run() == {effect: "done answered"}
    entries = room.outbox.show(effect)[1]
    assert room.steps(effect) == ["queued", "sending", "done"]
    assert entries[-1].payload["receipt"].startswith("receipt ")
    assert room.seen(effect) == 1


def test_effects_of_one_order_key_become_visible_in_the_order_in_which_they_were_put(room: Room) -> None:
    effects = [room.put(number, f"k{number % 2}") for number in range(8)]

    room.run()

    order = [room.receiver.order.index(room.outbox.read(effect).key) for effect in effects]
    assert order[0::2] == sorted(order[0::2]) and order[1::2] == sorted(order[1::2])


def test_a_failed_head_holds_back_its_order_key_and_no_other(room: Room) -> None:
    first, second, other = room.put(1), room.put(2), room.put(3, "other")
    room.script(first, "refused")

    assert room.run() == {first: "dead effect.refused", other: "done answered"}
    room.later()
    assert room.run() == {} and room.state(second) is EffectState.QUEUED


def test_nothing_is_sent_before_its_time(room: Room) -> None:
    effect = room.put(not_before_us=room.clock.wall_us() + 10)

    assert room.run() == {}
    room.clock.advance(10)
    assert room.run() == {effect: "done answered"}


def test_a_pass_sends_no_more_than_it_may(room: Room) -> None:
    for number in range(5):
        room.put(number, f"k{number % 2}")

    assert [len(room.run(limit)) for limit in (0, 3, 64)] == [0, 3, 2]


def test_what_is_put_after_a_pass_gave_its_lease_back_waits_for_the_next(room: Room) -> None:
    first, commit = room.put(1), room.home.ledger.commit

    def late(batch: Batch) -> Any:
        receipt = commit(batch)
        if any(getattr(each, "verb", "") == "release" for each in batch.operations):
            room.home.ledger.commit = commit  # type: ignore[method-assign]
            room.put(2)
        return receipt

    room.home.ledger.commit = late  # type: ignore[method-assign]
    assert room.run() == {first: "done answered"} and len(room.run()) == 1


def test_an_adapter_that_is_allowed_but_not_given_is_left_alone(room: Room) -> None:
    effect = room.put()

    assert room.outbox.run_once({}) == [] and room.state(effect) is EffectState.QUEUED


def test_a_permanent_refusal_is_dead_at_once_and_says_what_was_found(room: Room) -> None:
    effect = room.put()
    room.script(effect, "refused")

    assert room.run() == {effect: "dead effect.refused"}
    assert "refused" in room.outbox.show(effect)[1][-1].payload["message"]


def test_retries_come_at_the_times_that_the_key_decides_and_end_dead(room: Room) -> None:
    effect = room.put()
    room.receiver.default = "not-now"
    key = room.outbox.read(effect).key
    for attempt in range(1, ATTEMPTS_MAX):
        assert room.run() == {effect: "retry not-now"}
        assert room.outbox.read(effect).due_us == room.clock.wall_us() + delay_us(key, attempt)
        room.later(delay_us(key, attempt) - 1)
        assert room.run() == {}
        room.later(1)

    assert room.run() == {effect: "dead effect.exhausted"}
    assert room.receiver.sends[key] == ATTEMPTS_MAX and room.seen(effect) == 0


@pytest.mark.parametrize("behaviour", ["lost-after", "error-after"])
def test_a_lost_answer_is_looked_for_and_not_sent_again(room: Room, behaviour: str) -> None:
    effect = room.put()
    room.script(effect, behaviour)

    assert room.run() == {effect: "unknown answer-lost"}
    assert room.run() == {}
    room.later()
    assert room.run() == {effect: "done found"}
    assert room.seen(effect) == 1 and room.receiver.sends.total() == 1


def test_a_lost_request_is_looked_for_and_then_sent_again(room: Room) -> None:
    effect = room.begun("lost-before")
    room.later()

    assert room.run() == {effect: "done answered"}
    assert room.seen(effect) == 1 and room.receiver.looks.total() == 1


def test_an_effect_that_happened_although_the_receiver_said_not_now_is_found(room: Room) -> None:
    effect = room.put()
    room.script(effect, "lied")

    assert room.run() == {effect: "retry not-now"}
    room.later()
    assert room.run() == {effect: "done found"} and room.seen(effect) == 1


def test_a_lost_answer_of_an_adapter_that_cannot_tell_is_dead(room: Room) -> None:
    room.receiver.ability = Ability.NEITHER
    effect = room.put()
    room.script(effect, "lost-after")
    room.run()
    room.later()

    assert room.run() == {effect: "dead effect.unprovable"}
    assert room.receiver.sends.total() == 1


def test_the_last_attempts_lost_answer_is_looked_for_before_the_effect_is_given_up(room: Room) -> None:
    effect = room.put()
    room.script(effect, *["lost-before"] * (ATTEMPTS_MAX - 1), "lost-after")
    for _ in range(ATTEMPTS_MAX):
        room.run()
        room.later()

    assert room.run() == {effect: "done found"} and room.seen(effect) == 1


def test_a_receiver_that_cannot_be_looked_at_uses_up_the_attempts_and_sees_no_second_send(room: Room) -> None:
    effect = room.begun("lost-before")
    room.receiver.can_look = False
    for _ in range(ATTEMPTS_MAX - 1):
        room.later()
        assert room.run() == {effect: "unknown look-failed"}
    room.later()

    assert room.run() == {effect: "dead effect.exhausted"} and room.receiver.sends.total() == 1


def test_an_altered_payload_is_not_sent(room: Room) -> None:
    effect = room.put()
    path = room.home.blobs.path(room.outbox.read(effect).blob)
    path.chmod(0o600)
    path.write_bytes(b'{"n":9}')

    with pytest.raises(BlobAltered):
        room.run()

    assert room.state(effect) is EffectState.QUEUED and room.receiver.sends.total() == 0


def test_a_receipt_is_kept_whole_however_long_or_torn_it_is(room: Room) -> None:
    effect = room.put()
    room.receiver.send = lambda letter: Answer(Verdict.ACCEPTED, "\ud800" + "x" * 9_000)  # type: ignore[method-assign]

    room.run()

    payload = room.outbox.show(effect)[1][-1].payload
    assert room.home.blobs.get(payload["blob"]) == b"?" + b"x" * 9_000


# Approvals


def test_an_effect_whose_approval_still_stands_is_sent(room: Room) -> None:
    effect = room.put(requires=(NewestIs("approval", room.approve("approval")),))

    assert room.run() == {effect: "done answered"}


def test_an_effect_whose_approval_was_followed_by_another_entry_is_abandoned(room: Room) -> None:
    requires = (NewestIs("a", room.approve("a")), NewestIs("b", room.approve("b")))
    effect, behind = room.put(1, requires=requires), room.put(2)
    room.approve("b")

    assert room.run() == {effect: "abandoned effect.not-approved", behind: "done answered"}
    assert room.seen(effect) == 0


def test_an_approval_that_is_withdrawn_between_two_attempts_stops_the_second(room: Room) -> None:
    effect = room.begun("not-now", requires=(NewestIs("a", room.approve("a")),))
    room.approve("a")
    room.later()

    assert room.run() == {effect: "abandoned effect.not-approved"} and room.receiver.sends.total() == 1


def test_what_happened_is_recorded_even_when_its_approval_was_withdrawn_since(room: Room) -> None:
    effect = room.begun("lost-after", requires=(NewestIs("a", room.approve("a")),))
    room.approve("a")
    room.later()

    assert room.run() == {effect: "done found"}


def test_an_approval_that_never_was_approves_nothing(room: Room) -> None:
    effect = room.put(requires=(NewestIs("never", 0),))

    assert room.run() == {effect: "abandoned effect.not-approved"}


# Crashes and pauses


@pytest.mark.parametrize(
    ("declared", "after", "found", "visible", "sends"),
    [
        (Ability.FINDS, True, "done found", 1, 1),
        (Ability.FINDS, False, "done answered", 1, 1),
        (Ability.IDEMPOTENT, True, "done answered", 1, 2),
        (Ability.IDEMPOTENT, False, "done answered", 1, 1),
        (Ability.NEITHER, True, "dead effect.unprovable", 1, 1),
        (Ability.NEITHER, False, "dead effect.unprovable", 0, 0),
    ],
)
def test_after_a_crash_while_sending_the_adapters_ability_decides(
    room: Room, declared: Ability, after: bool, found: str, visible: int, sends: int
) -> None:
    room.receiver.ability = declared
    effect = room.put()
    room.crash_in_send(effect, after=after)

    assert room.run() == {}, "the lease of the sender still stands"
    room.later(LEASE_S * 1_000_000)
    assert room.run() == {effect: found}
    assert "unknown" in room.steps(effect)
    assert room.seen(effect) == visible and room.receiver.sends.total() == sends


def test_an_effect_that_ends_every_sender_is_given_up(room: Room) -> None:
    room.receiver.ability = Ability.IDEMPOTENT
    effect = room.put()
    for _ in range(ATTEMPTS_MAX):
        room.crash_in_send(effect, after=False)
        room.later()

    assert room.run() == {effect: "dead effect.exhausted"}


def test_a_sender_that_was_paused_past_its_lease_writes_nothing_more(room: Room) -> None:
    effect = room.put()
    send = room.receiver.send

    def pauses(letter: Letter) -> Answer:
        room.receiver.send = send  # type: ignore[method-assign]
        answer = send(letter)
        room.later()
        assert room.run() == {effect: "done found"}
        return answer

    room.receiver.send = pauses  # type: ignore[method-assign]

    assert room.run() == {effect: "done lease.expired"} and room.seen(effect) == 1
    assert room.steps(effect) == ["queued", "sending", "unknown", "done"]
    assert [each.payload["code"] for each in room.home.ledger.read(kind="write.refused")] == ["lease.expired"]


def test_a_sender_whose_lease_ran_out_just_before_sending_does_not_send(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = room.put()
    commit = room.home.ledger.commit

    def slow(batch: Batch) -> Any:
        receipt = commit(batch)
        if any(isinstance(each, EffectOperation) for each in batch.operations):
            room.later()
        return receipt

    monkeypatch.setattr(room.home.ledger, "commit", slow)

    assert room.run() == {effect: "sending lease.expired"} and room.receiver.sends.total() == 0


# Clocks


def test_a_clock_that_is_set_back_delays_a_retry_by_no_more_than_the_cap(room: Room) -> None:
    effect = room.begun("not-now")

    room.clock.step_wall(-24 * HOUR_US)

    assert room.run() == {effect: "done answered"}
    assert [*room.home.ledger.read(kind="clock.stepped")]


def test_a_clock_that_is_set_back_does_not_hide_a_sender_that_ended(room: Room) -> None:
    effect = room.put()
    room.crash_in_send(effect, after=True)
    room.later()
    room.clock.step_wall(-24 * HOUR_US)

    assert room.run() == {effect: "done found"}


def test_a_clock_that_is_set_back_does_not_bring_a_planned_time_forward(room: Room) -> None:
    room.put(not_before_us=room.clock.wall_us() + HOUR_US)

    room.clock.step_wall(-24 * HOUR_US)

    assert room.run() == {}


def test_a_clock_that_is_set_forward_does_not_free_the_lease_of_a_sender_at_work(room: Room) -> None:
    effect = room.put()
    room.crash_in_send(effect, after=False)

    room.clock.step_wall(24 * HOUR_US)

    assert room.run() == {} and room.state(effect) is EffectState.SENDING


def test_after_another_boot_the_old_senders_lease_counts_for_nothing(room: Room) -> None:
    effect = room.put()
    room.crash_in_send(effect, after=True)

    room.clock.reboot()

    assert room.run() == {effect: "done found"}


# A person decides


def test_a_person_gives_a_dead_effect_another_round_and_the_reason_is_kept(room: Room) -> None:
    effect = room.put()
    room.receiver.default = "not-now"
    for _ in range(ATTEMPTS_MAX):
        room.run()
        room.later()
    assert room.state(effect) is EffectState.DEAD

    room.outbox.retry(effect, REASON, "somebody")

    entry = room.outbox.show(effect)[1][-1]
    assert entry.actor == Actor("person", "somebody") and entry.payload["message"] == REASON
    for _ in range(ATTEMPTS_MAX - 1):
        assert room.run() == {effect: "retry not-now"}
        room.later()
    assert room.run() == {effect: "dead effect.exhausted"}
    assert room.receiver.sends.total() == 2 * ATTEMPTS_MAX


def test_an_effect_that_a_person_retries_is_still_looked_for_first(room: Room) -> None:
    effect = room.begun("lost-after")
    room.receiver.can_look = False
    for _ in range(ATTEMPTS_MAX):
        room.later()
        room.run()
    room.receiver.can_look = True
    room.outbox.retry(effect, REASON, "somebody")

    assert room.run() == {effect: "done found"} and room.seen(effect) == 1


def test_an_abandoned_effect_stays_in_the_table_and_lets_the_next_one_go(room: Room) -> None:
    first, second = room.put(1), room.put(2)
    room.script(first, "refused")
    room.run()

    room.outbox.abandon(first, REASON, "somebody")

    assert room.run() == {second: "done answered"}
    assert [row.id for row in room.outbox.effects()] == [first, second]
    with pytest.raises(EffectMoved):
        room.outbox.retry(first, REASON, "somebody")


@pytest.mark.parametrize("reason", ["", "too short", "   short     ", "x" * 4001])
def test_without_a_reason_nothing_is_retried_or_abandoned(room: Room, reason: str) -> None:
    effect = room.begun("refused")

    for decide in (room.outbox.retry, room.outbox.abandon):
        with pytest.raises(EffectReasonRequired):
            decide(effect, reason, "somebody")

    assert room.state(effect) is EffectState.DEAD


def test_an_effect_that_is_being_sent_cannot_be_abandoned_or_retried(room: Room) -> None:
    effect = room.put()
    room.crash_in_send(effect, after=False)

    for decide in (room.outbox.retry, room.outbox.abandon):
        with pytest.raises(EffectMoved):
            decide(effect, REASON, "somebody")


def test_an_effect_that_nobody_put_is_named_as_absent(room: Room) -> None:
    with pytest.raises(EffectAbsent):
        room.outbox.show("e-nobody")


def test_verification_recomputes_a_ledger_with_effects(tmp_path: Path) -> None:
    room = Room(tmp_path / "home")
    with room.home:
        first = room.put(1)
        room.put(2, "b", requires=(NewestIs("a", 5),))
        room.script(first, "not-now", "lost-before", "refused")
        for _ in range(4):
            room.run()
            room.later()
        room.outbox.retry(first, REASON, "somebody")
        room.run()

    found = verify_home(tmp_path / "home", deep=True, blobs=True)
    assert found.exit == 0, found


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_table_of_effects_that_says_otherwise_is_found(tmp_path: Path, forgery: str) -> None:
    room = Room(tmp_path / "home")
    room.begun("lost-before")
    room.home.close()
    assert verify_home(tmp_path / "home", deep=True).exit == 0
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as database, database:
        database.execute(forgery)

    found = verify_home(tmp_path / "home", deep=True)

    assert (found.code, found.exit) == (
        "integrity.projection-altered",
        3,
    ) and "table effects" in found.message
    assert verify_home(tmp_path / "home").exit == 0
