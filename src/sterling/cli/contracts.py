"""`sterling contracts`: check, compare and lock the shapes of everything that is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.kernel.contract_lock import Difference
    from sterling.kernel.contract_lock_file import Lock
    from sterling.kernel.home import Home

__all__ = ["command"]


@click.group("contracts")
def command() -> None:
    """Check, compare and lock data contracts."""


@command.command("check")
@faces.options
def check(*, face: Face) -> None:
    """Whether every schema file is a contract and is the locked one. Exit 0 yes, 1 no."""
    from sterling.kernel.contract_lock import survey
    from sterling.kernel.contracts import load_contracts
    from sterling.kernel.shipped import shipped

    path = shipped("contracts.lock")
    found = survey(load_contracts(), _lock())
    rows: list[dict[str, Any]] = [row.as_json() for row in found.rows]
    result = {"status": found.status, "lock": str(path), "sha256": found.sha256, "contracts": rows}
    off = [row for row in found.rows if row.locked != "same"]
    if found.status == "locked":
        text = f"ok {len(rows)} contracts agree with {path.name} {found.sha256}"
    elif found.status == "missing":
        text = f"no lock at {path}; {len(rows)} contracts are not locked"
    else:
        text = words.table([[row.locked, row.id, row.file] for row in off], ["state", "contract", "file"])
    face.present(result, contract="contracts.check@1.0", text=text, exit=0 if found.status == "locked" else 1)


@command.command("diff")
@faces.options
def diff(*, face: Face) -> None:
    """What changed against the lock, place by place. Exit 1 if old documents or readers would break."""
    from sterling.kernel.contract_diff import Verdict
    from sterling.kernel.contract_lock import differences
    from sterling.kernel.contracts import load_contracts

    found = differences(load_contracts(), _lock())
    verdict = max((difference.verdict for difference in found), default=Verdict.NONE)
    result = {"status": verdict.word, "contracts": [difference.as_json() for difference in found]}
    text = _told(found) if found else "nothing differs from the lock"
    refused = any(difference.is_refused for difference in found)
    face.present(result, contract="contracts.diff@1.0", text=text, exit=1 if refused else 0)


@command.command("lock")
@click.option("--reason", default="", help="Why, in at least 10 letters; kept in the lock and the ledger.")
@faces.options
def lock(reason: str, *, face: Face) -> None:
    """Lock the contracts as they are now, for a reason that the ledger keeps."""
    from sterling.kernel.contract_lock import lock_for_reason
    from sterling.kernel.contracts import load_contracts
    from sterling.kernel.shipped import shipped

    path = shipped("contracts.lock")
    done = lock_for_reason(load_contracts(), path, reason, open_home=lambda: _home(face))
    plan = done.plan
    result = {
        "status": "locked" if plan.differences else "unchanged",
        "before": plan.before,
        "after": plan.after,
        "verdict": plan.verdict.word,
        "reason": reason.strip(),
        "entry": done.entry,
        "contracts": [difference.as_json() for difference in plan.differences],
    }
    told = f"{_told(list(plan.differences))}\n\nlocked {plan.after}, {plan.verdict.word}, entry {done.entry}"
    text = told if plan.differences else f"{path.name} says this already: {plan.after}"
    face.present(result, contract="contracts.lock@1.0", text=text)


def _lock() -> Lock | None:
    from sterling.kernel.contract_lock_file import LockMissing, read_lock
    from sterling.kernel.shipped import shipped

    try:
        return read_lock(shipped("contracts.lock"))
    except LockMissing:
        return None


def _home(face: Face) -> Home:
    """The home whose ledger keeps the reason; the lock is not checked, since it is being mended."""
    from sterling.kernel.home import init_home, is_home, open_home

    if is_home(face.home_path) or face.home_path.exists():
        return open_home(face.home_path)
    face.say(f"made a home at {face.home_path}")
    return init_home(face.home_path)


def _told(found: list[Difference]) -> str:
    lines: list[str] = []
    for difference in found:
        against = f" against {difference.against}" if difference.against not in ("", difference.id) else ""
        lines.append(f"{difference.id}{against}: {difference.verdict.word} ({difference.state})")
        for change in difference.changes:
            sure = " undecidable" if change.undecidable else ""
            lines.append(
                f"  {change.verdict.word}{sure}  {change.change}  {plain.text(change.pointer) or '/'}"
            )
            if change.before or change.after:
                before, after = plain.text(change.before, width=100), plain.text(change.after, width=100)
                lines.append(f"    {before or 'nothing'} -> {after or 'nothing'}")
    return "\n".join(lines)
