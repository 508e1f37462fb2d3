"""`sterling task`: coding agents through nine gated phases.

Called from inside an agent's process these commands do not open the home: they
ask the authority that started the process, which is the only way an agent can
move its task.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sterling.cli import face as faces
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.packs.autopilot.door import Answer

__all__ = ["command"]

_CONTRACT = "task.answer@1.0"
_ASKING = frozenset({"status", "submit", "check", "advance", "back"})  # What an agent's process may call.
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("task")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Coding agents through nine gated phases: what counts is what the authority ran itself.

    Exit 0 yes or done, 1 refused or failed, 2 wrong usage, 3 integrity broken, 4 cannot judge.
    """
    from sterling.packs.autopilot import door

    if ctx.invoked_subcommand not in _ASKING:
        door.refuse_agents(str(ctx.invoked_subcommand))


@command.command("new")
@click.argument("text", required=False)
@click.option("--from", "source", type=_FILE, help="Read the text from a file.")
@click.option("--repo", type=_FOLDER, default=Path("."), show_default=True, help="Repository to work on.")
@click.option(
    "--profile", type=_FILE, help="Profile (default: [autopilot] in the repository's .sterling.toml)."
)
@click.option(
    "--scope", multiple=True, metavar="PATTERN", help="Paths the task may touch; may be given again."
)
@click.option(
    "--deliverable", "deliverables", multiple=True, metavar="PATH", help="A path the change must bring."
)
@click.option("--risk", type=click.Choice(["low", "medium", "high"]), default="low", show_default=True)
@faces.options
def new(text: str | None, source: Path | None, *, face: Face, **given: Any) -> None:
    """Make a task: its text, the repository's base and the profile as they are now."""
    from sterling.packs.autopilot import door

    order = _order(text, source, given)
    with face.open_home(create=True) as home:
        answer = door.new_task(home, order)
    _present(face, answer)


@command.command("run")
@click.argument("task")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="-- ARGV...")
@click.option(
    "--repo", type=_FOLDER, default=Path("."), show_default=True, help="Repository, for a new task."
)
@click.option("--profile", type=_FILE, help="Profile, for a new task.")
@click.option("--scope", multiple=True, metavar="PATTERN", help="Paths a new task may touch.")
@click.option(
    "--deliverable", "deliverables", multiple=True, metavar="PATH", help="A path a new task must bring."
)
@click.option("--risk", type=click.Choice(["low", "medium", "high"]), default="low", show_default=True)
@click.option("--uncontained", default="", metavar="REASON", help="Run the agent without walls, and say why.")
@faces.options
def run(task: str, argv: tuple[str, ...], uncontained: str, *, face: Face, **given: Any) -> None:
    """Run an agent on a task, or on a new one with this text, until it is done or stops.

    This build has no sandbox: the agent runs `uncontained` and needs --uncontained
    REASON. The receipt says so. `{python}`, `{brief}` and `{brief_file}` in ARGV are
    filled in.
    """
    from sterling.app import judge_tests
    from sterling.packs.autopilot import door
    from sterling.runtime.interrupts import terminate_as_interrupt

    with terminate_as_interrupt(), face.open_home(create=True) as home:
        name = task if task.startswith("task-") else _new_task(home, task, uncontained, given)
        face.say(f"{name}")
        answer = door.run_task(home, name, argv, judge_tests, uncontained=uncontained, say=face.say)
    _present(face, answer)


@command.command("status")
@click.argument("task", required=False, default="")
@faces.options
def status(task: str, *, face: Face) -> None:
    """Where a task stands and what it needs next; without a task, all of them."""
    from sterling.packs.autopilot import door

    if door.is_agent():
        _present_json(face, door.ask_as_agent("next_requirements", task, {}))
    with face.open_home(read_only=True) as home:
        answer = door.status(home, task)
    _present(face, answer)


@command.command("why")
@click.argument("task")
@click.option("--entry", type=click.IntRange(min=0), help="One decision, by its ledger index.")
@faces.options
def why(task: str, entry: int | None, *, face: Face) -> None:
    """Every decision about a task with its reasons, from the ledger alone."""
    from sterling.packs.autopilot import door

    with face.open_home(read_only=True) as home:
        answer = door.why(home, task, entry)
    _present(face, answer)


@command.command("show")
@click.argument("task")
@click.option("--out", type=_FOLDER, help="Copy the evidence files into a new folder.")
@faces.options
def show(task: str, out: Path | None, *, face: Face) -> None:
    """The artifacts and checks that are in force."""
    from sterling.packs.autopilot import door

    with face.open_home(read_only=True) as home:
        answer = door.show(home, task, out)
    _present(face, answer)


@command.command("submit")
@click.argument("task")
@click.argument("kind")
@click.argument("file", type=_FILE)
@faces.options
def submit(task: str, kind: str, file: Path, *, face: Face) -> None:
    """Hand in an artifact of the present phase: JSON under the contract of its kind."""
    from sterling.app import judge_tests
    from sterling.packs.autopilot import door

    content = _read_text(file)
    if door.is_agent():
        _present_json(face, door.ask_as_agent("submit_artifact", task, {"kind": kind, "content": content}))
    with face.open_home() as home:
        answer = door.submit(home, task, kind, content, judge_tests)
    _present(face, answer)


@command.command("advance")
@click.argument("task")
@click.option("--to", required=True, metavar="PHASE", help="The next phase, or DONE from MONITOR.")
@click.option("--evidence", multiple=True, metavar="RECORD", help="Artifact the move relies on.")
@click.option(
    "--request", default="", metavar="ID", help="Asked again under one id, the first answer is given."
)
@faces.options
def advance(task: str, to: str, evidence: tuple[str, ...], request: str, *, face: Face) -> None:
    """Ask to leave the present phase through its gate."""
    from sterling.app import judge_tests
    from sterling.packs.autopilot import door

    if door.is_agent():
        _present_json(
            face, door.ask_as_agent("request_advance", task, {"to": to, "evidence": list(evidence)}, request)
        )
    with face.open_home() as home:
        answer = door.advance(home, task, to, judge_tests, cites=evidence, request=request)
    _present(face, answer)


