"""The task receipt: a signed statement that a task is done, and what that rests on.

It is an in-toto statement in a DSSE envelope, signed with the home's `attest`
key. It names the tree, the patch, the evidence, the ledger it stands in and how
strongly the agent was held. It says as plainly what nobody checked. The record
and the finishing transition are written in one batch: no receipt without `done`,
no `done` without a receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sterling.kernel.canonical import CanonicalInvalid, Json, canonical_bytes, parse_strict
from sterling.kernel.hashing import tagged_hash
from sterling.kernel.home import Home
from sterling.kernel.key_change import read_key_history
from sterling.kernel.key_history import KeyHistory
from sterling.kernel.records import Source
from sterling.kernel.signing import fingerprint_of
from sterling.kernel.signing_keys import key_in_force
from sterling.kernel.statement import attest_statement, predicate_type, verify_statement
from sterling.packs.autopilot.artifacts.kinds import NOT_DEMANDED
from sterling.packs.autopilot.artifacts.scope import Change
from sterling.packs.autopilot.authority.collect import Site
from sterling.packs.autopilot.authority.worktree import WorkTree
from sterling.packs.autopilot.errors import ReceiptAbsent, ReceiptForeign, ReceiptMismatch, RequestInvalid
from sterling.packs.autopilot.process.commit import Grounds, ledger_identity
from sterling.packs.autopilot.process.story import read_story
from sterling.packs.autopilot.process.view import TaskView

__all__ = ["PREDICATE", "ReceiptCheck", "check_receipt", "export_receipt", "receipt_parts"]

PREDICATE = predicate_type("task-receipt")
_EVIDENCE_TAG = b"sterling/evidence/1"
_RECEIPT_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """What a receipt proves. `tree_checked` is false when nobody gave a repository to compare with."""

    task: str
    tree: str
    patch_sha256: str
    ring: str
    signed_by: str
    in_ledger: bool
    tree_checked: bool

    def as_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__}


def receipt_parts(site: Site, grounds: Grounds, change: Change) -> Grounds:
    """The grounds of the finishing transition with the receipt's record added."""
    view, home = site.view, site.home
    base, tree = str(view.facts["base_tree"]), grounds.tree
    patch = site.work.diff(base, tree)
    links = _links(site)
    predicate: dict[str, Json] = {
        "task": view.task,
        "run": view.run,
        "epoch": view.epoch,
        "base": {"commit": str(view.facts["base_commit"]), "tree": base},
        "tree": tree,
        "patch_identity": change.patch_sha256,
        "files": list(change.paths),
        "evidence_root": evidence_root(links),
        "evidence": links,
        "checks": _checks(view, tree),
        "ledger": {
            "id": ledger_identity(home),
            "head": home.ledger.head().hex(),
            "index": home.ledger.size() - 1,
        },
        "ring": grounds.ring,
        "level": grounds.level,
        "risk": str(view.facts["risk"]),
        "profile_sha256": site.profile.sha256,
        "policy_pack": "none",
        "approvals": [],
        "deferrals": _deferrals(site),
        "refused": _refused(home, view),
        "not_demanded": [f"{phase}: {because}" for phase, _, because in NOT_DEMANDED],
        "auto_merge": False,
    }
    patch_address = home.blobs.put(patch)
    subjects = {"patch": patch_address, "evidence": str(predicate["evidence_root"])}
    key = key_in_force(home.path / "keys", "attest", home.ledger.connection())
    envelope = attest_statement(subjects, PREDICATE, predicate, key)
    envelope_address = home.blobs.put(canonical_bytes(envelope))
    document = {
        "task": view.task,
        "run": view.run,
        "epoch": view.epoch,
        "tree": tree,
        "patch": {"blob": patch_address},
        "envelope": {"blob": envelope_address},
        "evidence_root": predicate["evidence_root"],
        "ring": grounds.ring,
        "level": grounds.level,
    }
    sources = (Source("envelope", blob=envelope_address), Source("patch", blob=patch_address))
    return replace(grounds, extra=(("autopilot.receipt", document, sources),))


def evidence_root(links: list[Json]) -> str:
    """One hash over every artifact in force, in the order of their kinds."""
    return tagged_hash(_EVIDENCE_TAG, canonical_bytes(links)).hex()


def export_receipt(home: Home, view: TaskView) -> tuple[bytes, dict[str, Any]]:
    """The signed envelope of a task that is done, and the record that holds it.

    Raises:
        ReceiptAbsent: the task is not done.
    """
    if not view.receipt:
        raise ReceiptAbsent(f"expected a receipt of {view.task}, found the task {view.state} in {view.phase}")
    record = home.records.get(view.receipt)
    return home.blobs.get(str(record.document["envelope"]["blob"])), dict(record.document)


