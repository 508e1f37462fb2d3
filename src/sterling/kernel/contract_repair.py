"""Mending a broken contract lock: putting the locked schemas back, or accepting those that are there.

`restore` writes the text that the lock holds over what differs and sets aside
what the lock does not know. `accept` locks the schemas as they are, and refuses
what would break old documents. Nothing is lost either way: every byte that gives
way is kept as a blob of the home first.

New files are written beside their places before anything else, so a folder that
cannot be written stops the repair while all is as it was. Then comes the entry
with the state before and after, then the files move into place, and the check
that every start does is done once more. Killed in between, the lock still
disagrees, and repairing again completes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import EACCES
from pathlib import Path

from sterling.kernel.batch import Batch, Draft
from sterling.kernel.canonical import Json
from sterling.kernel.contract_diff import Verdict
from sterling.kernel.contract_lock import (
    FIRST_REASON,
    LOCK_SUBJECT,
    Difference,
    agree,
    check,
    differences,
    plan_lock,
    require_reason,
)
from sterling.kernel.contract_lock_file import LockMismatch, LockMissing, parse_lock, read_lock
from sterling.kernel.contracts import Contract, Contracts, load_contracts, reload_contracts, schema_files
from sterling.kernel.durable import write_synced
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home, HomeMissing

__all__ = ["BootStatus", "ContractsUnwritable", "Repaired", "boot_status", "repair"]

ACTIONS = ("restore", "accept")

OpenHome = Callable[[Contracts], Home]
# Gives the plugins whose pinned contracts are others than these; and pins them anew when told to write.
MendPlugins = Callable[[Contracts, bool], list[Json]]


class ContractsUnwritable(SterlingError):
    """The schema files or the lock cannot be written."""

    code = "contracts.unwritable"
    hint = "Run `sterling contracts repair` as the owner of the installation, or install Sterling again."


@dataclass(frozen=True, slots=True)
class BootStatus:
    """What starting up says of the contracts: `ok`, or the code of its refusal."""

    status: str
    message: str
    lock_sha256: str
    differences: tuple[Difference, ...] = ()

    def as_json(self) -> dict[str, Json]:
        return {
            "status": self.status,
            "message": self.message,
            "lock_sha256": self.lock_sha256,
            "fields": [difference.as_entry() for difference in self.differences],
        }


@dataclass(frozen=True, slots=True)
class _Put:
    """A file that is to hold other bytes; None: the file is to be set aside."""

    path: Path
    data: bytes | None

    @property
    def growing(self) -> Path:
        return self.path.with_name(f".{self.path.name}.incoming")

    @property
    def aside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.unlocked")


@dataclass(frozen=True, slots=True)
class _Plan:
    contracts: Contracts
    lock: bytes
    puts: tuple[_Put, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did or, under `--check`, would do; `entry` is -1 when nothing was written."""

    status: str  # repaired, repairable or nothing-to-do
    action: str
    reason: str
    before: BootStatus
    after: BootStatus
    kept: tuple[dict[str, Json], ...] = ()
    plugins: tuple[Json, ...] = ()
    entry: int = -1

    @property
    def verdict(self) -> Verdict:
        return max((difference.verdict for difference in self.before.differences), default=Verdict.NONE)

    def as_json(self) -> dict[str, Json]:
        """What the entry and the command's answer have in common."""
        return {
            "action": self.action,
            "reason": self.reason,
            "verdict": self.verdict.word,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "kept": list(self.kept),
            "plugins": list(self.plugins),
        }


def boot_status(root: Path, lock_path: Path) -> BootStatus:
    """What a start would say now, with every difference that can be told."""
    raw = _bytes_of(lock_path)
    sha256 = "" if raw is None else address_of(raw)
    try:
        check(load_contracts(root), lock_path)
    except SterlingError as refusal:
        return BootStatus(refusal.code, refusal.message, sha256, _told(root, raw or b""))
    return BootStatus("ok", "", sha256)


def repair(
    root: Path,
    lock_path: Path,
    action: str,
    reason: str,
    *,
    open_home: OpenHome,
    mend_plugins: MendPlugins,
    only_check: bool = False,
) -> Repaired:
    """Make the schemas below `root` and their lock agree again, and write down how.

    Errors: contracts.reason-required, contracts.breaking, contracts.invalid (accept),
            contracts.lock-missing, contracts.lock-mismatch (a lock that cannot restore),
            contracts.unwritable; what opening the home or committing raises.
    """
    assert action in ACTIONS, action
    before = boot_status(root, lock_path)
    if before.status == "ok":
        plan = _Plan(load_contracts(root), lock_path.read_bytes(), ())
    else:
        lock = _known_lock(lock_path, open_home)
        plan = (_restoring if action == "restore" else _accepting)(root, lock_path, lock, reason, only_check)
    after = BootStatus("ok", "", address_of(plan.lock))
    agree(plan.contracts, parse_lock(plan.lock))
    plugins = tuple(mend_plugins(plan.contracts, False))
    kept = tuple(_row(root, lock_path, put.path) for put in plan.puts if put.path.is_file())
    done = Repaired("nothing-to-do", action, reason.strip(), before, after, kept, plugins)
    if not plan.puts and not plugins:
        return done
    if only_check:
        return replace(done, status="repairable")
    require_reason(reason)
    _stage(plan.puts)
    entry = _write_down(done, plan, open_home)
    try:
        for put in plan.puts:
            os.replace(*((put.path, put.aside) if put.data is None else (put.growing, put.path)))
        mend_plugins(plan.contracts, True)
    except OSError as problem:
        raise _unwritable(problem) from problem
    check(reload_contracts(root), lock_path)
    return replace(done, status="repaired", entry=entry)


