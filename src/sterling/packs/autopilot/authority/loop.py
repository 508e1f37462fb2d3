"""The authority of one task: it answers asks one at a time, from the ledger and from what it ran itself.

Who asks is decided by the channel, never by the ask: a session's secret makes an
agent, the command line makes a person. An agent may read, hand in artifacts of
the present phase, have a check run, and ask to move. A question asked twice under
one request id gets the first answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Record
from sterling.packs.autopilot.artifacts.content import empty_words
from sterling.packs.autopilot.artifacts.gate import look_at
from sterling.packs.autopilot.artifacts.kinds import KINDS_BY_NAME, Kind, kinds_of
from sterling.packs.autopilot.artifacts.levels import level_needed
from sterling.packs.autopilot.artifacts.store import (
    Author,
    parse_artifact,
    put_artifact,
    read_evidence,
    shape_of,
)
from sterling.packs.autopilot.authority.asks import Answer, Ask, answer_error, ledger_facts
from sterling.packs.autopilot.authority.collect import Site, run_check
from sterling.packs.autopilot.authority.moves import move
from sterling.packs.autopilot.errors import KindUnknown, RequestInvalid, WorkBroken
from sterling.packs.autopilot.process.backtrack import Cause, Cited
from sterling.packs.autopilot.process.commit import ledger_identity
from sterling.packs.autopilot.process.machine import DONE, PHASES, Phase, Role, place_of
from sterling.packs.autopilot.process.order import Asker, Request, World
from sterling.packs.autopilot.process.states import TaskState
from sterling.packs.autopilot.process.story import refresh, write
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.refusal import Refusal

__all__ = ["Authority", "Who", "missing", "requirements"]


@dataclass(frozen=True, slots=True)
class Who:
    """The asker as the channel knows it. `duty` of an agent's session: implementer or reviewer."""

    role: Role
    id: str
    duty: str = ""


