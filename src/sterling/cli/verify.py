"""`sterling verify`: recompute everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.kernel.verify import Verification

__all__ = ["command", "render"]

_CONTRACT = "verify.result@1.0"


@click.command("verify")
@click.argument("target", required=False, metavar="[PATH|RUN]")
@click.option("--blobs", is_flag=True, help="Hash every stored byte again.")
@click.option("--deep", is_flag=True, help="Check records, contracts, leases and derived tables too.")
@click.option(
    "--anchor",
    "anchor_files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A signed checkpoint kept elsewhere; may be given again.",
)
@click.option("--pin", metavar="KEY", help="The verifier string to trust, or a file that holds it.")
@click.option("--require-anchored", is_flag=True, help="Exit 4 unless an outside copy covers every entry.")
@faces.options
def command(
    target: str | None,
    blobs: bool,
    deep: bool,
    anchor_files: tuple[Path, ...],
    pin: str | None,
    require_anchored: bool,
    *,
    face: Face,
) -> None:
    """Recompute every hash, root and signature of a home.

    PATH is a home or its ledger.db; RUN is a run id, whose claims are checked
    again after the whole home, with every byte. Exit 0 if it holds, 3 if it is
    broken, 4 if nothing outside vouches for it.
    """
    from sterling.kernel.verify import verify_home

    run = target if target is not None and target.startswith("run-") and not Path(target).exists() else None
    path = face.home_path if target is None or run is not None else Path(target)
    found = verify_home(
        path,
        blobs=blobs or run is not None,
        deep=deep or run is not None,
        notes=[faces.read_text(file) for file in anchor_files],
        pin=_pin(pin),
        require_anchored=require_anchored,
    )
    result: dict[str, Any] = {**found.as_json(), "home": str(path), "run": None}
    if run is not None and found.verdict != "broken":
        result = _with_run(result, path, run)
    face.present(result, contract=_CONTRACT, text=render(result), exit=result["exit"])
