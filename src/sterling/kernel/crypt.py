"""Encryption at rest: sealed files, names that reveal nothing, and the key of a home.

A sealed file is AES-256-GCM in pieces of 1 MiB under a key of its own, made from
the home's key and a random salt. A piece's nonce is its number and a flag; the
last piece holds the blob's address and is flagged, so that a file that is cut,
extended, swapped or put in another order does not open. The name of the file is
an HMAC of the address.

The home's key is wrapped by a second one, which lies in the system's keyring or,
when there is no keyring that encrypts, in `keys/blobs.key` with mode 0600.
Nothing here falls back to plain bytes: without the key it is `keys.unusable`.
"""

from __future__ import annotations

import base64
import hmac
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sterling.kernel.blob_codec import PIECE_BYTES, FormBroken
from sterling.kernel.durable import write_new
from sterling.kernel.hashing import address_of
from sterling.kernel.keys import KeyUnusable, read_private
from sterling.kernel.signing import base64_text

__all__ = ["Crypt", "is_encrypted", "key_place", "load_crypt", "make_crypt", "readable_facts"]

_MAGIC = b"sterling/sealed/1\n"
_SALT_BYTES, _TAG_BYTES, _KEY_BYTES = 16, 16, 32
_HEADER_BYTES = len(_MAGIC) + _SALT_BYTES
_LAST_BYTES = 32 + _TAG_BYTES
_FORMAT = "sterling/wrapped-key/1"
_SERVICE = "sterling"
_REFUSED_BACKENDS = ("null", "fail", "plain")


class Crypt:
    """Seals and opens the files of one home."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == _KEY_BYTES, "a home's key has 32 bytes"
        self._file_key = hmac.digest(key, b"sterling/blob-file/1", "sha256")
        self._name_key = hmac.digest(key, b"sterling/blob-name/1", "sha256")

    def name_of(self, address: str) -> str:
        """The name, 64 hex digits, under which the sealed bytes of an address lie."""
        return hmac.digest(self._name_key, bytes.fromhex(address), "sha256").hex()

    def seal(self, pieces: Iterable[bytes], address: Callable[[], str]) -> Iterator[bytes]:
        """The sealed form of these bytes; `address` is asked once they have all been taken."""
        salt = secrets.token_bytes(_SALT_BYTES)
        cipher, count = self._cipher(salt), 0
        yield _MAGIC + salt
        for piece in _whole(pieces):
            yield cipher.encrypt(_nonce(count, last=False), piece, _MAGIC)
            count += 1
        yield cipher.encrypt(_nonce(count, last=True), bytes.fromhex(address()), _MAGIC)

    def seal_bytes(self, data: bytes) -> bytes:
        """Bytes that are no blob, such as an item of the spool, in sealed form."""
        return b"".join(self.seal([data], lambda: address_of(data)))

    def unseal_bytes(self, sealed: bytes) -> bytes:
        """Errors: FormBroken."""
        return b"".join(self.unseal(io.BytesIO(sealed)))

    def unseal(self, file: BinaryIO) -> Iterator[bytes]:
        """The bytes in a sealed file. Errors: FormBroken, at the end at the latest."""
        cipher, body_bytes, count = self._start(file)
        for number in range(count):
            length = min(PIECE_BYTES + _TAG_BYTES, body_bytes - number * (PIECE_BYTES + _TAG_BYTES))
            yield _opened(cipher, number, file.read(length), last=False)
        _opened(cipher, count, file.read(), last=True)

    def address_in(self, file: BinaryIO) -> str:
        """The address that a sealed file says it holds. Errors: FormBroken."""
        cipher, body_bytes, count = self._start(file)
        file.seek(_HEADER_BYTES + body_bytes)
        return _opened(cipher, count, file.read(), last=True).hex()

    def _start(self, file: BinaryIO) -> tuple[Any, int, int]:
        """The cipher of a file, how many bytes its pieces take, and how many pieces they are."""
        header = file.read(_HEADER_BYTES)
        body_bytes = file.seek(0, os.SEEK_END) - _HEADER_BYTES - _LAST_BYTES
        file.seek(_HEADER_BYTES)
        if len(header) != _HEADER_BYTES or not header.startswith(_MAGIC) or body_bytes < 0:
            raise FormBroken("it is no sealed file")
        return self._cipher(header[len(_MAGIC) :]), body_bytes, -(-body_bytes // (PIECE_BYTES + _TAG_BYTES))

    def _cipher(self, salt: bytes) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(hmac.digest(self._file_key, salt, "sha256"))


def make_crypt(keys: Path, home_id: str) -> None:
    """Make the key of a new home.

    Errors: KeyUnusable.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    wrapping, nonce = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(12)
    sealed = AESGCM(wrapping).encrypt(nonce, secrets.token_bytes(_KEY_BYTES), home_id.encode("ascii"))
    where = "keyring" if _keep_in_keyring(home_id, base64_text(wrapping)) else "file"
    content = {"format": _FORMAT, "home_id": home_id, "key": base64_text(nonce + sealed), "where": where}
    try:
        if where == "file":
            write_new(keys / "blobs.key", base64_text(wrapping) + "\n")
        write_new(keys / "blobs.wrapped", json.dumps(content, sort_keys=True) + "\n")
    except OSError as problem:
        raise KeyUnusable(f"expected to write a key in {keys}, found: {problem.strerror}") from problem


