"""An agent that follows a script: a process of its own, through the same socket as any agent.

    python -m sterling.testing.scripted_agent SCRIPT.toml

A script holds steps; a step belongs to a phase and does one thing:

    [[step]]                      [[step]]
    phase = "STRATEGIZE"          phase = "IMPLEMENT"
    submit = "strategy"           write = "src/a.py"
    content = { ... }             text = "..."

Actions: submit, advance, back, check, write, rename, say, ask (any verb), sleep_ms,
hang, flood, garbage, crash. `expect` names the code that the answer must have;
another one ends the process with status 3. `epoch` limits a step to one epoch,
`duty` to the implementer or the reviewer. In texts `$refusal`, `$check` and
`$record` stand for the newest such record of this process, and a list item
`$owed` for what the next plan must answer.

Nothing in the product imports this: it is started by its name.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import canonical_bytes
from sterling.packs.autopilot.authority.channel import ask_authority
from sterling.packs.autopilot.environment import asking_place

__all__ = ["Actor", "ScriptWrong", "load_script", "main"]

EXIT_UNEXPECTED = 3
_FLOOD_BYTES = 64 * 1024 * 1024


class ScriptWrong(Exception):
    """The script cannot be followed."""


class Unexpected(Exception):
    """The authority answered otherwise than the script says."""


@dataclass(slots=True)
class Actor:
    """One process of the agent: what it knows and where it works."""

    socket: Path
    session: str
    folder: Path
    phase: str = ""
    duty: str = ""
    seen: int | None = None
    epoch: int = 0
    memory: dict[str, str] = field(default_factory=dict)

    def ask(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the authority and remember what it answered."""
        document: dict[str, Any] = {
            "id": f"agent-{secrets.token_hex(8)}",
            "verb": verb,
            "session": self.session,
            "arguments": dict(arguments),
        }
        if self.seen is not None:
            document["seen"] = self.seen
        answer = ask_authority(self.socket, document)
        result = answer["result"]
        if isinstance(result.get("seen"), int):
            self.seen = result["seen"]
        self._remember(answer)
        print(f"{verb} {arguments.get('to', arguments.get('kind', ''))}: {answer['code']}", flush=True)
        return answer

    def look(self) -> dict[str, Any]:
        """Ask what is needed next; brings `seen` and `epoch` up to date."""
        result: dict[str, Any] = self.ask("next_requirements", {})["result"]
        self.epoch = int(result.get("epoch", 0))
        return result

    def fill(self, value: Any, owed: list[str]) -> Any:
        """The value with every `$name` replaced by what this process remembers."""
        if isinstance(value, dict):
            return {name: self.fill(item, owed) for name, item in value.items()}
        if isinstance(value, list):
            filled: list[Any] = []
            for item in value:
                filled.extend(owed if item == "$owed" else [self.fill(item, owed)])
            return filled
        if isinstance(value, str) and value.startswith("$"):
            if value[1:] not in self.memory:
                raise ScriptWrong(f"expected to know {value}, found only {sorted(self.memory)}")
            return self.memory[value[1:]]
        return value

    def _remember(self, answer: dict[str, Any]) -> None:
        result = answer["result"]
        if "transition" in result:
            self.memory["refusal" if not answer["ok"] else "record"] = str(result["transition"])
        if "check" in result:
            self.memory["check"] = str(result["check"])
        if "record" in result:
            self.memory["record"] = str(result["record"])


def load_script(path: Path) -> list[dict[str, Any]]:
    """The steps of a script, each checked to do exactly one known thing.

    Raises:
        ScriptWrong: not TOML, no steps, an unknown or second action.
    """
    try:
        steps = tomllib.loads(path.read_text(encoding="utf-8")).get("step", [])
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ScriptWrong(f"expected a script at {path}, found: {problem}") from problem
    for place, step in enumerate(steps):
        named = sorted(set(step) & set(_ACTIONS))
        if len(named) != 1 or "phase" not in step:
            raise ScriptWrong(f"expected step {place} with a phase and one action, found {sorted(step)}")
    if not steps:
        raise ScriptWrong(f"expected steps in {path}, found none")
    return list(steps)


