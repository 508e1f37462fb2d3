"""Records: same content, same id; sources that exist; documents that cannot be swapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.blobs import BlobAltered
from sterling.kernel.contracts import RecordInvalid
from sterling.kernel.home import Home, init_home
from sterling.kernel.records import RecordMissing, Records, Source, SourceMissing

# Any record contract will do; the entry contracts of the kernel validate the same way.
CONTRACT = "process.ended"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


def put(home: Home, exit: int, sources: tuple[Source, ...] = (), run: str = "") -> str:
    batch = Batch(run=run)
    ref = home.records.put(batch, CONTRACT, {"command": "test", "exit": exit}, sources)
    home.ledger.commit(batch)
    return ref.id


def test_a_record_reads_back_with_its_sources(home: Home) -> None:
    blob = home.blobs.put(b"pixels")
    first = put(home, 1, (Source("input", blob=blob),))

    second = put(home, 2, (Source("parent", record=first),), run="run-x")

    record = home.records.get(second)
    assert record.document == {"command": "test", "exit": 2}
    assert record.sources == (Source("parent", record=first),)
    assert record.run == "run-x" and record.contract == "process.ended@1.0"
    assert [r.id for r in home.records.walk(second, "up")] == [second, first]
    assert [r.id for r in home.records.walk(first, "down")] == [first, second]


def test_equal_documents_have_equal_ids_in_every_home(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "b"):
        with init_home(tmp_path / name) as home:
            ids.append(put(home, 7, run=f"run-{name}"))

    assert ids[0] == ids[1]


def test_the_same_document_again_is_noted_and_not_copied(home: Home) -> None:
    put(home, 1)
    put(home, 1)

    assert [e.kind for e in home.ledger.read()][1:] == ["record.put", "record.again"]
    assert len(list(home.records.read(CONTRACT))) == 1


@pytest.mark.parametrize("source", [Source("input", record="r-nothing"), Source("input", blob="0" * 64)])
def test_a_source_that_is_not_there_is_refused(home: Home, source: Source) -> None:
    with pytest.raises(SourceMissing):
        put(home, 1, (source,))

    assert home.ledger.size() == 1


def test_a_source_may_be_written_in_the_same_batch(home: Home) -> None:
    batch = Batch()
    first = home.records.put(batch, CONTRACT, {"command": "test", "exit": 1})
    second = home.records.put(
        batch, CONTRACT, {"command": "test", "exit": 2}, [Source("parent", record=first.id)]
    )
    home.ledger.commit(batch)

    assert home.records.get(second.id).sources[0].record == first.id


def test_an_invalid_document_is_named_by_pointer_and_rule(home: Home) -> None:
    with pytest.raises(RecordInvalid) as caught:
        home.records.put(Batch(), CONTRACT, {"command": "test", "exit": "zero"})

    assert "/exit" in str(caught.value.details)


def test_a_large_document_lives_in_a_blob_and_an_altered_one_is_refused(home: Home) -> None:
    batch = Batch()
    ref = home.records.put(batch, CONTRACT, {"command": "x" * 60_000, "exit": 0})
    home.ledger.commit(batch)
    assert home.records.get(ref.id).document["command"] == "x" * 60_000
    address = next(home.ledger.read(kind="record.put")).payload["blob"]
    os.chmod(home.blobs.path(address), 0o600)
    home.blobs.path(address).write_bytes(b"{}")

    with pytest.raises(BlobAltered):
        home.records.get(ref.id)


def test_an_unknown_record_is_said(home: Home) -> None:
    with pytest.raises(RecordMissing):
        home.records.get("r-nothing")

    assert isinstance(home.records, Records) and not home.records.has("r-nothing")
