"""A home with an outbox, a clock that is told, and one receiver: what the tests of the outbox act in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.adapters import Ability, Answer, Letter
from sterling.kernel.backoff import DELAY_US_MAX
from sterling.kernel.batch import Batch
from sterling.kernel.effect_table import EffectState
from sterling.kernel.home import Home, init_home
from sterling.kernel.outbox import Effect, Outbox
from sterling.testing.clock import FakeClock
from sterling.testing.receiver import FakeReceiver

__all__ = ["NAME", "Room"]

NAME = "http-loopback"


class Crash(BaseException):
    """The sender's process ends here."""


class Room:
    """A home, its clock and one receiver."""

    def __init__(self, path: Path, ability: Ability = Ability.FINDS) -> None:
        self.clock = FakeClock()
        self.home: Home = init_home(path, clock=self.clock)
        self.receiver = FakeReceiver(ability)

    @property
    def outbox(self) -> Outbox:
        return self.home.outbox

    def put(self, number: int = 0, order_key: str = "repo", **more: Any) -> str:
        batch = Batch()
        effect = self.outbox.put(batch, Effect(f"s{number}", NAME, order_key, {"n": number}, **more))
        self.home.ledger.commit(batch)
        return effect

    def script(self, effect: str, *behaviours: str) -> None:
        self.receiver.scripts[self.outbox.read(effect).key] = list(behaviours)

    def run(self, limit: int = 64) -> dict[str, str]:
        done = self.outbox.run_once({NAME: self.receiver}, limit)
        return {outcome.id: f"{outcome.state} {outcome.why}" for outcome in done}

    def begun(self, script: str, **more: Any) -> str:
        """An effect that one pass has tried to send."""
        effect = self.put(**more)
        self.script(effect, script)
        self.run()
        return effect

    def later(self, delta_us: int = DELAY_US_MAX) -> None:
        self.clock.advance(delta_us)

    def state(self, effect: str) -> EffectState:
        return self.outbox.read(effect).state

    def seen(self, effect: str) -> int:
        return self.receiver.visible[self.outbox.read(effect).key]

    def steps(self, effect: str) -> list[str]:
        return [entry.kind.removeprefix("effect.") for entry in self.outbox.show(effect)[1]]

    def approve(self, subject: str) -> int:
        batch = Batch()
        batch.append("process.ended", {"command": "approve", "exit": 0}, subject=subject)
        return self.home.ledger.commit(batch).last

    def crash_in_send(self, effect: str, *, after: bool) -> None:
        """One pass whose process ends before the receiver has it, or after; its lease stays behind."""
        commit, send = self.home.ledger.commit, self.receiver.send

        def ends(letter: Letter) -> Answer:
            if after:
                send(letter)
            self.home.ledger.commit = refuses  # type: ignore[method-assign]
            raise Crash

        def refuses(batch: Batch) -> Any:
            raise Crash

        self.receiver.send = ends  # type: ignore[method-assign]
        with pytest.raises(Crash):
            self.run()
        self.home.ledger.commit, self.receiver.send = commit, send  # type: ignore[method-assign]
        assert self.state(effect) is EffectState.SENDING