def check_receipt(home: Home, data: bytes, repository: Path | None) -> ReceiptCheck:
    """Whether this home signed the receipt, its ledger holds it, and the repository is that tree.

    Raises:
        ReceiptMismatch: another ledger, an unknown task, another tree or patch.
        ReceiptForeign: it names another home's key.
        StatementInvalid, SignatureInvalid: no receipt, or a signature that does not hold.
    """
    if repository is not None and not repository.is_dir():
        raise RequestInvalid(f"expected a repository or folder at {repository}, found none")
    if len(data) > _RECEIPT_BYTES_MAX:
        raise ReceiptMismatch(f"expected at most {_RECEIPT_BYTES_MAX} bytes, found {len(data)}")
    try:
        envelope = parse_strict(data, limit=_RECEIPT_BYTES_MAX)
    except CanonicalInvalid as problem:
        raise ReceiptMismatch(f"expected a receipt, found other bytes: {problem.message}") from problem
    history = read_key_history(home)
    public_key = _signer_of(envelope, history)
    statement = verify_statement(envelope, public_key)
    if statement["predicateType"] != PREDICATE:
        raise ReceiptMismatch(f"expected a task receipt, found {statement['predicateType']!r:.80}")
    predicate = statement["predicate"]
    history.require("attest", public_key, _check_in_ledger(home, predicate, data))
    if repository is not None:
        _check_repository(predicate, repository)
    return ReceiptCheck(
        task=str(predicate["task"]),
        tree=str(predicate["tree"]),
        patch_sha256=_digest(statement["subject"], "patch"),
        ring=str(predicate["ring"]),
        signed_by=str(envelope["signatures"][0]["keyid"]),
        in_ledger=True,
        tree_checked=repository is not None,
    )


def _signer_of(envelope: Json, history: KeyHistory) -> bytes:
    """The home's key that a receipt names; one that names another is not broken, only not ours to judge."""
    keys = {fingerprint_of(span.key): span.key for span in history.spans("attest")}
    if not keys:
        raise ReceiptMismatch("expected the home's attest key, found none")
    signatures = envelope.get("signatures") if isinstance(envelope, dict) else None
    names = [str(row.get("keyid")) for row in signatures or [] if isinstance(row, dict)]
    own = [name for name in names if name in keys]
    newest = list(keys)[-1]
    if names and not own:
        raise ReceiptForeign(f"expected a receipt signed by {newest}, found one signed by {names[0][:80]}")
    return keys[own[0] if own else newest]


def _check_in_ledger(home: Home, predicate: Mapping[str, Any], data: bytes) -> int:
    """The index at which the receipt was written."""
    ledger = predicate["ledger"]
    if ledger["id"] != ledger_identity(home):
        raise ReceiptMismatch(f"expected ledger {ledger_identity(home)[:16]}, found {str(ledger['id'])[:16]}")
    entry = home.ledger.entry(int(ledger["index"]))
    if entry is None or entry.hash.hex() != ledger["head"]:
        raise ReceiptMismatch(
            f"expected entry {ledger['index']} to be {str(ledger['head'])[:16]}, found another"
        )
    for _, told in read_story(home, str(predicate["task"])):
        is_receipt = told.name == "receipt"
        if is_receipt and home.blobs.get(str(told.document["envelope"]["blob"])) == data.strip():
            return told.entry
    raise ReceiptMismatch(f"expected the receipt that task {predicate['task']} got, found another")


def _check_repository(predicate: Mapping[str, Any], repository: Path) -> None:
    with TemporaryDirectory(prefix="sterling-receipt-") as scratch:
        work = WorkTree(Path(scratch) / "work")
        found = work.create(repository).tree
        if found != predicate["tree"]:
            raise ReceiptMismatch(
                f"expected tree {predicate['tree']}, found {found} in {repository}",
                expected=predicate["tree"],
                found=found,
            )


def _digest(subjects: Any, name: str) -> str:
    return next((str(each["digest"]["sha256"]) for each in subjects if each["name"] == name), "")


def _links(site: Site) -> list[Json]:
    records = site.home.records
    return [
        {"kind": name, "record": artifact.record, "hash": records.get(artifact.record).hash}
        for name, artifact in sorted(site.view.artifacts.items())
    ]


def _checks(view: TaskView, tree: str) -> list[Json]:
    return [
        {"name": name, "record": check.record, "state": check.state, "because": check.because}
        for name, check in sorted(view.checks.items())
        if check.tree == tree
    ]


def _deferrals(site: Site) -> list[Json]:
    deferral = (site.documents.get("review_rubric") or {}).get("deferral")
    return [dict(deferral)] if deferral else []


def _refused(home: Home, view: TaskView) -> list[Json]:
    """Every refusal on the way, so that the receipt tells what was tried."""
    return [
        {"code": str(told.document["code"]), "from": str(told.document["from"]), "record": told.id}
        for _, told in read_story(home, view.task)
        if told.name == "transition" and told.document["decision"] == "refuse"
    ][:200]
