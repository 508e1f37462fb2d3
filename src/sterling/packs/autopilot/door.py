"""What the rest of Sterling may call of the autopilot.

Every function takes an open home and plain values, and answers with an `Answer`:
`{code, ok, result, cites[], ledger}` and an exit status. The app hands in ci's
verdict on tests (`TestEvidence`).
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.packs.autopilot.authority.asks import Answer, Ask, ledger_facts
from sterling.packs.autopilot.orders import TaskOrder
from sterling.packs.autopilot.ports import TestCase, TestEvidence, TestVerdict

if TYPE_CHECKING:
    from sterling.kernel.canonical import Json
    from sterling.kernel.counters import CounterRule
    from sterling.kernel.home import Home
    from sterling.kernel.telemetry import SpanRule
    from sterling.packs.autopilot.process.view import TaskView

__all__ = [
    "Answer",
    "TaskOrder",
    "TestCase",
    "TestEvidence",
    "TestVerdict",
    "advance",
    "ask_as_agent",
    "back",
    "check_receipt",
    "counters",
    "export_receipt",
    "is_agent",
    "new_task",
    "observed",
    "open_tasks",
    "person_name",
    "read_text",
    "refresh_files",
    "refuse_agents",
    "require_ring",
    "run_check",
    "run_task",
    "set_state",
    "show",
    "status",
    "submit",
    "why",
    "write_new",
]

RING = "uncontained"


def new_task(home: Home, order: TaskOrder) -> Answer:
    """Make a task. Errors: as `tasks.create_task`."""
    from sterling.packs.autopilot.tasks import create_task, work_of

    view = create_task(home, order)
    result = _facts(view) | {
        "risk": str(view.facts["risk"]),
        "base_commit": str(view.facts["base_commit"]),
        "base_tree": str(view.facts["base_tree"]),
        "work": str(work_of(home, view.task).tree),
        "gate1": "not demanded in this build: no preflight rules (A-59)",
    }
    return _answer(home, "ok", True, result, _cites(home, view.record))


def run_task(
    home: Home,
    task: str,
    argv: Sequence[str],
    evidence: TestEvidence,
    *,
    uncontained: str,
    say: Callable[[str], None],
) -> Answer:
    """Run agents on a task until it is done or stops. `uncontained` is the reason for running without walls.

    Errors: sandbox.not-armed without a reason; agent.unreachable; lease.held; identity.already-running.
    """
    from sterling.packs.autopilot.authority.session import drive
    from sterling.packs.autopilot.errors import RequestInvalid
    from sterling.packs.autopilot.tasks import find_task, open_authority

    if not argv:
        raise RequestInvalid("expected the agent's command after --, found none", field="argv")
    require_ring(uncontained)
    view = find_task(home, task)
    if str(view.state) != "open":
        result = _facts(view) | {"message": f"The task is {view.state}: {view.because}"}
        return _answer(home, "transition.task-closed", False, result)
    with open_authority(home, view, evidence, ring=RING) as (authority, lease):
        say(f"ring: {RING} ({uncontained.strip()}); the receipt will say so")
        report = drive(authority, lease, argv, say=say)
        facts = authority.facts()
    done = str(view.state) == "done"
    result = facts | {
        "run": report.run,
        "work_run": view.run,
        "because": report.because,
        "sessions": report.sessions,
        "uncontained_because": uncontained.strip()[:400],
        "receipt": view.receipt,
        "refused": _refused(home, view),
        "counters": counters(home),
        "handover": _handover(home, view) if done else {},
    }
    cites = _cites(home, view.receipt) if done else ()
    return _answer(home, "ok" if done else report.code, done, result, cites)


def require_ring(uncontained: str) -> None:
    """Refuse to start an agent without walls unless somebody says why. Errors: sandbox.not-armed."""
    from sterling.packs.autopilot.errors import SandboxNotArmed

    if not uncontained.strip():
        raise SandboxNotArmed("expected a sandbox, found none in this build: the agent would run uncontained")


def advance(
    home: Home, task: str, to: str, evidence: TestEvidence, *, cites: Sequence[str] = (), request: str = ""
) -> Answer:
    """A person asks to move a task forward, through the same gates as an agent."""
    return _ask(home, task, evidence, "request_advance", {"to": to, "evidence": list(cites)}, request)


def back(
    home: Home,
    task: str,
    to: str,
    evidence: TestEvidence,
    *,
    code: str = "",
    cites: Sequence[str] = (),
    words: str = "",
    request: str = "",
) -> Answer:
    """A person sends a task back, with a cited cause or with words."""
    arguments = {"to": to, "code": code, "cites": list(cites), "words": words}
    return _ask(home, task, evidence, "request_backtrack", arguments, request)


def submit(
    home: Home, task: str, kind: str, content: str, evidence: TestEvidence, *, request: str = ""
) -> Answer:
    """A person hands in an artifact of the present phase."""
    return _ask(home, task, evidence, "submit_artifact", {"kind": kind, "content": content}, request)


def run_check(home: Home, task: str, name: str, evidence: TestEvidence) -> Answer:
    """Run a command of the profile on the work tree as it is now."""
    return _ask(home, task, evidence, "run_check", {"name": name}, "")


def status(home: Home, task: str = "") -> Answer:
    """Where a task stands and what it needs next; without a task, every task in one line each."""
    from sterling.packs.autopilot.authority.loop import requirements
    from sterling.packs.autopilot.tasks import find_task, list_tasks

    if not task:
        rows = [_facts(find_task(home, name)) for name in list_tasks(home)]
        return _answer(home, "ok", True, {"tasks": rows, "counters": counters(home)})
    view = find_task(home, task)
    return _answer(home, "ok", True, _facts(view) | requirements(home, view), _cites(home, view.record))


def why(home: Home, task: str, entry: int | None = None) -> Answer:
    """Every decision about a task with its reasons; or the one that an entry holds."""
    from sterling.packs.autopilot.errors import TaskUnknown
    from sterling.packs.autopilot.journal import journal
    from sterling.packs.autopilot.tasks import find_task

    view = find_task(home, task)
    lines = journal(home, view.task)
    if entry is not None:
        lines = [line for line in lines if line["entry"] == entry]
        if not lines:
            raise TaskUnknown(f"expected entry {entry} to be about {view.task}, found that it is not")
    return _answer(home, "ok", True, _facts(view) | {"journal": lines})


def show(home: Home, task: str, out: Path | None = None) -> Answer:
    """Every artifact in force with its file; with `out`, copies of the files and of the patch."""
    from sterling.packs.autopilot.exhibit import copy_out, exhibits
    from sterling.packs.autopilot.tasks import find_task

    view = find_task(home, task)
    result = _facts(view) | {"artifacts": exhibits(home, view), "checks": _checks(view)}
    if out is not None:
        result["written"] = copy_out(home, view, out)
    return _answer(home, "ok", True, result)


def refresh_files(home: Home, task: str) -> Answer:
    """Write every evidence file again from its record, and say which were not as recorded."""
    from sterling.packs.autopilot.artifacts.store import restore_files
    from sterling.packs.autopilot.tasks import find_task

    view = find_task(home, task)
    return _answer(home, "ok", True, _facts(view) | {"restored": restore_files(home, view)})


def set_state(home: Home, task: str, to: str, because: str, evidence: TestEvidence) -> Answer:
    """A person reopens a task, or ends it as abandoned. Errors: task.state-not-allowed."""
    from sterling.kernel.batch import Actor, Batch
    from sterling.packs.autopilot.errors import StateNotAllowed
    from sterling.packs.autopilot.process.commit import put_state
    from sterling.packs.autopilot.process.machine import Role
    from sterling.packs.autopilot.process.states import TaskState, task_move_allowed
    from sterling.packs.autopilot.process.story import write
    from sterling.packs.autopilot.tasks import find_task, open_authority

    view = find_task(home, task)
    state = TaskState(to)
    if not because.strip() or not task_move_allowed(view.state, state, Role.PERSON):
        found = "no reason" if not because.strip() else f"{view.state} to {state}"
        raise StateNotAllowed(f"expected a move that a person may make, with a reason, found {found}")
    with open_authority(home, view, evidence, ring=RING) as (authority, _):
        batch = Batch(actor=Actor("person", person_name()))
        ref = put_state(home, batch, view, state, Role.PERSON, "person.said", because.strip())
        write(home, batch, view, [ref], f"state {state}", fence=authority.site.fence)
    return _answer(home, "ok", True, _facts(view), _cites(home, ref.id))


def export_receipt(home: Home, task: str) -> tuple[bytes, Answer]:
    """The signed envelope of a task that is done. Errors: task.receipt-absent."""
    from sterling.packs.autopilot.authority.receipt import export_receipt as export
    from sterling.packs.autopilot.tasks import find_task

    view = find_task(home, task)
    data, document = export(home, view)
    result = _facts(view) | {name: document[name] for name in ("tree", "ring", "level", "evidence_root")}
    return data, _answer(home, "ok", True, result, _cites(home, view.receipt))


def check_receipt(home: Home, data: bytes, repository: Path | None = None) -> Answer:
    """Whether a receipt is this home's and, with a repository, whether that is the tree. Errors: exit 3."""
    from sterling.packs.autopilot.authority.receipt import check_receipt as check

    return _answer(home, "ok", True, check(home, data, repository).as_json())