def main(argv: list[str]) -> int:
    """Follow the script's steps for the phase that this process was started in."""
    if len(argv) != 2:
        print("usage: python -m sterling.testing.scripted_agent SCRIPT.toml", file=sys.stderr)
        return 2
    try:
        steps = load_script(Path(argv[1]))
        place = asking_place()
        if place is None:
            raise ScriptWrong("expected to be started by an authority, found nobody to ask")
        actor = Actor(socket=place.socket, session=place.session, folder=Path.cwd())
        told = actor.look()
        actor.phase, actor.duty = str(told["phase"]), str(told["duty"])
        for step in _mine(actor, steps):
            _follow(actor, step)
    except ScriptWrong as problem:
        print(problem, file=sys.stderr)
        return 2
    except Unexpected as problem:
        print(problem, file=sys.stderr)
        return EXIT_UNEXPECTED
    return 0


def _mine(actor: Actor, steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        fits = step["phase"] == actor.phase and step.get("duty", actor.duty) == actor.duty
        if fits and step.get("epoch", actor.epoch) == actor.epoch:
            yield step


def _follow(actor: Actor, step: dict[str, Any]) -> None:
    name = next(action for action in _ACTIONS if action in step)
    answer = _ACTIONS[name](actor, step)
    if "expect" in step:
        found = answer["code"] if answer else "nothing"
        if found != step["expect"]:
            raise Unexpected(f"{name} in {step['phase']}: expected {step['expect']}, found {found}: {answer}")


def _submit(actor: Actor, step: dict[str, Any]) -> dict[str, Any]:
    owed = [str(each) for each in actor.look().get("must_answer", [])]
    content = canonical_bytes(actor.fill(step["content"], owed)).decode("utf-8")
    return actor.ask("submit_artifact", {"kind": step["submit"], "content": content})


def _advance(actor: Actor, step: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"to": step["advance"]}
    for name in ("claim", "evidence"):
        if name in step:
            arguments[name] = actor.fill(step[name], [])
    return actor.ask("request_advance", arguments)


def _back(actor: Actor, step: dict[str, Any]) -> dict[str, Any]:
    arguments = {
        "to": step["back"],
        "code": step.get("code", ""),
        "cites": actor.fill(step.get("cites", []), []),
    }
    return actor.ask("request_backtrack", arguments)


def _check(actor: Actor, step: dict[str, Any]) -> dict[str, Any]:
    return actor.ask("run_check", {"name": step["check"]})


def _ask(actor: Actor, step: dict[str, Any]) -> dict[str, Any]:
    return actor.ask(step["ask"], actor.fill(step.get("arguments", {}), []))


def _write(actor: Actor, step: dict[str, Any]) -> None:
    target = actor.folder / step["write"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(step["text"], encoding="utf-8")


def _rename(actor: Actor, step: dict[str, Any]) -> None:
    (actor.folder / step["rename"]).rename(actor.folder / step["to"])


def _say(actor: Actor, step: dict[str, Any]) -> None:
    print(step["say"], flush=True)


def _sleep(actor: Actor, step: dict[str, Any]) -> None:
    time.sleep(int(step["sleep_ms"]) / 1000)


def _hang(actor: Actor, step: dict[str, Any]) -> None:
    while True:
        time.sleep(60)


def _flood(actor: Actor, step: dict[str, Any]) -> None:
    for _ in range(_FLOOD_BYTES // 65536):
        os.write(1, b"x" * 65536)


def _garbage(actor: Actor, step: dict[str, Any]) -> dict[str, Any]:
    return ask_authority(actor.socket, {"id": "garbage", "verb": step["garbage"], "nonsense": True})


def _crash(actor: Actor, step: dict[str, Any]) -> None:
    os._exit(int(step["crash"]))


_ACTIONS: Mapping[str, Callable[[Actor, dict[str, Any]], dict[str, Any] | None]] = {
    "submit": _submit,
    "advance": _advance,
    "back": _back,
    "check": _check,
    "ask": _ask,
    "write": _write,
    "rename": _rename,
    "say": _say,
    "sleep_ms": _sleep,
    "hang": _hang,
    "flood": _flood,
    "garbage": _garbage,
    "crash": _crash,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv))
