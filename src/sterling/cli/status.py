"""`sterling status`: what is running, what waits and why."""

from __future__ import annotations

from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.cli.words import local_time, state_word

__all__ = ["command", "render"]


@click.command("status")
@click.option("--check", is_flag=True, help="Exit 1 when something failed or needs a person.")
@click.option("--line", is_flag=True, help="One line, for a prompt.")
@faces.options
def command(check: bool, line: bool, *, face: Face) -> None:
    """What is running, what waits and why. Takes no lock and writes nothing."""
    from sterling.app import status_facts
    from sterling.kernel.home import open_home
    from sterling.serve.views.status import status

    with open_home(face.home_path, read_only=True, settings=face.settings) as home:
        view = status(status_facts(home))
        encrypted = home.is_encrypted
    troubled = bool(view["needs_you"] or view["failed_runs"])
    text = one_line(view) if line else render(view, encrypted=encrypted)
    face.present(view, contract="view.status@1.0", text=text, exit=1 if check and troubled else 0)


def one_line(view: dict[str, Any]) -> str:
    """The shortest honest answer."""
    waiting = sum(item["count"] for item in view["waiting"])
    return (
        f"{view['ledger']['size']} entries, {len(view['running'])} running, {waiting} waiting, "
        f"{len(view['needs_you'])} need you, {view['health']['mode']}"
    )


def render(view: dict[str, Any], *, encrypted: bool = False) -> str:
    """The screen: one block a concern, one line each when empty."""
    ledger, health = view["ledger"], view["health"]
    anchored = "nowhere" if ledger["anchored_to"] is None else f"to entry {ledger['anchored_to']}"
    sealed = "blobs encrypted" if encrypted else "not encrypted"
    lines = [
        f"ledger     {ledger['size']} entries, head {ledger['head'][:12]}, anchored {anchored}"
        f" ({ledger['unanchored']} newer)",
        f"home       {plain.text(view['home']['path'])} ({sealed})",
        f"mode       {health['mode']}: {health['because']} ({health['reason']})",
    ]
    lines += _block("running", view["running"], _run)
    lines += _block("waiting", view["waiting"], _waiting)
    lines += _block("needs you", view["needs_you"], lambda item: f"{item['what']} {item['id']}")
    lines += _block("failed", view["failed_runs"], _run)
    if view["leases"]:
        lines += _block(
            "leases",
            view["leases"],
            lambda row: f"{row['name']} held by {plain.text(row['holder'], width=50)}",
        )
    lines.append(f"next       {view['next']}")
    return "\n".join(lines)


def _block(name: str, items: list[dict[str, Any]], show: Any) -> list[str]:
    if not items:
        return [f"{name:<10} nothing"]
    shown = [f"{name if index == 0 else '':<10} {show(item)}" for index, item in enumerate(items[:6])]
    return shown if len(items) <= 6 else [*shown, f"{'':<10} and {len(items) - 6} more"]


def _run(run: dict[str, Any]) -> str:
    state = {"open": "running", "ok": "ok"}.get(run["state"], "failed")
    title = plain.text(run["title"], width=40)
    return (
        f"{state_word(state)} {run['pack']} {run['run'][:12]} {title} "
        f"{run['settled']}/{run['planned']} steps, since {local_time(run['started_us'])}"
    )


def _waiting(item: dict[str, Any]) -> str:
    return f"{item['count']} {item['kind']}: {item['because']} ({item['reason']}); {item['cure']}"
