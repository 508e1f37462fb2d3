"""Statements: what the attest key said about which bytes, and nothing it did not say."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from sterling.kernel.canonical import CanonicalInvalid, Json, canonical_bytes
from sterling.kernel.hashing import address_of
from sterling.kernel.signing import KeyPurpose, SignatureInvalid, Signer
from sterling.kernel.statement import (
    PAYLOAD_TYPE,
    StatementInvalid,
    attest_statement,
    pre_authentication,
    predicate_type,
    verify_statement,
)

RECEIPT = predicate_type("receipt")
SUBJECTS = {"tree": address_of(b"tree"), "patch": address_of(b"patch")}


@pytest.fixture
def key() -> Signer:
    return Signer("attest", b"\x05" * 32)


@pytest.fixture
def envelope(key: Signer) -> dict[str, Json]:
    return attest_statement(SUBJECTS, RECEIPT, {"task": "t-1", "levels": [1, 2]}, key)


def signed(statement: Json, key: Signer, payload_type: str = PAYLOAD_TYPE) -> dict[str, Json]:
    payload = canonical_bytes(statement)
    signature = base64.b64encode(key.sign(pre_authentication(payload_type, payload))).decode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": "", "sig": signature}],
    }


def test_a_statement_that_was_signed_is_read_again(key: Signer, envelope: dict[str, Json]) -> None:
    statement = verify_statement(json.loads(json.dumps(envelope)), key.public_key)

    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:sterling:predicate:receipt:v1"
    assert statement["predicate"] == {"task": "t-1", "levels": [1, 2]}
    assert statement["subject"] == [
        {"name": "patch", "digest": {"sha256": SUBJECTS["patch"]}},
        {"name": "tree", "digest": {"sha256": SUBJECTS["tree"]}},
    ]


def test_the_signed_bytes_are_the_published_encoding() -> None:
    # The example of the DSSE protocol.
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_equal_statements_give_equal_envelopes(key: Signer, envelope: dict[str, Json]) -> None:
    turned = dict(reversed(SUBJECTS.items()))

    assert attest_statement(turned, RECEIPT, {"levels": [1, 2], "task": "t-1"}, key) == envelope


def test_no_byte_of_the_payload_can_change_unnoticed(key: Signer, envelope: dict[str, Json]) -> None:
    payload = base64.b64decode(envelope["payload"])

    for at in range(len(payload)):
        changed = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with pytest.raises(SignatureInvalid):
            verify_statement({**envelope, "payload": base64.b64encode(changed).decode()}, key.public_key)


def test_another_key_did_not_sign_it(envelope: dict[str, Json]) -> None:
    with pytest.raises(SignatureInvalid):
        verify_statement(envelope, Signer("attest", bytes(32)).public_key)


def test_a_key_id_proves_nothing(key: Signer, envelope: dict[str, Json]) -> None:
    envelope["signatures"][0]["keyid"] = "somebody else"
    stranger = Signer("attest", bytes(32))

    assert verify_statement(envelope, key.public_key)
    envelope["signatures"][0]["keyid"] = stranger.fingerprint
    with pytest.raises(SignatureInvalid):
        verify_statement(envelope, stranger.public_key)


def test_one_good_signature_among_others_is_enough(key: Signer, envelope: dict[str, Json]) -> None:
    other = {"keyid": "", "sig": base64.b64encode(bytes(64)).decode()}
    envelope["signatures"].insert(0, other)

    assert verify_statement(envelope, key.public_key)


@pytest.mark.parametrize(
    ("subjects", "kind", "predicate"),
    [
        ({}, RECEIPT, {}),
        ({"": address_of(b"")}, RECEIPT, {}),
        ({"tree": "abc"}, RECEIPT, {}),
        ({"tree": address_of(b"").upper()}, RECEIPT, {}),
        (SUBJECTS, "receipt", {}),
        (SUBJECTS, "urn:sterling:predicate::v1", {}),
        (SUBJECTS, "urn:sterling:predicate:Receipt:v1", {}),
        (SUBJECTS, "https://slsa.dev/provenance/v1", {}),
        (SUBJECTS, RECEIPT, None),
        (SUBJECTS, RECEIPT, []),
        (SUBJECTS, RECEIPT, {"big": "x" * (1024 * 1024)}),
    ],
)
def test_a_statement_that_would_say_nothing_is_not_signed(
    key: Signer, subjects: dict[str, str], kind: str, predicate: Json
) -> None:
    with pytest.raises(StatementInvalid):
        attest_statement(subjects, kind, predicate, key)


def test_a_predicate_outside_canonical_json_is_not_signed(key: Signer) -> None:
    with pytest.raises(CanonicalInvalid):
        attest_statement(SUBJECTS, RECEIPT, {"share": 0.5}, key)


@pytest.mark.parametrize("purpose", ["ledger", "witness", "person:ada"])
def test_only_the_attest_key_signs_statements(purpose: str) -> None:
    with pytest.raises(KeyPurpose):
        attest_statement(SUBJECTS, RECEIPT, {}, Signer(purpose, bytes(32)))


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/vnd.in-toto+json "])
def test_a_payload_of_an_unknown_type_is_refused_though_it_is_signed(key: Signer, kind: str) -> None:
    statement = verify_statement(attest_statement(SUBJECTS, RECEIPT, {}, key), key.public_key)

    with pytest.raises(StatementInvalid):
        verify_statement(signed(statement, key, kind), key.public_key)


def test_one_signature_cannot_be_moved_to_another_payload_type(
    key: Signer, envelope: dict[str, Json]
) -> None:
    other = signed({"x": 1}, key, "text/plain")

    with pytest.raises(SignatureInvalid):
        verify_statement({**other, "payloadType": PAYLOAD_TYPE}, key.public_key)


def without(name: str) -> Callable[[dict[str, Json]], Json]:
    return lambda statement: {field: value for field, value in statement.items() if field != name}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda statement: [],
        lambda statement: "text",
        lambda statement: {**statement, "subject": []},
        lambda statement: {**statement, "subject": [{"name": "a", "digest": {}}]},
        lambda statement: {**statement, "subject": [{"name": "a", "digest": {"sha1": "00"}}]},
        lambda statement: {**statement, "subject": [{"name": "a"}]},
        lambda statement: {**statement, "subject": [[]]},
        lambda statement: {**statement, "_type": "https://in-toto.io/Statement/v0.1"},
        lambda statement: {**statement, "predicateType": 5},
        lambda statement: {**statement, "predicateType": "urn:other:receipt:v1"},
        lambda statement: {**statement, "predicate": None},
        lambda statement: {**statement, "more": 1},
        without("subject"),
        without("predicate"),
        without("_type"),
    ],
)
def test_a_signed_document_that_is_no_statement_is_refused(
    key: Signer, spoil: Callable[[Json], Json]
) -> None:
    statement = verify_statement(attest_statement(SUBJECTS, RECEIPT, {}, key), key.public_key)

    with pytest.raises(StatementInvalid):
        verify_statement(signed(spoil(statement), key), key.public_key)


@pytest.mark.parametrize(
    "envelope",
    [
        None,
        [],
        "text",
        {},
        {"signatures": []},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": []},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": [None]},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": [{}]},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": [{"sig": "!"}]},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": [{"sig": "AA=="}] * 17},
        {"payloadType": PAYLOAD_TYPE, "payload": 5, "signatures": [{"sig": "AA=="}]},
        {"payloadType": PAYLOAD_TYPE, "payload": "!", "signatures": [{"sig": "AA=="}]},
        {"payloadType": PAYLOAD_TYPE, "signatures": [{"sig": "AA=="}]},
    ],
)
def test_a_value_that_is_no_envelope_is_refused(key: Signer, envelope: Json) -> None:
    with pytest.raises(StatementInvalid):
        verify_statement(envelope, key.public_key)


@pytest.mark.parametrize("payload", [b"", b"not json", b'{"a":1,"a":2}', b"\xff"])
def test_a_signed_payload_that_is_no_json_is_refused(key: Signer, payload: bytes) -> None:
    signature = base64.b64encode(key.sign(pre_authentication(PAYLOAD_TYPE, payload))).decode()
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": signature}],
    }

    with pytest.raises(StatementInvalid):
        verify_statement(envelope, key.public_key)


# The reference libraries


def test_the_reference_library_reads_the_statement(envelope: dict[str, Json]) -> None:
    parsed = json_format.Parse(base64.b64decode(envelope["payload"]), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()

    assert {each.name: each.digest["sha256"] for each in parsed.subject} == SUBJECTS
    assert parsed.predicate_type == RECEIPT and parsed.predicate["task"] == "t-1"


def test_the_reference_library_verifies_the_envelope_and_no_altered_one(
    key: Signer, envelope: dict[str, Json]
) -> None:
    public = Ed25519PublicKey.from_public_bytes(key.public_key)
    reference = SSlibKey.from_crypto(public, keyid=key.fingerprint)
    assert Envelope.from_dict(copy.deepcopy(envelope)).verify([reference], 1)

    payload = base64.b64decode(envelope["payload"])
    changed = bytes([payload[0] ^ 1]) + payload[1:]
    altered = {**copy.deepcopy(envelope), "payload": base64.b64encode(changed).decode()}
    with pytest.raises(VerificationError):
        Envelope.from_dict(altered).verify([reference], 1)


def test_an_envelope_of_the_reference_library_is_an_envelope_of_ours(
    key: Signer, envelope: dict[str, Json]
) -> None:
    theirs = Envelope(base64.b64decode(envelope["payload"]), PAYLOAD_TYPE, {})
    theirs.sign(CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)))

    assert verify_statement(theirs.to_dict(), key.public_key)
    assert theirs.to_dict()["signatures"][0]["sig"] == envelope["signatures"][0]["sig"]
