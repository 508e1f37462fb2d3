"""The one entry point: finds the command, runs it, turns errors into exits.

Help and version are answered from static data, before anything heavy is
imported. This function alone decides what an error looks like.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

from sterling import __version__

if TYPE_CHECKING:
    from sterling.runtime.interrupts import Arrived

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `sterling ARGUMENTS` and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    if given in ([], ["--help"], ["-h"], ["help"]):
        from sterling.cli.table import help_text

        print(help_text(__version__))
        sys.exit(0)
    if given == ["--version"]:
        print(f"sterling {__version__}")
        sys.exit(0)
    _run(given)


def _run(given: list[str]) -> NoReturn:
    from sterling.runtime.interrupts import terminate_as_interrupt

    _show_any_name()
    with terminate_as_interrupt() as arrived:
        _answer(given, arrived)


def _answer(given: list[str], arrived: Arrived) -> NoReturn:
    import click

    from sterling.cli.commands import root
    from sterling.cli.failures import BadUsage, as_usage, die_interrupted, report, report_defect
    from sterling.kernel.errors import SterlingError

    as_json = _wants_json(given)
    try:
        root.main(args=given, prog_name="sterling", standalone_mode=False)
    except SterlingError as problem:
        sys.exit(report(problem, as_json=as_json))
    except click.exceptions.Exit as wanted:
        sys.exit(wanted.exit_code)
    except click.UsageError as problem:
        usage: BadUsage = as_usage(problem)
        sys.exit(report(usage, as_json=as_json))
    except (KeyboardInterrupt, click.Abort):
        die_interrupted(arrived.number)
    except Exception as problem:  # noqa: BLE001 - the one place where a defect of ours ends
        sys.exit(report_defect(problem, as_json=as_json, verbose=_has(given, "-v", "--verbose")))
    sys.exit(0)


def _show_any_name() -> None:
    """Names that this terminal's encoding lacks are shown as escapes; they end no command."""
    import io

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _wants_json(given: list[str]) -> bool:
    return _has(given, "--json")


def _has(given: list[str], *names: str) -> bool:
    own = given[: given.index("--")] if "--" in given else given
    return any(name in own for name in names)