@command.command("back")
@click.argument("task")
@click.option("--to", required=True, metavar="PHASE", help="An earlier phase.")
@click.option("--cause", "code", default="", metavar="CODE", help="Reason code of what failed.")
@click.option("--cite", "cites", multiple=True, metavar="RECORD", help="Record that shows it.")
@click.option("--because", "words", default="", metavar="WORDS", help="A person's words.")
@faces.options
def back(task: str, to: str, code: str, cites: tuple[str, ...], words: str, *, face: Face) -> None:
    """Send a task back to an earlier phase, with a cause."""
    from sterling.app import judge_tests
    from sterling.packs.autopilot import door

    if door.is_agent():
        arguments = {"to": to, "code": code, "cites": list(cites), "words": words}
        _present_json(face, door.ask_as_agent("request_backtrack", task, arguments))
    with face.open_home() as home:
        answer = door.back(home, task, to, judge_tests, code=code, cites=cites, words=words)
    _present(face, answer)


@command.command("check")
@click.argument("task")
@click.argument("name")
@faces.options
def check(task: str, name: str, *, face: Face) -> None:
    """Have the authority run a command of the profile on the work tree as it is now."""
    from sterling.app import judge_tests
    from sterling.packs.autopilot import door

    if door.is_agent():
        _present_json(face, door.ask_as_agent("run_check", task, {"name": name}))
    with face.open_home() as home:
        answer = door.run_check(home, task, name, judge_tests)
    _present(face, answer)


@command.command("refresh")
@click.argument("task")
@faces.options
def refresh(task: str, *, face: Face) -> None:
    """Write every evidence file again from its record, and name those that were not as recorded."""
    from sterling.packs.autopilot import door

    with face.open_home() as home:
        answer = door.refresh_files(home, task)
    _present(face, answer)


@command.command("reopen")
@click.argument("task")
@click.option("--because", required=True, metavar="WORDS", help="Why it may go on.")
@faces.options
def reopen(task: str, because: str, *, face: Face) -> None:
    """Open a task again that is blocked or waits for a person."""
    _state(face, task, "open", because)


@command.command("abort")
@click.argument("task")
@click.option("--because", required=True, metavar="WORDS", help="Why it ends here.")
@faces.options
def abort(task: str, because: str, *, face: Face) -> None:
    """End an open task as abandoned. Its evidence stays."""
    _state(face, task, "abandoned", because)


@command.group("receipt")
def receipt() -> None:
    """The signed proof that a task is done."""


@receipt.command("export")
@click.argument("task")
@click.option("--out", type=_FILE, required=True, help="File to write the signed envelope to.")
@faces.options
def export(task: str, out: Path, *, face: Face) -> None:
    """Write a task's receipt to a file."""
    from sterling.packs.autopilot import door

    with face.open_home(read_only=True) as home:
        data, answer = door.export_receipt(home, task)
    _write_new(out, data)
    answer.result["file"] = str(out)
    _present(face, answer)


@receipt.command("check")
@click.argument("file", type=_FILE)
@click.option("--repo", type=_FOLDER, help="Repository (its HEAD) or folder that must be the receipt's tree.")
@faces.options
def check_receipt(file: Path, repo: Path | None, *, face: Face) -> None:
    """Check signature, ledger and, with --repo, the tree. Exit 0 if all fit, 3 if not."""
    from sterling.packs.autopilot import door

    data = _read_text(file).encode("utf-8")
    with face.open_home(read_only=True) as home:
        answer = door.check_receipt(home, data, repo)
    _present(face, answer)


def _state(face: Face, task: str, to: str, because: str) -> NoReturn:
    from sterling.app import judge_tests
    from sterling.packs.autopilot import door

    with face.open_home() as home:
        answer = door.set_state(home, task, to, because, judge_tests)
    _present(face, answer)


def _new_task(home: Any, text: str, uncontained: str, given: dict[str, Any]) -> str:
    from sterling.packs.autopilot import door

    door.require_ring(uncontained)  # Before anything is written.
    return str(door.new_task(home, _order(text, None, given)).result["task"])


def _order(text: str | None, source: Path | None, given: dict[str, Any]) -> Any:
    from sterling.packs.autopilot.door import TaskOrder, person_name

    if (text is None) == (source is None):
        raise click.UsageError("Give the text, or --from FILE.")
    words = text if source is None else _read_text(source)
    return TaskOrder(
        text=words or "",
        repository=given["repo"],
        profile=given["profile"],
        scope=tuple(given["scope"]),
        deliverables=tuple(given["deliverables"]),
        risk=given["risk"],
        person=person_name(),
    )


def _present_json(face: Face, answer: dict[str, Any]) -> NoReturn:
    from sterling.cli.task_text import lines_of

    status = {True: 0, False: 1, None: 4}[answer["ok"]]
    face.present(answer, contract=_CONTRACT, text=lines_of(answer), exit=status)


def _present(face: Face, answer: Answer) -> NoReturn:
    from sterling.cli.task_text import lines_of

    shown = answer.as_json()
    face.present(shown, contract=_CONTRACT, text=lines_of(shown), exit=answer.exit)


def _read_text(file: Path) -> str:
    from sterling.packs.autopilot.door import read_text

    return read_text(file)


def _write_new(out: Path, data: bytes) -> None:
    from sterling.packs.autopilot.door import write_new

    write_new(out, data)
