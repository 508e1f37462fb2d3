"""Sealed files and the key of a home: only what was sealed so opens, and nothing falls back to plain."""

from __future__ import annotations

import base64
import hmac
import io
import json
import os
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from keyring.backends import chainer, fail, null

from sterling.kernel.batch import Batch
from sterling.kernel.blob_codec import PIECE_BYTES, ZSTD, FormBroken
from sterling.kernel.blobs import BlobAltered, Blobs
from sterling.kernel.crypt import Crypt, key_place, load_crypt
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.keys import KeyUnusable
from sterling.kernel.records import Source
from sterling.kernel.verify import verify_home

PHRASE = b"the heron stands in the reeds at dusk"
HEADER, SEALED_PIECE, LAST = 34, PIECE_BYTES + 16, 48


class Vault(keyring.backend.KeyringBackend):
    """A keyring that keeps secrets in memory and claims to encrypt."""

    priority: Any = 5

    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.secrets.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.secrets[service, username] = password


class PlaintextVault(Vault):
    """What writes secrets down as they are, whatever it claims."""


class Forgetful(Vault):
    """What takes a secret and does not give it back."""

    def get_password(self, service: str, username: str) -> str | None:
        return None


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fail.Keyring())


def use(monkeypatch: pytest.MonkeyPatch, backend: keyring.backend.KeyringBackend) -> None:
    monkeypatch.setattr("keyring.core._keyring_backend", backend)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    (tmp_path / "blobs").mkdir()
    return Blobs(tmp_path / "blobs", Crypt(bytes(range(32))))


def file_of(blobs: Blobs, address: str) -> Path:
    (stored,) = blobs.forms(address)
    os.chmod(stored.path, 0o600)
    return stored.path


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_what_was_sealed_opens(blobs: Blobs, size: int) -> None:
    data = os.urandom(size)

    address = blobs.put(data)

    assert address == address_of(data) and blobs.get(address) == data
    assert list(blobs.addresses()) == [address] and blobs.put(data) == address


def test_neither_the_name_nor_the_bytes_say_what_is_sealed(blobs: Blobs) -> None:
    address = blobs.put(PHRASE)

    stored = file_of(blobs, address)

    assert address[2:] not in stored.name and PHRASE not in stored.read_bytes()
    assert bytes.fromhex(address) not in stored.read_bytes()


def test_one_flipped_bit_anywhere_is_altered(blobs: Blobs) -> None:
    address = blobs.put(b"abc")
    file = file_of(blobs, address)
    whole = file.read_bytes()

    for place in range(len(whole)):
        for bit in (1, 128):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            with pytest.raises(BlobAltered):
                blobs.get(address)

    file.write_bytes(whole)
    assert blobs.get(address) == b"abc"


def _pieces(whole: bytes) -> list[bytes]:
    body = whole[HEADER:-LAST]
    return [body[at : at + SEALED_PIECE] for at in range(0, len(body), SEALED_PIECE)]


FORGERIES = {
    "last piece cut": lambda head, p, end: head + b"".join(p[:-1]) + end,
    "cut without its end": lambda head, p, end: head + p[0] + p[1],
    "cut within a piece": lambda head, p, end: (head + b"".join(p) + end)[:-LAST - 5],
    "middle piece left out": lambda head, p, end: head + p[0] + p[2] + end,
    "two pieces swapped": lambda head, p, end: head + p[1] + p[0] + p[2] + end,
    "a piece repeated": lambda head, p, end: head + p[0] + p[0] + p[1] + p[2] + end,
    "a byte more": lambda head, p, end: head + b"".join(p) + end + b"\x00",
    "its end twice": lambda head, p, end: head + b"".join(p) + end + end,
    "sixteen bytes more": lambda head, p, end: head + b"".join(p) + bytes(16) + end,
    "nothing": lambda head, p, end: b"",
    "its header alone": lambda head, p, end: head,
    "its header and its end": lambda head, p, end: head + end,
}  # fmt: skip


@pytest.mark.parametrize("how", FORGERIES)
def test_a_sealed_file_in_another_shape_does_not_open(blobs: Blobs, how: str) -> None:
    address = blobs.put(os.urandom(2 * PIECE_BYTES + 100))
    file = file_of(blobs, address)
    whole = file.read_bytes()

    file.write_bytes(FORGERIES[how](whole[:HEADER], _pieces(whole), whole[-LAST:]))

    with pytest.raises(BlobAltered):
        blobs.get(address)
    assert blobs.quick_check(address) == "altered"


@pytest.mark.parametrize("how", ["last piece cut", "two pieces swapped", "a piece repeated", "its end twice"])
def test_the_seal_itself_refuses_without_any_hash(blobs: Blobs, how: str) -> None:
    assert blobs.crypt is not None
    whole = blobs.crypt.seal_bytes(os.urandom(2 * PIECE_BYTES + 100))

    forged = FORGERIES[how](whole[:HEADER], _pieces(whole), whole[-LAST:])

    with pytest.raises(FormBroken):
        blobs.crypt.unseal_bytes(forged)