@dataclass(slots=True)
class Authority:
    """Answers asks about one task. `ring` says how strongly its agents are held."""

    site: Site
    ring: str = "uncontained"
    asked: int = 0
    closing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, ask: Ask, who: Who) -> Answer:
        """One answer. Errors become answers; nothing was changed then."""
        with self._lock:
            if self.closing:
                return Answer("task.authority-gone", False, {"message": "the authority is closing"})
            self.asked += 1
            try:
                return self._answer(ask, who)
            except SterlingError as problem:
                return answer_error(self.site.home, problem)
            except OSError as problem:
                broken = WorkBroken(f"expected the work folder to be usable, found: {problem}")
                return answer_error(self.site.home, broken)

    @property
    def is_busy(self) -> bool:
        """Whether an ask is being answered right now."""
        return self._lock.locked()

    def settle(self) -> None:
        """Wait until the ask that is being answered, if any, has its answer."""
        with self._lock:
            pass

    def close(self) -> None:
        """Take no more asks; one that is being answered may end."""
        self.closing = True

    def _answer(self, ask: Ask, who: Who) -> Answer:
        view = self.site.view
        if ask.task not in ("", view.task):
            raise RequestInvalid(f"expected asks about {view.task}, found {ask.task}", field="task")
        if ask.ledger not in ("", ledger_identity(self.site.home)):
            return self._say("identity.mismatch", False, {"expected": ledger_identity(self.site.home)})
        refresh(self.site.home, view)
        known = view.answered.get(ask.id)
        if known is not None and ask.verb in _WRITING:
            return self._first_answer(known)
        return _VERBS[ask.verb](self, ask, who)

    # Reading

    def _status(self, ask: Ask, who: Who) -> Answer:
        return self._say("ok", True, self.facts())

    def _next_requirements(self, ask: Ask, who: Who) -> Answer:
        checks: dict[str, Json] = {"checks": sorted(self.site.profile.commands), "duty": who.duty}
        wanted = requirements(self.site.home, self.site.view)
        return self._say("ok", True, self.facts() | wanted | checks)

    def _cite(self, ask: Ask, who: Who) -> Answer:
        record = self._own_record(ask.text("record"))
        if record is None:
            raise RequestInvalid("expected a record of this task", field="arguments/record")
        result: dict[str, Json] = {"record": record.id, "hash": record.hash, "contract": record.contract}
        result["document"] = record.document
        return self._say("ok", True, result, (_cite_of(record),))

    # Writing

    def _submit(self, ask: Ask, who: Who) -> Answer:
        kind = KINDS_BY_NAME.get(ask.text("kind"))
        if kind is None:
            raise KindUnknown(f"expected a kind of artifact, found {ask.text('kind')!r:.80}")
        refusal = self._may_submit(kind, who)
        if refusal is not None:
            return self._say(refusal.code, False, {"problems": [refusal.as_json()]})
        data = ask.text("content").encode("utf-8")
        document = parse_artifact(kind, data)
        problems = self._problems(kind, document)
        tree = self.site.view.tree if kind.binds_tree else ""
        batch = Batch(run=self.site.run, step=str(kind.phase))
        author = Author("person" if who.role is Role.PERSON else "agent", who.id, ask.id)
        ref = put_artifact(
            self.site.home, batch, self.site.view, kind, document, author, tree=tree, problems=problems
        )
        write(self.site.home, batch, self.site.view, [ref], f"artifact {kind.name}", fence=self.site.fence)
        return self._first_answer(ref.id)

    def _may_submit(self, kind: Kind, who: Who) -> Refusal | None:
        view = self.site.view
        rule = f"A-21 artifacts of {kind.phase}"
        if view.state is not TaskState.OPEN:
            return Refusal(
                "transition.task-closed", rule, "an open task", str(view.state), "a person reopens it"
            )
        if kind.author == "authority":
            return Refusal(
                "artifact.wrong-author",
                rule,
                "an artifact that agents write",
                kind.name,
                "ask to advance instead",
            )
        if view.phase is not kind.phase:
            found = str(view.phase or "before STRATEGIZE")
            return Refusal(
                "tool.out-of-phase", rule, f"phase {kind.phase}", found, f"submit it in {kind.phase}"
            )
        reviews = who.duty == "reviewer"
        if who.role is Role.AGENT and reviews != (kind.author == "reviewer"):
            expected = (
                "a session that wrote nothing of the patch" if kind.author == "reviewer" else "an implementer"
            )
            how = "end this process: the authority starts the right one"
            return Refusal("artifact.wrong-author", rule, expected, who.duty or "unknown", how)
        return None

    def _problems(self, kind: Kind, document: Json) -> list[Refusal]:
        shape = shape_of(self.site.home, kind, document)
        if shape is not None:
            return [shape]
        return empty_words(kind.name, document)

    def _run_check(self, ask: Ask, who: Who) -> Answer:
        name = ask.text("name")
        if name not in self.site.profile.commands:
            known = ", ".join(sorted(self.site.profile.commands))
            return self._say("check.unlisted", False, {"expected": known, "found": name})
        tree = self.site.work.snapshot()
        refusal = run_check(self.site, name, tree)
        check = self.site.view.checks[name]
        record = self.site.home.records.get(check.record)
        code = refusal.code if refusal else "ok"
        ok = None if refusal and refusal.cannot_judge else refusal is None
        result: dict[str, Json] = {
            "check": check.record,
            "because": check.because,
            "tree": tree,
            "seen": self.site.view.newest,
            "output": self._tail(record),
        }
        return self._say(code, ok, result, (_cite_of(record),))

    def _advance(self, ask: Ask, who: Who) -> Answer:
        return self._move(ask, who, cause=None)

    def _back(self, ask: Ask, who: Who) -> Answer:
        return self._move(ask, who, cause=Cause(ask.text("code"), ask.names("cites"), ask.text("words")))

    def _move(self, ask: Ask, who: Who, *, cause: Cause | None) -> Answer:
        to = ask.text("to")
        if who.duty == "reviewer" and self.site.view.phase is not Phase.REVIEW:
            return self._say(
                "tool.out-of-phase", False, {"expected": "REVIEW", "found": str(self.site.view.phase)}
            )
        request = Request(
            id=ask.id,
            task=self.site.view.task,
            to=to[:80],
            asker=Asker(who.role, who.id),
            seen=ask.seen,
            ledger=ask.ledger,
            cause=cause,
            evidence=ask.names("evidence"),
        )
        cited = self._cited(cause.cites) if cause else ()
        world = World(
            ledger=ledger_identity(self.site.home),
            fence=self.site.fence,
            lease_refusal=self._lease_refusal(),
            cited=cited,
        )
        return self._first_answer(move(self.site, request, world, ring=self.ring, claim=ask.text("claim")))

    # Inside

    def facts(self) -> dict[str, Json]:
        """Where the task stands, as every answer tells it."""
        view = self.site.view
        return {
            "task": view.task,
            "run": view.run,
            "state": str(view.state),
            "reason": view.reason,
            "because": view.because,
            "phase": str(view.phase or ""),
            "epoch": view.epoch,
            "attempt": view.attempt,
            "seen": view.newest,
            "ring": self.ring,
            "missing": missing(self.site.home, view),
        }

    def _first_answer(self, record_id: str) -> Answer:
        """The answer that a record gives, the first time and ever after."""
        record = self.site.home.records.get(record_id)
        document = record.document
        if record.contract.startswith("autopilot.transition"):
            return self._transition_answer(record)
        problems = list(document["problems"])
        code = str(problems[0]["code"]) if problems else "ok"
        result: dict[str, Json] = {"record": record.id, "problems": problems, "seen": self.site.view.newest}
        return self._say(code, not problems, result, (_cite_of(record),))

    def _transition_answer(self, record: Record) -> Answer:
        document = record.document
        allowed = document["decision"] == "allow"
        unjudged = bool(document["refusals"]) and all(each["cannot_judge"] for each in document["refusals"])
        names = (
            "decision",
            "direction",
            "from",
            "to",
            "severity",
            "refusals",
            "tree",
            "level",
            "ring",
            "not_demanded",
        )
        result: dict[str, Json] = {name: document[name] for name in names}
        result |= {
            "transition": record.id,
            "phase": document["to"] if allowed and document["to"] != DONE else document["from"],
            "state": str(self.site.view.state),
            "epoch": self.site.view.epoch,
            "seen": self.site.view.newest,
        }
        ok = True if allowed else (None if unjudged else False)
        return self._say(str(document["code"]), ok, result, (_cite_of(record),))

    def _cited(self, names: tuple[str, ...]) -> tuple[Cited, ...]:
        """The cited records that belong to this task; others do not count."""
        found = (self._own_record(name) for name in names)
        return tuple(_cited_from(record) for record in found if record is not None)

    def _own_record(self, name: str) -> Record | None:
        """A record of this task; what else the home holds is none of an agent's business."""
        if not self.site.home.records.has(name):
            return None
        record = self.site.home.records.get(name)
        is_own = isinstance(record.document, Mapping) and record.document.get("task") == self.site.view.task
        return record if is_own else None

    def _lease_refusal(self) -> str:
        fence = self.site.fence
        if fence is None:
            return "lease.unavailable"
        try:
            row = self.site.home.leases.read(fence.lease)
        except SterlingError:
            return "lease.unavailable"
        if row is None or not row.holder or self.site.home.clock.boot_us() >= row.expires_us:
            return "lease.expired"
        return "" if row.token == fence.token else "lease.lost"

    def _tail(self, record: Record) -> str:
        stream = record.document.get("stdout")
        if not stream:
            return ""
        return self.site.home.blobs.get(str(stream["blob"]))[-2000:].decode("utf-8", "replace")

    def _say(
        self, code: str, ok: bool | None, result: dict[str, Json], cites: tuple[dict[str, Json], ...] = ()
    ) -> Answer:
        return Answer(code, ok, result, cites, ledger_facts(self.site.home))


