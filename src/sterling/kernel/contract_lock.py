"""The contract lock: may this tree run, what changed in it, and accepting a change.

Starting up compares digests only. When they differ, the schemas are compared
place by place, and the refusal names the first. A change is locked for a reason,
which the lock and the ledger keep; one that old documents or readers would not
survive needs a new major version.

`contract_lock_file.py` knows the file, `contract_diff.py` what a difference means.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.batch import Batch, Draft
from sterling.kernel.canonical import Json
from sterling.kernel.contract_diff import FieldChange, Verdict, compare_contracts, gravest
from sterling.kernel.contract_lock_file import (
    Lock,
    Locked,
    LockedChange,
    LockMismatch,
    LockMissing,
    lock_bytes,
    put_lock,
    read_lock,
)
from sterling.kernel.contracts import Contract, Contracts, load_contracts, version_of
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.schema_rules import ContractInvalid
from sterling.kernel.shipped import shipped

if TYPE_CHECKING:
    from sterling.kernel.home import Home

__all__ = [
    "FIRST_REASON",
    "LOCK_SUBJECT",
    "ContractsBreaking",
    "Difference",
    "LockPlan",
    "LockingDone",
    "ReasonRequired",
    "Survey",
    "SurveyRow",
    "agree",
    "check",
    "differences",
    "lock_for_reason",
    "plan_lock",
    "require_reason",
    "survey",
    "write",
]

FIRST_REASON = "first lock"
LOCK_SUBJECT = "contracts.lock"
REASON_LETTERS_MIN, REASON_LETTERS_MAX = 10, 2000


class ContractsBreaking(SterlingError):
    """A change that documents or readers would not survive, without a new major version."""

    code = "contracts.breaking"
    hint = "Put the old file back and add the change as a new major version: `sterling contracts diff`."


class ReasonRequired(SterlingError):
    """A lock is only changed with a reason."""

    code = "contracts.reason-required"
    hint = 'Say why in at least 10 letters: `sterling contracts lock --reason "TEXT"`.'
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Difference:
    """One contract that is not as locked; `against` is the version it was compared with."""

    id: str
    against: str
    file: str
    state: str  # new, changed or gone
    changes: tuple[FieldChange, ...]

    @property
    def verdict(self) -> Verdict:
        return gravest(list(self.changes))

    @property
    def is_refused(self) -> bool:
        """Whether it breaks documents or readers within one major version."""
        same_major = not self.against or version_of(self.against)[0] == version_of(self.id)[0]
        return self.verdict is Verdict.BREAKING and same_major

    def as_json(self) -> dict[str, Json]:
        named = {"id": self.id, "against": self.against, "file": self.file}
        return named | {"verdict": self.verdict.word, "fields": self._fields()}

    def as_entry(self) -> dict[str, Json]:
        """The same as the ledger's entries hold it."""
        named = {"contract": self.id, "against": self.against}
        return named | {"verdict": self.verdict.word, "fields": self._fields()}

    def _fields(self) -> list[Json]:
        return [change.as_json() for change in self.changes]


@dataclass(frozen=True, slots=True)
class LockPlan:
    """What locking would do: the new file, and every difference that it accepts."""

    data: bytes
    before: str
    after: str
    differences: tuple[Difference, ...]

    @property
    def verdict(self) -> Verdict:
        return max((difference.verdict for difference in self.differences), default=Verdict.NONE)

    def entry(self, reason: str) -> dict[str, Json]:
        """The payload of the ledger's `contract.locked` entry."""
        return {
            "before": self.before,
            "after": self.after,
            "verdict": self.verdict.word,
            "fields": [difference.as_entry() for difference in self.differences],
            "reason": reason,
        }


@dataclass(frozen=True, slots=True)
class LockingDone:
    """A lock that was written; `entry` is -1 when nothing had changed."""

    plan: LockPlan
    entry: int


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """One contract and whether the lock agrees: same, changed, new or gone."""

    id: str
    owner: str
    kind: str
    file: str
    sha256: str
    locked: str

    def as_json(self) -> dict[str, Json]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Survey:
    """Every contract against the lock; `sha256` is that of the lock, empty without one."""

    status: str  # locked, changed or missing
    sha256: str
    rows: tuple[SurveyRow, ...]


