"""Statements: in-toto Statement v1 in a DSSE envelope, signed by the `attest` key.

A statement says something (`predicate`) about things named by their SHA-256
(`subjects`). What is signed is the pre-authentication encoding of payload type
and payload, so neither can be swapped for another. Zero subjects, an unknown
payload type and a predicate type that is not ours are refused on both sides.

Source: github.com/secure-systems-lab/dsse, protocol.md; in-toto attestation
framework, Statement v1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from sterling.kernel.canonical import (
    CanonicalInvalid,
    DuplicateKey,
    Json,
    TooLarge,
    canonical_bytes,
    parse_strict,
)
from sterling.kernel.errors import EXIT_BROKEN, SterlingError
from sterling.kernel.hashing import is_address
from sterling.kernel.signing import SignatureInvalid, Signer, base64_text, fingerprint_of, verify_signature

__all__ = [
    "PAYLOAD_TYPE",
    "STATEMENT_TYPE",
    "StatementInvalid",
    "attest_statement",
    "pre_authentication",
    "predicate_type",
    "verify_statement",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_STATEMENT_BYTES_MAX = 1024 * 1024
_PREDICATE_TYPE = re.compile(r"urn:sterling:predicate:[a-z0-9][a-z0-9.-]{0,79}:v[1-9][0-9]{0,3}")
_SIGNATURES_MAX = 16


class StatementInvalid(SterlingError):
    """An envelope holds no statement that can count, or a statement would say nothing."""

    code = "statement.invalid"
    hint = "Ask for a fresh receipt from the home that wrote it; `sterling verify` checks that home."
    exit = EXIT_BROKEN


def predicate_type(name: str) -> str:
    """The type of one of our predicates: `urn:sterling:predicate:<name>:v1`."""
    return f"urn:sterling:predicate:{name}:v1"


def attest_statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Json, key: Signer
) -> dict[str, Json]:
    """A signed envelope. `subjects` maps names to SHA-256 addresses.

    Errors: StatementInvalid for zero or unnamed subjects, other digests, other
            predicate types or a predicate that is no object; KeyPurpose;
            canonical.* for a predicate that canonical JSON cannot hold.
    """
    key.require("attest")
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    _check(statement)
    payload = canonical_bytes(statement)
    if len(payload) > _STATEMENT_BYTES_MAX:
        raise StatementInvalid(f"expected at most {_STATEMENT_BYTES_MAX} bytes, found {len(payload)}")
    signature = key.sign(pre_authentication(PAYLOAD_TYPE, payload))
    return {
        "payload": base64_text(payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.fingerprint, "sig": base64_text(signature)}],
    }


def verify_statement(envelope: Json, public_key: bytes) -> dict[str, Json]:
    """The statement of an envelope that this key signed.

    Raises:
        StatementInvalid: no envelope, an unknown payload type, no statement inside, no subject.
        SignatureInvalid: this key did not sign this payload.
    """
    if not isinstance(envelope, dict) or not isinstance(envelope.get("signatures"), list):
        raise StatementInvalid("expected a DSSE envelope, found other JSON")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise StatementInvalid(
            f"expected payload type {PAYLOAD_TYPE}, found {envelope.get('payloadType')!r:.100}"
        )
    payload = _bytes_of(envelope.get("payload"), "a payload")
    _check_signed(envelope["signatures"], public_key, pre_authentication(PAYLOAD_TYPE, payload))
    try:
        statement = parse_strict(payload, limit=_STATEMENT_BYTES_MAX)
    except (CanonicalInvalid, DuplicateKey, TooLarge) as problem:
        raise StatementInvalid(f"expected a statement, found: {problem.message}") from problem
    return _check(statement)


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: the bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _check_signed(signatures: list[Json], public_key: bytes, message: bytes) -> None:
    """At least one signature must be this key's; `keyid` is a hint that proves nothing."""
    if not 1 <= len(signatures) <= _SIGNATURES_MAX:
        raise StatementInvalid(f"expected 1 to {_SIGNATURES_MAX} signatures, found {len(signatures)}")
    for each in signatures:
        if not isinstance(each, dict):
            raise StatementInvalid("expected signatures as objects, found other JSON")
        try:
            verify_signature(public_key, _bytes_of(each.get("sig"), "a signature"), message)
        except SignatureInvalid:
            continue
        return
    raise SignatureInvalid(f"expected a signature by {fingerprint_of(public_key)[:16]}, found none")


def _check(statement: Json) -> dict[str, Json]:
    fields = {"_type", "subject", "predicateType", "predicate"}
    if not isinstance(statement, dict) or set(statement) != fields or statement["_type"] != STATEMENT_TYPE:
        raise StatementInvalid(f"expected an in-toto {STATEMENT_TYPE}, found another document")
    stated = statement["predicateType"]
    if not isinstance(stated, str) or not _PREDICATE_TYPE.fullmatch(stated):
        raise StatementInvalid(f"expected urn:sterling:predicate:NAME:vN, found {stated!r:.120}")
    if not isinstance(statement["predicate"], dict):
        raise StatementInvalid("expected a predicate object, found another value")
    subjects = statement["subject"]
    if not isinstance(subjects, list) or not subjects:
        raise StatementInvalid("expected at least one subject, found none")
    for subject in subjects:
        _check_subject(subject)
    return statement


def _check_subject(subject: Json) -> None:
    if not isinstance(subject, dict) or set(subject) != {"name", "digest"} or not subject["name"]:
        raise StatementInvalid("expected a subject with name and digest, found otherwise")
    digest = subject["digest"]
    if not isinstance(subject["name"], str) or not isinstance(digest, dict) or set(digest) != {"sha256"}:
        raise StatementInvalid(f"expected subject {subject['name']!r:.100} by its SHA-256, found otherwise")
    if not is_address(digest["sha256"]):
        raise StatementInvalid(f"expected 64 hex digits, found {digest['sha256']!r:.100}")


def _bytes_of(text: Json, what: str) -> bytes:
    if not isinstance(text, str):
        raise StatementInvalid(f"expected {what} in base64, found none")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as problem:
        raise StatementInvalid(f"expected {what} in base64, found other text") from problem
