"""Hypotheses: each has a key and an id before anything is computed for it.

An id is the hash of the key's six parts, so two machines give it the same name
and changing any part gives another. Facts (exact counts, identities that hold
or do not) are registered with `test = exact`; they have no p-value and take no
part in the error budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.hashing import tagged_hash
from sterling.kernel.ids import id_from_hash

__all__ = ["Hypothesis", "Registered", "write_registry"]

_TAG = b"sterling/hypothesis/1"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The key of one hypothesis. `target` names columns in the order the estimand reads them."""

    plugin: str
    target: tuple[str, ...]
    estimand: str
    unit: str
    window: str = "all"
    direction: str = "two-sided"
    level: str = ""

    def document(self) -> dict[str, Json]:
        return {
            "plugin": self.plugin,
            "target": list(self.target),
            "level": self.level,
            "estimand": self.estimand,
            "window": self.window,
            "unit": self.unit,
            "direction": self.direction,
        }

    @property
    def id(self) -> str:
        return id_from_hash("h", tagged_hash(_TAG, canonical_bytes(self.document())))

    @classmethod
    def parse(cls, document: Mapping[str, Json]) -> Hypothesis:
        return cls(**{**document, "target": tuple(document["target"])})


@dataclass(frozen=True, slots=True)
class Registered:
    """A hypothesis as the run's registry holds it."""

    hypothesis: Hypothesis
    lane: str
    test: str
    reported: bool


def write_registry(rows: Sequence[Registered], path: Path) -> None:
    """Write the registry as Parquet, sorted by id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = ("id", "plugin", "lane", "target", "level", "estimand", "window", "unit", "direction", "test")
    schema = pa.schema([*((name, pa.string()) for name in text), ("reported", pa.bool_())])
    documents = [
        {
            **row.hypothesis.document(),
            "target": canonical_bytes(list(row.hypothesis.target)).decode(),
            "id": row.hypothesis.id,
            "lane": row.lane,
            "test": row.test,
            "reported": row.reported,
        }
        for row in sorted(rows, key=lambda row: row.hypothesis.id)
    ]
    columns = [[document[name] for document in documents] for name in schema.names]
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")
