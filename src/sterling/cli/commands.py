"""The root command, which imports a noun's module only when that noun is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

from sterling.cli.face import root_options
from sterling.cli.table import COMMANDS, EXIT_LINES

__all__ = ["LazyGroup", "root"]


class LazyGroup(click.Group):
    """A group whose members come from the static table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [row.name for row in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for row in COMMANDS:
            if row.name == cmd_name:
                module = importlib.import_module(f"sterling.cli.{row.module}")
                command: click.Command = module.command
                if not command.epilog:
                    command.epilog = f"Example: {row.example}\n\nExit status: {' '.join(EXIT_LINES)}"
                return command
        return None


@click.group(
    cls=LazyGroup, invoke_without_command=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@root_options
@click.pass_context
def root(ctx: click.Context, /, **given: Any) -> None:
    """A local-first runtime in which nothing counts without evidence."""
    ctx.obj = {name: value for name, value in given.items() if value not in (None, False, ())}
