"""The contract lock: which contracts this tree has, pinned to the byte.

`contracts.lock` is sorted JSON without time stamps, so the same tree gives the
same file. For every contract it holds the SHA-256 of its file, the file's place,
its owner, the changes it went through with their reasons, and the file's exact
text: a digest could say that something changed, but neither what it was before
nor how to put it back.

Starting up compares digests only. When they differ, the schemas are compared
place by place. `contract_diff.py` decides what a difference means; this module
reads, checks and writes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json, parse_strict
from sterling.kernel.contract_diff import FieldChange, Verdict, compare_contracts, gravest
from sterling.kernel.contracts import Contract, Contracts, load_contracts, version_of
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.schema_rules import ContractInvalid
from sterling.kernel.shipped import shipped

__all__ = [
    "FIRST_REASON",
    "ContractsBreaking",
    "Difference",
    "Lock",
    "LockMismatch",
    "LockMissing",
    "LockPlan",
    "Locked",
    "LockedChange",
    "ReasonRequired",
    "check",
    "differences",
    "lock_bytes",
    "plan_lock",
    "put_lock",
    "read_lock",
    "write",
]

FIRST_REASON = "first lock"
REASON_LETTERS_MIN, REASON_LETTERS_MAX = 10, 2000
_FORMAT = 1
_LOCK_BYTES_MAX = 16 * 1024 * 1024


class LockMissing(SterlingError):
    """There is no lock; that is a refusal, never a first run."""

    code = "contracts.lock-missing"
    hint = 'Put the file back, or lock what is there: `sterling contracts lock --reason "TEXT"`.'


class LockMismatch(SterlingError):
    """The schema files are not the locked ones."""

    code = "contracts.lock-mismatch"
    hint = 'See the change: `sterling contracts diff`. Put it back, or `sterling contracts lock --reason "TEXT"`.'

    def __init__(self, file: str, pointer: str, before: str, after: str, *, more: int = 0) -> None:
        others = f" ({more} more contracts differ)" if more else ""
        super().__init__(
            f"{file}#{pointer}: expected {before or 'nothing'} as locked, found {after or 'nothing'}{others}",
            file=file,
            pointer=pointer,
            before=before,
            after=after,
            more=more,
        )
        self.file, self.pointer, self.before, self.after = file, pointer, before, after


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
class LockedChange:
    """One locked step in a contract's life."""

    version: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Locked:
    """One contract as the lock holds it; `text` is the exact text of its file."""

    id: str
    sha256: str
    file: str
    owner: str
    changes: tuple[LockedChange, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock and the SHA-256 of its file."""

    contracts: dict[str, Locked]
    sha256: str


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
        return {
            "id": self.id,
            "against": self.against,
            "file": self.file,
            "verdict": self.verdict.word,
            "fields": [change.as_json() for change in self.changes],
        }


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
        fields = [
            {
                "contract": difference.id,
                "against": difference.against,
                "verdict": difference.verdict.word,
                "fields": [change.as_json() for change in difference.changes],
            }
            for difference in self.differences
        ]
        return {
            "before": self.before,
            "after": self.after,
            "verdict": self.verdict.word,
            "fields": fields,
            "reason": reason,
        }


def check(contracts: Contracts, lock_path: Path) -> None:
    """Refuse to go on unless every schema file is the locked one.

    Cost:   reading the lock and comparing digests; a few milliseconds.
    Errors: LockMissing, LockMismatch at the first difference.
    """
    lock = read_lock(lock_path)
    different = sorted(
        contract
        for contract in {*lock.contracts, *contracts.ids()}
        if not _is_locked(contracts, lock, contract)
    )
    if not different:
        return
    file, pointer, before, after = _first_change(contracts, lock, different[0])
    raise LockMismatch(file, pointer, before, after, more=len(different) - 1)


def read_lock(path: Path) -> Lock:
    """Errors: LockMissing; LockMismatch when the file is no lock."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as problem:
        raise LockMissing(f"expected a lock at {path}, found no file", path=str(path)) from problem
    except OSError as problem:
        raise LockMismatch(path.name, "", "a lock", problem.strerror or "an unreadable file") from problem
    try:
        document = json.loads(raw)
        if document["format"] != _FORMAT:
            raise LockMismatch(path.name, "/format", str(_FORMAT), str(document["format"]))
        rows = {name: _locked(name, row) for name, row in document["contracts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        found = f"{type(problem).__name__}: {problem}"
        raise LockMismatch(path.name, "", "a lock as `contracts lock` writes it", found) from problem
    return Lock(rows, address_of(raw))


def lock_bytes(rows: dict[str, Locked]) -> bytes:
    """The file: sorted keys, one line a value, a newline at the end."""
    contracts = {
        name: {
            "changes": [
                {"reason": change.reason, "verdict": change.verdict, "version": change.version}
                for change in row.changes
            ],
            "file": row.file,
            "owner": row.owner,
            "sha256": row.sha256,
            "text": row.text,
        }
        for name, row in rows.items()
    }
    document = {"contracts": contracts, "format": _FORMAT}
    return (json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode("utf-8")


def differences(contracts: Contracts, lock: Lock | None) -> list[Difference]:
    """Every contract that is not as locked, sorted by id; without a lock, every contract.

    Errors: ContractInvalid for a schema file that is no contract.
    """
    rows = {} if lock is None else lock.contracts
    found: list[Difference] = []
    for name in sorted({*rows, *contracts.ids()}):
        if lock is not None and _is_locked(contracts, lock, name):
            continue
        if name not in contracts.ids():
            gone = tuple(compare_contracts(_parse(rows[name]), None))
            found.append(Difference(name, name, rows[name].file, "gone", gone))
            continue
        now = contracts.get(name)
        if name in rows:
            changes = tuple(compare_contracts(_parse(rows[name]), now.schema))
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
    words = reason.strip()
    if not REASON_LETTERS_MIN <= len(words) <= REASON_LETTERS_MAX:
        raise ReasonRequired(
            f"expected a reason of {REASON_LETTERS_MIN} to {REASON_LETTERS_MAX} letters, found {len(words)}"
        )
    contracts.check()
    different = differences(contracts, lock)
    _refuse_breaking(different)
    rows = {} if lock is None else dict(lock.contracts)
    for difference in different:
        rows[difference.id] = _row(contracts, difference, rows.get(difference.id), words)
    data = lock_bytes(rows)
    return LockPlan(data, "" if lock is None else lock.sha256, address_of(data), tuple(different))


def put_lock(path: Path, data: bytes) -> None:
    """Replace the file whole, durably."""
    growing = path.with_name(f".{path.name}.{os.getpid()}.incoming")
    with growing.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(growing, path)


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


def _is_locked(contracts: Contracts, lock: Lock, name: str) -> bool:
    row = lock.contracts.get(name)
    if row is None or not contracts.has(name):
        return False
    now = contracts.get(name)
    return row.sha256 == now.sha256 and row.file == now.path


def _first_change(contracts: Contracts, lock: Lock, name: str) -> tuple[str, str, str, str]:
    """File, pointer, before and after of the first place where a contract differs."""
    row = lock.contracts.get(name)
    if row is None:
        return contracts.get(name).path, "", "", f"contract {name}"
    if not contracts.has(name):
        return row.file, "", f"contract {name}", ""
    now = contracts.get(name)
    try:
        changes = compare_contracts(_parse(row), now.schema)
    except ContractInvalid as problem:
        return now.path, problem.pointer, f"contract {name}", problem.details["found"]
    if changes:
        first = max(changes, key=lambda change: change.verdict)
        return now.path, first.pointer, first.before, first.after
    if row.file != now.path:
        return now.path, "", f"contract {name} in {row.file}", f"it in {now.path}"
    return now.path, "", f"bytes with SHA-256 {row.sha256}", f"other bytes of the same schema, {now.sha256}"


def _locked(name: str, row: dict[str, Json]) -> Locked:
    changes = tuple(LockedChange(step["version"], step["verdict"], step["reason"]) for step in row["changes"])
    return Locked(name, row["sha256"], row["file"], row["owner"], changes, row["text"])


def _parse(row: Locked) -> dict[str, Json]:
    """The locked schema. Errors: LockMismatch when the lock's text is not what its digest says."""
    raw = row.text.encode("utf-8", "surrogatepass")
    if address_of(raw) != row.sha256:
        pointer = f"/contracts/{row.id}/text"
        raise LockMismatch("contracts.lock", pointer, f"SHA-256 {row.sha256}", address_of(raw))
    schema: dict[str, Json] = parse_strict(raw, limit=len(raw))
    return schema


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