def counters(home: Home) -> dict[str, Json]:
    """Counts over every transition of this home, folded from the ledger."""
    from sterling.packs.autopilot.journal import counters as fold

    return dict(fold(home))


def observed() -> tuple[tuple[CounterRule, ...], tuple[SpanRule, ...]]:
    """What of this pack's entries is counted, and what is shown as spans."""
    from sterling.packs.autopilot.journal import COUNTER_RULES, SPANS

    return COUNTER_RULES, SPANS


def open_tasks(home: Home) -> list[str]:
    """The ids of tasks that are neither done nor abandoned, oldest first."""
    from sterling.packs.autopilot.tasks import find_task, list_tasks

    return [
        task for task in list_tasks(home) if str(find_task(home, task).state) not in ("done", "abandoned")
    ]


def is_agent() -> bool:
    """Whether an authority started this process: then it can only ask."""
    from sterling.packs.autopilot.environment import asking_place

    return asking_place() is not None


def refuse_agents(command: str) -> None:
    """Refuse a command that is a person's to a process that an authority started."""
    from sterling.packs.autopilot.errors import AgentMayOnlyAsk

    if is_agent():
        raise AgentMayOnlyAsk(f"expected an agent to ask, found `sterling task {command}`", command=command)


def ask_as_agent(verb: str, task: str, arguments: dict[str, Json], request: str = "") -> dict[str, Json]:
    """Ask the authority that started this process. Errors: task.authority-gone."""
    from sterling.packs.autopilot.authority.channel import ask_authority
    from sterling.packs.autopilot.environment import asking_place

    place = asking_place()
    assert place is not None, "only a process that an authority started can ask"
    ask: dict[str, Json] = {"verb": verb, "task": task, "session": place.session}
    if verb in ("request_advance", "request_backtrack"):
        # A command line is a fresh look: what it acts on is what stands there now.
        ask["seen"] = ask_authority(place.socket, {**ask, "verb": "status"})["result"].get("seen")
    if request:
        ask["id"] = request
    return ask_authority(place.socket, {**ask, "arguments": arguments})


