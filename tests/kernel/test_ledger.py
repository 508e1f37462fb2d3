"""The ledger's one way in: batches whole or not at all, receipts, preconditions, one writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import chain, merkle
from sterling.kernel.append import Appender, PreconditionFailed, Receipt
from sterling.kernel.batch import Actor, Batch, FenceHolds, NewestIs, RecordAbsent
from sterling.kernel.blobs import BlobNotDurable
from sterling.kernel.canonical import TooLarge, canonical_bytes, parse_canonical
from sterling.kernel.contracts import ContractUnknown, RecordInvalid
from sterling.kernel.group import LedgerClosed
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.integrity import TailMissing
from sterling.kernel.lease_table import LeaseExpired
from sterling.kernel.ledger import checkpoint_every
from sterling.kernel.writer import StoreWriter
from sterling.testing.clock import FakeClock


def ended(exit: int = 0, *, subject: str = "") -> Batch:
    batch = Batch()
    batch.append("process.ended", {"command": "test", "exit": exit}, subject=subject)
    return batch


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def home(tmp_path: Path, clock: FakeClock) -> Iterator[Home]:
    with init_home(tmp_path / "home", clock=clock) as made:
        yield made


def test_a_committed_batch_is_read_back_in_order(home: Home) -> None:
    batch = Batch(actor=Actor("person", "somebody"), run="run-x", step="one")
    batch.append("process.started", {"command": "a", "pid": 1, "boot": "b"}, subject="service/a")
    batch.append("process.ended", {"command": "a", "exit": 0}, subject="service/a")

    receipt = home.ledger.commit(batch)

    stored = list(home.ledger.read(run="run-x"))
    assert [entry.kind for entry in stored] == ["process.started", "process.ended"]
    assert [entry.index for entry in stored] == [receipt.first, receipt.last]
    assert stored[1].hash == receipt.head == home.ledger.head()
    assert stored[0].actor == Actor("person", "somebody") and stored[0].step == "one"
    assert home.ledger.newest("service/a") == stored[1]


def test_every_body_is_its_own_canonical_form(home: Home) -> None:
    batch = Batch(actor=Actor("agent", "näme\u2028"), run="r", step="s")
    batch.append("process.ended", {"exit": 3, "command": 'quote " and \\ and ✓ and \x01'}, subject="subject")
    home.ledger.commit(batch)

    for entry in home.ledger.read():
        assert canonical_bytes(parse_canonical(entry.body)) == entry.body


def test_the_stored_chain_and_tree_agree_with_the_pure_functions(home: Home) -> None:
    for number in range(20):
        home.ledger.commit(ended(number))

    stored = list(home.ledger.read())
    head = chain.verify(chain.Entry(e.index, e.previous, e.hash, e.body) for e in stored)
    assert head == home.ledger.head()
    proof = home.ledger.inclusion(7)
    merkle.verify_inclusion(7, len(stored), merkle.leaf_hash(stored[7].hash), proof, home.ledger.root())


def test_committing_a_batch_again_gives_the_first_receipt(home: Home) -> None:
    batch = ended()
    first = home.ledger.commit(batch)
    home.ledger.commit(ended(1))

    again = home.ledger.commit(batch)

    assert (again.first, again.last) == (first.first, first.last)
    assert home.ledger.size() == 3


def test_a_payload_that_breaks_its_contract_writes_nothing(home: Home) -> None:
    batch = ended()
    batch.append("process.ended", {"command": 7, "exit": 0})

    with pytest.raises(RecordInvalid):
        home.ledger.commit(batch)

    assert home.ledger.size() == 1


def test_an_unknown_kind_is_refused(home: Home) -> None:
    batch = Batch()
    batch.append("nobody.knows", {})

    with pytest.raises(ContractUnknown):
        home.ledger.commit(batch)


def test_a_batch_that_names_a_missing_blob_is_refused(home: Home) -> None:
    batch = Batch()
    payload = {
        "contract": "process.ended@1.0",
        "id": "r-x",
        "hash": "0" * 64,
        "sources": [],
        "blob": "f" * 64,
    }
    batch.append("record.put", payload)

    with pytest.raises(BlobNotDurable):
        home.ledger.commit(batch)


@pytest.mark.parametrize("name", ["subject", "run"])
def test_a_refusal_is_kept_however_long_the_names_in_the_batch_are(home: Home, name: str) -> None:
    batch = Batch(run="é" * 40_000 if name == "run" else "")
    subject = "é" * 40_000 if name == "subject" else ""
    batch.append("process.ended", {"command": "test", "exit": 0}, subject=subject)
    batch.require(NewestIs("nobody", 0))

    with pytest.raises(PreconditionFailed):
        home.ledger.commit(batch)

    refused = list(home.ledger.read())[-1]
    assert (refused.kind, refused.payload["subject"]) == ("write.refused", subject[:200])
    assert refused.run == batch.run[:200]


def test_a_batch_whose_subject_has_no_room_in_an_entry_is_refused_as_too_large(home: Home) -> None:
    with pytest.raises(TooLarge):
        home.ledger.commit(ended(subject="s" * 70_000))

    assert list(home.ledger.read())[-1].payload["code"] == TooLarge.code


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        (NewestIs("service/a", 99), PreconditionFailed),
        (NewestIs("nobody", 0), PreconditionFailed),
        (FenceHolds("never/taken", 1), LeaseExpired),
    ],
)
def test_a_condition_that_does_not_hold_refuses_the_batch_and_leaves_the_refusal(
    home: Home, condition: NewestIs | FenceHolds, error: type[Exception]
) -> None:
    home.ledger.commit(ended(subject="service/a"))
    batch = ended(5)
    batch.require(condition)

    with pytest.raises(error):
        home.ledger.commit(batch)

    kinds = [entry.kind for entry in home.ledger.read()]
    assert kinds == ["home.created", "process.ended", "write.refused"]


def test_a_condition_that_holds_lets_the_batch_through(home: Home) -> None:
    receipt = home.ledger.commit(ended(subject="service/a"))
    batch = ended(6, subject="service/a")
    batch.require(NewestIs("service/a", receipt.last))
    batch.require(NewestIs("nobody", None))
    batch.require(RecordAbsent("r-nothing"))

    home.ledger.commit(batch)

    newest = home.ledger.newest("service/a")
    assert newest is not None and newest.payload["exit"] == 6


def test_one_refused_batch_does_not_touch_its_neighbours(home: Home) -> None:
    results: list[str] = []

    def write(number: int) -> None:
        batch = ended(number)
        if number % 3 == 0:
            batch.require(NewestIs("nobody", 1))
        try:
            home.ledger.commit(batch)
            results.append("ok")
        except PreconditionFailed:
            results.append("refused")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(set(results)) == ["ok", "refused"] and results.count("refused") == 10
    stored = list(home.ledger.read())
    assert sorted(e.payload["exit"] for e in stored if e.kind == "process.ended") == [
        number for number in range(30) if number % 3
    ]
    chain.verify(chain.Entry(e.index, e.previous, e.hash, e.body) for e in stored)


def test_entries_can_be_neither_updated_nor_deleted_with_plain_sqlite(home: Home) -> None:
    home.close()
    connection = sqlite3.connect(home.path / "ledger.db")

    for statement in ("UPDATE entries SET body = x'00'", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()


def test_a_fall_of_the_wall_clock_is_an_entry_of_its_own(home: Home, clock: FakeClock) -> None:
    home.ledger.commit(ended())
    clock.step_wall(-5_000_000)

    home.ledger.commit(ended(1))

    kinds = [entry.kind for entry in home.ledger.read()]
    assert kinds == ["home.created", "process.ended", "clock.stepped", "process.ended"]
    stepped = next(home.ledger.read(kind="clock.stepped"))
    assert stepped.payload["before_us"] - stepped.payload["after_us"] == 5_000_000


def test_a_large_payload_becomes_a_blob_and_reads_back(home: Home) -> None:
    batch = Batch()
    batch.append("process.started", {"command": "x" * 40_000, "pid": 1, "boot": "b"})
    home.ledger.commit(batch)

    entry = next(home.ledger.read(kind="process.started"))

    assert len(entry.body) < 1000
    assert entry.payload["command"] == "x" * 40_000


def test_a_checkpoint_is_signed_stored_and_anchored(home: Home) -> None:
    home.ledger.commit(ended())

    note = home.ledger.checkpoint()

    assert note == home.ledger.newest_note() == home.anchors.latest()
    assert home.anchors.latest_size() == 2
    assert home.ledger.checkpoint() == note


def test_a_checkpoint_follows_every_so_many_entries_without_being_asked(home: Home) -> None:
    batch = Batch()
    for number in range(checkpoint_every + 10):
        batch.append("process.ended", {"command": f"many {number}", "exit": 0})
    home.ledger.commit(batch)
    home.ledger.commit(ended())

    assert (home.anchors.latest_size() or 0) >= checkpoint_every


def test_closing_checkpoints_what_was_written(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        home.ledger.commit(ended())

    assert home.anchors.latest_size() == 2


def test_a_checkpoint_without_any_anchor_begins_anew_and_says_so(home: Home) -> None:
    for file in sorted(home.anchors.folder.iterdir()):
        file.unlink()
    home.anchors.folder.rmdir()
    home.ledger.commit(ended())

    home.ledger.checkpoint()

    assert [e.kind for e in home.ledger.read()][-1] == "anchor.restored"
    assert home.anchors.latest_size() == home.ledger.size()


def test_a_home_that_was_closed_is_written_again(home: Home) -> None:
    home.ledger.commit(ended())
    home.close()

    with open_home(home.path) as again:
        again.ledger.commit(ended(1))

    assert again.anchors.latest_size() == 3


def test_a_log_shorter_than_its_anchor_refuses_to_be_written(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        for number in range(5):
            home.ledger.commit(ended(number))
    connection = sqlite3.connect(home.path / "ledger.db")
    connection.execute("DROP TRIGGER entries_are_never_deleted")
    connection.execute('DELETE FROM entries WHERE "index" > 2')
    connection.execute("DELETE FROM checkpoints WHERE size > 3")
    connection.commit()
    connection.close()

    with open_home(home.path) as cut, pytest.raises(TailMissing):
        cut.ledger.commit(ended())


def test_an_edited_newest_entry_refuses_further_writes(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        home.ledger.commit(ended())
    connection = sqlite3.connect(home.path / "ledger.db")
    connection.execute("DROP TRIGGER entries_are_never_updated")
    connection.execute(
        "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), '\"exit\":0', '\"exit\":9') AS BLOB) "
        'WHERE "index" = 1'
    )
    connection.commit()
    connection.close()

    with open_home(home.path) as altered, pytest.raises(chain.EntryAltered) as caught:
        altered.ledger.commit(ended())

    assert caught.value.index == 1


def test_a_home_opened_for_reading_refuses_to_write(home: Home) -> None:
    home.close()

    with open_home(home.path, read_only=True) as reader, pytest.raises(LedgerClosed):
        reader.ledger.commit(ended())


def test_an_interrupted_leader_loses_no_batch_of_the_others(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.ledger.commit(ended())
    really = Appender.apply
    interrupted = threading.Event()

    def once(*given: Any, **named: Any) -> Receipt:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        return really(*given, **named)

    monkeypatch.setattr(Appender, "apply", once)

    with pytest.raises(KeyboardInterrupt):
        home.ledger.commit(ended(1))
    home.ledger.commit(ended(2))

    exits = [entry.payload["exit"] for entry in home.ledger.read(kind="process.ended")]
    assert exits == [0, 1, 2]
    stored = list(home.ledger.read())
    chain.verify(chain.Entry(e.index, e.previous, e.hash, e.body) for e in stored)


def test_a_checkpoint_that_was_interrupted_is_written_with_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.ledger.commit(ended())
    really = StoreWriter._store_note

    def interrupted(writer: StoreWriter) -> str:
        really(writer)
        monkeypatch.setattr(StoreWriter, "_store_note", really)
        raise KeyboardInterrupt

    monkeypatch.setattr(StoreWriter, "_store_note", interrupted)
    with pytest.raises(KeyboardInterrupt):
        home.ledger.checkpoint()

    note = home.ledger.checkpoint()

    assert note == home.ledger.newest_note() == home.anchors.latest()
    assert home.anchors.latest_size() == 2


@pytest.mark.parametrize("column", ["kind", "contract", "subject", "run"])
def test_reading_by_any_filter_uses_an_index(home: Home, column: str) -> None:
    asked: list[str] = []
    reader = home.ledger.connection()
    reader.set_trace_callback(asked.append)
    list(home.ledger.read(**{column: "x"}))  # type: ignore[arg-type]
    reader.set_trace_callback(None)

    plan = reader.execute(f"EXPLAIN QUERY PLAN {asked[-1]}").fetchall()

    assert f"USING INDEX entries_by_{column}" in plan[0][3]
