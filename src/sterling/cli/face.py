"""What every command shares: the global options, the home, and the two ways to answer.

Results go to standard output, talk goes to standard error. With `--json` a
command prints one object whose first key names its contract, and nothing else.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sterling.cli.json_line import json_line
from sterling.cli.table import MENDING

if TYPE_CHECKING:
    from sterling.cli.progress import Progress
    from sterling.kernel.home import Home

__all__ = ["Face", "close_output", "options"]

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--home",),
        {
            "type": click.Path(path_type=Path),
            "help": "The home (default: STERLING_HOME, else your data folder).",
        },
    ),
    (("--json", "as_json"), {"is_flag": True, "help": "Print one JSON object."}),
    (
        ("--set", "settings"),
        {"multiple": True, "metavar": "KEY=VALUE", "help": "A setting for this command alone."},
    ),
    (("-q", "--quiet"), {"is_flag": True, "help": "No talk on standard error."}),
    (("-v", "--verbose"), {"is_flag": True, "help": "Tracebacks of defects."}),
    (("--color",), {"type": click.Choice(["auto", "always", "never"]), "help": "When to use colours."}),
    (("--no-pager",), {"is_flag": True, "help": "Never start a pager."}),
    (
        ("--progress", "progress_style"),
        {"type": click.Choice(["auto", "bar", "plain", "json", "none"]), "help": "How to show progress."},
    ),
)


class Face:
    """One command's side of the conversation."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.home_option: Path | None = given.get("home")
        self.as_json = bool(given.get("as_json"))
        self.quiet = bool(given.get("quiet"))
        self.verbose = bool(given.get("verbose"))
        self.settings: tuple[str, ...] = tuple(given.get("settings") or ())
        self.progress_style = "none" if self.quiet else (given.get("progress_style") or "auto")
        self.color = given.get("color") or "auto"

    @property
    def home_path(self) -> Path:
        """Where the home is or would be. Errors: cli.bad-value."""
        from sterling.kernel.home import default_home_path

        path = self.home_option or default_home_path()
        _refuse_path(path)
        return path

    def settings_file(self) -> Path:
        """The settings of the home that this command means. Errors: home.missing."""
        from sterling.kernel.home import HomeMissing, is_home

        if not is_home(self.home_path):
            raise HomeMissing(f"expected a home at {self.home_path}, found none", path=str(self.home_path))
        return self.home_path / "sterling.toml"

    def refuse_unknown_settings(self) -> None:
        """Check `--set` also where a command has no use for it. Errors: config.*."""
        if self.settings:
            from sterling.kernel.config import default_config

            default_config().with_overrides(self.settings)

    def open_home(self, *, read_only: bool = False, create: bool = False) -> AbstractContextManager[Home]:
        """Open the home for this command; `create` makes one when there is none.

        Errors: home.*, config.*.
        """
        from sterling.app import open_app_home

        return open_app_home(
            self.home_path, read_only=read_only, create=create, settings=self.settings, say=self.say
        )

    def say(self, words: str) -> None:
        """Talk, on standard error; silent with -q."""
        if not self.quiet:
            click.echo(words, err=True)

    def progress(self, total: int, label: str) -> AbstractContextManager[Progress]:
        """Follow work of `total` steps."""
        from sterling.cli.progress import follow

        return follow(total, label, self.progress_style)

    def show(self, result: dict[str, Any], *, contract: str, text: str) -> None:
        """Print the result: JSON under its contract, or the text."""
        answer: str | bytes = text
        if self.as_json:
            ordered = {
                "contract": contract,
                **{key: result[key] for key in sorted(result) if key != "contract"},
            }
            answer = json_line(ordered)
        try:
            click.echo(answer)
        except BrokenPipeError:
            close_output()  # The reader went away; the work and its exit status stand.

    def present(self, result: dict[str, Any], *, contract: str, text: str, exit: int = 0) -> NoReturn:
        """Print the result and end with an exit status; open homes close on the way out."""
        self.show(result, contract=contract, text=text)
        sys.exit(exit)


def close_output() -> None:
    """Send standard output nowhere, so that the interpreter does not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def options(function: Function) -> Function:
    """Give a command the global options; it receives them as `face`."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        given = dict(context.find_root().obj or {})
        for names, _ in _OPTIONS:
            name = _parameter(names)
            value = kwargs.pop(name)
            if value not in (None, False, ()):
                given[name] = value
        refuse_unusable(*kwargs.values())
        face = Face(given)
        face.refuse_unknown_settings()
        if _noun(context) not in MENDING:
            from sterling.app import require_locked_contracts

            require_locked_contracts()
        return function(*args, face=face, **kwargs)

    decorated: Any = wrapped
    for names, attributes in reversed(_OPTIONS):
        decorated = (
            click.option(*names, default=None if "is_flag" not in attributes else False, **attributes)(
                decorated
            )
            if "multiple" not in attributes
            else click.option(*names, **attributes)(decorated)
        )
    return decorated  # type: ignore[no-any-return]


def _noun(context: click.Context) -> str:
    """The first word after `sterling`."""
    while context.parent is not None and context.parent.parent is not None:
        context = context.parent
    return context.info_name or ""


def refuse_unusable(*values: object) -> None:
    """Refuse paths and words that no command can use, before any of them opens one; other values pass.

    A pipe would be waited for without end, and a name too long or a circle of
    links cannot be looked at. What is missing passes: the command says what it
    expected there. Words that are no UTF-8 could not be written down.
    Errors: cli.bad-value.
    """
    for value in values:
        if isinstance(value, tuple):
            refuse_unusable(*value)
        elif isinstance(value, str | Path):
            words = str(value)
            if not words.isascii() and _has_stray_bytes(words):
                raise click.UsageError(f"expected UTF-8, found other bytes in {words[:300]!r}")
            if isinstance(value, Path):
                _refuse_path(value)


def _refuse_path(path: Path) -> None:
    found = _unusable(path)
    if found:
        raise click.UsageError(f"expected a file or a folder, found {found}: {str(path)[:300]}")


def _has_stray_bytes(words: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in words)


def _unusable(path: Path) -> str:
    """Why no command can use this path; empty if one can, or if there is nothing."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as problem:
        return str(problem.strerror)
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "a pipe, socket or device"


def root_options(function: Function) -> Function:
    """The same options in front of the noun; they are kept for the command that follows."""
    decorated: Any = function
    for names, attributes in reversed(_OPTIONS):
        decorated = click.option(*names, **attributes)(decorated)
    return decorated  # type: ignore[no-any-return]


def _parameter(names: tuple[str, ...]) -> str:
    plain = [name for name in names if not name.startswith("-")]
    return plain[0] if plain else max(names, key=len).lstrip("-").replace("-", "_")
