"""`sterling outbox`: changes outside Sterling, those that failed, and a person's decision about them."""

from __future__ import annotations

import dataclasses
import getpass
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.kernel.effect_table import EffectRow
    from sterling.kernel.ledger import StoredEntry

__all__ = ["command"]

_STATES = ("queued", "sending", "done", "retry", "unknown", "dead", "abandoned")
_HIDDEN = ("requires",)


@click.group("outbox")
def command() -> None:
    """Changes outside Sterling: what waits, what failed, what a person decided."""


@command.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only effects in this state.")
@faces.options
def list_command(state: str | None, *, face: Face) -> None:
    """Every effect, oldest first."""
    with face.open_home(read_only=True) as home:
        every = home.outbox.effects()
    found = [row for row in every if state in (None, row.state)]
    cells = [
        [row.id, _state(row), f"{row.attempts}/{row.attempts_max}", row.adapter, row.order_key, _due(row)]
        for row in found
    ]
    heads = ["effect", "state", "attempts", "adapter", "order", "due"]
    text = words.table(cells, heads) if cells else "no effects"
    result = {"effects": [_row(row) for row in found], "total": len(every)}
    face.present(result, contract="outbox.list@1.0", text=text)


@command.command("show")
@click.argument("effect", metavar="ID")
@faces.options
def show(effect: str, *, face: Face) -> None:
    """One effect and every entry about it."""
    with face.open_home(read_only=True) as home:
        row, entries = home.outbox.show(effect)
    result = {"effect": _row(row), "entries": [_entry(entry) for entry in entries]}
    lines = [
        f"{row.id}  {_state(row)}  {row.attempts} of {row.attempts_max} attempts",
        f"about {plain.text(row.subject, width=100)}, by {row.adapter}, in the order of {row.order_key}",
        f"key {row.key}",
        f"payload {row.blob}",
        "",
        *(_told(entry) for entry in entries),
    ]
    face.present(result, contract="outbox.show@1.0", text="\n".join(lines))


@command.command("retry")
@click.argument("effect", metavar="ID")
@click.option("--reason", default="", help="Why, in at least 10 letters; kept in the ledger.")
@faces.options
def retry(effect: str, reason: str, *, face: Face) -> None:
    """Give a dead effect another round of attempts."""
    with face.open_home() as home:
        row = home.outbox.retry(effect, reason, _person())
    _decided(face, row, reason, "outbox.retry@1.0")


@command.command("abandon")
@click.argument("effect", metavar="ID")
@click.option("--reason", default="", help="Why, in at least 10 letters; kept in the ledger.")
@faces.options
def abandon(effect: str, reason: str, *, face: Face) -> None:
    """Decide that an effect shall not be sent; those behind it may go."""
    with face.open_home() as home:
        row = home.outbox.abandon(effect, reason, _person())
    _decided(face, row, reason, "outbox.abandon@1.0")


def _person() -> str:
    """Who sits at the keyboard, as this machine calls them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "person"


def _decided(face: Face, row: EffectRow, reason: str, contract: str) -> None:
    result = {"effect": _row(row), "reason": reason.strip()}
    face.present(result, contract=contract, text=f"{row.id} {row.state}, entry {row.newest}")


def _row(row: EffectRow) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(row).items() if name not in _HIDDEN}


def _entry(entry: StoredEntry) -> dict[str, Any]:
    actor = f"{entry.actor.type} {entry.actor.id}"
    return {
        "index": entry.index,
        "kind": entry.kind,
        "at_us": entry.at_us,
        "actor": actor,
        "payload": entry.payload,
    }


def _state(row: EffectRow) -> str:
    return f"{row.state} ({row.why})" if row.why else str(row.state)


def _due(row: EffectRow) -> str:
    waits = row.state in ("queued", "retry", "unknown") and row.due_us
    return words.local_time(row.due_us) if waits else ""


def _told(entry: StoredEntry) -> str:
    said = entry.payload.get("receipt") or entry.payload.get("message") or ""
    why = f" ({entry.payload['why']})" if "why" in entry.payload else ""
    who = f" by {plain.text(entry.actor.id)}" if entry.actor.type == "person" else ""
    said = f": {plain.text(said, width=200)}" if said else ""
    return f"{entry.index:>6}  {words.local_time(entry.at_us)}  {entry.kind}{why}{who}{said}"
