"""The file that pins the contracts: reading it, writing it, and what one row says.

`contracts.lock` is sorted JSON without time stamps, so the same tree gives the
same file. For every contract it holds the SHA-256 of its file, the file's place,
its owner, the changes it went through with their reasons, and the file's exact
text: a digest could say that something changed, but neither what it was before
nor how to put it back.

`contract_lock.py` compares it with the tree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json, parse_strict
from sterling.kernel.contracts import Contracts
from sterling.kernel.durable import replace_file
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.shipped import shipped

__all__ = [
    "Lock",
    "LockMismatch",
    "LockMissing",
    "Locked",
    "LockedChange",
    "lock_bytes",
    "lock_sha256",
    "parse_lock",
    "put_lock",
    "read_lock",
]

_FORMAT = 1


class LockMissing(SterlingError):
    """There is no lock; that is a refusal, never a first run."""

    code = "contracts.lock-missing"
    hint = 'Put it back, or lock what is there: `sterling contracts repair --accept --reason "TEXT"`.'


class LockMismatch(SterlingError):
    """The schema files are not the locked ones."""

    code = "contracts.lock-mismatch"
    hint = (
        'See `sterling contracts diff`; put it back: `sterling contracts repair --restore --reason "TEXT"`.'
    )

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

    @property
    def raw(self) -> bytes:
        """The locked bytes. Errors: LockMismatch when the text is not what the digest says."""
        raw = self.text.encode("utf-8", "surrogatepass")
        if address_of(raw) != self.sha256:
            pointer = f"/contracts/{self.id}/text"
            raise LockMismatch("contracts.lock", pointer, f"SHA-256 {self.sha256}", address_of(raw))
        return raw

    @property
    def schema(self) -> dict[str, Json]:
        """The locked schema. Errors: as `raw`."""
        schema: dict[str, Json] = parse_strict(self.raw, limit=len(self.text) * 4)
        return schema


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock and the SHA-256 of its file."""

    contracts: dict[str, Locked]
    sha256: str

    def agrees(self, contracts: Contracts, contract: str) -> bool:
        """Whether this contract's file is the locked one, by digest and place."""
        row = self.contracts.get(contract)
        if row is None or not contracts.has(contract):
            return False
        now = contracts.get(contract)
        return row.sha256 == now.sha256 and row.file == now.path


def read_lock(path: Path) -> Lock:
    """Errors: LockMissing; LockMismatch when the file is no lock."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as problem:
        raise LockMissing(f"expected a lock at {path}, found no file", path=str(path)) from problem
    except OSError as problem:
        raise LockMismatch(path.name, "", "a lock", problem.strerror or "an unreadable file") from problem
    return parse_lock(raw, path.name)


def parse_lock(raw: bytes, name: str = "contracts.lock") -> Lock:
    """A lock from its bytes. Errors: LockMismatch."""
    try:
        document = json.loads(raw)
        if document["format"] != _FORMAT:
            raise LockMismatch(name, "/format", str(_FORMAT), str(document["format"]))
        rows = {contract: _locked(contract, row) for contract, row in document["contracts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        found = f"{type(problem).__name__}: {problem}"
        raise LockMismatch(name, "", "a lock as `contracts lock` writes it", found) from problem
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


def lock_sha256() -> str:
    """The SHA-256 of the lock that ships with this program; empty without one."""
    try:
        return address_of(shipped("contracts.lock").read_bytes())
    except FileNotFoundError:
        return ""


def put_lock(path: Path, data: bytes) -> None:
    """Replace the file whole, durably."""
    replace_file(path, data, mode=0o666)


def _locked(name: str, row: dict[str, Json]) -> Locked:
    changes = tuple(LockedChange(step["version"], step["verdict"], step["reason"]) for step in row["changes"])
    return Locked(name, row["sha256"], row["file"], row["owner"], changes, row["text"])
