"""A batch: what one transaction is to write, as plain values.

The ledger has one way in. A batch holds drafts of entries, operations on leases
and effects, and preconditions; all of it happens, or none. It carries a submission
id of its own: committing the same batch twice gives the first receipt again.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from enum import StrEnum

from sterling.kernel.canonical import Json

__all__ = [
    "Actor",
    "Batch",
    "ConfigIs",
    "ContractsAre",
    "Draft",
    "EffectOperation",
    "Fence",
    "FenceHolds",
    "LeaseOperation",
    "LeaseVerb",
    "NewestIs",
    "Operation",
    "Precondition",
    "RecordAbsent",
    "SizeIs",
]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes: type is person, program or agent."""

    type: str
    id: str

    def as_json(self) -> dict[str, Json]:
        return {"type": self.type, "id": self.id}


PROGRAM = Actor("program", "sterling")


@dataclass(frozen=True, slots=True)
class Fence:
    """The right under which a batch is written: a lease's name and its token."""

    lease: str
    token: int


@dataclass(frozen=True, slots=True)
class FenceHolds:
    """The lease is held under this token and has not expired."""

    lease: str
    token: int


@dataclass(frozen=True, slots=True)
class NewestIs:
    """The newest entry of the subject has this index (None: it has no entry)."""

    subject: str
    index: int | None


@dataclass(frozen=True, slots=True)
class RecordAbsent:
    """No record has this id."""

    id: str


@dataclass(frozen=True, slots=True)
class SizeIs:
    """The batch's first draft gets exactly this index: the log has as many entries when it is written."""

    size: int


@dataclass(frozen=True, slots=True)
class ConfigIs:
    """The home's settings file says what has this hash (`Config.file_sha256`), whoever writes the batch."""

    sha256: str


@dataclass(frozen=True, slots=True)
class ContractsAre:
    """The contract lock has this hash."""

    sha256: str


Precondition = FenceHolds | NewestIs | RecordAbsent | SizeIs | ConfigIs | ContractsAre


class LeaseVerb(StrEnum):
    ACQUIRE = "acquire"
    RENEW = "renew"
    RELEASE = "release"
    SWAP = "swap"


@dataclass(frozen=True, slots=True)
class LeaseOperation:
    """One move on a lease; `ttl_us` counts for all but release, `to` for swap.

    A `token` that is not 0 is the hold that is meant: another hold of the same
    name, even by the same holder, is not touched. An empty `host` is this host.
    """

    verb: LeaseVerb
    name: str
    holder: str
    ttl_us: int = 0
    pid: int = 0
    pid_started: int = 0
    boot_id: str = ""
    host: str = ""
    token: int = 0
    to: str = ""


@dataclass(frozen=True, slots=True)
class EffectOperation:
    """One step of an effect: the state it is to reach and the payload of the entry that says so."""

    to: str
    id: str
    payload: Json


Operation = LeaseOperation | EffectOperation


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry before it has an index, a time and a hash."""

    kind: str
    payload: Json
    subject: str = ""
    run: str = ""
    step: str = ""
    actor: Actor = PROGRAM


@dataclass(slots=True)
class Batch:
    """Drafts, operations and preconditions that are written together or not at all."""

    actor: Actor = PROGRAM
    run: str = ""
    step: str = ""
    submission: str = field(default_factory=lambda: _submission_id())
    drafts: list[Draft] = field(default_factory=list)
    conditions: list[Precondition] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    records: set[str] = field(default_factory=set)
    closing: bool = False  # It ends open work, so it is written even on a full disk.
    note: bool = False  # A checkpoint over everything, and its copy outside, belong to it.

    def append(
        self,
        kind: str,
        payload: Json,
        *,
        subject: str = "",
        run: str | None = None,
        step: str | None = None,
        actor: Actor | None = None,
    ) -> None:
        """Add a draft; run, step and actor default to the batch's own."""
        self.drafts.append(
            Draft(
                kind,
                payload,
                subject=subject,
                run=self.run if run is None else run,
                step=self.step if step is None else step,
                actor=actor or self.actor,
            )
        )

    def require(self, condition: Precondition) -> None:
        """Refuse the batch unless this holds when it is written."""
        self.conditions.append(condition)

    def operate(self, operation: Operation) -> None:
        """Add an operation on a lease or an effect; it happens before the drafts are appended."""
        self.operations.append(operation)


def _submission_id() -> str:
    """128 bits, the first 48 of them the time in milliseconds: what is new lies together in an index."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"
