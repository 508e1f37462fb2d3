"""Checking what entries mean, once the log itself holds.

Payloads and documents against their contracts, record ids and hashes against
their documents, sources against earlier records, lease tokens that only rise,
fences that name the newest token, and the derived tables against the entries
they are derived from. The first fault in entry order counts.

A contract that this program does not know makes the check incomplete, not the
log broken: `unjudged` says so.
"""

from __future__ import annotations

import sqlite3

from sterling.kernel.blobs import BlobAbsent, BlobAltered, Blobs
from sterling.kernel.canonical import CanonicalInvalid, Json, canonical_bytes, parse_canonical
from sterling.kernel.contracts import Contracts, RecordInvalid, load_contracts
from sterling.kernel.errors import SterlingError
from sterling.kernel.hashing import RECORD_TAG, is_address, tagged_hash
from sterling.kernel.ids import id_from_hash
from sterling.kernel.projections import compare_tables
from sterling.kernel.verify_blobs import is_spilled
from sterling.kernel.verify_log import Broken, FirstBad

__all__ = ["DeepCheck"]

_TOKEN_ENTRIES = frozenset(("lease.acquired", "lease.taken-over"))


class DeepCheck:
    """Collects the first fault while a log is read; `finish` adds the derived tables."""

    def __init__(self, blobs: Blobs, contracts: Contracts | None = None) -> None:
        self.unjudged = ""
        self._blobs = blobs
        self._contracts = load_contracts() if contracts is None else contracts
        self._bad: FirstBad | None = None
        self._records: set[str] = set()
        self._tokens: dict[str, int] = {}

    def observe(self, index: int, body: dict[str, Json]) -> None:
        """Check one entry, unless an earlier one is bad already."""
        if self._bad is not None:
            return
        try:
            payload = self._payload(index, body)
            self._check_contract(index, body["kind"], payload)
            if body["kind"] == "record.put":
                self._check_record(index, body, payload)
            elif body["kind"] == "record.again" and payload.get("id") not in self._records:
                raise _altered(
                    index, f"it repeats record {payload.get('id')!r:.80}, which nobody wrote before"
                )
            self._check_lease(index, body, payload)
        except Broken as found:
            self._bad = found.first_bad
        except SterlingError as problem:  # Archived away, sealed without a key, in a newer form.
            self.unjudged = self.unjudged or f"entry {index}: {problem.message}"
        if body["kind"] == "record.put":  # Later entries may name it, also when it could not be judged.
            self._records.add(str(body.get("subject")))

    def finish(self, connection: sqlite3.Connection, size: int) -> FirstBad | None:
        """The first bad place, with the derived tables of the same snapshot included."""
        if self._bad is not None:
            return self._bad
        try:
            _check_pages(connection)  # First: the comparison reads by an index.
        except Broken as found:
            return found.first_bad
        for how in compare_tables(connection, size).values():
            return FirstBad(None, None, "integrity.projection-altered", how)
        return None

    def _payload(self, index: int, body: dict[str, Json]) -> dict[str, Json]:
        """The payload, read from its blob when it was too large for an entry."""
        payload = body["payload"]
        if body["kind"] != "record.put" and is_spilled(body):
            payload = self._document(index, payload["blob"])
        if not isinstance(payload, dict):
            raise _altered(index, "its payload is no object")
        return payload

    def _document(self, index: int, address: str) -> Json:
        data = self._blob(index, address)
        try:
            return parse_canonical(data, limit=len(data))
        except SterlingError as problem:
            raise _altered(index, f"blob {address}: {problem.message}") from problem

    def _blob(self, index: int, address: str) -> bytes:
        try:
            return self._blobs.get(address)
        except BlobAbsent:
            raise Broken(index, index, "integrity.blob-missing", f"blob {address} is missing") from None
        except BlobAltered as problem:
            raise Broken(index, index, "integrity.blob-altered", problem.message) from problem

    def _check_contract(self, index: int, name: str, document: Json) -> None:
        """The newest version must allow it, or an older one that was newest when it was written."""
        if not self._contracts.has(name):
            self.unjudged = self.unjudged or f"entry {index}: this program knows no contract {name:.100}"
            return
        if "@" in name:
            versions = [self._contracts.get(name)]
        else:
            versions = [each for each in self._contracts if each.name == name]
        refusal: RecordInvalid | None = None
        for contract in reversed(versions):
            try:
                contract.validate(document)
            except RecordInvalid as problem:
                refusal = refusal or problem
            else:
                return
        raise _altered(index, refusal.message if refusal else f"no version of {name} allows it")

    def _check_record(self, index: int, body: dict[str, Json], payload: dict[str, Json]) -> None:
        contract, stated = payload.get("contract"), payload.get("hash")
        if not isinstance(contract, str) or not isinstance(stated, str) or not is_address(stated):
            raise _altered(index, "its record names no contract or no hash")
        name, record_id = contract.partition("@")[0], payload.get("id")
        if not isinstance(record_id, str) or record_id in self._records:
            raise _altered(index, f"record {record_id!r:.80} has no id, or was written before")
        if "document" in payload:
            document = payload["document"]
        elif is_spilled(body):
            document = self._document(index, payload["blob"])
        else:
            raise _altered(index, "its record has no document")
        try:
            data = canonical_bytes(document, floats=True)
        except CanonicalInvalid as problem:
            raise _altered(index, problem.message) from problem
        digest = tagged_hash(RECORD_TAG, contract.encode("utf-8"), b"\x00", data)
        if (
            digest.hex() != stated
            or id_from_hash("r", digest) != record_id
            or body.get("subject") != record_id
        ):
            raise _altered(index, "its record's id and hash do not belong to its document")
        if body.get("contract") != name:
            raise _altered(index, f"record {record_id} has another contract")
        self._check_contract(index, contract, document)
        self._check_sources(index, payload.get("sources"))

    def _check_sources(self, index: int, sources: Json) -> None:
        if not isinstance(sources, list):
            raise _altered(index, "its record lists no sources")
        for source in sources:
            named = source.get("record") if isinstance(source, dict) else None
            if named is not None and named not in self._records:
                raise _altered(index, f"its source {named!r:.80} was not written before it")

    def _check_lease(self, index: int, body: dict[str, Json], payload: dict[str, Json]) -> None:
        if body["kind"] in _TOKEN_ENTRIES:
            name, token = payload.get("name"), payload.get("token")
            if not isinstance(name, str) or type(token) is not int or token <= self._tokens.get(name, 0):
                raise _altered(
                    index, f"lease {name!r:.80}: token {token!r:.20} does not follow the one before"
                )
            self._tokens[name] = token
        fences = body.get("fence", [])
        for fence in fences if isinstance(fences, list) else [fences]:
            lease = fence.get("lease") if isinstance(fence, dict) else None
            if not isinstance(lease, str) or fence.get("token") != self._tokens.get(lease):
                raise _altered(
                    index, f"it was written under a token of lease {lease!r:.80} that was not the newest"
                )


def _check_pages(connection: sqlite3.Connection) -> None:
    """Every index of the database finds exactly the rows of its table."""
    row = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if row is None or row[0] != "ok":
        found = "nothing" if row is None else str(row[0]).splitlines()[-1][:200]
        raise Broken(None, None, "integrity.ledger-unreadable", f"SQLite's own check found: {found}")


def _altered(index: int, message: str) -> Broken:
    return Broken(index, index, "integrity.record-altered", f"entry {index}: {message}")
