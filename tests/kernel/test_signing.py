"""Ed25519 against its published vectors; a signer gives signatures and nothing else."""

from __future__ import annotations

import base64
import copy
import hashlib
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sterling.kernel.signing import (
    KeyPurpose,
    SignatureInvalid,
    Signer,
    VerifierInvalid,
    fingerprint_of,
    key_id,
    parse_verifier,
    verifier_text,
    verify_signature,
)

# RFC 8032, section 7.1, tests 1 to 3: secret, public, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.fixture
def signer() -> Signer:
    return Signer("ledger", bytes(range(32)))


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_signatures_are_the_published_ones(secret: str, public: str, message: str, signature: str) -> None:
    signer = Signer("ledger", bytes.fromhex(secret))

    assert signer.public_key.hex() == public
    assert signer.sign(bytes.fromhex(message)).hex() == signature
    verify_signature(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message))


@pytest.mark.parametrize("at", range(64))
def test_one_flipped_bit_of_a_signature_is_refused(signer: Signer, at: int) -> None:
    signature = bytearray(signer.sign(b"message"))
    signature[at] ^= 1

    with pytest.raises(SignatureInvalid):
        verify_signature(signer.public_key, bytes(signature), b"message")


def test_other_bytes_and_other_keys_are_refused(signer: Signer) -> None:
    signature, other = signer.sign(b"message"), Signer("ledger", bytes(32))

    for public_key, message in [(signer.public_key, b"messagE"), (other.public_key, b"message")]:
        with pytest.raises(SignatureInvalid):
            verify_signature(public_key, signature, message)


@pytest.mark.parametrize(
    ("key_bytes", "signature_bytes"), [(0, 64), (31, 64), (33, 64), (32, 0), (32, 63), (32, 65)]
)
def test_a_key_or_signature_of_another_length_is_refused(key_bytes: int, signature_bytes: int) -> None:
    with pytest.raises(SignatureInvalid):
        verify_signature(bytes(key_bytes), bytes(signature_bytes), b"message")


def test_the_secret_is_in_no_text_and_in_no_pickle(signer: Signer) -> None:
    shown = repr(signer) + str(signer) + f"{signer}"

    assert bytes(range(32)).hex()[:16] not in shown
    assert base64.b64encode(bytes(range(32))).decode()[:16] not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leak(signer)


def test_a_key_refuses_what_it_is_not_for(signer: Signer) -> None:
    signer.require("attest", "ledger")

    with pytest.raises(KeyPurpose, match="expected a key for attest, found one for ledger"):
        signer.require("attest")


def test_a_fingerprint_is_the_sha256_of_the_public_key(signer: Signer) -> None:
    assert signer.fingerprint == fingerprint_of(signer.public_key)
    assert signer.fingerprint == hashlib.sha256(signer.public_key).hexdigest()


def test_the_published_verifier_string_is_read_and_written() -> None:
    # golang.org/x/mod/sumdb/note documents this one.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

    verifier = parse_verifier(text)

    assert verifier.name == "PeterNeumann"
    assert key_id(verifier.name, verifier.public_key).hex() == "c74f20a3"
    assert verifier_text(verifier.name, verifier.public_key) == text


def test_the_published_note_verifies() -> None:
    # The note that golang.org/x/mod/sumdb/note signs in its documentation.
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    verifier = parse_verifier("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    signed = base64.b64decode(line)

    assert signed[:4] == key_id(verifier.name, verifier.public_key)
    Ed25519PublicKey.from_public_bytes(verifier.public_key).verify(signed[4:], text.encode())
    verify_signature(verifier.public_key, signed[4:], text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        "name+00000000+!!!",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "peterneumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10Q=",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_text_that_is_no_verifier_string_is_refused(text: str) -> None:
    with pytest.raises(VerifierInvalid):
        parse_verifier(text)
