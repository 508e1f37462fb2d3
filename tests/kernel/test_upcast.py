"""Old versions: upcasters bring documents to the newest major, and golden documents stay readable."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sterling
from sterling.kernel import upcast
from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.contracts import Contracts, load_contracts, version_of
from sterling.kernel.hashing import RECORD_TAG, tagged_hash
from sterling.kernel.home import Home, init_home
from sterling.kernel.records import RecordAltered
from sterling.kernel.upcast import RecordUnreadable, to_newest, upcaster
from sterling.testing import notes

GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "documents").glob("*.json"))
SKIPPED = ("sterling.__main__", "sterling.kernel.standalone_verify")
OLD = {"text": "first\nsecond", "author": "Ada"}
NEW = {"lines": ["first", "second"], "written_by": "Ada"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], Callable[[Json], Json]]:
    """A registry of the test's own."""
    steps = dict(upcast.UPCASTERS)
    monkeypatch.setattr(upcast, "UPCASTERS", steps)
    return steps


def put(home: Home, contract: str, document: Json) -> str:
    batch = Batch()
    ref = home.records.put(batch, contract, document)
    home.ledger.commit(batch)
    return ref.id


def test_a_record_of_an_old_major_is_read_as_one_of_the_newest(home: Home) -> None:
    record_id = put(home, "testing.note@1.0", OLD)

    record = home.records.get(record_id)

    assert (record.contract, record.document) == ("testing.note@2.0", NEW)
    assert [each.document for each in home.records.read("testing.note")] == [NEW]


def test_hash_and_stored_bytes_stay_those_of_the_old_document(home: Home) -> None:
    record_id = put(home, "testing.note@1.0", OLD)

    record = home.records.get(record_id)

    entry = home.ledger.entry(record.entry)
    digest = tagged_hash(RECORD_TAG, b"testing.note@1.0", b"\0", canonical_bytes(OLD)).hex()
    assert record.hash == digest
    assert entry is not None and entry.payload["document"] == OLD
    assert entry.payload["contract"] == "testing.note@1.0"


def test_a_record_of_the_newest_major_stays_as_it_is(home: Home) -> None:
    record = home.records.get(put(home, "testing.note", NEW))

    assert (record.contract, record.document) == ("testing.note@2.0", NEW)


def test_an_altered_old_document_is_altered_and_not_upcast(home: Home, steps: Any) -> None:
    called = []
    steps["testing.note", 1] = lambda document: called.append(document) or NEW
    record_id = put(home, "testing.note@1.0", OLD)
    home.ledger.close()
    with closing(sqlite3.connect(home.path / "ledger.db")) as connection:
        connection.execute("DROP TRIGGER entries_are_never_updated")
        changed = connection.execute(
            "UPDATE entries SET body = CAST(replace(body, 'Ada', 'Bob') AS BLOB) "
            "WHERE contract = 'testing.note'"
        ).rowcount
        connection.commit()

    with pytest.raises(RecordAltered):
        home.records.get(record_id)
    assert (changed, called) == (1, [])


def test_a_step_that_nobody_ships_makes_the_record_unreadable(home: Home, steps: Any) -> None:
    record_id = put(home, "testing.note@1.0", OLD)
    del steps["testing.note", 1]

    with pytest.raises(RecordUnreadable, match=r"from testing\.note 1 to 2") as caught:
        home.records.get(record_id)

    assert caught.value.code == "record.unreadable"
    with pytest.raises(RecordUnreadable):
        list(home.records.read("testing.note"))


def test_a_record_of_a_contract_that_this_program_does_not_know_is_unreadable(home: Home) -> None:
    record_id = put(home, "testing.note@1.0", OLD)
    for known in ([], ["testing.note@1.0"]):
        mine = Contracts({name: load_contracts().get(name) for name in known})
        home.records._contracts = mine
        if not known:
            with pytest.raises(RecordUnreadable, match="known contract"):
                home.records.get(record_id)
        else:
            assert home.records.get(record_id).document == OLD


@pytest.mark.parametrize("made", [{}, OLD, {"lines": [], "written_by": None}, None])
def test_what_the_newest_contract_refuses_is_unreadable(made: Json, steps: Any) -> None:
    steps["testing.note", 1] = lambda document: made

    with pytest.raises(RecordUnreadable, match=r"testing\.note@1\.0 brought to testing\.note@2\.0"):
        to_newest(load_contracts(), "testing.note@1.0", OLD)


def test_a_document_goes_through_every_step_in_order(steps: Any) -> None:
    two = load_contracts()
    third = type(two.get("testing.note@2.0"))(
        "testing.note@3.1", two.get("testing.note@2.0").raw.replace(b"@2.0", b"@3.1"), "x"
    )
    contracts = Contracts({"testing.note@1.0": two.get("testing.note@1.0"), "testing.note@3.1": third})
    steps["testing.note", 2] = lambda document: {**document, "lines": [*document["lines"], "third"]}

    contract, document = to_newest(contracts, "testing.note@1.0", OLD)

    assert (contract, document) == ("testing.note@3.1", {**NEW, "lines": ["first", "second", "third"]})


def test_a_step_has_one_function() -> None:
    with pytest.raises(AssertionError, match="from major 1 already"):
        upcaster("testing.note", 1)(lambda document: document)


def test_every_major_of_every_contract_has_a_way_to_the_next() -> None:
    for module in pkgutil.walk_packages(sterling.__path__, "sterling."):
        if ".plugins" not in module.name and not module.name.startswith(SKIPPED):
            importlib.import_module(module.name)
    majors: dict[str, set[int]] = {}
    for contract in load_contracts():
        if contract.kind == "record":
            majors.setdefault(contract.name, set()).add(version_of(contract.id)[0])

    steps = {(name, major) for name, found in majors.items() for major in range(1, max(found))}
    assert {(name, major) for name, found in majors.items() for major in found} >= steps
    assert {step for step in upcast.UPCASTERS if step[0] in majors} == steps


def test_the_step_of_the_note_is_pure() -> None:
    document = dict(OLD)

    assert (notes.note_2(document), notes.note_2({"text": ""})) == (NEW, {"lines": [""], "written_by": None})
    assert document == OLD


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_document_is_read_by_the_newest_code(path: Path) -> None:
    golden = json.loads(path.read_bytes())
    contract, document = golden["contract"], golden["document"]
    raw = canonical_bytes(document, floats=True)

    assert path.stem == contract
    assert tagged_hash(RECORD_TAG, contract.encode(), b"\0", raw).hex() == golden["hash"]
    assert load_contracts().validate(contract, document) == contract
    newest, read = to_newest(load_contracts(), contract, document)
    assert version_of(newest)[0] == version_of(load_contracts().get(contract.partition("@")[0]).id)[0]
    assert load_contracts().validate(newest, read) == newest


def test_every_version_that_is_not_the_newest_has_a_golden_document() -> None:
    records = [contract for contract in load_contracts() if contract.kind == "record"]
    old = {contract.id for contract in records if load_contracts().get(contract.name) is not contract}

    assert old - {path.stem for path in GOLDEN} == set()
    assert len(GOLDEN) > 30
