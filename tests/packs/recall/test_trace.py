"""Citations walk down to the pixels; whatever was changed on the way is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sterling.kernel.batch import Batch
from sterling.kernel.home import Home
from sterling.kernel.records import Source
from sterling.packs.recall.ask.answer import answer
from sterling.packs.recall.moments import moment_us
from sterling.packs.recall.trace import CitationBroken, check_citation, check_claim, recheck, walk_answer

NOW = moment_us("2026-03-06T18:00:00", "UTC")
STEPS = ["entry", "state-text", "span", "reading", "tick", "frame", "pixels"]


@pytest.fixture
def claim(read_home: Home) -> dict[str, Any]:
    found = answer(read_home, "What is the reference of bill 7702?", now_us=NOW)
    assert found.state == "answered"
    return copy.deepcopy(found.document["claims"][0])


def other_citation(home: Home) -> dict[str, Any]:
    found = answer(home, "Which cabin does Odile Marchetti have?", now_us=NOW)
    assert found.document["claims"], found.document["sentence"]
    return copy.deepcopy(found.document["claims"][0]["citations"][0])


def put(home: Home, contract: str, document: Any, *sources: Source) -> Any:
    batch = Batch()
    ref = home.records.put(batch, contract, document, sources)
    home.ledger.commit(batch)
    return ref


def spoil(home: Home, address: str) -> None:
    path = home.blobs.path(address)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_citation_that_holds_names_every_step(read_home: Home, claim: dict[str, Any]) -> None:
    steps = check_citation(read_home, claim["citations"][0])

    assert [step.step for step in steps] == STEPS
    assert all(step.state == "ok" for step in steps)
    assert [step.step for step in check_claim(read_home, claim, "UTC")][-2:] == ["claim", "check"]


@pytest.mark.parametrize(
    ("field", "value", "step"),
    [
        ("entry", 0, "entry"),
        ("entry", 10**9, "entry"),
        ("entry", "x", "entry"),
        ("state_text", "r-" + "a" * 26, "entry"),
        ("state_text_hash", "0" * 64, "state-text"),
        ("state", "r-" + "a" * 26, "state-text"),
        ("spans", [], "span"),
        ("spans", [[5, 5]], "span"),
        ("spans", [[9, 5]], "span"),
        ("spans", [[0, 10**9]], "span"),
        ("spans", [[-3, 4]], "span"),
        ("quote", "QX-17-205", "span"),
        ("boxes", [[0, 0, 900, 420]], "span"),
        ("boxes", [], "span"),
        ("text_hash", "0" * 64, "reading"),
        ("models", ["0" * 64], "reading"),
        ("at_us", 1, "tick"),
        ("tick_entry", 3, "tick"),
        ("frame_record_hash", "0" * 64, "frame"),
        ("frame_hash", "0" * 64, "frame"),
    ],
)
def test_a_changed_field_breaks_its_step(
    read_home: Home, claim: dict[str, Any], field: str, value: Any, step: str
) -> None:
    citation = claim["citations"][0] | {field: value}

    with pytest.raises(CitationBroken) as caught:
        check_citation(read_home, citation)

    assert caught.value.details["step"] == step
    assert caught.value.exit == 3


@pytest.mark.parametrize(
    "field", ["entry", "state_text", "spans", "boxes", "text", "tick", "frame", "frame_hash"]
)
def test_a_missing_field_breaks_the_walk(read_home: Home, claim: dict[str, Any], field: str) -> None:
    del claim["citations"][0][field]

    with pytest.raises(CitationBroken):
        check_citation(read_home, claim["citations"][0])


@pytest.mark.parametrize(
    "fields", [("frame", "frame_record_hash", "frame_hash"), ("tick", "tick_entry", "at_us"), ("boxes",)]
)
def test_parts_of_another_citation_do_not_fit(
    read_home: Home, claim: dict[str, Any], fields: tuple[str, ...]
) -> None:
    foreign = other_citation(read_home)
    citation = claim["citations"][0] | {field: foreign[field] for field in fields}

    with pytest.raises(CitationBroken):
        check_citation(read_home, citation)


def test_a_forged_state_text_with_its_own_hash_is_not_what_the_reading_gives(
    read_home: Home, claim: dict[str, Any]
) -> None:
    citation = claim["citations"][0]
    document = copy.deepcopy(read_home.records.get(citation["state_text"]).document)
    document["text"] = document["text"].replace("QX-17-204", "QX-99-999")
    ref = put(read_home, "recall.state-text", document, Source("state", record=citation["state"]))
    entry = read_home.ledger.newest(ref.id)
    assert entry is not None
    forged = citation | {
        "state_text": ref.id,
        "state_text_hash": ref.hash,
        "entry": entry.index,
        "quote": "QX-99-999",
    }

    with pytest.raises(CitationBroken) as caught:
        check_citation(read_home, forged)

    assert caught.value.details["step"] == "state-text"


@pytest.mark.parametrize("what", ["state-text", "text", "manifest", "bundle"])
def test_changed_bytes_behind_a_citation_are_found(read_home: Home, claim: dict[str, Any], what: str) -> None:
    citation = claim["citations"][0]
    frame = read_home.records.get(citation["frame"]).document
    addresses = {"manifest": frame["manifest"], "bundle": frame["bundles"][0]}
    for name, field in (("state-text", "state_text"), ("text", "text")):
        entry = read_home.ledger.newest(citation[field])
        assert entry is not None
        addresses[name] = entry.payload["blob"]
    spoil(read_home, addresses[what])

    with pytest.raises(CitationBroken) as caught:
        check_citation(read_home, citation)

    assert "blob.altered" in caught.value.message


def test_a_missing_blob_is_found(read_home: Home, claim: dict[str, Any]) -> None:
    frame = read_home.records.get(claim["citations"][0]["frame"]).document
    read_home.blobs.path(frame["bundles"][0]).unlink()

    with pytest.raises(CitationBroken, match=r"pixels: blob\.absent"):
        check_citation(read_home, claim["citations"][0])


@pytest.mark.parametrize("text", ["QX-17-205", "418.20", "the reference is QX-17-204", "QX"])
def test_a_claim_that_its_quote_does_not_say_is_rejected(
    read_home: Home, claim: dict[str, Any], text: str
) -> None:
    claim["text"] = text

    with pytest.raises(CitationBroken) as caught:
        check_claim(read_home, claim, "UTC")

    assert caught.value.details["step"] == "claim"


def test_a_time_claim_must_be_the_time_of_its_look(read_home: Home) -> None:
    found = answer(read_home, "When did I last see bill 7702?", now_us=NOW)
    claim = copy.deepcopy(found.document["claims"][0])
    check_claim(read_home, claim, "UTC")
    claim["text"] = claim["text"].replace("15:00", "16:00")

    with pytest.raises(CitationBroken):
        check_claim(read_home, claim, "UTC")


@pytest.mark.parametrize("change", ["verdict", "missing", "foreign", "boxes"])
def test_an_agreement_that_the_readings_do_not_give_is_rejected(
    read_home: Home, claim: dict[str, Any], change: str
) -> None:
    record = read_home.records.get(claim["check"]["agreement"])
    document = copy.deepcopy(record.document)
    sources = [Source("frame", record=document["frame"])]
    if change == "verdict":
        document["tokens"][0]["b"] = "QX-11-204"
        claim["check"]["agreement"] = put(read_home, "recall.agreement", document, *sources).id
    elif change == "missing":
        claim["check"]["agreement"] = "r-" + "a" * 26
    elif change == "foreign":
        document["a"] = other_citation(read_home)["text"]
        claim["check"]["agreement"] = put(read_home, "recall.agreement", document, *sources).id
    else:
        document["boxes"] = [[0, 0, 5, 5]]
        claim["check"]["agreement"] = put(read_home, "recall.agreement", document, *sources).id

    with pytest.raises(CitationBroken):
        check_claim(read_home, claim, "UTC")


def test_a_single_claim_may_not_borrow_an_agreement(read_home: Home, claim: dict[str, Any]) -> None:
    claim["check"]["verdict"] = "single"

    with pytest.raises(CitationBroken):
        check_claim(read_home, claim, "UTC")


def test_a_recorded_answer_is_walked_claim_by_claim(read_home: Home) -> None:
    found = answer(read_home, "What is the reference of bill 7702?", now_us=NOW)

    ((text, steps),) = walk_answer(read_home, found.record)

    cited = len(found.document["claims"][0]["citations"])
    assert (text, cited) == ("QX-17-204", 2)
    assert [step.step for step in steps] == [*STEPS, *STEPS, "claim", "check"]


def test_checking_a_run_again_finds_what_was_changed_since(read_home: Home) -> None:
    found = answer(read_home, "What is the reference of bill 7702?", now_us=NOW)
    assert recheck(read_home, found.run).problems == ()
    assert recheck(read_home, found.run).checked == 1
    frame = read_home.records.get(found.document["claims"][0]["citations"][0]["frame"]).document

    spoil(read_home, frame["bundles"][0])

    assert any("pixels" in problem for problem in recheck(read_home, found.run).problems)
    ingest_run = next(iter(read_home.records.read("recall.frame"))).run
    assert recheck(read_home, ingest_run).problems
