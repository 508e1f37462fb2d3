"""The steps that the table of effects allows, and no other; the kernel's two adapters; their page."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import effect_table, store_sqlite
from sterling.kernel.adapters import (
    AFTER_ANSWER,
    MOVES,
    Ability,
    FileAdapter,
    HttpLoopbackAdapter,
    Letter,
    Verdict,
)
from sterling.kernel.batch import PROGRAM, Actor, Batch, EffectOperation, Fence
from sterling.kernel.effect_table import STEPS, EffectMoved, EffectRow, EffectState, Why, effect_key
from sterling.kernel.home import init_home, open_home
from sterling.kernel.outbox import Effect
from sterling.testing.receiver import FakeReceiver

NAME = "http-loopback"


def stand(connection: sqlite3.Connection, state: str, **more: Any) -> EffectRow:
    key = effect_key("s", NAME, b"{}")
    row = EffectRow(
        effect_table.effect_id(key),
        key,
        "s",
        NAME,
        "repo",
        "0" * 64,
        "[]",
        1,
        EffectState(state),
        "",
        3,
        8,
        0,
        1,
    )
    row = replace(row, **more)
    effect_table._store(connection, row)
    return row


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.executescript((Path(store_sqlite.__file__).parent / "schema.sql").read_text(encoding="utf-8"))
    yield opened
    opened.close()


def step(
    connection: sqlite3.Connection,
    row: EffectRow,
    to: EffectState,
    why: Why,
    *,
    fence: str = "outbox/repo",
    person: bool | None = None,
    **more: Any,
) -> None:
    is_person = why is Why.PERSON if person is None else person
    actor = Actor("person" if is_person else "program", "x")
    fences = (Fence(fence, 1),) if fence else ()
    counted = to is EffectState.SENDING or why is Why.LOOK_FAILED
    payload = {"from": row.state.value, "attempts": row.attempts + counted, "why": why.value, **more}
    effect_table.execute(connection, EffectOperation(to.value, row.id, payload), actor, fences, 9, 10)


def test_exactly_the_steps_of_the_table_can_be_taken(connection: sqlite3.Connection) -> None:
    taken = set()
    for before, to, why in product(EffectState, set(EffectState) - {EffectState.QUEUED}, Why):
        row = stand(connection, before)
        try:
            step(connection, row, to, why)
        except EffectMoved:
            assert effect_table.read_effect(connection, row.id) == row
        else:
            taken.add((before, to, why))

    assert taken == {(*move, why) for move, whys in STEPS.items() for why in whys}


@pytest.mark.parametrize("fence", ["", "outbox/other", "outbox/rep", "repo"])
def test_a_step_without_the_fence_of_its_order_key_is_refused(
    connection: sqlite3.Connection, fence: str
) -> None:
    row = stand(connection, "sending")

    with pytest.raises(EffectMoved):
        step(connection, row, EffectState.DONE, Why.ANSWERED, fence=fence)


def test_a_program_cannot_take_a_persons_step(connection: sqlite3.Connection) -> None:
    row = stand(connection, "dead")

    with pytest.raises(EffectMoved):
        step(connection, row, EffectState.RETRY, Why.PERSON, person=False)


@pytest.mark.parametrize(
    "more", [{"from": "retry"}, {"attempts": 3}, {"attempts": 5}, {"attempts": 0}], ids=str
)
def test_a_step_from_an_older_state_is_refused(connection: sqlite3.Connection, more: dict[str, Any]) -> None:
    row = stand(connection, "queued")

    with pytest.raises(EffectMoved):
        step(connection, row, EffectState.SENDING, Why.DUE, **more)


@pytest.mark.parametrize(
    "standing", [{"due_us": 11}, {"attempts": 8}, {"attempts": 9}, {"order_key": "other"}], ids=str
)
def test_sending_out_of_turn_is_refused(connection: sqlite3.Connection, standing: dict[str, Any]) -> None:
    row = stand(connection, "queued", **standing)
    if "order_key" in standing:
        effect_table._store(connection, replace(row, id="e-first", key="1" * 64, position=0))

    with pytest.raises(EffectMoved):
        step(connection, row, EffectState.SENDING, Why.DUE, fence=f"outbox/{row.order_key}")


@pytest.mark.parametrize(
    "payload",
    [{}, [], None, 7, "x", {"from": "queued"}, {"from": "queued", "attempts": 4, "why": "no reason"}],
    ids=repr,
)
def test_what_is_no_step_is_refused_and_the_row_stays(connection: sqlite3.Connection, payload: Any) -> None:
    row = stand(connection, "queued")
    for to in (*EffectState, "nowhere"):
        with pytest.raises(EffectMoved):
            effect_table.execute(connection, EffectOperation(to, row.id, payload), PROGRAM, (), 9, 10)

    assert effect_table.read_effect(connection, row.id) == row


def test_a_queued_effect_of_the_wrong_types_does_not_harm_the_writer(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        good = Batch()
        home.outbox.put(good, Effect("s", "file", "repo", {}))
        operation = good.operations[0]
        assert isinstance(operation, EffectOperation)
        bad = Batch(operations=[replace(operation, payload={**operation.payload, "not_before_us": "soon"})])

        with pytest.raises(EffectMoved):
            home.ledger.commit(bad)
        home.ledger.commit(good)

        assert [row.subject for row in home.outbox.effects()] == ["s"]


def test_a_home_that_is_migrated_gets_the_table_of_a_new_home() -> None:
    kernel = Path(store_sqlite.__file__).parent
    made = []
    for name in ("schema.sql", "migrations/0002.sql"):
        text = (kernel / name).read_text(encoding="utf-8")
        made.append(re.findall(r"(?:TABLE|INDEX) effects.*?;", text, re.DOTALL))

    assert made[0] == made[1] and len(made[0]) == 2


def test_no_two_effects_share_a_key_by_shifting_letters_between_fields() -> None:
    keys = {effect_key("ab", "c", b"{}"), effect_key("a", "bc", b"{}"), effect_key("abc", "", b"{}")}
    keys |= {effect_key("ab", "c", b'"d"{}'), effect_key("a\x00b", "c", b"{}")}

    assert len(keys) == 5


# The adapters: what the settings allow, and the two of the kernel


def test_an_adapter_that_the_settings_named_no_longer_is_not_used(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    receiver = FakeReceiver(Ability.FINDS)
    with open_home(tmp_path / "home", settings=['outbox.adapters=["forge"]']) as home:
        batch = Batch()
        home.outbox.put(batch, Effect("s", "forge", "repo", {}))
        home.ledger.commit(batch)

    with open_home(tmp_path / "home") as home:
        outcomes = home.outbox.run_once({"forge": receiver})

    assert [(each.state, each.why) for each in outcomes] == [("dead", "effect.adapter-unknown")]
    assert receiver.sends.total() == 0


def letter(number: int = 0) -> Letter:
    return Letter(f"{number:064x}", "s", {"n": number})


def test_the_file_adapter_finds_what_it_wrote_and_nothing_half_written(tmp_path: Path) -> None:
    adapter = FileAdapter(tmp_path)
    (tmp_path / f"{1:064x}.incoming").write_bytes(b'{"n"')

    assert adapter.look(letter(1)).verdict is Verdict.ABSENT
    assert adapter.send(letter(1)).verdict is Verdict.ACCEPTED
    assert adapter.look(letter(1)).verdict is Verdict.ACCEPTED
    assert (tmp_path / f"{1:064x}.json").read_bytes() == b'{"n":1}'


def test_the_file_adapter_asks_to_wait_when_its_folder_is_not_there(tmp_path: Path) -> None:
    assert FileAdapter(tmp_path / "none").send(letter()).verdict is Verdict.NOT_NOW


def test_nobody_listening_is_not_now_and_never_lost() -> None:
    adapter = HttpLoopbackAdapter(1, Ability.FINDS)

    assert adapter.send(letter()).verdict is Verdict.NOT_NOW
    assert adapter.look(letter()).verdict is Verdict.NOT_NOW


# The page


def test_the_page_shows_the_tables_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs/concepts/effects.md").read_text(encoding="utf-8")
    rows = {
        tuple(cell.strip() for cell in line.replace("`", "").strip("|").split("|"))
        for line in page.splitlines()
    }
    steps = {
        (before.value, to.value, ", ".join(sorted(why.value for why in whys)))
        for (before, to), whys in STEPS.items()
    }
    moves = {(ability.value, *(MOVES[state, ability].value for state in _BEFORE)) for ability in Ability}
    answers = {(verdict.value, state.value, why.value) for verdict, (state, why) in AFTER_ANSWER.items()}

    assert steps <= rows and moves <= rows and answers <= rows
    assert sum(row[0] in set(EffectState) for row in rows) == len(STEPS)


_BEFORE = (EffectState.QUEUED, EffectState.RETRY, EffectState.UNKNOWN)
