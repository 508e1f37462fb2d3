"""Records: typed documents that are written once and name what they came from.

A record's hash covers its contract and its canonical document, and its id is
made from the hash, so equal inputs give equal ids in every home. The time of
writing and the run stand in the entry, never in the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import Blobs
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.contracts import Contracts
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.hashing import RECORD_TAG, tagged_hash
from sterling.kernel.ids import id_from_hash
from sterling.kernel.ledger import Ledger, StoredEntry
from sterling.kernel.store_sqlite import record_row
from sterling.kernel.upcast import to_newest

__all__ = ["Record", "RecordAltered", "RecordMissing", "RecordRef", "Records", "Source", "SourceMissing"]

INLINE_BYTES_MAX = 24 * 1024


class RecordMissing(SterlingError):
    """No record has this id."""

    code = "record.absent"
    hint = "Check the id with `sterling ledger show`."


class SourceMissing(SterlingError):
    """A record names a source that is not there."""

    code = "record.source-missing"
    hint = "Write the source first; nothing was written. See `sterling ledger show`."


class RecordAltered(SterlingError):
    """A stored document is not what its record's hash says."""

    code = "integrity.record-altered"
    hint = "Run `sterling verify --blobs` and restore what it names."
    exit = EXIT_BROKEN


@dataclass(frozen=True, slots=True)
class RecordRef:
    """A record's id and its hash in hex."""

    id: str
    hash: str


@dataclass(frozen=True, slots=True)
class Source:
    """What a record came from: a record id or a blob address, and the role it played."""

    role: str
    record: str = ""
    blob: str = ""

    def as_json(self) -> dict[str, str]:
        assert bool(self.record) != bool(self.blob), "a source is a record or a blob"
        named = {"record": self.record} if self.record else {"blob": self.blob}
        return {"role": self.role, **named}


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read; `contract` is what its document is now, `entry` the index that wrote it."""

    id: str
    hash: str
    contract: str
    document: Json
    sources: tuple[Source, ...]
    entry: int
    run: str
    at_us: int


class Records:
    """The records of one home."""

    def __init__(self, ledger: Ledger, blobs: Blobs, contracts: Contracts) -> None:
        self._ledger, self._blobs, self._contracts = ledger, blobs, contracts

    def put(self, batch: Batch, contract: str, document: Json, sources: Sequence[Source] = ()) -> RecordRef:
        """Add a record to a batch; it exists once the batch is committed.

        Errors: record.invalid with pointer and rule, record.source-missing.
        """
        full = self._contracts.validate(contract, document)
        known = self._contracts.get(full)
        data = canonical_bytes(document, floats=known.has_numbers)
        digest = tagged_hash(RECORD_TAG, full.encode("ascii"), b"\x00", data)
        ref = RecordRef(id_from_hash("r", digest), digest.hex())
        for source in sources:
            self._check_source(source, batch)
        payload: dict[str, Json] = {
            "contract": full,
            "id": ref.id,
            "hash": ref.hash,
            "sources": [source.as_json() for source in sources],
        }
        if known.sensitive or len(data) > INLINE_BYTES_MAX:
            payload |= {"blob": self._blobs.put(data), "size_bytes": len(data)}
        else:
            payload["document"] = document
        batch.append("record.put", payload, subject=ref.id)
        batch.records.add(ref.id)
        return ref

    def has(self, record_id: str) -> bool:
        return record_row(self._ledger.connection(), record_id) is not None

    def get(self, record_id: str) -> Record:
        """The record, its document checked against its hash.

        A document of an older major version is read as one of the newest; hash and bytes stay the old ones.

        Errors: RecordMissing, RecordAltered, RecordUnreadable, BlobAltered, BlobAbsent.
        """
        row = record_row(self._ledger.connection(), record_id)
        entry = None if row is None else self._ledger.entry(row[2])
        if entry is None:
            raise RecordMissing(f"expected a record {record_id}, found none", id=record_id)
        return self._of(entry)

    def read(self, contract: str, *, run: str | None = None, after: int = -1) -> Iterator[Record]:
        """Records of one contract (named without its version) in the order they were written."""
        for entry in self._ledger.read(kind="record.put", contract=contract, run=run, after=after):
            yield self._of(entry)

    def walk(self, record_id: str, direction: str = "up") -> Iterator[Record]:
        """The record and, breadth first, everything it came from (`up`) or that came from it (`down`)."""
        assert direction in ("up", "down"), direction
        waiting, seen = [record_id], {record_id}
        while waiting:
            record = self.get(waiting.pop(0))
            yield record
            if direction == "up":
                near = [source.record for source in record.sources if source.record]
            else:
                near = [
                    str(entry.payload["id"])
                    for entry in self._ledger.read(kind="record.put", after=record.entry)
                    if any(source.get("record") == record.id for source in entry.payload["sources"])
                ]
            fresh = [item for item in near if item not in seen]
            seen.update(fresh)
            waiting.extend(fresh)

    def _check_source(self, source: Source, batch: Batch) -> None:
        if source.blob and not self._blobs.has(source.blob):
            raise SourceMissing(f"expected a durable blob {source.blob}, found none", role=source.role)
        if source.record and source.record not in batch.records and not self.has(source.record):
            raise SourceMissing(f"expected a record {source.record}, found none", role=source.role)

    def _of(self, entry: StoredEntry) -> Record:
        payload = entry.payload
        full = str(payload["contract"])
        if "blob" in payload:
            data = self._blobs.get(payload["blob"])
            document = parse_canonical(data, limit=len(data))
        else:
            document = payload["document"]
            data = canonical_bytes(document, floats=True)
        digest = tagged_hash(RECORD_TAG, full.encode("ascii"), b"\x00", data).hex()
        if digest != payload["hash"]:
            raise RecordAltered(
                f"record {payload['id']}: expected hash {payload['hash']}, found {digest}", entry=entry.index
            )
        contract, document = to_newest(self._contracts, full, document)
        sources = tuple(Source(**source) for source in payload["sources"])
        return Record(
            str(payload["id"]), digest, contract, document, sources, entry.index, entry.run, entry.at_us
        )
