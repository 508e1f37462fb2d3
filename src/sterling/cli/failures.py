"""What an error looks like: code and message, the next step, and an exit status."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import tempfile
import traceback
from typing import NoReturn

import click

from sterling.cli import plain
from sterling.cli.json_line import json_line
from sterling.cli.table import COMMANDS
from sterling.kernel.errors import EXIT_DEFECT, EXIT_USAGE, SterlingError

__all__ = [
    "BadUsage",
    "UnknownCommand",
    "UnknownOption",
    "as_usage",
    "die_interrupted",
    "report",
    "report_defect",
]


class BadUsage(SterlingError):
    """An argument is missing or has a wrong value."""

    code = "cli.bad-value"
    hint = "See `sterling --help`."
    exit = EXIT_USAGE


class UnknownCommand(BadUsage):
    """There is no such command."""

    code = "cli.unknown-command"


class UnknownOption(BadUsage):
    """The command has no such option."""

    code = "cli.unknown-option"


def as_usage(problem: click.UsageError) -> BadUsage:
    """The project's error for what click refused, with the nearest names."""
    path = problem.ctx.command_path if problem.ctx else "sterling"
    hint = f"See `{path} --help`."
    words = problem.format_message()
    if isinstance(problem, click.NoSuchOption):
        near = difflib.get_close_matches(problem.option_name, problem.possibilities or [], n=3)
        found = f"expected an option of `{path}`, found {problem.option_name!r}"
        return UnknownOption(_with_nearest(found, near), hint=hint, option=problem.option_name)
    if words.startswith("No such command"):
        wanted = words.split("'")[1] if "'" in words else ""
        names = [row.name for row in COMMANDS]
        if isinstance(problem.ctx and problem.ctx.command, click.Group) and path != "sterling":
            assert problem.ctx is not None and isinstance(problem.ctx.command, click.Group)
            names = problem.ctx.command.list_commands(problem.ctx)
        near = difflib.get_close_matches(wanted, names, n=3)
        return UnknownCommand(
            _with_nearest(f"expected a command, found {wanted!r}", near), hint=hint, command=wanted
        )
    return BadUsage(words, hint=hint)


def report(problem: SterlingError, *, as_json: bool) -> int:
    """Print the error and give its exit status."""
    if as_json:
        click.echo(json_line({"error": problem.as_json()}, sort_keys=True))
    else:
        click.echo(f"{problem.code}: {plain.text(problem.message)}", err=True)
        click.echo(f"next: {problem.hint}", err=True)
    return problem.exit


def report_defect(problem: Exception, *, as_json: bool, verbose: bool) -> int:
    """An exception nobody foresaw: write a report file, say where it is, exit 70."""
    words = "".join(traceback.format_exception(problem))
    with tempfile.NamedTemporaryFile("w", prefix="sterling-defect-", suffix=".txt", delete=False) as file:
        file.write(words)
    message = f"{type(problem).__name__}: {problem}"[:500]
    error = {
        "code": "internal.defect",
        "message": message,
        "hint": f"Please report it with {file.name}.",
        "details": {"report": file.name},
    }
    if as_json:
        click.echo(json_line({"error": error}, sort_keys=True))
    else:
        if verbose:
            click.echo(words, err=True)
        click.echo(f"internal.defect: {plain.text(message)}", err=True)
        click.echo(f"next: {error['hint']}", err=True)
    return EXIT_DEFECT


def die_interrupted(number: int = signal.SIGINT) -> NoReturn:
    """End by the signal itself, so that a shell loop around us stops too."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise AssertionError("the signal ends this process")


def _with_nearest(words: str, near: list[str]) -> str:
    return words if not near else f"{words}; nearest: {', '.join(near)}"
