"""`sterling contracts`: check, compare, lock and repair the shapes of everything that is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.kernel.contract_lock import Difference
    from sterling.kernel.contract_lock_file import Lock
    from sterling.kernel.contracts import Contracts
    from sterling.kernel.home import Home

__all__ = ["command"]


@click.group("contracts")
def command() -> None:
    """Check, compare, lock and repair data contracts."""


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
    from sterling.app import mend_plugin_contracts
    from sterling.kernel.contract_lock import lock_for_reason
    from sterling.kernel.contracts import load_contracts
    from sterling.kernel.shipped import shipped

    path = shipped("contracts.lock")
    done = lock_for_reason(load_contracts(), path, reason, open_home=lambda: _home(face))
    plan = done.plan
    stale = [change["plugin"] for change in mend_plugin_contracts(load_contracts(), False)]
    result = {
        "status": "locked" if plan.differences else "unchanged",
        "before": plan.before,
        "after": plan.after,
        "verdict": plan.verdict.word,
        "reason": reason.strip(),
        "entry": done.entry,
        "contracts": [difference.as_json() for difference in plan.differences],
        "stale_plugins": stale,
    }
    told = f"{_told(list(plan.differences))}\n\nlocked {plan.after}, {plan.verdict.word}, entry {done.entry}"
    text = told if plan.differences else f"{path.name} says this already: {plan.after}"
    if stale:
        text += f"\nplugins.lock names other contracts of {len(stale)} plugins: `sterling plugins lock`"
    face.present(result, contract="contracts.lock@1.0", text=text)


@command.command("repair")
@click.option("--restore", is_flag=True, help="Put the locked schemas back.")
@click.option(
    "--accept", is_flag=True, help="Lock the schemas as they are; refused where documents would break."
)
@click.option("--reason", default="", help="Why, in at least 10 letters; kept in the ledger.")
@click.option(
    "--check", "only_check", is_flag=True, help="Change nothing; exit 1 if there is something to mend."
)
@faces.options
def repair(restore: bool, accept: bool, reason: str, only_check: bool, *, face: Face) -> None:
    """Make the schemas and their lock agree again, and write down how. Exit 0 mended or nothing to do."""
    from sterling.app import mend_plugin_contracts
    from sterling.kernel import contract_repair
    from sterling.kernel.shipped import package_root, shipped

    if restore == accept:
        raise click.UsageError("expected one of --restore and --accept")
    done = contract_repair.repair(
        package_root(),
        shipped("contracts.lock"),
        "restore" if restore else "accept",
        reason,
        open_home=lambda contracts: _home(face, contracts, read_only=only_check),
        mend_plugins=mend_plugin_contracts,
        only_check=only_check,
    )
    result = done.as_json() | {"status": done.status, "entry": done.entry}
    lines = [
        f"{done.status} ({done.action})",
        f"before: {done.before.status} {plain.text(done.before.message)}",
    ]
    lines += [f"  gave way: {plain.text(str(row['file']))}, kept as blob {row['blob']}" for row in done.kept]
    lines += [f"  plugins.lock: {plain.text(str(change['plugin']))}" for change in done.plugins]
    lines += [f"after: {done.after.status}, lock {done.after.lock_sha256}"]
    text = "nothing to do" if done.status == "nothing-to-do" else "\n".join(lines)
    exit = 1 if done.status == "repairable" else 0
    face.present(result, contract="contracts.repair@1.0", text=text, exit=exit)


def _lock() -> Lock | None:
    from sterling.kernel.contract_lock_file import LockMissing, read_lock
    from sterling.kernel.shipped import shipped

    try:
        return read_lock(shipped("contracts.lock"))
    except LockMissing:
        return None


def _home(face: Face, contracts: Contracts | None = None, *, read_only: bool = False) -> Home:
    """The home whose ledger keeps the reason; the lock is not checked, since it is being mended."""
    from sterling.kernel.home import init_home, is_home, open_home

    if not read_only and not is_home(face.home_path) and not face.home_path.exists():
        face.say(f"made a home at {face.home_path}")
        init_home(face.home_path).close()
    return open_home(face.home_path, contracts=contracts, read_only=read_only)


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
