"""The rows that could not be read: line, reason and exact text, kept as one Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sterling.packs.insight.read.records import Record, RejectReason

__all__ = ["Rejects"]

_BATCH = 10_000


class Rejects:
    """Collects refused records; `close` writes what is left and gives the file."""

    def __init__(self, scratch: Path) -> None:
        self.path = scratch / "rejects.parquet"
        self.count = 0
        self.first_line = 0
        self.first_reason = ""
        self._rows: list[tuple[int, int, str, str]] = []
        self._writer: Any = None

    def add(self, record: Record, *, reason: RejectReason) -> None:
        if not self.count:
            self.first_line, self.first_reason = record.line, reason
        self.count += 1
        self._rows.append((record.line, record.lines, reason, record.text))
        if len(self._rows) >= _BATCH:
            self._flush()

    def close(self) -> Path:
        self._flush()
        self._writer.close()
        return self.path

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(
            [("line", pa.int64()), ("lines", pa.int64()), ("reason", pa.string()), ("text", pa.string())]
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, schema, compression="zstd")
        columns = [[row[place] for row in self._rows] for place in range(len(schema))]
        self._writer.write_table(pa.table(columns, schema=schema))
        self._rows.clear()
