"""The contract lock: nothing starts on other contracts, and no change is locked in silence."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import contract_lock
from sterling.kernel.contract_diff import Verdict
from sterling.kernel.contract_lock import (
    ContractsBreaking,
    ReasonRequired,
    check,
    differences,
    plan_lock,
    survey,
)
from sterling.kernel.contract_lock_file import LockMismatch, LockMissing, lock_bytes, put_lock, read_lock
from sterling.kernel.contracts import ContractInvalid, Contracts, load_contracts
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home, init_home, open_home

REASON = "the field is needed by the report"


def schema(contract: str = "ci.note@1.0", **fields: Any) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": contract,
        "title": "Note",
        "description": "A note.",
        "x-owner": "ci",
        "x-kind": "record",
        "type": "object",
        "additionalProperties": False,
        "required": ["text"],
        "properties": {"text": {"description": "What it says.", "enum": ["a", "b"]}, **fields},
    }


class Tree:
    """A package folder with schemas, and its lock."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tree"
        self.lock = root / "contracts.lock"
        self._copies = 0

    def put(self, document: dict[str, Any], *, folder: str = "packs/ci", indent: int | None = None) -> None:
        path = self.root / folder / "schemas" / f"{document['$id']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=indent), encoding="utf-8")

    def drop(self, contract: str) -> None:
        path = self.root / "packs" / "ci" / "schemas" / f"{contract}.json"
        path.rename(self.root / "gone.json")

    def contracts(self) -> Contracts:
        """Read anew: the registry of one folder is cached, so each look takes another name for it."""
        self._copies += 1
        alias = self.root.parent / f"look{self._copies}"
        self.root.rename(alias)
        contracts = load_contracts(alias)
        alias.rename(self.root)
        return contracts


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.put(schema())
    tree.put(schema("ci.other@1.0"))
    contract_lock.write(tree.contracts(), tree.lock)
    return tree


def test_an_untouched_tree_passes(tree: Tree) -> None:
    check(tree.contracts(), tree.lock)


def test_a_missing_lock_is_a_refusal_and_not_a_first_run(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(LockMissing) as caught:
        check(tree.contracts(), tmp_path / "none.lock")

    assert caught.value.exit == 1


def test_an_edited_schema_is_named_by_file_place_before_and_after(tree: Tree) -> None:
    changed = schema()
    changed["properties"]["text"]["enum"] = ["a"]
    tree.put(changed)

    with pytest.raises(LockMismatch) as caught:
        check(tree.contracts(), tree.lock)

    assert caught.value.file == "packs/ci/schemas/ci.note@1.0.json"
    assert caught.value.pointer == "/properties/text/enum"
    assert (caught.value.before, caught.value.after) == ('["a","b"]', '["a"]')
    assert caught.value.exit == 1


def test_a_change_of_words_or_bytes_alone_is_a_mismatch_too(tree: Tree) -> None:
    tree.put(schema(), indent=2)

    with pytest.raises(LockMismatch, match="other bytes of the same schema"):
        check(tree.contracts(), tree.lock)


def test_a_new_a_removed_and_a_moved_schema_are_mismatches(tree: Tree) -> None:
    tree.put(schema("ci.extra@1.0"))
    with pytest.raises(LockMismatch, match=r"found contract ci\.extra@1\.0"):
        check(tree.contracts(), tree.lock)

    tree.drop("ci.extra@1.0")
    check(tree.contracts(), tree.lock)

    tree.drop("ci.other@1.0")
    with pytest.raises(LockMismatch, match=r"expected contract ci\.other@1\.0 as locked, found nothing"):
        check(tree.contracts(), tree.lock)

    tree.put(schema("ci.other@1.0"), folder="runtime")
    with pytest.raises(LockMismatch, match="runtime/schemas"):
        check(tree.contracts(), tree.lock)


def test_a_schema_that_became_unreadable_is_a_mismatch_at_its_place(tree: Tree) -> None:
    (tree.root / "packs/ci/schemas/ci.note@1.0.json").write_text("{")

    with pytest.raises(LockMismatch) as caught:
        check(tree.contracts(), tree.lock)

    assert caught.value.file == "packs/ci/schemas/ci.note@1.0.json"


def test_several_differences_are_counted(tree: Tree) -> None:
    tree.put(schema(count={"description": "Count.", "type": "integer"}))
    tree.put(schema("ci.other@1.0", count={"description": "Count.", "type": "integer"}))

    with pytest.raises(LockMismatch) as caught:
        check(tree.contracts(), tree.lock)

    assert caught.value.details["more"] == 1


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"format": 2, "contracts": {}}', b'{"format": 1}', b"\xff", b"[" * 100_000,
     b'{"format": 1, "contracts": {"ci.note@1.0": {}}}', b'{"format": 1, "contracts": []}',
     b"<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n"],
)  # fmt: skip
def test_a_file_that_is_no_lock_is_refused(tree: Tree, raw: bytes) -> None:
    tree.lock.write_bytes(raw)

    with pytest.raises(LockMismatch):
        check(tree.contracts(), tree.lock)


