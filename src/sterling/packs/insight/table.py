"""The raw and the normalized table as blobs and records, and what plugins are told of the columns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import RecordRef, Source
from sterling.packs.insight.normalize import Normalized
from sterling.packs.insight.read.model import RawTable

__all__ = ["Stored", "TableRecords", "column_hashes", "column_views", "put_records", "store"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Addresses of a table's files. `paths` gives the blob of each view by the view's name."""

    source: str
    size_bytes: int
    rejects: str
    raw: str
    normalized: str
    exceptions: str

    def paths(self, home: Home) -> dict[str, Path]:
        views = {
            "t": self.normalized,
            "raw": self.raw,
            "rejects": self.rejects,
            "exceptions": self.exceptions,
        }
        return {view: _readable(home, address) for view, address in views.items()}


@dataclass(frozen=True, slots=True)
class TableRecords:
    """The records that say what was read and how."""

    source: RecordRef
    table: RecordRef
    mapping: RecordRef


def store(home: Home, source: str, raw: RawTable, normalized: Normalized) -> Stored:
    """Put the files of a table that was read from the blob `source`."""
    put = home.blobs.put_file
    return Stored(
        source=source,
        size_bytes=home.blobs.file(source).stat().st_size,
        rejects=put(raw.rejects),
        raw=put(raw.path),
        normalized=put(normalized.path),
        exceptions=put(normalized.exceptions),
    )


def put_records(
    home: Home, batch: Batch, stored: Stored, raw: RawTable, normalized: Normalized
) -> TableRecords:
    """Add the source, table and mapping records to a batch."""
    source = home.records.put(
        batch,
        "insight.source",
        {
            "blob": stored.source,
            "size_bytes": stored.size_bytes,
            "format": raw.format,
            "dialect": dict(raw.dialect),
            "rows": raw.rows,
            "rejected": raw.rejected,
            "counted": raw.counted,
            "rejects": stored.rejects,
            "notes": list(raw.notes),
        },
        [Source("source", blob=stored.source), Source("rejects", blob=stored.rejects)],
    )
    table = home.records.put(
        batch,
        "insight.table",
        {
            "raw": stored.raw,
            "normalized": stored.normalized,
            "rows": raw.rows,
            "columns": _columns(normalized),
            "partitions": 1,
        },
        [
            Source("source", record=source.id),
            Source("raw", blob=stored.raw),
            Source("normalized", blob=stored.normalized),
        ],
    )
    mapping = home.records.put(
        batch,
        "insight.mapping",
        _mapping(stored, normalized),
        [Source("table", record=table.id), Source("exceptions", blob=stored.exceptions)],
    )
    return TableRecords(source, table, mapping)


def column_views(normalized: Normalized) -> list[dict[str, Json]]:
    """What a plugin is told of each column before it reads a cell."""
    return [
        {
            "name": column.rule.name,
            "type": str(column.rule.type),
            "scale": column.rule.scale,
            "precision": column.rule.precision,
            "unit": column.rule.unit,
        }
        for column in normalized.columns
    ]


def column_hashes(path: Path, names: list[str]) -> dict[str, str]:
    """A hash of each column's content, taken over its row groups in order."""
    import pyarrow.parquet as pq

    digests = {name: hashlib.sha256() for name in names}
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for name in names:
                for batch in file.read_row_group(group, columns=[name]).combine_chunks().to_batches():
                    digests[name].update(batch.serialize())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _columns(normalized: Normalized) -> list[Json]:
    names = [column.rule.name for column in normalized.columns]
    hashes = column_hashes(normalized.path, names)
    return [
        {
            "name": column.rule.name,
            "original": column.raw.original,
            "type": str(column.rule.type),
            "sha256": hashes[column.rule.name],
        }
        for column in normalized.columns
    ]


def _mapping(stored: Stored, normalized: Normalized) -> dict[str, Json]:
    return {
        "exceptions": stored.exceptions,
        "columns": [
            {
                "raw": column.raw.name,
                "target": column.rule.name,
                "type": str(column.rule.type),
                "rule": column.rule.document(),
                "changed": column.spelled,
                "blank": column.blank,
                "missing_word": column.missing_word,
                "unparsed": column.unparsed,
                "notes": list(column.notes),
            }
            for column in normalized.columns
        ],
        "questions": [
            {
                "column": question.column,
                "topic": question.topic,
                "text": question.text,
                "options": list(question.options),
            }
            for question in normalized.questions
        ],
    }


def _readable(home: Home, address: str) -> Path:
    """Where the bytes can be read; where they would lie when they are absent, which a recheck says."""
    try:
        return home.blobs.file(address)
    except SterlingError:
        return home.blobs.path(address)
