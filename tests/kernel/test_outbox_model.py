"""The outbox against a small model of it: random effects, answers, crashes, approvals and decisions."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sterling.kernel.adapters import Ability, Answer, Letter
from sterling.kernel.backoff import DELAY_US_MAX
from sterling.kernel.batch import Batch, NewestIs
from sterling.kernel.effect_table import STEPS, Why
from sterling.kernel.home import init_home
from sterling.kernel.outbox import Effect
from sterling.kernel.projections import rebuild_effects
from sterling.testing.clock import FakeClock
from sterling.testing.receiver import BEHAVIOURS, FakeReceiver

pytestmark = pytest.mark.slow

NAME = "http-loopback"
REASON = "decided by the model's person"
CRASHES = {"crash-before": False, "crash-after": True}
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # Only for speed.
REACHED: Counter[tuple[str, str, str]] = Counter()
PLAYS = st.sampled_from([*BEHAVIOURS, *CRASHES])


class Crash(BaseException):
    """The sender's process ends here."""


@dataclass
class Known:
    """What the model knows of one effect."""

    order_key: str
    script: list[str]
    number: int
    approved: bool = True
    state: str = "queued"
    attempts: int = 0
    attempts_max: int = 8
    visible: int = 0
    by_person: int = 0


@dataclass
class Model:
    """The rules, said once more and shorter: no clock, no lease, no ledger."""

    ability: Ability
    effects: dict[str, Known] = field(default_factory=dict)
    can_look: bool = True

    def pass_over(self) -> bool:
        """One pass over everything that is due; False when the sender ended in the middle."""
        open_ones = [each for each in self.effects.values() if each.state not in ("done", "abandoned")]
        for order_key in dict.fromkeys(each.order_key for each in open_ones):
            for effect in self.effects.values():
                if effect.order_key != order_key or effect.state in ("done", "abandoned"):
                    continue
                if effect.state == "dead":
                    break
                if not self.advance(effect):
                    return False
                if effect.state not in ("done", "abandoned"):
                    break
        return True

    def advance(self, effect: Known) -> bool:
        if effect.state == "sending":
            effect.state = "unknown"
        if effect.state == "unknown" and self.ability is Ability.NEITHER:
            effect.state = "dead"
            return True
        if effect.state != "queued" and self.ability is Ability.FINDS:
            if not self.can_look:
                over = effect.attempts >= effect.attempts_max
                effect.state, effect.attempts = ("dead" if over else "unknown"), effect.attempts + (not over)
                return True
            if effect.visible:
                effect.state = "done"
                return True
        if effect.attempts >= effect.attempts_max:
            effect.state = "dead"
            return True
        if not effect.approved:
            effect.state = "abandoned"
            return True
        effect.attempts += 1
        played = effect.script.pop(0) if effect.script else "ok"
        if CRASHES.get(played, BEHAVIOURS.get(played, (False,))[0]):
            effect.visible = 1 if self.ability is Ability.IDEMPOTENT else effect.visible + 1
        exhausted = effect.attempts >= effect.attempts_max
        effect.state = {
            "ok": "done",
            "repeated": "done",
            "not-now": "dead" if exhausted else "retry",
            "lied": "dead" if exhausted else "retry",
            "refused": "dead",
            **dict.fromkeys(CRASHES, "sending"),
        }.get(played, "unknown")
        return played not in CRASHES


