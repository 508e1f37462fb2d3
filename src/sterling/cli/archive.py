"""`sterling archive`: move blobs to an archive, and back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

__all__ = ["command"]


@click.command("archive")
@click.option("--before", metavar="TIME", help="Every blob that no entry since then names.")
@click.option("--address", "addresses", multiple=True, help="This blob; may be given again.")
@click.option("--back", multiple=True, metavar="ADDRESS|all", help="Bring this blob back, or all of them.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder of the archive to move to.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Folder of the archive to read.")
@click.option("--reason", default="", help="Why; it is kept in the ledger.")
@faces.options
def command(
    before: str | None,
    addresses: tuple[str, ...],
    back: tuple[str, ...],
    to: Path | None,
    source: Path | None,
    reason: str,
    *,
    face: Face,
) -> None:
    """Move blobs to an archive with --before or --address, --to and --reason; or --back with --from.

    A blob is copied, synced, read back and hashed before its file here is
    released. Nothing is ever deleted from an archive.
    """
    from sterling.kernel.archive import archive_blobs, blobs_before, restore_blobs

    away = (before is not None) != bool(addresses) and to is not None and reason.strip()
    if bool(away) == bool(back and source is not None) or (away and back):
        raise click.UsageError("give --before or --address with --to and --reason, or --back with --from")
    for address in (*addresses, *back):
        _checked(address, names=("all",) if address in back else ())
    before_us = None if before is None else _time_us(before)
    with face.open_home() as home:
        if to is not None:
            chosen = addresses if before_us is None else blobs_before(home, before_us)
            moved = archive_blobs(home, chosen, to, reason.strip())
        else:
            assert source is not None, "checked above"
            moved = restore_blobs(home, None if "all" in back else back, source)
    result = {
        "direction": "back" if back else "away",
        "store": moved.store,
        "place": moved.place,
        "count": len(moved.addresses),
        "addresses": list(moved.addresses),
    }
    words = "back from" if back else "to"
    text = f"moved {len(moved.addresses)} blobs {words} {moved.store} at {plain.text(moved.place)}"
    face.present(result, contract="archive.moved@1.0", text=text)


def _checked(address: str, *, names: tuple[str, ...]) -> None:
    from sterling.kernel.hashing import is_address

    if not is_address(address) and address not in names:
        raise click.UsageError(f"expected an address of 64 hex digits, found {plain.text(address)}")


def _time_us(text: str) -> int:
    """A time as ISO 8601; without a zone it is local."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) * 1_000_000
    except (ValueError, OverflowError, OSError) as problem:
        raise click.UsageError(f"expected a time such as 2026-01-31, found {plain.text(text)}") from problem
