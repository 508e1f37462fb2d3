"""The outbox's guards, broken one at a time: the test that stands for a guard notices.

A mutant is one function with a piece of its text replaced, or one row of a
table. Its text must stand in the source exactly once, so no mutant can rot
unseen. The test passes on the original, in its own file and here.
"""

from __future__ import annotations

import importlib.util
import inspect
import sqlite3
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest

from sterling.kernel import adapters, effect_table, outbox
from sterling.kernel.adapters import Ability, Move, Verdict
from sterling.kernel.effect_table import EffectState, Why
from sterling.kernel.outbox import Outbox


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scenarios_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCENARIOS, TABLE = load("test_outbox"), load("test_effect_table")


def in_room(name: str, *given: Any) -> Callable[[Path], None]:
    """A scenario with a home of its own."""

    def scenario(folder: Path) -> None:
        room = SCENARIOS.Room(folder)
        with room.home:
            getattr(SCENARIOS, name)(room, *given)

    return scenario


def at_table(name: str, *given: Any) -> Callable[[Path], None]:
    """A scenario with a table in memory."""

    def scenario(folder: Path) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        schema = Path(effect_table.__file__).parent / "schema.sql"
        connection.executescript(schema.read_text(encoding="utf-8"))
        getattr(TABLE, name)(connection, *given)
        connection.close()

    return scenario


def keys_apart(folder: Path) -> None:
    TABLE.test_no_two_effects_share_a_key_by_shifting_letters_between_fields()