class OutboxMachine(RuleBasedStateMachine):
    """Drives a real home with a fake clock and compares every state with the model's."""

    @initialize(ability=st.sampled_from([Ability.FINDS, *Ability]))
    def begin(self, ability: Ability) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.clock = FakeClock()
        self.home = init_home(Path(self.folder.name) / "home", clock=self.clock)
        self.receiver = FakeReceiver(ability)
        self.model = Model(ability)
        self.sent = self.receiver.send
        self.commit = self.home.ledger.commit
        self.receiver.send = self.send  # type: ignore[method-assign]

    def send(self, letter: Letter) -> Answer:
        script = self.receiver.scripts.get(letter.key, [])
        if script and script[0] in CRASHES:
            after = CRASHES[script.pop(0)]
            if after:
                self.receiver.scripts[letter.key] = ["ok", *script]
                self.sent(letter)
            self.home.ledger.commit = self.refuse  # type: ignore[method-assign]
            raise Crash
        return self.sent(letter)

    def refuse(self, batch: Batch) -> Any:
        raise Crash

    @rule(
        number=st.integers(0, 30),
        order=st.sampled_from("abc"),
        script=st.lists(PLAYS, max_size=10) | PLAYS.map(lambda play: [play] * 20),
    )
    def put(self, number: int, order: str, script: list[str]) -> None:
        if self.model.ability is Ability.NEITHER:  # It has no defence against a receiver that lies.
            script = [play for play in script if play != "lied"]
        batch = Batch()
        requires = (NewestIs(f"approval {number}", self.write(number)),)
        effect = self.home.outbox.put(batch, Effect("s", NAME, order, {"n": number}, requires=requires))
        self.home.ledger.commit(batch)
        if effect not in self.model.effects:
            self.model.effects[effect] = Known(order, list(script), number)
            self.receiver.scripts[self.home.outbox.read(effect).key] = list(script)

    def write(self, number: int) -> int:
        """One more entry about an approval: the first one gives it, a second one takes it away."""
        for known in self.model.effects.values():
            known.approved = known.approved and known.number != number
        batch = Batch()
        batch.append("process.ended", {"command": "decide", "exit": 0}, subject=f"approval {number}")
        return self.home.ledger.commit(batch).last

    @rule(pick=st.integers(0, 20))
    def withdraw(self, pick: int) -> None:
        begun = [known for known in self.model.effects.values() if known.state in ("retry", "unknown")]
        if begun:
            self.write(begun[pick % len(begun)].number)

    @rule(back_us=st.sampled_from([0, 0, 1, DELAY_US_MAX, 10 * DELAY_US_MAX, 10**12]))
    def run_after_a_step_of_the_clock(self, back_us: int) -> None:
        self.run(back_us)

    def run(self, back_us: int) -> None:
        self.clock.step_wall(-back_us)
        self.clock.advance(2 * DELAY_US_MAX)
        finished = self.model.pass_over()
        try:
            self.home.outbox.run_once({NAME: self.receiver})
            assert finished
        except Crash:
            self.home.ledger.commit = self.commit  # type: ignore[method-assign]
            assert not finished

    @rule(passes=st.integers(2, 12))
    def run_on(self, passes: int) -> None:
        for _ in range(passes):
            self.run(0)

    @rule()
    def look_away_or_back(self) -> None:
        self.model.can_look = self.receiver.can_look = not self.receiver.can_look

    @rule(pick=st.integers(0, 20))
    def retry(self, pick: int) -> None:
        dead = [name for name, known in self.model.effects.items() if known.state == "dead"]
        if dead:
            self.home.outbox.retry(dead[pick % len(dead)], REASON, "model")
            known = self.model.effects[dead[pick % len(dead)]]
            known.state, known.attempts_max = "retry", known.attempts + 8
            known.by_person += 1

    @rule(pick=st.integers(0, 20))
    def abandon(self, pick: int) -> None:
        may = ("queued", "retry", "unknown", "dead")
        ids = [name for name, known in self.model.effects.items() if known.state in may]
        if len(ids) > 1:
            self.home.outbox.abandon(ids[pick % len(ids)], REASON, "model")
            self.model.effects[ids[pick % len(ids)]].state = "abandoned"

    @invariant()
    def everything_stands_as_the_model_says(self) -> None:
        rows = self.home.outbox.effects()
        found = {row.id: (row.state.value, row.attempts, row.attempts_max) for row in rows}
        expected = {
            name: (each.state, each.attempts, each.attempts_max) for name, each in self.model.effects.items()
        }
        assert found == expected
        for row in rows:
            known, seen = self.model.effects[row.id], self.receiver.visible[row.key]
            assert seen == known.visible
            assert seen <= (1 + known.by_person if self.model.ability is Ability.NEITHER else 1)

    @invariant()
    def the_table_is_the_fold_of_the_entries(self) -> None:
        assert [*rebuild_effects(self.home.ledger.connection()).values()] == self.home.outbox.effects()

    def teardown(self) -> None:
        if hasattr(self, "home"):
            for entry in self.home.ledger.read():
                area, _, state = entry.kind.partition(".")
                if area == "effect" and state != "queued":
                    REACHED[(entry.payload["from"], state, entry.payload["why"])] += 1
            self.home.close()
            self.folder.cleanup()


def test_every_state_is_the_models_and_nothing_becomes_visible_twice() -> None:
    steps = {(before, to, why) for (before, to), whys in STEPS.items() for why in whys}
    wanted = {step for step in steps if step[2] != Why.ADAPTER_UNKNOWN}
    for examples in (300, 1200):  # More only where the first ones left a step out.
        run_state_machine_as_test(
            OutboxMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
        if wanted == set(REACHED):
            break

    assert wanted == set(REACHED), sorted(REACHED.items())