def _ask(
    home: Home, task: str, evidence: TestEvidence, verb: str, arguments: dict[str, Json], request: str
) -> Answer:
    from sterling.packs.autopilot.authority.loop import Who
    from sterling.packs.autopilot.process.machine import Role
    from sterling.packs.autopilot.tasks import find_task, open_authority

    view = find_task(home, task)
    ask = Ask(request or secrets.token_hex(8), verb, view.task, arguments=arguments)
    with open_authority(home, view, evidence, ring=RING) as (authority, _):
        answer = authority.answer(ask, Who(Role.PERSON, person_name()))
        facts = authority.facts()
    return Answer(
        answer.code, answer.ok, facts | answer.result, answer.cites, ledger_facts(home), answer.exit_status
    )


def _answer(
    home: Home, code: str, ok: bool | None, result: dict[str, Json], cites: Sequence[dict[str, Json]] = ()
) -> Answer:
    return Answer(code, ok, result, tuple(cites), ledger_facts(home))


def _facts(view: TaskView) -> dict[str, Json]:
    return {
        "task": view.task,
        "run": view.run,
        "title": view.title,
        "state": str(view.state),
        "reason": view.reason,
        "because": view.because,
        "phase": str(view.phase or ""),
        "epoch": view.epoch,
        "attempt": view.attempt,
        "seen": view.newest,
        "receipt": view.receipt,
    }


