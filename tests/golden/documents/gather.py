"""Add golden documents: of each record contract the smallest document that a home holds.

Usage: python tests/golden/documents/gather.py HOME. A document that is there already stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import canonical_bytes, parse_canonical
from sterling.kernel.home import open_home

FOLDER = Path(__file__).resolve().parent


def main(path: Path) -> None:
    found: dict[str, tuple[bytes, str, Any]] = {}
    with open_home(path, read_only=True) as home:
        for entry in home.ledger.read(kind="record.put"):
            payload = entry.payload
            if "blob" in payload:
                raw = home.blobs.get(payload["blob"])
                document = parse_canonical(raw, limit=len(raw))
            else:
                document = payload["document"]
                raw = canonical_bytes(document, floats=True)
            known = found.get(payload["contract"])
            if known is None or (len(raw), raw) < (len(known[0]), known[0]):
                found[payload["contract"]] = (raw, payload["hash"], document)
    for contract, (_, digest, document) in sorted(found.items()):
        place = FOLDER / f"{contract}.json"
        if not place.exists():
            golden = {"contract": contract, "document": document, "hash": digest}
            place.write_text(json.dumps(golden, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
            print(place.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