CRASH = "test_after_a_crash_while_sending_the_adapters_ability_decides"
TURN = "test_sending_out_of_turn_is_refused"
OLD = "test_a_step_from_an_older_state_is_refused"
Mutant = tuple[Any, str, str, str, Callable[[Path], None]]
MUTANTS: dict[str, Mutant] = {
    "an effect that is there is written again": (
        effect_table,
        "execute",
        "if row is not None:\n                return None",
        "row = None",
        in_room("test_the_same_effect_again_is_the_first_one_and_nothing_new_is_written_about_it"),
    ),
    "any id for any key": (
        effect_table,
        "execute",
        'operation.id != effect_id(payload["key"])',
        "False",
        in_room("test_a_key_that_is_not_the_ids_own_is_refused"),
    ),
    "a step from any state": (
        effect_table,
        "_check_step",
        'payload["from"] != row.state or why',
        "why",
        at_table(OLD, {"from": "retry"}),
    ),
    "any number of the attempt": (
        effect_table,
        "_check_step",
        'payload["attempts"] != row.attempts + counted',
        "False",
        at_table(OLD, {"attempts": 0}),
    ),
    "any reason for a step": (
        effect_table,
        "_check_step",
        "why not in STEPS.get((row.state, state), ())",
        "(row.state, state) not in STEPS",
        at_table("test_exactly_the_steps_of_the_table_can_be_taken"),
    ),
    "a program decides for a person": (
        effect_table,
        "_check_step",
        'actor.type != "person"',
        "False",
        at_table("test_a_program_cannot_take_a_persons_step"),
    ),
    "a step without a fence": (
        effect_table,
        "_check_step",
        "if not any(",
        "if not fences and any(",
        at_table("test_a_step_without_the_fence_of_its_order_key_is_refused", ""),
    ),
    "a step under any fence": (
        effect_table,
        "_check_step",
        "fence.lease == lease",
        "fence",
        at_table("test_a_step_without_the_fence_of_its_order_key_is_refused", "outbox/other"),
    ),
    "an effect overtakes the one before it": (
        effect_table,
        "_check_sending",
        "head.id != row.id",
        "False",
        at_table(TURN, {"order_key": "other"}),
    ),
    "an effect before its time": (
        effect_table,
        "_check_sending",
        "not is_due(row, now_us) or",
        "",
        at_table(TURN, {"due_us": 11}),
    ),
    "one attempt too many": (
        effect_table,
        "_check_sending",
        "row.attempts >= row.attempts_max",
        "row.attempts > row.attempts_max",
        at_table(TURN, {"attempts": 8}),
    ),
    "an approval that was followed by another entry": (
        effect_table,
        "_check_sending",
        'found != approval["index"]',
        "found is None",
        in_room("test_an_effect_whose_approval_was_followed_by_another_entry_is_abandoned"),
    ),
    "a retry that waits for a clock that was set back": (
        effect_table,
        "is_due",
        "or set_back",
        "",
        in_room("test_a_clock_that_is_set_back_delays_a_retry_by_no_more_than_the_cap"),
    ),
    "a planned time that a clock brings forward": (
        effect_table,
        "is_due",
        "row.state is not EffectState.QUEUED and ",
        "",
        in_room("test_a_clock_that_is_set_back_does_not_bring_a_planned_time_forward"),
    ),
    "fields of a key run together": (
        effect_table,
        "effect_key",
        "for piece in (u64(len(name)), name)",
        "for piece in (name,)",
        keys_apart,
    ),
    "any adapter": (
        Outbox,
        "put",
        "effect.adapter not in self._allowed",
        "False",
        in_room("test_an_adapter_that_no_setting_names_is_refused", "smtp"),
    ),
    "what was found is sent again": (
        Outbox,
        "_advance",
        "if answer.verdict is Verdict.ACCEPTED:",
        "if False:",
        in_room(CRASH, Ability.FINDS, True, "done found", 1, 1),
    ),
    "a failed look counts as absent": (
        Outbox,
        "_advance",
        "if answer.verdict is not Verdict.ABSENT:",
        "if False:",
        in_room("test_a_receiver_that_cannot_be_looked_at_uses_up_the_attempts_and_sees_no_second_send"),
    ),
    "no look at the lease before a send": (
        Outbox,
        "_advance",
        "self._clock.boot_us() >= turn.lease.expires_us",
        "False",
        in_room("test_a_sender_whose_lease_ran_out_just_before_sending_does_not_send", pytest.MonkeyPatch()),
    ),
    "attempts without end": (
        Outbox,
        "_advance",
        "row.attempts >= row.attempts_max",
        "False",
        in_room("test_an_effect_that_ends_every_sender_is_given_up"),
    ),
    "the last lost answer is not looked for": (
        Outbox,
        "_wait",
        " and why is not Why.ANSWER_LOST",
        "",
        in_room("test_the_last_attempts_lost_answer_is_looked_for_before_the_effect_is_given_up"),
    ),
    "a pass goes on without its lease": (
        Outbox,
        "_send_in_order",
        "self._holds(turn.lease)):",
        "True):",
        in_room("test_what_is_put_after_a_pass_gave_its_lease_back_waits_for_the_next"),
    ),
    "a decision without a reason": (
        Outbox,
        "_decide",
        "if not REASON_LETTERS_MIN <= len(words)",
        "if not 0 <= len(words)",
        in_room("test_without_a_reason_nothing_is_retried_or_abandoned", "too short"),
    ),
}
ROWS: dict[str, tuple[str, dict[Any, Any], Callable[[Path], None]]] = {
    "what can be found is sent without a look": (
        "MOVES",
        {(EffectState.UNKNOWN, Ability.FINDS): Move.SEND},
        in_room(CRASH, Ability.FINDS, True, "done found", 1, 1),
    ),
    "what nobody can prove is sent again": (
        "MOVES",
        {(EffectState.UNKNOWN, Ability.NEITHER): Move.SEND},
        in_room(CRASH, Ability.NEITHER, True, "dead effect.unprovable", 1, 1),
    ),
    "a retry is sent without a look": (
        "MOVES",
        {(EffectState.RETRY, Ability.FINDS): Move.SEND},
        in_room("test_an_effect_that_happened_although_the_receiver_said_not_now_is_found"),
    ),
    "a lost answer is taken for a no": (
        "AFTER_ANSWER",
        {Verdict.LOST: (EffectState.RETRY, Why.NOT_NOW)},
        in_room("test_a_lost_answer_of_an_adapter_that_cannot_tell_is_dead"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_guard_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, function, old, new, scenario = MUTANTS[name]
    scenario(tmp_path / "original")
    source = textwrap.dedent(inspect.getsource(getattr(owner, function)))
    assert source.count(old) == 1, "the text of this mutant is not in the source any more"
    module = inspect.getmodule(getattr(owner, function))
    assert module is not None
    made: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source.replace(old, new), module.__dict__, made)
    for holder in (owner, outbox, SCENARIOS, TABLE):
        if hasattr(holder, function):
            monkeypatch.setattr(holder, function, made[function])

    with pytest.raises((Exception, pytest.fail.Exception)):
        scenario(tmp_path / "mutant")


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_row_of_a_table_is_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, wrong, scenario = ROWS[name]
    scenario(tmp_path / "original")
    monkeypatch.setattr(outbox, table, MappingProxyType({**getattr(adapters, table), **wrong}))

    with pytest.raises((Exception, pytest.fail.Exception)):
        scenario(tmp_path / "mutant")
