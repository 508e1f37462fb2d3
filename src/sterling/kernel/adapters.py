"""How an effect leaves: what an adapter must offer, what its answers mean, and two for tests.

An adapter declares what can be known after a crash (`Ability`) and answers each
send with a `Verdict`; the two tables here say what follows. Adapters for real
receivers live in packs. Only `look` may be called twice for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.durable import replace_file
from sterling.kernel.effect_table import EffectState, Why

__all__ = [
    "AFTER_ANSWER",
    "ALWAYS_KNOWN",
    "MOVES",
    "Ability",
    "Adapter",
    "Answer",
    "FileAdapter",
    "HttpLoopbackAdapter",
    "Letter",
    "Move",
    "Verdict",
]

ALWAYS_KNOWN = ("file", "http-loopback")


class Ability(StrEnum):
    """What an adapter can do about an effect that may or may not have happened."""

    FINDS = "finds"
    IDEMPOTENT = "idempotent"
    NEITHER = "neither"


class Verdict(StrEnum):
    """What a receiver's answer comes to. `LOST`: nobody knows whether it happened."""

    ACCEPTED = "accepted"
    NOT_NOW = "not-now"
    REFUSED = "refused"
    LOST = "lost"
    ABSENT = "absent"


class Move(StrEnum):
    SEND = "send"
    LOOK = "look"
    GIVE_UP = "give up"


# A retry looks too: a receiver may have done what it said it would not do.
MOVES: Mapping[tuple[EffectState, Ability], Move] = MappingProxyType(
    {
        (EffectState.QUEUED, Ability.FINDS): Move.SEND,
        (EffectState.QUEUED, Ability.IDEMPOTENT): Move.SEND,
        (EffectState.QUEUED, Ability.NEITHER): Move.SEND,
        (EffectState.RETRY, Ability.FINDS): Move.LOOK,
        (EffectState.RETRY, Ability.IDEMPOTENT): Move.SEND,
        (EffectState.RETRY, Ability.NEITHER): Move.SEND,
        (EffectState.UNKNOWN, Ability.FINDS): Move.LOOK,
        (EffectState.UNKNOWN, Ability.IDEMPOTENT): Move.SEND,
        (EffectState.UNKNOWN, Ability.NEITHER): Move.GIVE_UP,
    }
)
AFTER_ANSWER: Mapping[Verdict, tuple[EffectState, Why]] = MappingProxyType(
    {
        Verdict.ACCEPTED: (EffectState.DONE, Why.ANSWERED),
        Verdict.NOT_NOW: (EffectState.RETRY, Why.NOT_NOW),
        Verdict.REFUSED: (EffectState.DEAD, Why.REFUSED),
        Verdict.LOST: (EffectState.UNKNOWN, Why.ANSWER_LOST),
    }
)


@dataclass(frozen=True, slots=True)
class Letter:
    """What an adapter gets: the key to mark the effect with, its subject and its payload."""

    key: str
    subject: str
    payload: Json


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict with the receiver's receipt, or with what it said instead."""

    verdict: Verdict
    text: str


class Adapter(Protocol):
    """One way out. `look` is asked only of an adapter that finds; it answers accepted, absent or not-now.

    `send` must return well within a lease's time (300 s).
    """

    @property
    def ability(self) -> Ability: ...

    def send(self, letter: Letter) -> Answer: ...

    def look(self, letter: Letter) -> Answer: ...


class FileAdapter:
    """Writes each effect to a file named by its key, whole or not at all."""

    ability = Ability.FINDS

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, letter: Letter) -> Answer:
        target = self._path(letter)
        growing = target.with_suffix(".incoming")
        try:
            replace_file(target, canonical_bytes(letter.payload), growing=growing, mode=0o666)
        except OSError as problem:
            return Answer(Verdict.NOT_NOW, f"expected to write {target}, found {problem.strerror}")
        return Answer(Verdict.ACCEPTED, target.name)

    def look(self, letter: Letter) -> Answer:
        target = self._path(letter)
        return Answer(Verdict.ACCEPTED if target.is_file() else Verdict.ABSENT, target.name)

    def _path(self, letter: Letter) -> Path:
        return self._folder / f"{letter.key}.json"


class HttpLoopbackAdapter:
    """Posts to `/effects/KEY` on this machine and looks by getting it; the ability is the receiver's."""

    def __init__(self, port: int, ability: Ability, *, timeout_s: int = 10) -> None:
        self._port, self.ability, self._timeout_s = port, ability, timeout_s

    def send(self, letter: Letter) -> Answer:
        body = json.dumps({"subject": letter.subject, "payload": letter.payload}).encode("utf-8")
        status, text = self._ask("POST", letter.key, body)
        if 200 <= status < 300:
            return Answer(Verdict.ACCEPTED, text)
        if status in (0, 429, 503):
            return Answer(Verdict.NOT_NOW, f"expected an answer of 2xx, found {status or text}")
        if status < 0 or status >= 500:
            return Answer(Verdict.LOST, f"expected an answer of 2xx, found {status if status > 0 else text}")
        return Answer(Verdict.REFUSED, f"expected an answer of 2xx, found {status}: {text}")

    def look(self, letter: Letter) -> Answer:
        status, text = self._ask("GET", letter.key, None)
        known = {200: Verdict.ACCEPTED, 404: Verdict.ABSENT}
        return Answer(known.get(status, Verdict.NOT_NOW), text)

    def _ask(self, method: str, key: str, body: bytes | None) -> tuple[int, str]:
        """Status and text; status 0 when nothing was sent, -1 when nobody knows."""
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_s)
        try:
            connection.connect()
        except OSError as problem:
            return 0, str(problem)
        try:
            connection.request(method, f"/effects/{key}", body=body, headers={"Idempotency-Key": key})
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", errors="replace")
        except (OSError, HTTPException) as problem:
            return -1, str(problem) or type(problem).__name__
        finally:
            connection.close()
