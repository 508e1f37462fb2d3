"""`sterling verify`: recompute everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

__all__ = ["command", "pin_text", "render"]

_CONTRACT = "verify.result@2.0"


@click.command("verify")
@click.argument("target", required=False, metavar="[PATH|RUN|BUNDLE]")
@click.option("--blobs", is_flag=True, help="Hash every stored byte again.")
@click.option("--deep", is_flag=True, help="Check records, contracts, leases and derived tables too.")
@click.option("--full", is_flag=True, help="Everything: --blobs and --deep, from the first entry on.")
@click.option(
    "--anchor",
    "anchor_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
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
    full: bool,
    anchor_files: tuple[Path, ...],
    pin: str | None,
    require_anchored: bool,
    *,
    face: Face,
) -> None:
    """Recompute every hash, root and signature of a home.

    PATH is a home or its ledger.db; RUN is a run id, whose claims are checked
    again after the whole home, with every byte; BUNDLE is a file that `sterling
    ledger export` wrote. Exit 0 if it holds, 3 if it is broken, 4 if nothing
    outside vouches for it.
    """
    from sterling.kernel.bundle_verify import is_bundle
    from sterling.kernel.verify import verify_home

    if target is not None and is_bundle(Path(target)):
        if deep or anchor_files or require_anchored:
            raise click.UsageError("expected --pin alone with a bundle, found an option for homes")
        _verify_bundle(face, Path(target), pin_text(pin))
    is_run = target is not None and target.startswith("run-") and not os.path.lexists(target)
    run = target if is_run else None
    path = face.home_path if target is None or run is not None else Path(target)
    found = verify_home(
        path,
        blobs=blobs or full or run is not None,
        deep=deep or full or run is not None,
        notes=[_note(file) for file in anchor_files],
        pin=pin_text(pin),
        require_anchored=require_anchored,
    )
    if deep and found.verdict != "broken" and path.is_dir():
        _say_counters(face, path)
    result: dict[str, Any] = {**found.as_json(), "home": str(path), "run": None}
    if run is not None and found.verdict != "broken":
        result = _with_run(result, path, run)
    face.present(result, contract=_CONTRACT, text=render(result), exit=result["exit"])


def render(result: dict[str, Any]) -> str:
    """One line when it holds; what is wrong, where, and the next step when it does not."""
    anchored = "nothing" if result["anchored_to"] is None else str(result["anchored_to"])
    counts = f"{result['size']} entries, head {result['head']}, anchored to {anchored}"
    if result["unanchored"] and result["anchored_to"] is not None:
        counts += f" ({result['unanchored']} newer)"
    if result["blobs"] is not None:
        counts += f", {result['blobs']['checked']} blobs"
    if result["run"] is not None:
        counts += f", {result['run']['checked']} claims of {plain.text(result['run']['id'])}"
    scars = [f"  {_loss(each)}" for each in result["losses"]]
    scars += [
        f"  the copies outside were gone and began anew at entry {index}:"
        " what came before is vouched for only by copies kept elsewhere"
        for index in result["restored_at"]
    ]
    if result["verdict"] == "ok":
        return "\n".join([f"ok {counts}", *scars])
    bad = result["first_bad"]
    where = "" if bad is None else f" {_place(bad['low'], bad['high'])}"
    lines = [
        f"{result['verdict']}{where}: {result['code']}",
        f"  {plain.text(result['message'])}",
        f"  {counts}",
        *scars,
    ]
    if result["run"] is not None:
        lines += [f"  {plain.text(problem)}" for problem in result["run"]["problems"]]
    return "\n".join([*lines, f"next: {result['hint']}"])


def _loss(loss: dict[str, Any]) -> str:
    """An accepted loss in one line, whatever the log says of it."""
    lost = loss.get("lost")
    lost = lost if isinstance(lost, dict) else {}
    span = plain.text(f"entries {lost.get('from')} to {lost.get('to')}")
    return f"lost {span}, admitted at entry {loss['entry']}: {plain.text(str(loss.get('reason', '')))}"


def _verify_bundle(face: Face, file: Path, pin: str | None) -> NoReturn:
    from sterling.kernel.bundle_verify import verify_bundle

    found = verify_bundle(file, pin)
    bad = found.first_bad
    result = {**found.as_json(), "file": str(file)}
    counts = (
        f"{found.entries} entries of {found.origin}, {found.blobs} blobs, under a checkpoint of {found.size}"
    )
    text = f"{found.verdict} {counts}"
    if bad is not None:
        where = plain.text(bad.member or "between members")
        at = "" if bad.low is None else f", {_place(bad.low, bad.high)}"
        text = f"{found.verdict} in {where}{at}: {found.code}"
    text += "".join(
        f"\nwithheld {plain.text(each['id'])}: {plain.text(each['reason'])}" for each in found.withheld
    )
    if found.verdict != "ok":
        text += f"\n  {plain.text(found.message)}\nnext: {found.hint}"
    face.present(result, contract="verify.bundle@1.0", text=text, exit=found.exit)


def _place(low: int | None, high: int | None) -> str:
    if low is None:
        return "beside the entries"
    if high is None:
        return f"from entry {low} on"
    return f"at entry {low}" if low == high else f"between entries {low} and {high}"


def _say_counters(face: Face, path: Path) -> None:
    """Counters are no evidence: a difference changes no verdict, is said, and fails a row of the doctor."""
    from sterling.app import counter_problems

    for problem in counter_problems(path):
        face.say(f"doctor.counters-differ: {plain.text(problem)}")


def _with_run(result: dict[str, Any], path: Path, run: str) -> dict[str, Any]:
    """The result with the claims of a run checked again by the pack that made them."""
    from sterling.app import recheck_run
    from sterling.kernel.home import open_home
    from sterling.kernel.integrity import ClaimUnfounded

    with open_home(path, read_only=True) as home:
        again = recheck_run(home, run)
    result |= {"run": {"id": run, "checked": again.checked, "problems": list(again.problems)}}
    if again.problems:
        result |= {
            "verdict": "broken",
            "exit": ClaimUnfounded.exit,
            "code": ClaimUnfounded.code,
            "message": f"{len(again.problems)} claims of {run} do not hold",
            "hint": ClaimUnfounded.hint,
        }
    return result


def _note(file: Path) -> str:
    """A signed checkpoint out of a file; whether it is genuine is for verifying to say."""
    from sterling.cli.failures import BadUsage
    from sterling.kernel.checkpoint import NoteMalformed, note_checkpoint

    text = _read(file)
    try:
        note_checkpoint(text)
    except NoteMalformed as problem:
        raise BadUsage(
            f"{file}: {problem.message}", hint="See `sterling ledger checkpoint --help`."
        ) from problem
    return text


def pin_text(pin: str | None) -> str | None:
    """The verifier string: as given, or out of the file that is named."""
    try:
        is_file = pin is not None and Path(pin).is_file()
    except OSError:
        is_file = False  # Too long for a file's name.
    return _read(Path(str(pin))).strip() if is_file else pin


def _read(file: Path) -> str:
    from sterling.cli.failures import BadUsage

    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError as problem:
        found = f"found {problem.strerror}: {file}"
        raise BadUsage(
            f"expected a file that may be read, {found}", hint="See `sterling verify --help`."
        ) from problem
