"""Bundles to tamper with, and the three verifiers asked the same question.

`unpack` and `pack` take a bundle apart and put it together again, with the
manifest made to fit or left as it is. `dump` gives the bundle of a ledger that
somebody edited: its rows as they stand. `ask` wants one answer of all verifiers.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sterling.kernel import standalone_verify
from sterling.kernel.blobs import Blobs
from sterling.kernel.bundle import BLOCK_BYTES, Selection, Shelf, tar_header, write_bundle
from sterling.kernel.bundle_verify import check_bundle, read_members
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.contracts import load_contracts
from sterling.kernel.signing import parse_verifier
from sterling.testing.forged_ledgers import Forge

__all__ = ["VERIFY_MJS", "ask", "dump", "lines_of", "node", "pack", "relist", "unpack", "with_lines"]

VERIFY_MJS = Path(__file__).resolve().parent.parent / "ui" / "static" / "verify.mjs"
_ASK = """
import { verifyBundle } from %s;
const pieces = [];
for await (const piece of process.stdin) pieces.push(piece);
const all = Buffer.concat(pieces), end = all.indexOf(10);
const { pin, sizes } = JSON.parse(all.subarray(0, end).toString());
let at = end + 1;
for (const size of sizes) {
  console.log(JSON.stringify(await verifyBundle(new Uint8Array(all.subarray(at, at + size)), pin)));
  at += size;
}
"""


def node() -> str | None:
    """Where Node.js is, if it is installed."""
    return shutil.which("node")


def unpack(data: bytes) -> dict[str, bytes]:
    """Member names to their bytes."""
    return {name: data[start : start + size] for name, (start, size) in read_members(data).items()}


def pack(members: dict[str, bytes]) -> bytes:
    """A tar of these members, whatever they are."""
    parts = []
    for name, data in sorted(members.items()):
        parts += [tar_header(name, len(data)), data, bytes(-len(data) % BLOCK_BYTES)]
    return b"".join([*parts, bytes(2 * BLOCK_BYTES)])


def relist(members: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """The same members with a manifest that lists them as they are now."""
    listed = [
        {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        for name, data in sorted(members.items())
        if name != "manifest.json"
    ]
    manifest = json.loads(members["manifest.json"]) | {"members": listed} | changes
    return members | {"manifest.json": canonical_bytes(manifest)}


def lines_of(members: dict[str, bytes], name: str) -> list[Any]:
    """The lines of a member, parsed."""
    return [json.loads(line) for line in members[name].splitlines()]


def with_lines(members: dict[str, bytes], name: str, lines: Sequence[Any]) -> dict[str, bytes]:
    """The members with other lines in one, and a manifest that fits."""
    return relist(members | {name: b"".join(canonical_bytes(line) + b"\n" for line in lines)})


def dump(forge: Forge, home: Path, *, only: Sequence[int] = ()) -> bytes:
    """The bundle of everything in a ledger, as it stands; or of some entries, under its newest checkpoint."""
    file = io.BytesIO()
    verifier = forge.key.verifier(origin_of(forge.home_id))
    shelf = Shelf(forge.database, forge.home_id, verifier, Blobs(home / "blobs"), load_contracts())
    if only:
        ((size,),) = forge.database.execute("SELECT max(size) FROM checkpoints").fetchall()
        write_bundle(file, shelf, Selection("range", "1:2"), sorted(only), size=size)
    else:
        write_bundle(file, shelf, Selection(), None, size=-1)
    return file.getvalue()


def ask(bundles: Sequence[bytes], pin: str | None) -> list[dict[str, Any]]:
    """What every verifier says of each bundle; AssertionError where they do not say the same."""
    trusted = None if pin is None else parse_verifier(pin)
    key = None if pin is None else standalone_verify.Key.parse(pin)
    answers = [_essence(check_bundle(data, trusted).as_json()) for data in bundles]
    others = {"standalone_verify.py": [standalone_verify.verify_bytes(data, key) for data in bundles]}
    if node() is not None:
        others["verify.mjs"] = _ask_node(bundles, pin)
    for name, given in others.items():
        for at, (ours, theirs) in enumerate(zip(answers, map(_essence, given), strict=True)):
            assert ours == theirs, f"bundle {at}: bundle_verify.py says {ours}, {name} says {theirs}"
    return answers


def _ask_node(bundles: Sequence[bytes], pin: str | None) -> list[dict[str, Any]]:
    header = json.dumps({"pin": pin, "sizes": [len(data) for data in bundles]}).encode()
    command = [str(node()), "--input-type=module", "-e", _ASK % json.dumps(VERIFY_MJS.as_uri())]
    done = subprocess.run(command, input=header + b"\n" + b"".join(bundles), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


def _essence(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without its words, which may differ between verifiers."""
    bad = answer["first_bad"]
    place = None if bad is None else [bad[name] for name in ("member", "low", "high", "code")]
    named = ("verdict", "exit", "code", "origin", "selection", "size", "entries", "blobs", "withheld")
    return {name: answer[name] for name in named} | {"first_bad": place}
