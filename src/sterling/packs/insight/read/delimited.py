"""CSV and TSV: every cell as text first, every row either read or rejected.

Two ways lead to the same table. Text in which nothing is odd goes straight
through DuckDB's reader in its strict mode, and the row count must equal the
survey's independent count. Everything else is cut by `records.scan`, the whole
records are handed to DuckDB in a plain dialect, and the others are kept in the
rejects table with line number, reason and exact text.

Encodings: UTF-8, with or without a byte-order mark; UTF-16 with one; any other
only when the person names it.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sterling.packs.insight.engine import identifier, literal, one, opened
from sterling.packs.insight.errors import LimitExceeded, UnreadableSource
from sterling.packs.insight.read.dialect import Dialect, sniff
from sterling.packs.insight.read.model import ROW, RawColumn, RawTable, ReadOptions, name_columns
from sterling.packs.insight.read.records import Quoting, Record, TooLong, scan
from sterling.packs.insight.read.rejects import Rejects
from sterling.packs.insight.read.survey import Survey, survey

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["ENCODINGS", "read_delimited"]

ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")
_SAMPLE_BYTES = 256 * 1024
_PIECE_BYTES = 1024 * 1024
_ROW_GROUP_ROWS = 122_880
_BUFFER_BYTES = 32 * 1024 * 1024
_LINE_BYTES_MAX = 64 * 1024 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class _Copy:
    """How DuckDB is to read a text. A line longer than `line_bytes` is refused by it.

    `clean` says that we wrote the text: only a line feed ends its lines, and a
    carriage return is content.
    """

    columns: tuple[RawColumn, ...]
    quoting: Quoting
    header: bool
    line_bytes: int
    clean: bool = False


@dataclass(frozen=True, slots=True)
class _Text:
    """A source as UTF-8 text on disk: where it is, what it was, what was seen in it."""

    path: Path
    encoding: str
    survey: Survey

    def lines(self) -> Iterator[str]:
        """Its lines with their ends, cut only at the character that ends lines here."""
        with self.path.open(encoding="utf-8-sig", newline=self.survey.newline) as file:
            yield from file


def read_delimited(path: Path, scratch: Path, *, tab_first: bool, options: ReadOptions) -> RawTable:
    """Read the text at `path` into a raw Parquet table in `scratch`.

    Errors: UnreadableSource (empty, header only, torn beyond use, encoding),
            LimitExceeded (columns, bytes in a cell).
    """
    text = _as_utf8(path, scratch, options.encoding)
    dialect = _sniff(text, tab_first, options)
    header = _header(text, dialect, options)
    names = name_columns(header)
    columns = tuple(
        RawColumn(name, original, "VARCHAR") for name, original in zip(names, header, strict=True)
    )
    fast = text.survey.plain and not dialect.skip and dialect.escape == dialect.quote == '"'
    if fast:
        job = _Copy(columns, dialect.quoting, dialect.header, options.limits.cell_bytes)
        rows = _read_plain(text, job, scratch)
        counted = text.survey.lines - int(dialect.header)
        if rows == counted:
            return _table(scratch, columns, dialect, text, rows, Rejects(scratch), counted)
    return _read_careful(text, dialect, columns, scratch, options)


def _as_utf8(path: Path, scratch: Path, encoding: str | None) -> _Text:
    with path.open("rb") as file:
        start = file.read(4)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    found = marked or encoding or "utf-8"
    if found in ("utf-8", "utf-8-sig"):
        return _Text(path, found, survey(path))
    copy = scratch / "utf8.txt"
    read = 0
    decode = codecs.getincrementaldecoder(found)()
    with path.open("rb") as source, copy.open("w", encoding="utf-8", newline="") as target:
        while piece := source.read(_PIECE_BYTES):
            target.write(_decoded(decode, piece, found, read))
            read += len(piece)
        target.write(_decoded(decode, b"", found, read, final=True))
    return _Text(copy, found, survey(copy))


def _decoded(
    decode: codecs.IncrementalDecoder, piece: bytes, encoding: str, read: int, *, final: bool = False
) -> str:
    try:
        return decode.decode(piece, final)
    except UnicodeDecodeError as problem:
        raise UnreadableSource(
            f"expected text in {encoding}, found bytes that are not near byte {read + problem.start:,}",
            encoding=encoding,
        ) from problem


def _sniff(text: _Text, tab_first: bool, options: ReadOptions) -> Dialect:
    sample: list[str] = []
    size = 0
    for line in text.lines():
        size += len(line)
        if sample and size > _SAMPLE_BYTES:
            break
        sample.append(line)
    if not any(line.strip("\r\n") for line in sample):
        raise UnreadableSource("expected a header and rows, found an empty file", reason="empty")
    return sniff(sample, tab_first=tab_first, delimiter=options.delimiter, header=options.header)


def _header(text: _Text, dialect: Dialect, options: ReadOptions) -> list[str]:
    """The original column names, or blanks where the table has no header."""
    records = _scan(text, dialect.quoting, options)
    first = next(islice(records, dialect.skip, None), None)
    if first is None or first.reason is not None:
        found = "none" if first is None else f"a line that cannot be cut ({first.reason})"
        raise UnreadableSource(f"expected a first row with columns, found {found}", reason="no-header")
    if len(first.cells) > options.limits.columns:
        raise LimitExceeded(
            f"expected at most {options.limits.columns:,} columns, found {len(first.cells):,}",
            columns=len(first.cells),
        )
    if not dialect.header:
        return [""] * len(first.cells)
    if next(records, None) is None:
        raise UnreadableSource(
            "expected rows below the header, found the header alone",
            reason="header-only",
        )
    return first.cells


def _scan(text: _Text, quoting: Quoting, options: ReadOptions) -> Iterator[Record]:
    """`records.scan` with its refusal turned into an error for a person."""
    limit = options.limits.cell_bytes
    try:
        yield from scan(text.lines(), quoting, cell_bytes=limit)
    except TooLong as problem:
        raise LimitExceeded(
            f"expected cells of at most {limit:,} bytes, found a longer one (or a quote that never closes)"
            f" on line {problem.line:,}",
            line=problem.line,
        ) from problem


def _read_plain(text: _Text, job: _Copy, scratch: Path) -> int | None:
    """Rows read by DuckDB in strict mode; None when it refuses the text."""
    import duckdb

    with opened(scratch) as connection:
        try:
            return _copy(connection, text.path, job, scratch)
        except duckdb.Error:
            return None  # The careful reader says what is wrong, row by row.


def _copy(connection: DuckDBPyConnection, path: Path, job: _Copy, scratch: Path) -> int:
    """Copy the text at `path` to `raw.parquet` and give the number of rows in it."""
    places = [f"c{place}" for place in range(len(job.columns))]
    kinds = ", ".join(f"{place}: 'VARCHAR'" for place in places)
    shown = ", ".join(
        f"{place} AS {identifier(column.name)}" for place, column in zip(places, job.columns, strict=True)
    )
    quoting = job.quoting
    ends = ", new_line='\\n'" if job.clean else ""
    source = (
        f"read_csv({literal(str(path))}, columns={{{kinds}}}, auto_detect=false, header={job.header},"
        f" delim={literal(quoting.delimiter)}, quote={literal(quoting.quote)},"
        f" escape={literal(quoting.escape)}, strict_mode=true, null_padding=false,"
        f" force_not_null=[{', '.join(places)}], max_line_size={job.line_bytes},"
        f" buffer_size={max(_BUFFER_BYTES, 2 * job.line_bytes)}{ends})"
    )
    target = literal(str(scratch / "raw.parquet"))
    connection.execute(
        f"COPY (SELECT row_number() OVER () AS {identifier(ROW)}, {shown} FROM {source})"
        f" TO {target} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})"
    )
    return int(one(connection, f"SELECT count(*) FROM read_parquet({target})")[0])


def _read_careful(
    text: _Text, dialect: Dialect, columns: tuple[RawColumn, ...], scratch: Path, options: ReadOptions
) -> RawTable:
    rejects = Rejects(scratch)
    clean = scratch / "clean.csv"
    width = len(columns)
    whole = records = 0
    with clean.open("w", encoding="utf-8", newline="") as file:
        for place, record in enumerate(_scan(text, dialect.quoting, options)):
            if place < dialect.skip:
                rejects.add(record, reason="before-header")
                records += 1
                continue
            if place == dialect.skip and dialect.header:
                continue
            records += 1
            if _keep(record, width, rejects):
                whole += 1
                _write(file, record, dialect)
    if not whole:
        raise _nothing_whole(records, width, rejects)
    plain = Quoting(dialect.delimiter, '"', '"')
    with opened(scratch) as connection:
        rows = _copy(connection, clean, _Copy(columns, plain, False, _LINE_BYTES_MAX, clean=True), scratch)
    return _table(scratch, columns, dialect, text, rows, rejects, records)


def _keep(record: Record, width: int, rejects: Rejects) -> bool:
    """Whether the record is whole; if not, it is now in `rejects`."""
    if record.reason is not None:
        reason = record.reason
        if reason == "unclosed-quote" and not record.ended:
            reason = "torn-last-line"
        rejects.add(record, reason=reason)
        return False
    if len(record.cells) != width:
        torn = not record.ended and len(record.cells) < width
        rejects.add(record, reason="torn-last-line" if torn else "ragged")
        return False
    return True


def _write(file: IO[str], record: Record, dialect: Dialect) -> None:
    """Write a whole record so that it can be read in one way only: as it stands, or with all cells quoted."""
    body = record.text.rstrip("\r\n")
    if '"' in body or "\r" in body or dialect.quote in body:
        writer = csv.writer(file, delimiter=dialect.delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(record.cells)
    else:
        file.write(body + "\n")


def _nothing_whole(records: int, width: int, rejects: Rejects) -> UnreadableSource:
    return UnreadableSource(
        f"expected rows of {width:,} cells as in the header, found none in {records:,} rows;"
        f" the first is on line {rejects.first_line:,} ({rejects.first_reason})",
        reason="no-whole-row",
        rows=records,
    )


def _table(
    scratch: Path,
    columns: tuple[RawColumn, ...],
    dialect: Dialect,
    text: _Text,
    rows: int,
    rejects: Rejects,
    counted: int,
) -> RawTable:
    path = rejects.close()
    if rows + rejects.count != counted:
        raise UnreadableSource(
            f"expected {counted:,} rows by an independent count, found {rows:,} read and"
            f" {rejects.count:,} rejected",
            reason="counts-differ",
        )
    name = "tsv" if dialect.delimiter == "\t" else "csv"
    document = dialect.document(text.encoding)
    return RawTable(scratch / "raw.parquet", path, columns, rows, rejects.count, counted, name, document)