def test_a_lock_whose_text_was_edited_is_refused_when_it_is_needed(tree: Tree) -> None:
    document = json.loads(tree.lock.read_bytes())
    document["contracts"]["ci.note@1.0"]["text"] = json.dumps(schema(), indent=3)
    tree.lock.write_text(json.dumps(document))
    tree.put(schema(count={"description": "Count.", "type": "integer"}))

    with pytest.raises(LockMismatch, match=r"contracts\.lock#/contracts/ci\.note@1\.0/text"):
        check(tree.contracts(), tree.lock)


def test_the_same_tree_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    names = [f"ci.n{number}@1.{minor}" for number in range(6) for minor in range(2)]
    files = []
    for seed in range(3):
        tree = Tree(tmp_path / str(seed))
        shuffled = names.copy()
        random.Random(seed).shuffle(shuffled)
        for name in shuffled:
            tree.put(schema(name))
        contract_lock.write(tree.contracts(), tree.lock)
        files.append(tree.lock.read_bytes())

    assert files[0] == files[1] == files[2]
    assert b"_us" not in files[0]


def test_the_lock_holds_what_it_takes_to_put_a_file_back(tree: Tree) -> None:
    row = read_lock(tree.lock).contracts["ci.note@1.0"]

    assert row.text.encode() == (tree.root / row.file.replace("tree/", "")).read_bytes()
    assert address_of(row.text.encode()) == row.sha256
    assert (row.owner, [change.verdict for change in row.changes]) == ("ci", ["compatible"])


def test_reading_and_writing_a_lock_gives_the_same_bytes(tree: Tree) -> None:
    lock = read_lock(tree.lock)

    assert lock_bytes(lock.contracts) == tree.lock.read_bytes()
    assert lock.sha256 == address_of(tree.lock.read_bytes())


@pytest.mark.parametrize("reason", ["", " ", "too short", "  padded  ", "x" * 2001])
def test_a_lock_without_a_real_reason_is_refused(tree: Tree, reason: str) -> None:
    tree.put(schema(count={"description": "Count.", "type": "integer"}))

    with pytest.raises(ReasonRequired):
        plan_lock(tree.contracts(), read_lock(tree.lock), reason)


def test_a_compatible_change_is_locked_with_its_verdict_and_reason(tree: Tree) -> None:
    tree.put(schema(count={"description": "Count.", "type": "integer"}))

    plan = plan_lock(tree.contracts(), read_lock(tree.lock), REASON)
    put_lock(tree.lock, plan.data)

    check(tree.contracts(), tree.lock)
    assert plan.verdict is Verdict.COMPATIBLE
    assert [difference.id for difference in plan.differences] == ["ci.note@1.0"]
    steps = read_lock(tree.lock).contracts["ci.note@1.0"].changes
    assert [(step.version, step.verdict, step.reason) for step in steps] == [
        ("1.0", "compatible", contract_lock.FIRST_REASON),
        ("1.0", "compatible", REASON),
    ]


def narrowed() -> dict[str, Any]:
    document = schema()
    document["properties"]["text"]["enum"] = ["a"]
    return document


def pattern_changed() -> dict[str, Any]:
    return schema(text={"description": "What it says.", "enum": ["a", "b"], "pattern": "a"})


@pytest.mark.parametrize("make", [narrowed, pattern_changed])
def test_a_breaking_change_in_place_is_refused(tree: Tree, make: Callable[[], dict[str, Any]]) -> None:
    before = tree.lock.read_bytes()
    tree.put(make())

    with pytest.raises(ContractsBreaking) as caught:
        plan_lock(tree.contracts(), read_lock(tree.lock), REASON)

    assert caught.value.details["contract"] == "ci.note@1.0"
    assert tree.lock.read_bytes() == before


def test_a_breaking_change_as_a_new_minor_is_refused_and_as_a_new_major_is_locked(tree: Tree) -> None:
    tree.put(narrowed() | {"$id": "ci.note@1.1"})
    with pytest.raises(ContractsBreaking):
        plan_lock(tree.contracts(), read_lock(tree.lock), REASON)
    with pytest.raises(ContractsBreaking):
        contract_lock.write(tree.contracts(), tree.lock)
    tree.drop("ci.note@1.1")

    tree.put(narrowed() | {"$id": "ci.note@2.0"})
    plan = plan_lock(tree.contracts(), read_lock(tree.lock), REASON)

    assert plan.verdict is Verdict.BREAKING
    assert [(each.id, each.against) for each in plan.differences] == [("ci.note@2.0", "ci.note@1.0")]