def key_place(keys: Path) -> str:
    """Where the key that wraps an encrypted home's key lies: `keyring`, or its path."""
    in_file = os.path.lexists(keys / "blobs.key")
    return str(keys / "blobs.key") if in_file else "keyring"


def is_encrypted(keys: Path) -> bool:
    """Whether the home with this folder of keys says that its blobs are sealed."""
    return os.path.lexists(keys / "blobs.wrapped")


def load_crypt(keys: Path) -> Crypt | None:
    """The crypt of the home with this folder of keys; None when the home is plain.

    Errors: KeyUnusable when the key is missing, wrong or unsafe.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not is_encrypted(keys):
        return None
    try:
        wrapped = json.loads(read_private(keys / "blobs.wrapped", "blobs"))
        home_id, sealed = str(wrapped["home_id"]), base64.b64decode(wrapped["key"], validate=True)
        if wrapped["format"] != _FORMAT or wrapped["where"] not in ("file", "keyring"):
            raise ValueError("another format")
        in_file = wrapped["where"] == "file"
        text = read_private(keys / "blobs.key", "blobs") if in_file else _from_keyring(home_id)
        wrapping = base64.b64decode(text.strip(), validate=True)
        return Crypt(AESGCM(wrapping).decrypt(sealed[:12], sealed[12:], home_id.encode("ascii")))
    except (ValueError, TypeError, KeyError, RecursionError, InvalidTag):
        # `from None` keeps what was read out of a traceback.
        raise KeyUnusable(f"expected the key of this home's blobs in {keys}, found another") from None


def readable_facts(*, encrypted: bool) -> list[str]:
    """What somebody who reads the disk learns, in words."""
    always = [
        "ledger.db: kinds, times, sizes, names of runs and steps, and every payload that is not sensitive",
        "sterling.toml, evidence/ (rendered reports) and telemetry/",
        "how many blobs there are, how large each is and when it was written",
        "scratch folders outside the home while a step is at work",
    ]
    return always if encrypted else ["blobs/: every stored byte", "index/: words of screens", *always]


def _keep_in_keyring(home_id: str, secret: str) -> bool:
    """Keep a secret in the system's keyring, when there is one that encrypts and gives it back."""
    import keyring
    from keyring.errors import KeyringError

    try:
        if not _is_safe(keyring.get_keyring()):
            return False
        keyring.set_password(_SERVICE, home_id, secret)
        return keyring.get_password(_SERVICE, home_id) == secret
    except (KeyringError, RuntimeError, OSError):
        return False


def _from_keyring(home_id: str) -> bytes:
    import keyring
    from keyring.errors import KeyringError

    try:
        secret = keyring.get_password(_SERVICE, home_id) if _is_safe(keyring.get_keyring()) else None
    except (KeyringError, RuntimeError, OSError) as problem:
        raise KeyUnusable(f"expected the key of {home_id} in the keyring, found: {problem}") from problem
    if secret is None:
        raise KeyUnusable(f"expected the key of {home_id} in the keyring, found none")
    return secret.encode("ascii", "replace")


def _is_safe(backend: Any) -> bool:
    """Whether a keyring encrypts: not the null one, the failing one, or one that writes plain text."""
    name = f"{type(backend).__module__}.{type(backend).__name__}".lower()
    chained = getattr(backend, "backends", ())
    refused = any(word in name for word in _REFUSED_BACKENDS)
    return not refused and backend.priority >= 1 and all(_is_safe(each) for each in chained)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _opened(cipher: Any, number: int, sealed: bytes, *, last: bool) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        opened: bytes = cipher.decrypt(_nonce(number, last=last), sealed, _MAGIC)
    except (InvalidTag, ValueError) as problem:
        raise FormBroken(f"sealed piece {number} does not open") from problem
    return opened


def _whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of 1 MiB, the last one shorter."""
    waiting = bytearray()
    for piece in pieces:
        if not waiting and len(piece) == PIECE_BYTES:
            yield piece
            continue
        waiting += piece
        while len(waiting) >= PIECE_BYTES:
            yield bytes(waiting[:PIECE_BYTES])
            del waiting[:PIECE_BYTES]
    if waiting:
        yield bytes(waiting)
