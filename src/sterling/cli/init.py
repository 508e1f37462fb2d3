"""`sterling init`: make a home."""

from __future__ import annotations

import click

from sterling.cli import face as faces
from sterling.cli.face import Face

__all__ = ["command"]


@click.command("init")
@faces.options
def command(*, face: Face) -> None:
    """Make a home: ledger, keys, settings, first checkpoint and first anchor outside it."""
    from sterling.kernel.home import init_home

    with init_home(face.home_path) as home:
        home.fill_ballast()
        head = home.ledger.head().hex()
        result = {
            "home": str(home.path),
            "home_id": home.id,
            "head": head,
            "size": home.ledger.size(),
            "anchor": str(home.anchors.folder),
        }
        text = f"made {home.path}\n  id      {home.id}\n  head    {head}\n  anchor  {home.anchors.folder}"
        face.present(result, contract="home.made@1.0", text=text)
