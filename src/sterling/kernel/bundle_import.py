"""Taking a bundle in: checked first, kept whole, and never mixed with our own log.

A bundle that does not hold stores nothing. One that nobody vouches for is
refused unless the caller says that this is wanted. Foreign entries stay in the
bundle; `import:<origin>:<id>` names one, by its index or its record's id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sterling.kernel.batch import Actor, Batch, Draft
from sterling.kernel.bundle import BundleTooLarge
from sterling.kernel.bundle_verify import BundleVerification, check_bundle, map_bundle, read_members
from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.ledger import StoredEntry
from sterling.kernel.signing import parse_verifier

__all__ = [
    "BUNDLE_BYTES_MAX",
    "BundleMalformed",
    "BundleUnverified",
    "ImportAbsent",
    "Imported",
    "import_bundle",
    "read_imported",
]

BUNDLE_BYTES_MAX = 64 * 1024**3


class BundleMalformed(SterlingError):
    """A file is no bundle, or its members are not what its manifest lists."""

    code = "bundle.malformed"
    hint = "Nothing was stored. Ask for the file again, then run `sterling verify FILE.tar`."
    exit = EXIT_BROKEN


class BundleUnverified(SterlingError):
    """A bundle does not hold, or nobody vouches for it."""

    code = "bundle.unverified"
    hint = "Nothing was stored. Name the key you trust: `sterling ledger import FILE.tar --pin KEY`."
    exit = EXIT_BROKEN


class ImportAbsent(SterlingError):
    """No imported bundle holds what an address names."""

    code = "bundle.import-absent"
    hint = "See what was imported: `sterling ledger show --kind bundle.imported`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import gave: the verdict, where the bundle lies, and the entry that says so."""

    found: BundleVerification
    address: str
    entry: int


def import_bundle(home: Home, file: Path, *, pin: str | None = None, unpinned: bool = False) -> Imported:
    """Verify a bundle, then keep its blobs, the bundle itself and one `bundle.imported`.

    Errors: BundleMalformed, BundleUnverified, BundleTooLarge, VerifierInvalid, blob.no-space.
    """
    trusted = None if pin is None else parse_verifier(pin)
    data = map_bundle(file)
    if len(data) > BUNDLE_BYTES_MAX:
        raise BundleTooLarge(f"expected at most {BUNDLE_BYTES_MAX} bytes, found {len(data)}")
    found = check_bundle(data, trusted)
    _require(found, unpinned=unpinned)
    blobs = []
    for name, (start, size) in read_members(data).items():
        folder, _, address = name.partition("/")
        if folder == "blobs":
            blobs.append(home.blobs.put(data[start : start + size]))
            if blobs[-1] != address:
                raise BundleMalformed(f"{name}: the file changed while it was read", member=name)
    address = home.blobs.put_file(file)
    payload: Json = {
        "blob": address,
        "blobs": blobs,
        "entries": found.entries,
        "origin": found.origin,
        "pin": pin.strip() if pin else "",
        "selection": found.selection,
        "size": found.size,
        "size_bytes": len(data),
        "verdict": found.verdict,
    }
    batch = Batch(drafts=[Draft("bundle.imported", payload, subject=f"import:{found.origin}")])
    return Imported(found, address, home.ledger.commit(batch).first)


def read_imported(home: Home, name: str) -> StoredEntry:
    """A foreign entry, out of the newest bundle that holds its body: `import:<origin>:<id>`.

    Errors: ImportAbsent, BlobAltered, BlobAbsent.
    """
    origin, _, id = name.removeprefix("import:").rpartition(":")
    for imported in reversed(list(home.ledger.read(subject=f"import:{origin}"))):
        data = home.blobs.get(imported.payload["blob"])
        start, size = read_members(data)["entries.jsonl"]
        for raw in data[start : start + size].splitlines():
            line = json.loads(raw)
            body = json.loads(line.get("body", "null"))
            is_record = body is not None and body["kind"] == "record.put"
            if body is not None and (str(line["index"]) == id or (is_record and body["subject"] == id)):
                return _foreign(line, body)
    raise ImportAbsent(f"expected an imported entry {name}, found none", name=name)


def _foreign(line: dict[str, Json], body: dict[str, Json]) -> StoredEntry:
    return StoredEntry(
        index=line["index"],
        hash=bytes.fromhex(line["hash"]),
        previous=bytes.fromhex(line["previous"]),
        body=line["body"].encode("utf-8"),
        actor=Actor(str(body["actor"].get("type")), str(body["actor"].get("id"))),
        kind=body["kind"],
        at_us=body["at_us"],
        payload=body["payload"],
        **{name: body.get(name, "") for name in ("contract", "subject", "run", "step")},
    )


def _require(found: BundleVerification, *, unpinned: bool) -> None:
    bad = found.first_bad
    if bad is None and (found.verdict == "ok" or unpinned):
        return
    if bad is None:
        raise BundleUnverified(f"expected a pinned key, found none: {found.message}", code=found.code)
    details: dict[str, Any] = {"member": bad.member, "low": bad.low, "high": bad.high, "found": bad.code}
    message = f"{bad.member or 'the file'}: {bad.code}, {bad.message}"
    if bad.code == BundleTooLarge.code:
        raise BundleTooLarge(message, **details)
    raise (BundleMalformed if bad.code == BundleMalformed.code else BundleUnverified)(message, **details)
