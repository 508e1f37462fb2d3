"""`sterling init`: make a home."""

from __future__ import annotations

from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli.face import Face

__all__ = ["command"]


@click.command("init")
@click.option("--encrypt", is_flag=True, help="Seal blobs and sensitive records on the disk.")
@faces.options
def command(encrypt: bool, *, face: Face) -> None:
    """Make a home: ledger, keys, settings, first checkpoint and first anchor outside it."""
    from sterling.kernel.crypt import key_place, readable_facts
    from sterling.kernel.home import init_home

    with init_home(face.home_path, encrypt=encrypt) as home:
        home.fill_ballast()
        head = home.ledger.head().hex()
        result: dict[str, Any] = {
            "home": str(home.path),
            "home_id": home.id,
            "head": head,
            "size": home.ledger.size(),
            "anchor": str(home.anchors.folder),
        }
        text = f"made {home.path}\n  id      {home.id}\n  head    {head}\n  anchor  {home.anchors.folder}"
        if encrypt:
            result |= {"key": key_place(home.path / "keys"), "readable": readable_facts(encrypted=True)}
            text += f"\n  key     {result['key']}: without it nothing sealed can be read again"
            text += "".join(f"\n  stays readable: {fact}" for fact in result["readable"])
        face.present(result, contract="home.made@2.0", text=text)
