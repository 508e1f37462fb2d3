"""The receipt: what it says, and every way in which it must not be believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home
from sterling.kernel.key_change import revoke_key, rotate_key
from sterling.kernel.key_history import KeyRevoked
from sterling.kernel.keys import load_key
from sterling.kernel.signing import SignatureInvalid
from sterling.kernel.statement import StatementInvalid, attest_statement
from sterling.packs.autopilot import door
from sterling.packs.autopilot.artifacts.kinds import KINDS, NOT_DEMANDED
from sterling.packs.autopilot.authority.receipt import PREDICATE
from sterling.packs.autopilot.errors import ReceiptAbsent, ReceiptMismatch
from sterling.packs.autopilot.process.commit import ledger_identity

Walking = Callable[..., Any]


def statement_of(envelope: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    return found


def forged(envelope: bytes, **changes: Any) -> bytes:
    document = json.loads(envelope)
    statement = statement_of(envelope)
    statement["predicate"] |= changes
    document["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(document).encode()


@pytest.fixture
def finished(walking: Walking) -> Any:
    walk = walking()
    walk.to("STRATEGIZE")
    walk.advance("IMPLEMENT")
    walk.to("DONE")
    return walk


def test_it_names_what_it_rests_on_and_what_nobody_checked(finished: Any) -> None:
    envelope, answer = door.export_receipt(finished.home, finished.view.task)

    predicate = statement_of(envelope)["predicate"]
    assert predicate["ring"] == "uncontained" and predicate["auto_merge"] is False
    assert predicate["tree"] == finished.view.tree and predicate["files"] == ["shelf/fines.py"]
    assert {each["kind"] for each in predicate["evidence"]} == {kind.name for kind in KINDS}
    assert [each["code"] for each in predicate["refused"]] == ["transition.skip"]
    assert len(predicate["not_demanded"]) == len(NOT_DEMANDED)
    assert {each["name"] for each in predicate["checks"]} == {"build", "tests", "integration", "smoke"}
    assert answer.ok


def test_it_is_believed_by_its_own_home_and_for_its_own_tree(finished: Any, tmp_path: Path) -> None:
    envelope, _ = door.export_receipt(finished.home, finished.view.task)
    copy = finished.authority.site.work.check_out(finished.view.tree, tmp_path / "copy")

    answer = door.check_receipt(finished.home, envelope, copy)

    assert answer.ok and answer.result["tree_checked"] and answer.result["in_ledger"]


def test_it_is_believed_after_the_key_was_rotated_and_not_if_that_key_was_revoked_before(
    finished: Any,
) -> None:
    home = finished.home
    envelope, answer = door.export_receipt(home, finished.view.task)
    old = rotate_key(home, "attest", "the old laptop was sold").old
    assert door.check_receipt(home, envelope).ok

    entry = home.records.get(finished.view.receipt).entry
    revoke_key(home, "attest", old, "it leaked later", since=entry + 1)
    assert answer.ok and door.check_receipt(home, envelope).ok
    revoke_key(home, "attest", old, "it had leaked before", since=entry)
    with pytest.raises(KeyRevoked):
        door.check_receipt(home, envelope)


def test_one_more_byte_in_the_tree_and_it_does_not_fit(finished: Any, tmp_path: Path) -> None:
    envelope, _ = door.export_receipt(finished.home, finished.view.task)
    copy = finished.authority.site.work.check_out(finished.view.tree, tmp_path / "copy")
    (copy / "shelf" / "fines.py").write_bytes((copy / "shelf" / "fines.py").read_bytes() + b"\n")

    with pytest.raises(ReceiptMismatch):
        door.check_receipt(finished.home, envelope, copy)


def test_an_edited_receipt_is_not_signed(finished: Any) -> None:
    envelope, _ = door.export_receipt(finished.home, finished.view.task)
    edits: list[dict[str, Any]] = [
        {"ring": "contained"},
        {"tree": "0" * 40},
        {"auto_merge": True},
        {"refused": []},
    ]

    for changes in edits:
        with pytest.raises(SignatureInvalid):
            door.check_receipt(finished.home, forged(envelope, **changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ring": "contained"}, "the receipt that task"),
        ({"ledger": {"id": "f" * 64}}, "expected ledger"),
        ({"ledger": {"index": 0}}, "expected entry 0"),
        ({"ledger": {"index": 10**9}}, "expected entry 1000000000"),
        ({"task": "task-nobody"}, "task-nobody"),
    ],
)
def test_what_the_home_signed_but_its_ledger_does_not_hold_is_refused(
    walking: Walking, changes: dict[str, Any], named: str
) -> None:
    """Somebody with the home's key makes a receipt; the ledger knows no such thing."""
    walk = walking()
    walk.to("STRATEGIZE")
    entry = walk.home.ledger.entry(1)
    facts = {"id": ledger_identity(walk.home), "head": entry.hash.hex(), "index": 1}
    predicate = {"task": walk.view.task, "tree": walk.view.tree, "ring": "uncontained", "ledger": facts}
    ledger = facts | changes.get("ledger", {})
    key = load_key(walk.home.path / "keys", "attest")
    envelope = attest_statement({"patch": "0" * 64}, PREDICATE, predicate | changes | {"ledger": ledger}, key)

    with pytest.raises(ReceiptMismatch, match=named):
        door.check_receipt(walk.home, canonical_bytes(envelope))


def test_a_foreign_home_does_not_believe_it(finished: Any, tmp_path: Path) -> None:
    envelope, _ = door.export_receipt(finished.home, finished.view.task)

    with init_home(tmp_path / "other") as other, pytest.raises(SterlingError) as caught:
        door.check_receipt(other, envelope)

    assert caught.value.code == "task.receipt-foreign" and caught.value.exit == 4


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"not json", b"\xff", b"{" * 500, b'{"payload": 1}'])
def test_what_is_no_receipt_is_exit_three(home: Home, data: bytes) -> None:
    with pytest.raises((ReceiptMismatch, StatementInvalid)) as caught:
        door.check_receipt(home, data)

    assert caught.value.exit == 3


def test_a_task_that_is_not_done_has_none(walking: Walking) -> None:
    walk = walking()
    walk.to("SPEC")

    with pytest.raises(ReceiptAbsent):
        door.export_receipt(walk.home, walk.view.task)


def test_done_and_receipt_are_one_write(finished: Any) -> None:
    kinds = [
        (entry.kind, entry.contract, entry.index)
        for entry in finished.home.ledger.read(after=finished.view.newest - 4)
    ]

    names = [contract for kind, contract, _ in kinds if kind == "record.put"]
    assert names == ["autopilot.transition", "autopilot.receipt", "autopilot.state"]
    walked = list(finished.home.records.walk(finished.view.receipt))
    assert walked[0].id == finished.view.receipt
