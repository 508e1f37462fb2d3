"""`sterling ledger export` and `import`: carrying proof out and in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

__all__ = ["export", "import_file"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("export")
@click.option("--all", "everything", is_flag=True, help="The whole log.")
@click.option("--run", help="One run, with the sources of its records.")
@click.option("--record", help="One record, with everything it came from.")
@click.option("--range", "indexes", metavar="A:B", help="Entries A to B, B not included, with their sources.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE.tar")
@faces.options
def export(
    everything: bool, run: str | None, record: str | None, indexes: str | None, output: Path, *, face: Face
) -> None:
    """Write a bundle: entries, proofs, checkpoints, contracts and blobs in one file.

    Name exactly one of --all, --run, --record and --range. `sterling verify FILE.tar --pin KEY`
    checks it anywhere, without a home; KEY is the verifier that `sterling ledger head` prints.
    """
    from sterling.kernel.bundle import Selection, export_bundle

    choices = (("all", "" if everything else None), ("run", run), ("record", record), ("range", indexes))
    given = [Selection(by, value) for by, value in choices if value is not None]
    if len(given) != 1:
        raise click.UsageError(f"expected one of --all, --run, --record and --range, found {len(given)}")
    with face.open_home() as home:
        made = export_bundle(home, given[0], output)
    result: dict[str, Any] = {
        "file": str(made.file),
        "sha256": made.sha256,
        "origin": made.origin,
        "entries": made.entries,
        "blobs": made.blobs,
        "withheld": list(made.withheld),
    }
    lines = [f"{made.file}: {made.entries} entries, {made.blobs} blobs", f"sha256 {made.sha256}"]
    lines += [f"withheld {each['id']}: {each['reason']}" for each in made.withheld]
    face.present(result, contract="ledger.export@1.0", text="\n".join(lines))


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--format", "form", type=click.Choice(["bundle", "jsonl-chain"]), default="bundle")
@click.option("--pin", metavar="KEY", help="The verifier string to trust, or a file that holds it.")
@click.option("--unpinned", is_flag=True, help="Take a bundle that nobody vouches for; the entry says so.")
@click.option("--profile", type=_FILE, metavar="P.toml", help="The rule of a jsonl-chain.")
@faces.options
def import_file(
    file: Path, form: str, pin: str | None, unpinned: bool, profile: Path | None, *, face: Face
) -> None:
    """Check a bundle, or another tool's hash-chained lines, and keep it with the verdict.

    A bundle that does not hold stores nothing. Its entries never enter this log: each is
    named `import:ORIGIN:ID`. A foreign chain is kept whatever its verdict; broken is exit 3.
    """
    if (form == "jsonl-chain") != (profile is not None) or (profile is not None and (pin or unpinned)):
        raise click.UsageError("expected --profile with --format jsonl-chain, and --pin only with a bundle")
    result = _import_chain(face, file, profile) if profile else _import_bundle(face, file, pin, unpinned)
    words = f"{result['verdict']}: {result['entries']} entries of {plain.text(result['origin'])}"
    lines = [words, f"kept as {result['blob']}"]
    if result["first_bad"] is not None:
        lines.append(f"line {result['first_bad']['line']}: {plain.text(result['first_bad']['reason'])}")
    if result["uncovered"]:
        lines.append(f"not covered by its hash: {plain.text(', '.join(result['uncovered']))}")
    exit = 3 if result["verdict"] == "broken" else 0
    face.present(result, contract="ledger.import@1.0", text="\n".join(lines), exit=exit)


def _import_bundle(face: Face, file: Path, pin: str | None, unpinned: bool) -> dict[str, Any]:
    from sterling.cli.verify import pin_text
    from sterling.kernel.bundle_import import import_bundle

    with face.open_home() as home:
        made = import_bundle(home, file, pin=pin_text(pin), unpinned=unpinned)
    counts = {"entries": made.found.entries, "blobs": made.found.blobs}
    place: dict[str, Any] = {"blob": made.address, "record": "", "first_bad": None, "uncovered": []}
    return {"format": "bundle", "verdict": made.found.verdict, "origin": made.found.origin, **counts, **place}


def _import_chain(face: Face, file: Path, profile: Path) -> dict[str, Any]:
    from sterling.kernel.foreign import import_chain

    with face.open_home() as home:
        made = import_chain(home, file, profile)
    return {"format": "jsonl-chain", "blobs": 0, **made}