def check(contracts: Contracts, lock_path: Path) -> None:
    """Refuse to go on unless every schema file is the locked one.

    Cost:   reading the lock and comparing digests; a few milliseconds.
    Errors: LockMissing, LockMismatch at the first difference.
    """
    agree(contracts, read_lock(lock_path))


def agree(contracts: Contracts, lock: Lock) -> None:
    """Errors: LockMismatch at the first difference."""
    different = sorted(
        contract for contract in {*lock.contracts, *contracts.ids()} if not lock.agrees(contracts, contract)
    )
    if not different:
        return
    file, pointer, before, after = _first_change(contracts, lock, different[0])
    raise LockMismatch(file, pointer, before, after, more=len(different) - 1)


def survey(contracts: Contracts, lock: Lock | None) -> Survey:
    """Compile every contract and say of each whether the lock agrees.

    Errors: ContractInvalid at the first schema file that is no contract.
    """
    contracts.check()
    locked = {} if lock is None else lock.contracts
    rows: list[SurveyRow] = []
    for name in sorted({*locked, *contracts.ids()}):
        if not contracts.has(name):
            kind = str(locked[name].schema.get("x-kind", ""))
            rows.append(SurveyRow(name, locked[name].owner, kind, "", "", "gone"))
            continue
        now = contracts.get(name)
        same = lock is not None and lock.agrees(contracts, name)
        state = "same" if same else ("changed" if name in locked else "new")
        rows.append(SurveyRow(name, now.owner, now.kind, now.path, now.sha256, state))
    if lock is None:
        return Survey("missing", "", tuple(rows))
    agrees = all(row.locked == "same" for row in rows)
    return Survey("locked" if agrees else "changed", lock.sha256, tuple(rows))


def differences(contracts: Contracts, lock: Lock | None) -> list[Difference]:
    """Every contract that is not as locked, sorted by id; without a lock, every contract.

    Errors: ContractInvalid for a schema file that is no contract.
    """
    rows = {} if lock is None else lock.contracts
    found: list[Difference] = []
    for name in sorted({*rows, *contracts.ids()}):
        if lock is not None and lock.agrees(contracts, name):
            continue
        if name not in contracts.ids():
            gone = tuple(compare_contracts(rows[name].schema, None))
            found.append(Difference(name, name, rows[name].file, "gone", gone))
            continue
        now = contracts.get(name)
        if name in rows:
            changes = tuple(compare_contracts(rows[name].schema, now.schema))
            found.append(Difference(name, name, now.path, "changed", changes))
        else:
            older = _older(contracts, now)
            changes = tuple(compare_contracts(older.schema if older else None, now.schema))
            found.append(Difference(name, older.id if older else "", now.path, "new", changes))
    return found


def plan_lock(contracts: Contracts, lock: Lock | None, reason: str) -> LockPlan:
    """The lock that accepts every difference, for a reason.

    Errors: ReasonRequired, ContractsBreaking, ContractInvalid.
    """
    words = require_reason(reason)
    contracts.check()
    different = differences(contracts, lock)
    _refuse_breaking(different)
    rows = {} if lock is None else dict(lock.contracts)
    for difference in different:
        rows[difference.id] = _row(contracts, difference, rows.get(difference.id), words)
    data = lock_bytes(rows)
    return LockPlan(data, "" if lock is None else lock.sha256, address_of(data), tuple(different))


def require_reason(reason: str) -> str:
    """The reason without blanks around it. Errors: ReasonRequired when it says too little or too much."""
    words = reason.strip()
    if not REASON_LETTERS_MIN <= len(words) <= REASON_LETTERS_MAX:
        raise ReasonRequired(
            f"expected a reason of {REASON_LETTERS_MIN} to {REASON_LETTERS_MAX} letters, found {len(words)}"
        )
    return words


def lock_for_reason(
    contracts: Contracts, path: Path, reason: str, *, open_home: Callable[[], Home]
) -> LockingDone:
    """Lock what is there: the entry first, then the file.

    Killed in between, the lock still disagrees and everything but the mending
    commands still refuses; locking again completes it.

    Errors: as `plan_lock`; what opening the home or committing raises.
    """
    try:
        known: Lock | None = read_lock(path)
    except LockMissing:
        known = None
    plan = plan_lock(contracts, known, reason)
    if not plan.differences and known is not None:
        return LockingDone(plan, -1)
    with open_home() as home:
        told = plan.entry(reason.strip()) | {"lock": {"blob": home.blobs.put(plan.data)}}
        batch = Batch(drafts=[Draft("contract.locked", told, subject=LOCK_SUBJECT)])
        entry = home.ledger.commit(batch).last
    put_lock(path, plan.data)
    return LockingDone(plan, entry)