def _checks(view: TaskView) -> list[Json]:
    return [
        {
            "name": name,
            "state": check.state,
            "because": check.because,
            "record": check.record,
            "tree": check.tree,
        }
        for name, check in sorted(view.checks.items())
    ]


def _refused(home: Home, view: TaskView) -> list[Json]:
    from sterling.packs.autopilot.process.story import read_story

    return [
        {
            "code": str(told.document["code"]),
            "from": str(told.document["from"]),
            "to": str(told.document["to"]),
        }
        for _, told in read_story(home, view.task)
        if told.name == "transition" and told.document["decision"] == "refuse"
    ]


def _handover(home: Home, view: TaskView) -> dict[str, Json]:
    """Where the result lies: nothing was pushed and nobody's repository was changed."""
    from sterling.packs.autopilot.tasks import work_of

    work = work_of(home, view.task)
    branch = f"sterling/{view.task}"
    message = f"{view.title}\n\nSterling-Receipt: {view.receipt}\n"
    commit = work.keep(view.tree, message, branch, str(view.facts["base_commit"]))
    document = home.records.get(view.receipt).document
    patch = home.blobs.path(str(document["patch"]["blob"]))
    return {"repository": str(work.repository), "branch": branch, "commit": commit, "patch": str(patch)}


def _cites(home: Home, *records: str) -> list[dict[str, Json]]:
    found = [home.records.get(record) for record in records if record]
    return [{"record": record.id, "hash": record.hash, "entry": record.entry} for record in found]


def person_name() -> str:
    """Who sits at the keyboard, as this machine calls them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "person"


def read_text(path: Path) -> str:
    """A file that a person hands in. Errors: task.request-invalid, task.artifact-malformed."""
    from sterling.packs.autopilot.artifacts.kinds import ARTIFACT_BYTES_MAX
    from sterling.packs.autopilot.errors import ArtifactMalformed, RequestInvalid

    try:
        with path.open("rb") as file:
            data = file.read(ARTIFACT_BYTES_MAX + 1)
        text = data.decode("utf-8")
    except OSError as problem:
        raise RequestInvalid(f"expected a readable file at {path}, found: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise ArtifactMalformed(f"expected UTF-8 in {path}, found {problem.reason}") from problem
    if len(data) > ARTIFACT_BYTES_MAX:
        raise ArtifactMalformed(f"expected at most {ARTIFACT_BYTES_MAX} bytes in {path}, found more")
    return text


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet. Errors: task.out-taken."""
    from sterling.packs.autopilot.exhibit import OutTaken

    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as problem:
        raise OutTaken(f"expected to write a new file at {path}, found: {problem.strerror}") from problem