def _told(root: Path, lock: bytes) -> tuple[Difference, ...]:
    """Every difference; none where a file is too broken to be compared."""
    try:
        return tuple(differences(load_contracts(root), parse_lock(lock)))
    except SterlingError:
        return ()


def _known_lock(lock_path: Path, open_home: OpenHome) -> bytes | SterlingError:
    """The lock on the disk; where that is gone or torn, the newest that the ledger kept; else the refusal."""
    try:
        read_lock(lock_path)
        return lock_path.read_bytes()
    except (LockMissing, LockMismatch) as problem:
        refusal = problem
    try:
        with open_home(Contracts({})) as home:
            newest = home.ledger.newest(LOCK_SUBJECT)
            if newest is not None and "lock" in newest.payload:
                return home.blobs.get(newest.payload["lock"]["blob"])
    except HomeMissing:
        return refusal  # A dry run makes no home.
    return refusal


def _restoring(root: Path, lock_path: Path, known: bytes | SterlingError, _: str, __: bool) -> _Plan:
    if isinstance(known, SterlingError):
        raise known
    rows = parse_lock(known).contracts
    places = {name: _inside(root, name, row.file) for name, row in rows.items()}
    puts = [_Put(places[name], row.raw) for name, row in rows.items() if _bytes_of(places[name]) != row.raw]
    unknown = sorted({Path(path) for path in schema_files(root)} - set(places.values()))
    puts += [_Put(path, None) for path in unknown]
    if _bytes_of(lock_path) != known:
        puts.append(_Put(lock_path, known))
    locked = Contracts({name: Contract(name, row.raw, row.file) for name, row in rows.items()})
    return _Plan(locked, known, tuple(puts))


def _accepting(
    root: Path, lock_path: Path, known: bytes | SterlingError, reason: str, only_check: bool
) -> _Plan:
    contracts = load_contracts(root)
    lock = None if isinstance(known, SterlingError) else parse_lock(known)
    data = plan_lock(contracts, lock, FIRST_REASON if only_check else reason).data
    return _Plan(contracts, data, (_Put(lock_path, data),))


def _write_down(done: Repaired, plan: _Plan, open_home: OpenHome) -> int:
    """Keep what gives way and the lock as blobs, and append the entry; gives its index."""
    with open_home(plan.contracts) as home:
        for put in plan.puts:
            if put.path.is_file():
                home.blobs.put(put.path.read_bytes())
        told = done.as_json() | {"lock": {"blob": home.blobs.put(plan.lock)}}
        batch = Batch(drafts=[Draft("contract.repaired", told, subject=LOCK_SUBJECT)])
        return home.ledger.commit(batch).last


def _inside(root: Path, contract: str, file: str) -> Path:
    """Where a locked schema belongs. Errors: LockMismatch for a place where no schema lies."""
    path = root / file
    is_inside = path.is_relative_to(root) and ".." not in path.parts
    if not is_inside or path.parent.name != "schemas" or path.name != f"{contract}.json":
        raise LockMismatch("contracts.lock", f"/contracts/{contract}/file", f"schemas/{contract}.json", file)
    return path


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _row(root: Path, lock_path: Path, path: Path) -> dict[str, Json]:
    """A file that gives way: its place, and the blob that keeps its bytes."""
    name = lock_path.name if path == lock_path else path.relative_to(root).as_posix()
    return {"file": name, "blob": address_of(path.read_bytes())}


def _stage(puts: tuple[_Put, ...]) -> None:
    """Write every new file beside its place. Errors: ContractsUnwritable; then nothing has changed."""
    try:
        for put in puts:
            put.path.parent.mkdir(parents=True, exist_ok=True)
            if put.data is None and not os.access(put.path.parent, os.W_OK):
                raise PermissionError(EACCES, os.strerror(EACCES), str(put.path.parent))
            if put.data is not None:
                write_synced(put.growing, put.data, mode=0o666)
    except OSError as problem:
        raise _unwritable(problem) from problem


def _unwritable(problem: OSError) -> ContractsUnwritable:
    found = f"found {problem.strerror}: {problem.filename}"
    return ContractsUnwritable(f"expected to write the contracts of this installation, {found}")