def requirements(home: Home, view: TaskView) -> dict[str, Json]:
    """What the present phase needs before it can be left."""
    wanted = [] if view.phase is None else [_requirement(kind) for kind in kinds_of(view.phase)]
    return {
        "next": _following(view.phase),
        "requirements": wanted,
        "missing": missing(home, view),
        "level_needed": level_needed(view.phase, str(view.facts["risk"])) if view.phase else 0,
        "must_answer": list(view.owed),
    }


def missing(home: Home, view: TaskView) -> list[Json]:
    """What an agent or person must still hand in before this phase can be left."""
    if view.phase is None or view.state is not TaskState.OPEN:
        return []
    evidence, broken = read_evidence(home, view, view.tree)
    wanted = [kind for kind in kinds_of(view.phase) if kind.author != "authority"]
    lacking = [look_at(view, kind, evidence) for kind in wanted]
    names = {kind.name for kind in wanted}
    bad = [each for each in broken if each.where.partition("/")[0] in names]
    return [each.as_json() for each in [*lacking, *bad] if each is not None]


def _requirement(kind: Kind) -> dict[str, Json]:
    return {"kind": kind.name, "file": kind.file, "author": kind.author, "contract": kind.contract}


def _following(phase: Phase | None) -> str:
    if phase is None:
        return str(PHASES[0])
    place = place_of(phase) + 1
    return str(PHASES[place]) if place < len(PHASES) else DONE


def _cited_from(record: Record) -> Cited:
    document = record.document
    name = record.contract.partition("@")[0].removeprefix("autopilot.")
    phase = str(document.get("phase") or document.get("from") or "")
    failure = (name == "transition" and document["decision"] == "refuse") or (
        name == "check" and document["state"] == "failed"
    )
    return Cited(
        record.id,
        name,
        Phase(phase) if phase in Phase.__members__ else None,
        failure,
        str(document.get("code", "")),
    )


def _cite_of(record: Record) -> dict[str, Json]:
    return {"record": record.id, "hash": record.hash, "entry": record.entry}


_WRITING = frozenset({"submit_artifact", "request_advance", "request_backtrack"})
_VERBS: Mapping[str, Callable[[Authority, Ask, Who], Answer]] = MappingProxyType(
    {
        "status": Authority._status,
        "next_requirements": Authority._next_requirements,
        "submit_artifact": Authority._submit,
        "run_check": Authority._run_check,
        "request_advance": Authority._advance,
        "request_backtrack": Authority._back,
        "cite": Authority._cite,
    }
)
