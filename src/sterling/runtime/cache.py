"""Whether a step may be reused: its key, and every reason why not.

A key has one part for each thing that a step's result depends on; each part is
a hash, and the key is the hash of the parts. A step is reused when its newest
row under the same key ended `ok` or `na` and its bytes are still right. What is
not reused says why, with all reasons in one fixed order. A part that cannot be
computed means that there is no key: nothing is reused and nothing is kept.

Nothing here opens a file. `cache_store.py` gathers the material, finds rows and
reads blobs. A row is never evidence: it only says where a result was kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import tagged_hash

__all__ = [
    "CacheReason",
    "Hit",
    "KeyPartMissing",
    "KeyParts",
    "Material",
    "Miss",
    "Row",
    "judge",
    "key_parts",
    "outcome_hash",
]

_KEY_TAG = b"sterling/step-key/1"
_PART_TAG = b"sterling/step-key-part/1"
_OUTCOME_TAG = b"sterling/step-outcome/1"


class CacheReason(StrEnum):
    """Why a step ran although steps can be reused; in the order in which they are told."""

    FIRST_TIME = "first-time"
    CODE = "code"
    MANIFEST = "manifest"
    SETTINGS = "settings"
    INPUT = "input"
    UPSTREAM = "upstream"
    SEED = "seed"
    POLICY = "policy"
    LIBRARY = "library"
    MODEL = "model"
    CONTRACT = "contract"
    TAMPERED = "tampered"
    FAILED_BEFORE = "failed-before"
    KEY_ERROR = "key-error"
    BYPASS = "bypass"


class KeyPartMissing(SterlingError):
    """A part of a step's key cannot be computed, so the step is not reused."""

    code = "cache.key-part-missing"
    hint = "The step ran as it would without a cache. See `sterling run explain STEP`."


@dataclass(frozen=True, slots=True)
class Material:
    """What a key is made of, before hashing. Tables may be in any order."""

    step: str
    code: str
    manifest: Mapping[str, Json]
    settings: Mapping[str, Json]
    inputs: Mapping[str, Json]
    upstream: Mapping[str, str]
    seed: int
    mode: str
    lane_policy_version: int
    interpreter: Sequence[str]
    libraries: Mapping[str, str]
    models: Mapping[str, str]
    contracts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyParts:
    """One hash a part, 64 hex digits each. Every part but `step` is named like its reason."""

    step: str
    code: str
    manifest: str
    settings: str
    input: str
    upstream: str
    seed: str
    policy: str
    library: str
    model: str
    contract: str

    @property
    def key(self) -> str:
        """The hash over all parts."""
        return tagged_hash(_KEY_TAG, *(bytes.fromhex(part) for part in self.as_json().values())).hex()

    def as_json(self) -> dict[str, str]:
        """The parts by name, in order."""
        return {part.name: str(getattr(self, part.name)) for part in fields(self)}


@dataclass(frozen=True, slots=True)
class Row:
    """What is known under a key: how the step ended, and whether its kept bytes were found wrong."""

    state: str
    tampered: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """The step may be reused."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The step has to run; at least one reason."""

    reasons: tuple[CacheReason, ...]


def key_parts(material: Material) -> KeyParts:
    """The parts of a key.

    Raises:
        KeyPartMissing: something in the material is no JSON, so it has no hash.
    """
    values: dict[str, Json] = {
        "step": material.step,
        "code": material.code,
        "manifest": dict(material.manifest),
        "settings": dict(material.settings),
        "input": dict(material.inputs),
        "upstream": dict(material.upstream),
        "seed": material.seed,
        "policy": [material.mode, material.lane_policy_version],
        "library": [list(material.interpreter), dict(material.libraries)],
        "model": dict(material.models),
        "contract": dict(material.contracts),
    }
    return KeyParts(**{name: _part(name, value) for name, value in values.items()})


def judge(
    parts: KeyParts | None, row: Row | None, last: KeyParts | None, *, bypass: bool = False
) -> Hit | Miss:
    """Whether a step may be reused.

    `row` is the newest one under this key; `last` is the key of the step's last
    execution in this home, with which a key without a row is compared.
    """
    if bypass:
        return Miss((CacheReason.BYPASS,))
    if parts is None:
        return Miss((CacheReason.KEY_ERROR,))
    if row is not None:
        return _judge_row(row)
    if last is None or last.step != parts.step:
        return Miss((CacheReason.FIRST_TIME,))
    ours, theirs = parts.as_json(), last.as_json()
    different = tuple(reason for reason in CacheReason if ours.get(reason) != theirs.get(reason))
    # The row of an equal key can be missing only when writing it went wrong.
    return Miss(different or (CacheReason.FIRST_TIME,))


def outcome_hash(state: str, reason: str, because: str, kept: Mapping[str, str]) -> str:
    """What a step that needs this one sees of it: its outcome, and the address of each thing it gave."""
    return tagged_hash(_OUTCOME_TAG, canonical_bytes([state, reason, because, dict(kept)])).hex()


def _judge_row(row: Row) -> Hit | Miss:
    if row.tampered:
        return Miss((CacheReason.TAMPERED,))
    if row.state not in ("ok", "na"):
        return Miss((CacheReason.FAILED_BEFORE,))
    return Hit()


def _part(name: str, value: Json) -> str:
    try:
        body = canonical_bytes(value, floats=True)
    except (SterlingError, ValueError, TypeError) as problem:
        raise KeyPartMissing(f"expected {name} of plain JSON values, found {problem}") from problem
    return tagged_hash(_PART_TAG, name.encode(), b"\x00", body).hex()
