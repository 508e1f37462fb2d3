"""What can be asked of the authority, and the shape of its answers.

An ask is JSON: a request id, a verb, a task, the newest entry the asker saw and
arguments. It is checked as a whole before anything is looked up. An answer is
`{code, ok, result, cites[], ledger{id, head, index}}`; `ok` is true, false, or
null where the authority cannot judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_NO, EXIT_OK, SterlingError
from sterling.kernel.home import Home
from sterling.packs.autopilot.errors import RequestInvalid
from sterling.packs.autopilot.process.commit import ledger_identity

__all__ = ["VERBS", "Answer", "Ask", "answer_error", "ledger_facts", "parse_ask"]

# verb -> (required arguments, optional arguments); every argument is text unless named below.
VERBS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "status": (frozenset(), frozenset()),
    "next_requirements": (frozenset(), frozenset()),
    "submit_artifact": (frozenset({"kind", "content"}), frozenset()),
    "run_check": (frozenset({"name"}), frozenset()),
    "request_advance": (frozenset({"to"}), frozenset({"evidence", "claim"})),
    "request_backtrack": (frozenset({"to"}), frozenset({"code", "cites", "words"})),
    "cite": (frozenset({"record"}), frozenset()),
}
_LISTS = frozenset({"evidence", "cites"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,80}")
_TEXT_MAX = 4000
_LIST_MAX = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, checked. `session` is the secret that the authority gave to an agent's process."""

    id: str
    verb: str
    task: str
    seen: int | None = None
    ledger: str = ""
    session: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A text argument; empty when it was not given."""
        return str(self.arguments.get(name, ""))

    def names(self, name: str) -> tuple[str, ...]:
        """A list argument; empty when it was not given."""
        return tuple(str(each) for each in self.arguments.get(name, ()))


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided."""

    code: str
    ok: bool | None
    result: dict[str, Json]
    cites: tuple[dict[str, Json], ...] = ()
    ledger: Mapping[str, Json] = field(default_factory=dict)
    exit_status: int | None = None

    @property
    def exit(self) -> int:
        """0 yes, 1 no, 4 cannot judge; or what an error said."""
        if self.exit_status is not None:
            return self.exit_status
        return {True: EXIT_OK, False: EXIT_NO, None: EXIT_CANNOT_JUDGE}[self.ok]

    def as_json(self) -> dict[str, Json]:
        return {
            "code": self.code,
            "ok": self.ok,
            "result": self.result,
            "cites": [dict(cite) for cite in self.cites],
            "ledger": dict(self.ledger),
        }


def parse_ask(document: Any) -> Ask:
    """An ask from JSON.

    Raises:
        RequestInvalid: naming the field, what was expected and what was found.
    """
    if not isinstance(document, dict):
        raise RequestInvalid(f"expected an object, found {type(document).__name__}")
    unknown = sorted(set(document) - {"id", "verb", "task", "seen", "ledger", "session", "arguments"})
    if unknown:
        raise RequestInvalid(f"expected only known fields, found {unknown[0]!r}", field=unknown[0])
    ask_id = document.get("id")
    if not isinstance(ask_id, str) or not _ID.fullmatch(ask_id):
        raise RequestInvalid("expected an id of 1 to 80 letters, digits, dots and hyphens", field="id")
    verb = document.get("verb")
    if not isinstance(verb, str) or verb not in VERBS:
        raise RequestInvalid(
            f"expected a verb of {', '.join(sorted(VERBS))}, found {verb!r:.60}", field="verb"
        )
    seen = document.get("seen")
    if seen is not None and (not isinstance(seen, int) or isinstance(seen, bool)):
        raise RequestInvalid(f"expected seen as an entry's index, found {seen!r:.60}", field="seen")
    texts = {name: document.get(name, "") for name in ("task", "ledger", "session")}
    for name, value in texts.items():
        if not isinstance(value, str) or len(value) > 200:
            raise RequestInvalid(f"expected {name} as a short text", field=name)
    arguments = _arguments(verb, document.get("arguments", {}))
    return Ask(ask_id, verb, texts["task"], seen, texts["ledger"], texts["session"], arguments)


def answer_error(home: Home | None, problem: SterlingError) -> Answer:
    """The answer that an error gives; nothing was changed."""
    facts = ledger_facts(home) if home is not None else {}
    ok = None if problem.exit == EXIT_CANNOT_JUDGE else False
    result: dict[str, Json] = {
        "message": problem.message,
        "hint": problem.hint,
        **problem.as_json()["details"],
    }
    return Answer(problem.code, ok, result, ledger=facts, exit_status=problem.exit)


def ledger_facts(home: Home) -> dict[str, Json]:
    """Whose ledger this is and how far it has come."""
    return {
        "id": ledger_identity(home),
        "head": home.ledger.head().hex(),
        "index": home.ledger.size() - 1,
    }


def _arguments(verb: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise RequestInvalid("expected arguments as an object", field="arguments")
    required, optional = VERBS[verb]
    for name in sorted(required - set(given)):
        raise RequestInvalid(f"expected argument {name} for {verb}, found none", field=f"arguments/{name}")
    for name in sorted(set(given) - required - optional):
        raise RequestInvalid(f"expected no argument {name!r} for {verb}", field=f"arguments/{name}")
    for name, value in given.items():
        if name in _LISTS:
            fits = (
                isinstance(value, list) and len(value) <= _LIST_MAX and all(_is_text(each) for each in value)
            )
        else:
            fits = isinstance(value, str) and (name == "content" or _is_text(value))
        if not fits:
            raise RequestInvalid(
                f"expected {name} as text of at most {_TEXT_MAX} letters", field=f"arguments/{name}"
            )
    return given


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT_MAX and "\x00" not in value