def test_a_new_minor_is_compared_with_the_version_before_it(tree: Tree) -> None:
    tree.put(schema("ci.note@1.1", count={"description": "Count.", "type": "integer"}))
    tree.put(schema("ci.note@1.10", count={"description": "Count.", "type": ["integer", "null"]}))

    found = differences(tree.contracts(), read_lock(tree.lock))

    assert [(each.id, each.against, each.verdict.word) for each in found] == [
        ("ci.note@1.1", "ci.note@1.0", "compatible"),
        ("ci.note@1.10", "ci.note@1.1", "compatible"),
    ]


def test_an_old_version_cannot_be_taken_away(tree: Tree) -> None:
    tree.drop("ci.other@1.0")

    with pytest.raises(ContractsBreaking, match=r"contract-removed in ci\.other@1\.0"):
        plan_lock(tree.contracts(), read_lock(tree.lock), REASON)


@pytest.mark.parametrize("field", [{"type": "integer"}, {"description": "Count.", "type": "words"}])
def test_an_invalid_schema_is_never_locked(tree: Tree, field: dict[str, Any]) -> None:
    tree.put(schema(count=field))

    with pytest.raises(ContractInvalid):
        plan_lock(tree.contracts(), read_lock(tree.lock), REASON)
    with pytest.raises(ContractInvalid):
        contract_lock.write(tree.contracts(), tree.lock)


def test_the_builders_write_does_not_forget_reasons(tree: Tree) -> None:
    tree.put(schema(count={"description": "Count.", "type": "integer"}))
    put_lock(tree.lock, plan_lock(tree.contracts(), read_lock(tree.lock), REASON).data)

    with pytest.raises(ReasonRequired, match="history"):
        contract_lock.write(tree.contracts(), tree.lock)


def test_the_survey_says_of_each_contract_whether_the_lock_agrees(tree: Tree) -> None:
    tree.put(schema(count={"description": "Count.", "type": "integer"}))
    tree.put(schema("ci.extra@1.0"))
    tree.drop("ci.other@1.0")

    found = survey(tree.contracts(), read_lock(tree.lock))

    states = {row.id: row.locked for row in found.rows}
    assert states == {"ci.extra@1.0": "new", "ci.note@1.0": "changed", "ci.other@1.0": "gone"}
    assert found.status == "changed"
    assert survey(tree.contracts(), None).status == "missing"


@pytest.fixture
def home_path(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    init_home(path).close()
    return path


def locked_entries(home_path: Path) -> list[dict[str, Any]]:
    with open_home(home_path, read_only=True) as home:
        return [entry.payload for entry in home.ledger.read(kind="contract.locked")]


def test_locking_for_a_reason_is_an_entry_and_a_file(tree: Tree, home_path: Path) -> None:
    before = address_of(tree.lock.read_bytes())
    tree.put(schema(count={"description": "Count.", "type": "integer"}))

    done = contract_lock.lock_for_reason(
        tree.contracts(), tree.lock, f"  {REASON}  ", open_home=lambda: open_home(home_path)
    )

    check(tree.contracts(), tree.lock)
    (entry,) = locked_entries(home_path)
    assert entry["before"] == before
    assert entry["after"] == address_of(tree.lock.read_bytes()) == done.plan.after
    assert (entry["verdict"], entry["reason"]) == ("compatible", REASON)
    assert [field["contract"] for field in entry["fields"]] == ["ci.note@1.0"]
    assert entry["fields"][0]["fields"][0]["pointer"] == "/properties/count"


def test_locking_what_is_locked_writes_nothing(tree: Tree, home_path: Path) -> None:
    raw = tree.lock.read_bytes()

    def never() -> Home:
        raise AssertionError("the home was opened")

    done = contract_lock.lock_for_reason(tree.contracts(), tree.lock, REASON, open_home=never)

    assert done.entry == -1
    assert tree.lock.read_bytes() == raw


def test_a_lock_that_the_ledger_cannot_keep_is_not_written(tree: Tree) -> None:
    raw = tree.lock.read_bytes()
    tree.put(schema(count={"description": "Count.", "type": "integer"}))

    def broken() -> Home:
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        contract_lock.lock_for_reason(tree.contracts(), tree.lock, REASON, open_home=broken)

    assert tree.lock.read_bytes() == raw


def test_a_missing_lock_is_written_only_for_a_reason(tree: Tree, home_path: Path) -> None:
    tree.lock.rename(tree.lock.with_name("old.lock"))
    opening = lambda: open_home(home_path)  # noqa: E731

    with pytest.raises(ReasonRequired):
        contract_lock.lock_for_reason(tree.contracts(), tree.lock, "", open_home=opening)
    contract_lock.lock_for_reason(tree.contracts(), tree.lock, REASON, open_home=opening)

    check(tree.contracts(), tree.lock)
    assert locked_entries(home_path)[0]["before"] == ""


def test_every_shipped_contract_can_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "contracts.lock"

    contract_lock.write(load_contracts(), path)

    check(load_contracts(), path)
    assert survey(load_contracts(), read_lock(path)).status == "locked"