def write(contracts: Contracts, lock_path: Path) -> str:
    """Lock a tree under construction from its files alone; returns the new file's SHA-256.

    It forgets nothing: a lock that already holds reasons is changed by
    `contracts lock --reason` only.

    Errors: ReasonRequired, ContractsBreaking, ContractInvalid, LockMismatch for a file that is no lock.
    """
    contracts.check()
    try:
        known = read_lock(lock_path).contracts
    except LockMissing:
        known = {}
    reasons = {change.reason for row in known.values() for change in row.changes} - {FIRST_REASON}
    if reasons:
        raise ReasonRequired(f"expected a lock without history, found reasons such as {min(reasons)!r}")
    different = differences(contracts, None)
    _refuse_breaking(different)
    rows = {each.id: _row(contracts, each, None, FIRST_REASON) for each in different}
    data = lock_bytes(rows)
    put_lock(lock_path, data)
    return address_of(data)


def _refuse_breaking(different: list[Difference]) -> None:
    for difference in different:
        if not difference.is_refused:
            continue
        worst = max(difference.changes, key=lambda change: change.verdict)
        raise ContractsBreaking(
            f"{difference.file}#{worst.pointer}: expected a new major version for a breaking change, "
            f"found {worst.change} in {difference.id}",
            contract=difference.id,
            pointer=worst.pointer,
            change=worst.change,
            undecidable=worst.undecidable,
        )


def _first_change(contracts: Contracts, lock: Lock, name: str) -> tuple[str, str, str, str]:
    """File, pointer, before and after of the first place where a contract differs."""
    row = lock.contracts.get(name)
    if row is None:
        return contracts.get(name).path, "", "", f"contract {name}"
    if not contracts.has(name):
        return row.file, "", f"contract {name}", ""
    now = contracts.get(name)
    try:
        changes = compare_contracts(row.schema, now.schema)
    except ContractInvalid as problem:
        return now.path, problem.pointer, f"contract {name}", problem.details["found"]
    if changes:
        first = max(changes, key=lambda change: change.verdict)
        return now.path, first.pointer, first.before, first.after
    if row.file != now.path:
        return now.path, "", f"contract {name} in {row.file}", f"it in {now.path}"
    return now.path, "", f"bytes with SHA-256 {row.sha256}", f"other bytes of the same schema, {now.sha256}"


def _older(contracts: Contracts, contract: Contract) -> Contract | None:
    """The newest version of the same contract below this one."""
    mine = version_of(contract.id)
    below = [other for other in contracts if other.name == contract.name and version_of(other.id) < mine]
    return max(below, key=lambda other: version_of(other.id), default=None)


def _row(contracts: Contracts, difference: Difference, known: Locked | None, reason: str) -> Locked:
    contract = contracts.get(difference.id)
    step = LockedChange(contract.version, difference.verdict.word, reason)
    before = () if known is None else known.changes
    return Locked(
        contract.id,
        contract.sha256,
        contract.path,
        contract.owner,
        (*before, step),
        contract.raw.decode("utf-8"),
    )


def main(arguments: list[str] | None = None) -> int:
    """`python -m sterling.kernel.contract_lock [--write]`: check or write a tree's first lock."""
    import argparse  # Costs 5 ms that no command of Sterling should pay.

    parser = argparse.ArgumentParser(prog="python -m sterling.kernel.contract_lock", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the lock of a tree under construction")
    wanted = parser.parse_args(arguments)
    path = shipped("contracts.lock")
    action: Callable[[Contracts, Path], str | None] = write if wanted.write else check
    try:
        action(load_contracts(), path)
    except SterlingError as problem:
        print(f"{problem.code}: {problem.message}\nnext: {problem.hint}", file=sys.stderr)
        return problem.exit
    print(f"{len(load_contracts())} contracts agree with {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