def test_pieces_of_another_file_do_not_fit(blobs: Blobs) -> None:
    assert blobs.crypt is not None
    one, two = (blobs.crypt.seal_bytes(bytes([each]) * 2 * PIECE_BYTES) for each in (1, 2))

    mixed = one[:HEADER] + _pieces(one)[0] + _pieces(two)[1] + one[-LAST:]

    with pytest.raises(FormBroken):
        blobs.crypt.unseal_bytes(mixed)


def test_a_sealed_file_under_another_name_is_refused(blobs: Blobs) -> None:
    truth, lie = blobs.put(b"truth"), blobs.put(b"lie")
    file_of(blobs, truth).write_bytes(file_of(blobs, lie).read_bytes())

    with pytest.raises(BlobAltered):
        blobs.get(truth)

    assert list(blobs.addresses()) == [lie]


def test_a_key_of_another_home_opens_nothing(blobs: Blobs) -> None:
    assert blobs.crypt is not None
    sealed = blobs.crypt.seal_bytes(PHRASE)

    with pytest.raises(FormBroken):
        Crypt(bytes(32)).unseal_bytes(sealed)
    with pytest.raises(FormBroken):
        list(Crypt(bytes(32)).unseal(io.BytesIO(b"sterling/sealed/1\n")))


def test_a_sealed_form_can_be_compressed_within(blobs: Blobs) -> None:
    address = blobs.put(PHRASE * 100_000)

    written = blobs.write_form(address, ZSTD)

    assert written.name.endswith(".zst.sealed") and written.stat().st_size < 10_000
    assert b"".join(blobs.decoded(blobs.forms(address)[1])) == PHRASE * 100_000


# The key of a home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with init_home(tmp_path / "home", encrypt=True) as made:
        plant(made)
    return tmp_path / "home"


def plant(home: Home) -> tuple[str, str]:
    """A blob and a sensitive record that hold the phrase."""
    address = home.blobs.put(PHRASE * 1000)
    batch = Batch()
    context = {"app": "editor", "title": PHRASE.decode(), "url": ""}
    ref = home.records.put(batch, "recall.context", context)
    home.ledger.commit(batch)
    return address, ref.id


def test_no_byte_of_the_home_holds_what_was_sealed(home: Path, tmp_path: Path) -> None:
    with init_home(tmp_path / "plain") as plain:
        plant(plain)
    assert any(PHRASE in file.read_bytes() for file in (tmp_path / "plain").rglob("*") if file.is_file())

    everything = {file: file.read_bytes() for file in home.rglob("*") if file.is_file()}

    assert [file for file, data in everything.items() if PHRASE in data] == []
    assert any(file.name.endswith(".sealed") for file in everything)


def test_what_was_sealed_is_read_and_verified_with_the_key(home: Path) -> None:
    with open_home(home, read_only=True) as opened:
        (record,) = opened.records.read("recall.context")
        assert record.document["title"] == PHRASE.decode()

    found = verify_home(home, blobs=True, deep=True)

    assert (found.verdict, found.exit) == ("ok", 0)


def test_without_the_key_nothing_is_called_broken_that_cannot_be_read(home: Path) -> None:
    with open_home(home) as opened:
        (sealed,) = opened.records.read("recall.context")
        batch = Batch()
        document = {"app": "editor", "title": "another", "url": ""}
        opened.records.put(batch, "recall.context", document, [Source("parent", record=sealed.id)])
        opened.ledger.commit(batch)
    (home / "keys" / "blobs.key").rename(home.parent / "elsewhere")

    found = verify_home(home, deep=True)

    assert (found.verdict, found.exit) == ("cannot-judge", 4), found


@pytest.mark.parametrize("fault", ["missing", "another", "readable", "not base64", "empty", "link"])
def test_without_its_key_a_home_does_not_open(home: Path, fault: str) -> None:
    key = home / "keys" / "blobs.key"
    kept = key.read_bytes()
    key.unlink()
    if fault == "link":
        (home.parent / "elsewhere").write_bytes(kept)
        key.symlink_to(home.parent / "elsewhere")
    elif fault != "missing":
        contents = {"another": b"A" * 43 + b"=\n", "not base64": b"?", "empty": b""}
        key.write_bytes(contents.get(fault, kept))
        key.chmod(0o644 if fault == "readable" else 0o600)
    before = sorted(file for file in (home / "blobs").rglob("*"))

    with pytest.raises(KeyUnusable):
        open_home(home)

    assert sorted((home / "blobs").rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "exit", "code"),
    [("blobs.key", 4, "keys.unusable"), ("blobs.wrapped", 3, "integrity.blob-missing")],
)
def test_without_its_key_a_home_is_never_good(home: Path, file: str, exit: int, code: str) -> None:
    (home / "keys" / file).unlink()

    found = verify_home(home, blobs=True)

    assert (found.exit, found.code) == (exit, code)


