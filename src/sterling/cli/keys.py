"""`sterling keys`: who signs, since when, and changing that."""

from __future__ import annotations

import getpass
import os
import re
import sys
from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli.face import Face
from sterling.cli.words import table

__all__ = ["command"]

_PASSPHRASE_BYTES_MAX = 4096


@click.group("keys")
def command() -> None:
    """Who signs, since when; rotate, revoke, and make a person's key."""


@command.command("list")
@faces.options
def list_keys(*, face: Face) -> None:
    """Every key that signed or signs for the home, and the persons' keys that are known here."""
    from sterling.kernel.key_change import read_key_history
    from sterling.kernel.signing import fingerprint_of

    with face.open_home(read_only=True) as home:
        home_id, history = home.id, read_key_history(home)
    rows: list[dict[str, Any]] = [
        {
            "purpose": span.purpose,
            "key": span.key.hex(),
            "fingerprint": fingerprint_of(span.key),
            "state": span.state,
            "after": span.after,
            "until": span.until,
            "revoked_from": span.revoked_from,
        }
        for span in sorted(history.spans(), key=lambda span: (span.purpose, span.after or -1))
    ]
    shown = [[row["purpose"], row["key"], row["state"], _span(row)] for row in rows]
    text = table(shown, ["purpose", "key", "state", "signs"])
    face.present({"home_id": home_id, "keys": rows}, contract="keys.list@1.0", text=text)


@command.command("rotate")
@click.argument("purpose")
@click.option("--reason", required=True, help="Why; the ledger keeps it.")
@faces.options
def rotate(purpose: str, reason: str, *, face: Face) -> None:
    """Let a new key sign for PURPOSE (ledger or attest) from now on. The old secret is not kept."""
    from sterling.kernel.batch import Actor
    from sterling.kernel.key_change import rotate_key

    with face.open_home() as home:
        done = rotate_key(home, purpose, reason, Actor("person", getpass.getuser()))
    result = {"purpose": purpose, "index": done.index, "old": done.old.hex(), "new": done.new.hex()}
    text = f"rotated {purpose} at entry {done.index}\n  old  {done.old.hex()}\n  new  {done.new.hex()}"
    face.present(result, contract="keys.rotated@1.0", text=text)


@command.command("revoke")
@click.argument("purpose")
@click.option("--key", required=True, metavar="HEX", help="The public key: 64 hex digits.")
@click.option("--reason", required=True, help="Why; the ledger keeps it.")
@click.option(
    "--from", "since", type=click.IntRange(min=0), help="From this entry on (default: from now on)."
)
@faces.options
def revoke(purpose: str, key: str, reason: str, since: int | None, *, face: Face) -> None:
    """Let nothing count that a key signs from now on. What it signed before stands."""
    from sterling.kernel.batch import Actor
    from sterling.kernel.key_change import revoke_key

    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise click.UsageError(f"expected a public key of 64 hex digits, found {key[:80]!r}")
    with face.open_home() as home:
        actor = Actor("person", getpass.getuser())
        index = revoke_key(home, purpose, bytes.fromhex(key), reason, since=since, actor=actor)
    start = index if since is None else since
    result = {"purpose": purpose, "index": index, "key": key, "from_index": start}
    face.present(result, contract="keys.revoked@1.0", text=f"revoked {purpose} {key} from entry {start} on")


@command.command("new")
@click.argument("purpose", metavar="person:NAME")
@click.option("--passphrase-fd", type=click.IntRange(min=0), help="Read the passphrase from this descriptor.")
@click.option("--keyring", is_flag=True, help="Let the system's keyring keep the secret.")
@faces.options
def new(purpose: str, passphrase_fd: int | None, keyring: bool, *, face: Face) -> None:
    """Make the key with which a person says yes or no. It lies outside every home."""
    from sterling.kernel.person_keys import make_person_key, people_folder

    if keyring and passphrase_fd is not None:
        raise click.UsageError("expected --keyring or --passphrase-fd, found both")
    public = make_person_key(purpose, None if keyring else _passphrase(passphrase_fd))
    kept = "keyring" if keyring else "passphrase"
    result = {"purpose": purpose, "key": public.hex(), "folder": str(people_folder()), "kept": kept}
    text = f"made {purpose}\n  key     {public.hex()}\n  folder  {people_folder()}\n  kept by {kept}"
    face.present(result, contract="keys.made@1.0", text=text)


def _passphrase(descriptor: int | None) -> bytes:
    """From a descriptor, else typed twice on a terminal; never from an argument or the environment."""
    if descriptor is not None:
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                return stream.read(_PASSPHRASE_BYTES_MAX).removesuffix(b"\n")
        except OSError as problem:
            raise click.UsageError(
                f"expected to read descriptor {descriptor}: {problem.strerror}"
            ) from problem
    if not sys.stdin.isatty():
        raise click.UsageError("expected a terminal, --passphrase-fd or --keyring, found none")
    first, second = getpass.getpass("Passphrase: "), getpass.getpass("Again: ")
    if first != second:
        raise click.UsageError("expected the same passphrase twice, found two")
    return first.encode("utf-8")


def _span(row: dict[str, Any]) -> str:
    after = "from the beginning" if row["after"] is None else f"after entry {row['after']}"
    until = "" if row["until"] is None else f" to entry {row['until']}"
    return after + until
