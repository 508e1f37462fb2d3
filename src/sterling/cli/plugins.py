"""`sterling plugins`: which plugins may load, why others may not, and pinning them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face
from sterling.kernel.errors import EXIT_NO, EXIT_USAGE, SterlingError

if TYPE_CHECKING:
    from sterling.kernel.home import Home
    from sterling.runtime.manifest import Manifest
    from sterling.runtime.plugin_lock import Change
    from sterling.runtime.plugin_refusals import PluginRefused

__all__ = ["command"]

_REASON_LETTERS_MIN = 10


class PluginLockReason(SterlingError):
    """A lock without a reason, or with one too short to tell anything."""

    code = "plugin.lock-reason"
    hint = "Say why, in at least ten letters: `sterling plugins lock --reason TEXT`."
    exit = EXIT_USAGE


@click.group("plugins")
def command() -> None:
    """List, check, lock and begin plugins."""


@command.command("list")
@click.option("--pack", help="Only this pack's plugins.")
@faces.options
def list_command(pack: str | None, *, face: Face) -> None:
    """Every plugin that may load, and every one that was refused. Exit 1 if any was."""
    from sterling.runtime.registry import inspect

    scan = inspect(pack)
    rows = [
        [f"{one.pack}/{one.id}", one.version, one.lane, one.family, plain.text(one.title, width=70)]
        for one in scan.manifests
    ]
    text = words.table(rows, ["plugin", "version", "lane", "family", "title"]) if rows else "no plugins"
    if scan.refusals:
        text += f"\n\n{_refused(list(scan.refusals))}"
    result = {
        "plugins": [_row(one) for one in scan.manifests],
        "refusals": [_refusal(one) for one in scan.refusals],
    }
    face.present(result, contract="plugins.list@1.0", text=text, exit=EXIT_NO if scan.refusals else 0)


@command.command("check")
@click.option("--pack", help="Only this pack's plugins.")
@faces.options
def check(pack: str | None, *, face: Face) -> None:
    """Check manifests, imports and the lock without loading any code. Exit 0 good, 1 refused."""
    from sterling.runtime.registry import inspect

    scan = inspect(pack)
    text = _refused(list(scan.refusals)) if scan.refusals else f"ok {len(scan.manifests)} plugins"
    result = {
        "status": "refused" if scan.refusals else "ok",
        "accepted": len(scan.manifests),
        "refusals": [_refusal(one) for one in scan.refusals],
    }
    face.present(result, contract="plugins.check@1.0", text=text, exit=EXIT_NO if scan.refusals else 0)


@command.command("lock")
@click.option("--reason", default="", help="Why, in at least 10 letters; kept in the ledger.")
@click.option(
    "--accept-permission", "accepted", multiple=True, metavar="ID", help="Grant this plugin what it asks for."
)
@faces.options
def lock(reason: str, accepted: tuple[str, ...], *, face: Face) -> None:
    """Pin manifests, code, contracts and permissions as they are now, for a reason that the ledger keeps."""
    from sterling.kernel.batch import Batch
    from sterling.kernel.hashing import address_of
    from sterling.runtime.plugin_lock import (
        compare_locks,
        lock_bytes,
        lock_path,
        make_lock,
        refuse_widening,
        scan_plugins,
        write_lock,
    )

    if len(reason.strip()) < _REASON_LETTERS_MIN:
        raise PluginLockReason(
            f"expected a reason of at least {_REASON_LETTERS_MIN} letters, found {reason!r}"
        )
    scan = scan_plugins()
    if scan.refusals:
        raise scan.refusals[0]
    path = lock_path()
    raw = path.read_bytes() if path.is_file() else b""
    before, after = _lock_before(raw), make_lock(scan.manifests)
    changes = compare_locks(before, after)
    face.say(_changed([change for change in changes if change.what in ("lane", "permission")], none=""))
    refuse_widening(before, after, accepted)
    address = address_of(lock_bytes(after))
    entry = -1
    if raw != lock_bytes(after):
        with _home(face) as home:
            batch = Batch()
            payload = {
                "accepted": sorted(accepted),
                "after": address,
                "before": address_of(raw) if raw else "",
                "changes": [change.as_json() for change in changes],
                "reason": reason.strip(),
            }
            batch.append("plugin.locked", payload, subject="plugins.lock")
            entry = home.ledger.commit(batch).last
            write_lock(after, path)
    result = {
        "status": "locked" if entry >= 0 else "unchanged",
        "before": address_of(raw) if raw else "",
        "after": address,
        "diff": [change.as_json() for change in changes],
        "reason": reason.strip(),
        "entry": entry,
    }
    done = f"locked {len(scan.manifests)} plugins {address}, entry {entry}"
    text = f"{_changed(changes)}\n\n{done}" if entry >= 0 else f"{path.name} says this already: {address}"
    face.present(result, contract="plugins.lock@1.0", text=text)


@command.command("new")
@click.argument("plugin", metavar="ID")
@click.option(
    "--lane", type=click.Choice(["decision", "explanation"]), default="explanation", show_default=True
)
@click.option("--pack", default="insight", show_default=True, help="The pack that will run it.")
@click.option("--out", type=click.Path(path_type=Path), default=".", show_default=True, help="A folder.")
@faces.options
def new(plugin: str, lane: str, pack: str, out: Path, *, face: Face) -> None:
    """Begin a plugin: a manifest, code that works, and its test. Nothing is written over."""
    from sterling.runtime.plugin_skeleton import write_skeleton

    files = [str(path) for path in write_skeleton(plugin, lane=lane, pack=pack, folder=out)]
    lines = [
        *(plain.text(name) for name in files),
        f"next: `python -m pytest {plain.text(files[-1])}`, then move manifest and code below "
        f"packs/{plain.text(pack)}/plugins and run `sterling plugins lock --reason TEXT`",
    ]
    result = {"plugin": plugin, "lane": lane, "files": files}
    face.present(result, contract="plugins.new@1.0", text="\n".join(lines))


def _home(face: Face) -> Home:
    """The home whose ledger keeps the reason, made if there is none."""
    from sterling.kernel.home import init_home, is_home, open_home

    if is_home(face.home_path) or face.home_path.exists():
        return open_home(face.home_path)
    face.say(f"made a home at {face.home_path}")
    return init_home(face.home_path)


def _lock_before(raw: bytes) -> dict[str, Any]:
    """The lock that stands, as far as it can be read; one that cannot grants nothing."""
    import json

    try:
        lock = json.loads(raw)
    except ValueError:
        return {"plugins": {}}
    return lock if isinstance(lock, dict) and isinstance(lock.get("plugins"), dict) else {"plugins": {}}


def _row(manifest: Manifest) -> dict[str, Any]:
    return {
        "code_sha256": manifest.code_sha256,
        "estimate_ms": manifest.estimate_ms,
        "family": manifest.family,
        "feeds": list(manifest.feeds),
        "id": manifest.id,
        "lane": manifest.lane,
        "limits": {
            name: getattr(manifest.limits, name)
            for name in ("cpu_ms", "least_slice_ms", "memory_bytes", "output_bytes", "processes", "wall_ms")
        },
        "manifest_sha256": manifest.manifest_sha256,
        "needs": list(manifest.needs.plugins),
        "pack": manifest.pack,
        "permissions": sorted(manifest.permissions.words()),
        "title": manifest.title,
        "trust": manifest.trust,
        "version": manifest.version,
    }


def _refusal(refusal: PluginRefused) -> dict[str, str]:
    return {
        "code": refusal.code,
        "hint": refusal.hint,
        "message": refusal.message,
        "plugin": refusal.plugin,
    }


def _refused(refusals: list[PluginRefused]) -> str:
    lines: list[str] = []
    for refusal in refusals:
        lines += [f"{refusal.code}  {plain.text(refusal.message, width=300)}", f"    {refusal.hint}"]
    return "\n".join(lines)


def _changed(changes: list[Change], *, none: str = "only the form of the lock changed") -> str:
    lines = []
    for change in changes:
        before, after = plain.text(change.before, width=80), plain.text(change.after, width=80)
        lines.append(f"{change.plugin}  {change.what}  {before or 'nothing'} -> {after or 'nothing'}")
    return "\n".join(lines) or none
