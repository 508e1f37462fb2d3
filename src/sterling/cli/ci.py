"""`sterling ci`: what a test run proves, against a baseline."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sterling.cli import ci_text
from sterling.cli import face as faces
from sterling.cli.face import Face

__all__ = ["command"]

Function = TypeVar("Function", bound=Callable[..., Any])


@click.group("ci")
def command() -> None:
    """What a test run proves, against a baseline.

    Tests run in a clean copy of the tree. Silence is never a pass: without a
    healthy baseline the answer is 4, also when every test is green.
    """


def _running(function: Function) -> Function:
    """The options of every command that runs tests."""
    decorated: Any = click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")(
        function
    )
    for names, attributes in (
        (("--plain",), {"is_flag": True, "help": "Add nothing to the command, not even for pytest."}),
        (
            ("--report", "reports"),
            {"multiple": True, "metavar": "PATTERN", "help": "A report the command writes, inside the copy."},
        ),
        (
            ("--env", "variables"),
            {"multiple": True, "metavar": "NAME", "help": "A variable to hand through; may be given again."},
        ),
        (
            ("--memory-mb",),
            {
                "type": click.IntRange(min=0),
                "default": 0,
                "help": "Memory for the tree of processes (default: 80 %).",
            },
        ),
        (
            ("--timeout", "timeout_s"),
            {"type": click.IntRange(1, 86_400), "default": 900, "show_default": True, "metavar": "SECONDS"},
        ),
        (
            ("--repo", "folder"),
            {"type": click.Path(path_type=Path), "default": Path("."), "help": "A folder of the repository."},
        ),
    ):
        decorated = click.option(*names, **attributes)(decorated)  # type: ignore[arg-type]
    return decorated  # type: ignore[no-any-return]


@command.command("run")
@click.option("--at", "revision", default="", metavar="REV", help="Run a committed revision.")
@click.option("--worktree", is_flag=True, help="Run the working tree as it stands (the default).")
@_running
@faces.options
def run(revision: str, worktree: bool, *, face: Face, **given: Any) -> None:
    """Run tests in a clean copy and keep what they leave.

    Exit 0 if every test passed, 1 if tests failed or the run broke, 4 if the run
    says nothing about the tests.
    """
    from sterling.packs.ci import door

    if revision and worktree:
        raise click.UsageError("--at and --worktree exclude each other.")
    order = _order(given, revision)
    with face.open_home(create=True) as home:
        face.say("running the tests in a clean copy")
        answer = door.ran_json(door.run_tests(order, home=home))
    face.present(answer, contract="ci.ran@1.0", text=ci_text.ran(answer), exit=answer["exit_status"])


@command.command("ingest")
@click.argument("reports", nargs=-1, required=True, metavar="FILES...")
@click.option("--exit-code", type=int, help="How the runner ended; never guessed from the report.")
@click.option(
    "--repo", "folder", type=click.Path(path_type=Path), default=Path("."), help="Where tests live."
)
@faces.options
def ingest(reports: tuple[str, ...], exit_code: int | None, folder: Path, *, face: Face) -> None:
    """Read JUnit XML and pytest JSON reports of one run into facts.

    pytest writes them with --junitxml=FILE, and --json-report where that plugin is
    installed. Exit 0 if they were read, 1 if they contradict each other, 2 if one is
    no report (empty, hostile, of no known shape), 4 if one is torn.
    """
    from sterling.packs.ci import door

    with face.open_home(create=True) as home:
        found = door.ingest(reports, home=home, exit_code=exit_code, folder=folder)
    answer = door.ingested_json(found)
    text = ci_text.ingested(answer)
    face.present(answer, contract="ci.ingested@1.0", text=text, exit=answer["exit_status"])


@command.group("baseline")
def baseline() -> None:
    """Capture what the base does under the same command, and look at it."""


@baseline.command("capture")
@click.option("--at", "revision", default="HEAD", show_default=True, metavar="REV", help="The base to run.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Run it again to find ids that swing.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="NAME.baseline.json", help="One sealed file."
)
@_running
@faces.options
def capture(revision: str, repeat: int, out: Path | None, *, face: Face, **given: Any) -> None:
    """Run a base and keep its results as a baseline.

    Exit 0 if it is healthy, 1 if it is not: then it is kept for reading only.
    """
    from sterling.packs.ci import door

    order = _order(given, revision)
    with face.open_home(create=True) as home:
        face.say("running the base in a clean copy")
        found = door.capture_baseline(order, home=home, repeat=repeat)
    if out is not None:
        door.write_baseline(found.baseline, out)
    answer = door.baseline_json(
        found.baseline, record=found.record.id, run=found.run, file="" if out is None else str(out)
    )
    status = 0 if answer["healthy"] else 1
    face.present(answer, contract="ci.baseline-shown@1.0", text=ci_text.baseline(answer), exit=status)


@baseline.command("show")
@click.argument("name", metavar="FILE|ID|KEY")
@faces.options
def show(name: str, *, face: Face) -> None:
    """Show a baseline, its seal checked first. Exit 3 if the seal is broken."""
    from sterling.kernel.home import is_home
    from sterling.packs.ci import door

    faces.refuse_unusable(Path(name))
    if os.path.lexists(name) or not is_home(face.home_path):
        found, record = door.read_baseline(name, home=None)
    else:
        with face.open_home(read_only=True) as home:
            found, record = door.read_baseline(name, home=home)
    answer = door.baseline_json(found, record=record, file="" if record else name)
    face.present(answer, contract="ci.baseline-shown@1.0", text=ci_text.baseline(answer))


@command.command("verdict")
@click.option(
    "--base", default="", metavar="REV", help="The base of the change; its baseline is captured if needed."
)
@click.option(
    "--at", "revision", default="", metavar="REV", help="Judge a committed revision, not the working tree."
)
@click.option(
    "--baseline", "baseline_file", type=click.Path(path_type=Path), metavar="FILE", help="A sealed baseline."
)
@click.option(
    "--capture-missing/--no-capture-missing",
    "capture_missing",
    default=None,
    help="Capture a missing baseline now.",
)
@click.option("--exit-code", type=int, help="With --report and no command: how the runner ended.")
@click.option(
    "--expect-change", is_flag=True, help="Fail if the tree is the base's: somebody claimed a change."
)
@_running
@faces.options
def verdict(
    base: str,
    revision: str,
    baseline_file: Path | None,
    capture_missing: bool | None,
    exit_code: int | None,
    expect_change: bool,
    *,
    face: Face,
    **given: Any,
) -> None:
    """May this change count as tested?

    Either `--base REV -- COMMAND`, which runs both sides, or `--report FILES
    --exit-code N --baseline FILE` for reports that are there already. Exit 0 pass,
    1 fail, 3 evidence was tampered with, 4 cannot judge.
    """
    from sterling.packs.ci import door

    if not given["argv"]:
        if not given["reports"] or baseline_file is None:
            raise click.UsageError(
                "Give a command after --, or --report FILES, --exit-code N and --baseline FILE."
            )
        with face.open_home(create=True) as home:
            found = door.assess_reports(
                given["reports"],
                home=home,
                exit_code=exit_code,
                baseline_file=baseline_file,
                folder=given["folder"],
            )
    else:
        if exit_code is not None:
            raise click.UsageError(
                "--exit-code is for reports made elsewhere; a command's own status is taken."
            )
        wanted = bool(base) if capture_missing is None else capture_missing
        request = door.request_change(
            _order(given, revision),
            base=base,
            baseline_file=baseline_file,
            capture=wanted,
            expects_change=expect_change,
        )
        with face.open_home(create=True) as home:
            found = door.assess_change(request, home=home, say=face.say)
    answer = door.verdict_json(found)
    face.present(answer, contract="ci.verdict@1.0", text=ci_text.verdict(answer), exit=answer["exit"])


@command.command("explain")
@click.argument("decision", metavar="DECISION|RUN")
@faces.options
def explain(decision: str, *, face: Face) -> None:
    """Why a decision was what it was, from the ledger alone.

    Exit 0 if every piece of its evidence still verifies, 3 if one does not.
    """
    from sterling.packs.ci import door

    with face.open_home(read_only=True) as home:
        found = door.explain(decision, home=home)
        answer = found.as_json()
        text = ci_text.explained(answer)
    status = 3 if answer["problems"] else 0
    face.present(answer, contract="ci.explained@1.0", text=text, exit=status)


def _order(given: dict[str, Any], revision: str) -> Any:
    from sterling.packs.ci import door

    return door.order_tests(
        given["folder"],
        given["argv"],
        revision=revision,
        timeout_s=given["timeout_s"],
        memory_mb=given["memory_mb"],
        variables=given["variables"],
        plain=given["plain"],
        reports=given["reports"],
    )