def test_a_home_whose_wrapped_key_is_gone_does_not_turn_plain(home: Path) -> None:
    (home / "keys" / "blobs.wrapped").unlink()
    (home / "keys" / "blobs.key").unlink()

    with pytest.raises(KeyUnusable):
        open_home(home)


def test_a_plain_home_does_not_take_a_key_from_nowhere(home: Path, tmp_path: Path) -> None:
    init_home(tmp_path / "plain").close()
    for name in ("blobs.key", "blobs.wrapped"):
        (home / "keys" / name).rename(tmp_path / "plain" / "keys" / name)

    with pytest.raises(KeyUnusable):
        open_home(tmp_path / "plain")


def test_a_wrapped_key_of_another_home_does_not_open(home: Path) -> None:
    wrapped = home / "keys" / "blobs.wrapped"
    content = json.loads(wrapped.read_text())
    wrapped.write_text(json.dumps(content | {"home_id": "home-" + "a" * 26}))

    with pytest.raises(KeyUnusable):
        load_crypt(home / "keys")


def test_an_entry_whose_contract_is_sensitive_keeps_its_payload_in_a_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with init_home(tmp_path / "plain") as home:
        contract = home.contracts.get("process.started")
        monkeypatch.setitem(contract.schema, "x-sensitive", True)
        batch = Batch()
        batch.append("process.started", {"command": PHRASE.decode(), "pid": 1, "boot": "b"})
        receipt = home.ledger.commit(batch)
        entry = home.ledger.entry(receipt.last)

    assert entry is not None and entry.payload["command"] == PHRASE.decode()
    assert PHRASE not in entry.body


# The keyring


@pytest.mark.parametrize(
    "backend",
    [fail.Keyring(), null.Keyring(), PlaintextVault(), Forgetful()],
    ids=lambda each: type(each).__module__ + type(each).__name__,
)
def test_a_keyring_that_keeps_no_secret_safe_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: keyring.backend.KeyringBackend
) -> None:
    use(monkeypatch, backend)

    init_home(tmp_path / "home", encrypt=True).close()

    key = tmp_path / "home" / "keys" / "blobs.key"
    assert key_place(tmp_path / "home" / "keys") == str(key)
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_chain_with_a_plain_keyring_in_it_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = chainer.ChainerBackend()
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [Vault(), PlaintextVault()])
    monkeypatch.setattr(chainer.ChainerBackend, "priority", 10)
    use(monkeypatch, chain)

    init_home(tmp_path / "home", encrypt=True).close()

    assert (tmp_path / "home" / "keys" / "blobs.key").is_file()


def test_a_keyring_that_encrypts_holds_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault()
    use(monkeypatch, vault)
    with init_home(tmp_path / "home", encrypt=True) as home:
        address, _ = plant(home)

    assert key_place(tmp_path / "home" / "keys") == "keyring"
    assert not (tmp_path / "home" / "keys" / "blobs.key").exists()
    with open_home(tmp_path / "home", read_only=True) as home:
        assert home.blobs.get(address) == PHRASE * 1000
    vault.secrets.clear()
    with pytest.raises(KeyUnusable):
        open_home(tmp_path / "home")


def test_the_page_of_the_format_suffices_to_open_a_sealed_file(home: Path) -> None:
    wrapped = json.loads((home / "keys" / "blobs.wrapped").read_text())
    wrapping = base64.b64decode((home / "keys" / "blobs.key").read_text())
    sealed_key, bound = base64.b64decode(wrapped["key"]), wrapped["home_id"].encode()
    key = AESGCM(wrapping).decrypt(sealed_key[:12], sealed_key[12:], bound)

    def keyed(secret: bytes, message: bytes) -> bytes:
        return hmac.new(secret, message, "sha256").digest()

    opened = {}
    for file in (home / "blobs").glob("??/*.sealed"):
        whole, plain, number = file.read_bytes(), b"", 0
        head, rest = whole[:34], whole[34:]
        cipher = AESGCM(keyed(keyed(key, b"sterling/blob-file/1"), head[18:]))
        while len(rest) > 48:
            piece, rest = rest[: min(2**20 + 16, len(rest) - 48)], rest[min(2**20 + 16, len(rest) - 48) :]
            plain += cipher.decrypt(number.to_bytes(11, "big") + b"\x00", piece, head[:18])
            number += 1
        address = cipher.decrypt(number.to_bytes(11, "big") + b"\x01", rest, head[:18])
        assert keyed(keyed(key, b"sterling/blob-name/1"), address).hex() == file.parent.name + file.name[:62]
        opened[address.hex()] = plain

    assert len(opened) == 2 and all(address_of(data) == address for address, data in opened.items())
    assert PHRASE * 1000 in opened.values()
