"""`sterling ledger`: head, entries, proofs and checkpoints; comparing copies, and going on after a loss."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face
from sterling.cli.ledger_bundle import export, import_file
from sterling.cli.words import local_time, table
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError

if TYPE_CHECKING:
    from sterling.kernel.home import Home
    from sterling.kernel.ledger import StoredEntry

__all__ = ["EntryAbsent", "NotCheckpointed", "command"]

_REASON_LETTERS_MIN = 10


class EntryAbsent(SterlingError):
    """The log has no such entry."""

    code = "ledger.entry-absent"
    hint = "See how many entries there are: `sterling ledger head`."


class NotCheckpointed(SterlingError):
    """No signed checkpoint covers an entry yet, so nothing proves that it is in the log."""

    code = "ledger.not-checkpointed"
    hint = "Sign one: `sterling ledger checkpoint`."
    exit = EXIT_CANNOT_JUDGE


@click.group("ledger")
def command() -> None:
    """Head, entries, proofs, checkpoints, bundles; comparing copies, and going on after a loss."""


command.add_command(export)
command.add_command(import_file)


@command.command("head")
@faces.options
def head(*, face: Face) -> None:
    """How many entries there are, the newest hash, the root, and the keys that sign.

    `verifier` is the home's first key: pin that one, on every machine. Rotations lead from it to `signs_now`.
    """
    from sterling.kernel.key_change import read_ledger_verifiers

    with face.open_home(read_only=True) as home:
        first, now = read_ledger_verifiers(home)
        size = home.ledger.size()
        result = {
            "home_id": home.id,
            "size": size,
            "head": home.ledger.head().hex(),
            "root": home.ledger.root(size).hex(),
            "verifier": first,
            "signs_now": now,
        }
    names = ("size", "head", "root", "verifier", *(["signs_now"] if now != first else []))
    text = "\n".join(f"{name:<8} {result[name]}" for name in names)
    face.present(result, contract="ledger.head@2.0", text=text)


@command.command("show")
@click.argument("target", required=False, metavar="[INDEX|RECORD|import:ORIGIN:ID]")
@click.option("--kind", help="Only entries of this kind.")
@click.option("--run", help="Only entries of this run.")
@click.option("--subject", help="Only entries about this.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest N.")
@faces.options
def show(
    target: str | None, kind: str | None, run: str | None, subject: str | None, limit: int, *, face: Face
) -> None:
    """One entry in full, or the newest entries that match."""
    with face.open_home(read_only=True) as home:
        if target is not None:
            found = [_foreign(home, target) if target.startswith("import:") else _entry(home, target)]
        else:
            after = -1 if kind or run or subject else home.ledger.size() - 1 - limit
            found = list(
                deque(home.ledger.read(kind=kind, run=run, subject=subject, after=after), maxlen=limit)
            )
        result = {"size": home.ledger.size(), "entries": [_as_json(entry) for entry in found]}
    if target is not None:
        text = json.dumps(_as_json(found[0]), ensure_ascii=True, indent=2, sort_keys=True)
    elif found:
        text = table([_row(entry) for entry in found], ["index", "time", "kind", "subject", "run"])
    else:
        text = f"no entry matches, of {result['size']}"
    face.present(result, contract="ledger.show@1.0", text=text)


@command.command("checkpoint")
@faces.options
def checkpoint(*, face: Face) -> None:
    """Sign a checkpoint over everything, keep a copy outside, and print it.

    Keep what it prints on another machine: `sterling verify --anchor FILE` compares with it.
    """
    from sterling.kernel.checkpoint import note_checkpoint

    with face.open_home() as home:
        note = home.ledger.checkpoint()
    signed = note_checkpoint(note)
    result = {"note": note, "origin": signed.origin, "size": signed.size, "root": signed.root.hex()}
    face.present(result, contract="ledger.checkpoint@1.0", text=note.removesuffix("\n"))


@command.command("prove")
@click.argument("target", metavar="INDEX|RECORD")
@faces.options
def prove(target: str, *, face: Face) -> None:
    """The proof that an entry is under the newest signed checkpoint.

    For a record the same for everything it came from.
    """
    from sterling.kernel import merkle
    from sterling.kernel.bundle import closure
    from sterling.kernel.checkpoint import note_checkpoint

    with face.open_home(read_only=True) as home:
        entry, note = _entry(home, target), home.ledger.newest_note()
        signed = None if note is None else note_checkpoint(note)
        if signed is None or signed.size <= entry.index:
            covered = 0 if signed is None else signed.size
            raise NotCheckpointed(f"expected a checkpoint over entry {entry.index}, found one over {covered}")
        proof = home.ledger.inclusion(entry.index, signed.size)
        near = closure(home, [entry.index], signed.size) if entry.kind == "record.put" else []
        sources = [_source(home, index, signed.size) for index in near if index != entry.index]
    leaf = merkle.leaf_hash(entry.hash)
    merkle.verify_inclusion(entry.index, signed.size, leaf, proof, signed.root)
    result = {
        "entry": {
            "index": entry.index,
            "hash": entry.hash.hex(),
            "previous": entry.previous.hex(),
            "body": entry.body.decode("utf-8"),
        },
        "proof": [node.hex() for node in proof],
        "checkpoint": note,
        "size": signed.size,
        "root": signed.root.hex(),
        "sources": sources,
    }
    lines = [f"entry {entry.index} {entry.hash.hex()}", f"is under the root of {signed.size} entries:"]
    lines += [f"  {node.hex()}" for node in proof]
    lines += [f"came from entry {each['index']} {each['record']}" for each in sources]
    face.present(
        result, contract="ledger.prove@2.0", text="\n".join([*lines, "", str(note).removesuffix("\n")])
    )


@command.command("diff")
@click.argument("a", type=click.Path(exists=True, path_type=Path))
@click.argument("b", type=click.Path(exists=True, path_type=Path))
@faces.options
def diff(a: Path, b: Path, *, face: Face) -> None:
    """Where two homes, ledger.db files or backups part. Exit 0 if they are equal, 1 if not."""
    from sterling.kernel.ledger_diff import first_difference

    found = first_difference(a, b)
    sides = {
        name: {"path": str(path), "size": side.size, "head": side.head}
        for name, path, side in (("a", a, found.a), ("b", b, found.b))
    }
    result = {"first_difference": found.index, "relation": found.relation, "columns": list(found.columns)}
    text = {
        "equal": f"equal: {found.a.size} entries",
        "a-begins-b": f"the first is the beginning of the second, which goes on at entry {found.index}",
        "b-begins-a": f"the second is the beginning of the first, which goes on at entry {found.index}",
        "parted": f"they part at entry {found.index}: {', '.join(found.columns)}",
    }[found.relation]
    text += "".join(f"\n  {name} {side['size']} entries, head {side['head']}" for name, side in sides.items())
    face.present(result | sides, contract="ledger.diff@1.0", text=text, exit=int(found.index is not None))


@command.command("recover")
@click.option("--accept-loss", is_flag=True, required=True, help="Say that you know entries are gone.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stays in the log for ever.")
@faces.options
def recover(accept_loss: bool, reason: str, *, face: Face) -> None:
    """Go on with a restored log that is older than its anchor, and admit what it lost.

    Restore the newest backup first. The loss is told by every later `sterling verify`.
    """
    from sterling.kernel.recover import recover_log

    if not accept_loss:
        raise click.UsageError("expected --accept-loss: what is gone stays gone")
    if len(reason.strip()) < _REASON_LETTERS_MIN:
        raise click.UsageError(f"expected a reason of at least {_REASON_LETTERS_MIN} letters")
    with face.open_home() as home:
        done = recover_log(home, reason=reason.strip())
    lost = done.payload["lost"]
    text = f"recovered: entries {lost['from']} to {lost['to']} are lost, admitted at entry {done.entry}"
    result = {"entry": done.entry, "note": done.note, **done.payload}
    face.present(result, contract="ledger.recover@1.0", text=text)


def _foreign(home: Home, target: str) -> StoredEntry:
    """The entry of another log, out of a bundle that was imported."""
    from sterling.kernel.bundle_import import read_imported

    return read_imported(home, target)


def _entry(home: Home, target: str) -> StoredEntry:
    """The entry at an index, or the one that wrote a record."""
    if target.isascii() and target.isdigit() and len(target) < 19:
        index = int(target)
    else:
        index = home.records.get(target).entry
    entry = home.ledger.entry(index)
    if entry is None:
        raise EntryAbsent(f"expected an entry below {home.ledger.size()}, found {index}", index=index)
    return entry


def _source(home: Home, index: int, size: int) -> dict[str, Any]:
    """One record that another came from, with its own proof."""
    from sterling.kernel.verify_blobs import addresses_in

    entry = home.ledger.entry(index)
    assert entry is not None, "a closure names entries that are there"
    return {
        "index": index,
        "hash": entry.hash.hex(),
        "record": entry.payload["id"],
        "record_contract": entry.payload["contract"],
        "proof": [node.hex() for node in home.ledger.inclusion(index, size)],
        "blobs": sorted(set(addresses_in(entry.payload))),
    }


def _as_json(entry: StoredEntry) -> dict[str, Any]:
    return {
        "index": entry.index,
        "hash": entry.hash.hex(),
        "previous": entry.previous.hex(),
        "kind": entry.kind,
        "contract": entry.contract,
        "subject": entry.subject,
        "run": entry.run,
        "step": entry.step,
        "at_us": entry.at_us,
        "actor": entry.actor.as_json(),
        "payload": entry.payload,
    }


def _row(entry: StoredEntry) -> list[str]:
    about = f"{entry.kind} {entry.contract}".strip()
    subject, run = plain.text(entry.subject, width=32), plain.text(entry.run, width=32)
    return [str(entry.index), local_time(entry.at_us), about, subject, run]
