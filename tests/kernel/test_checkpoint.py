"""Checkpoints as signed notes: what we write is read again, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sterling.kernel.checkpoint import (
    NOTE_BYTES_MAX,
    Checkpoint,
    NoteMalformed,
    format_checkpoint,
    note_checkpoint,
    note_signers,
    open_note,
    origin_of,
    parse_checkpoint,
    sign_note,
)
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.signing import KeyPurpose, SignatureInvalid, Signer, Verifier

ORIGIN = origin_of("home-abc")
CHECKPOINT = Checkpoint(ORIGIN, 42, bytes(range(32)))


@pytest.fixture
def signer() -> Signer:
    return Signer("ledger", b"\x01" * 32)


@pytest.fixture
def note(signer: Signer) -> str:
    return sign_note(CHECKPOINT, signer)


def test_a_note_has_the_published_form(signer: Signer, note: str) -> None:
    lines = note.split("\n")

    assert lines[:4] == ["sterling/home-abc", "42", base64.b64encode(bytes(range(32))).decode(), ""]
    assert lines[4].startswith("— sterling/home-abc ") and lines[5:] == [""]
    assert note_signers(note) == [(ORIGIN, signer.verifier(ORIGIN).split("+")[1])]


def test_a_signed_note_opens_with_its_verifier_string_or_key(signer: Signer, note: str) -> None:
    assert open_note(note, [signer.verifier(ORIGIN)]) == CHECKPOINT
    assert open_note(note, [Verifier(ORIGIN, signer.public_key)]) == CHECKPOINT
    assert note_checkpoint(note) == CHECKPOINT


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl as the other implementation")
@pytest.mark.parametrize("is_spoiled", [False, True])
def test_another_program_verifies_our_note(
    signer: Signer, note: str, tmp_path: Path, is_spoiled: bool
) -> None:
    """By the published recipe: text up to the empty line, a 4-byte key id, an Ed25519 signature."""
    text, _, line = note.rpartition("\n\n")
    name, _, rest = signer.verifier(ORIGIN).partition("+")
    identity, _, key = rest.partition("+")
    typed, signed = base64.b64decode(key), base64.b64decode(line.split(" ")[2])
    assert hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4] == signed[:4] == bytes.fromhex(identity)
    spki = bytes.fromhex("302a300506032b6570032100") + typed[1:]  # RFC 8410's frame around a raw key.
    (tmp_path / "key.der").write_bytes(spki)
    (tmp_path / "text").write_text(text.replace("42", "43") + "\n" if is_spoiled else text + "\n")
    (tmp_path / "signature").write_bytes(signed[4:])

    command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in text -sigfile signature"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False)

    assert (done.returncode == 0) == (not is_spoiled), done.stderr


def test_signing_twice_gives_the_same_bytes(signer: Signer, note: str) -> None:
    assert sign_note(CHECKPOINT, signer) == note


@pytest.mark.parametrize("size", [0, 1, 9, 10, 2**53, 2**63 - 1])
def test_every_size_survives_the_round_trip(size: int) -> None:
    checkpoint = replace(CHECKPOINT, size=size)

    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


def test_no_bit_of_a_note_can_change_unnoticed(signer: Signer, note: str) -> None:
    verifier, raw = signer.verifier(ORIGIN), note.encode()

    for at in range(len(raw)):
        for bit in (1, 4, 32):
            changed = bytearray(raw)
            changed[at] ^= bit
            with pytest.raises((NoteMalformed, SignatureInvalid, KeyUnknown)):
                open_note(bytes(changed).decode("utf-8", "surrogateescape"), [verifier])


def test_a_note_by_another_key_is_of_an_unknown_key(note: str) -> None:
    other = Signer("ledger", b"\x02" * 32)

    with pytest.raises(KeyUnknown):
        open_note(note, [other.verifier(ORIGIN)])
    with pytest.raises(KeyUnknown):
        open_note(note, [])


def test_the_right_key_under_another_name_is_unknown(signer: Signer, note: str) -> None:
    with pytest.raises(KeyUnknown):
        open_note(note, [signer.verifier("sterling/home-other")])


def test_a_line_that_claims_the_key_and_is_not_its_signature_is_refused(signer: Signer) -> None:
    other = sign_note(replace(CHECKPOINT, size=41), signer)
    forged = format_checkpoint(CHECKPOINT) + "\n" + other.split("\n\n")[1]

    with pytest.raises(SignatureInvalid):
        open_note(forged, [signer.verifier(ORIGIN)])


def test_a_witness_may_add_a_line_without_harm(signer: Signer, note: str) -> None:
    witness = Signer("witness", b"\x03" * 32)
    both = note + sign_note(CHECKPOINT, witness).split("\n\n")[1]

    assert open_note(both, [signer.verifier(ORIGIN)]) == CHECKPOINT
    assert open_note(both, [witness.verifier(ORIGIN)]) == CHECKPOINT
    assert len(note_signers(both)) == 2


def test_a_good_line_does_not_excuse_a_bad_one_of_a_known_key(signer: Signer, note: str) -> None:
    bad = sign_note(replace(CHECKPOINT, size=41), signer).split("\n\n")[1]

    with pytest.raises(SignatureInvalid):
        open_note(note + bad, [signer.verifier(ORIGIN)])


@pytest.mark.parametrize("purpose", ["attest", "person:ada"])
def test_only_keys_for_checkpoints_sign_them(purpose: str) -> None:
    with pytest.raises(KeyPurpose):
        sign_note(CHECKPOINT, Signer(purpose, bytes(32)))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(CHECKPOINT, origin=""),
        replace(CHECKPOINT, origin="a b"),
        replace(CHECKPOINT, origin="a+b"),
        replace(CHECKPOINT, origin="a\nb"),
        replace(CHECKPOINT, origin="é"),
        replace(CHECKPOINT, size=-1),
        replace(CHECKPOINT, size=10**19),
        replace(CHECKPOINT, root=b""),
        replace(CHECKPOINT, root=bytes(31)),
    ],
)
def test_what_no_note_can_hold_is_not_written(wrong: Checkpoint) -> None:
    with pytest.raises(NoteMalformed):
        format_checkpoint(wrong)


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        f"{ORIGIN}\n42\n{ROOT}",
        f"{ORIGIN}\n42\n{ROOT}\nextension\n",
        f"{ORIGIN}\n042\n{ROOT}\n",
        f"{ORIGIN}\n+42\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n٤٢\n{ROOT}\n",
        f"{ORIGIN}\n42\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n42\n{ROOT[:-2]}B=\n",
        f"{ORIGIN}\n42\n {ROOT}\n",
        f"{ORIGIN}\r\n42\r\n{ROOT}\r\n",
        f"{ORIGIN}\n42\n\n",
    ],
)
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteMalformed):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: note[:-1],
        lambda note: note + "\n",
        lambda note: "\n" + note,
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.replace("\n\n", "\n\n\n"),
        lambda note: note.replace("—", "-"),
        lambda note: note.replace("— ", "—  "),
        lambda note: note.split("\n\n")[0] + "\n\n",
        lambda note: note + note.split("\n\n")[1] * 16,
        lambda note: note + "— x " + "A" * NOTE_BYTES_MAX + "\n",
        lambda note: note.encode().hex(),
    ],
)
def test_a_note_of_another_form_is_refused(note: str, spoil: object) -> None:
    with pytest.raises(NoteMalformed):
        note_checkpoint(spoil(note))  # type: ignore[operator]
