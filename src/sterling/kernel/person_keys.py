"""Keys of persons: outside every home, and open for one signature.

A person says yes or no with a key of their own. Its file lies in the user's
settings folder and is wrapped by a passphrase (scrypt, AES-256-GCM), or says that
the secret is in the keyring of the desktop. Nothing here asks for a passphrase or
reads the environment: whoever calls hands it over. A demo home may hold a
throw-away key in the clear.

A keyring that would keep the secret nowhere or readable is refused: only those of
the operating systems are taken.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sterling.kernel.durable import write_new
from sterling.kernel.key_history import is_purpose
from sterling.kernel.keys import (
    KeyUnusable,
    key_path,
    load_public_key,
    make_key,
    read_private,
    writing,
)
from sterling.kernel.signing import KeyPurpose, Signer, base64_text

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

    from sterling.kernel.home import Home

__all__ = [
    "OnceSigner",
    "make_person_key",
    "make_throwaway_key",
    "people_folder",
    "read_people",
    "system_keyring",
    "unlock_person_key",
]

_FORMAT = "sterling/person-key/1"
_SCRYPT_N, _SCRYPT_N_MAX = 2**17, 2**20  # 128 MiB and about half a second.
_RING = "sterling"
_RINGS = ("macOS", "Windows", "SecretService", "libsecret", "kwallet")


class OnceSigner(Signer):
    """A person's key, unwrapped: it signs once and forgets its secret."""

    __slots__ = ("_is_spent",)

    def __init__(self, purpose: str, seed: bytes) -> None:
        super().__init__(purpose, seed)
        self._is_spent = False

    def sign(self, message: bytes) -> bytes:
        """The signature of these bytes, once. Errors: KeyUnusable at the second time."""
        if self._is_spent:
            raise KeyUnusable(f"expected to sign once with {self.purpose}, found a second time")
        self._is_spent = True
        signature = super().sign(message)
        del self._private
        return signature


def people_folder() -> Path:
    """Where the keys of persons lie: the user's settings folder, outside every home."""
    return Path(platformdirs.user_config_dir("sterling", appauthor=False)) / "keys"


def make_person_key(purpose: str, passphrase: bytes | None, folder: Path | None = None) -> bytes:
    """Make a person's key and give its public half; None as passphrase means the system's keyring.

    Errors: KeyPurpose unless the purpose is person:NAME, KeyUnusable when there is such a key
            already, the passphrase is empty, or there is no keyring that keeps a secret.
    """
    _require_person(purpose)
    place = people_folder() if folder is None else folder
    seed = secrets.token_bytes(32)
    public = Signer(purpose, seed).public_key
    content: dict[str, Any] = {"format": _FORMAT, "purpose": purpose, "public": public.hex()}
    if os.path.lexists(key_path(place, purpose, "key")):
        raise KeyUnusable(f"expected no {purpose} key in {place}, found one", purpose=purpose)
    if passphrase is None:
        _put_in_ring(purpose, seed)
    elif not passphrase:
        raise KeyUnusable("expected a passphrase, found an empty one", purpose=purpose)
    else:
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        sealed = AESGCM(_stretch(passphrase, salt, _SCRYPT_N)).encrypt(nonce, seed, _bound(purpose, public))
        content |= {"n": _SCRYPT_N, "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}
    with writing(place, purpose):
        write_new(key_path(place, purpose, "key"), json.dumps(content, sort_keys=True) + "\n")
        write_new(key_path(place, purpose, "pub"), base64_text(public) + "\n")
    return public


def unlock_person_key(purpose: str, passphrase: bytes | None, folder: Path | None = None) -> OnceSigner:
    """A person's key, for one signature; the passphrase is not needed for a key in the keyring.

    Errors: KeyPurpose, KeyUnusable: missing, unsafe, altered, a wrong passphrase.
    """
    _require_person(purpose)
    path = key_path(people_folder() if folder is None else folder, purpose, "key")
    raw = read_private(path, purpose)
    try:
        content = json.loads(raw)
        public = bytes.fromhex(content["public"])
        is_ours = content["format"] == _FORMAT and content["purpose"] == purpose
        if "sealed" in content:
            cost, salt = content["n"], bytes.fromhex(content["salt"])
            nonce, sealed = bytes.fromhex(content["nonce"]), bytes.fromhex(content["sealed"])
            is_ours = is_ours and type(cost) is int and 2 <= cost <= _SCRYPT_N_MAX and not cost & (cost - 1)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KeyUnusable(
            f"expected a person's key at {path}, found other content", purpose=purpose
        ) from None
    if not is_ours:
        raise KeyUnusable(f"expected the {purpose} key at {path}, found another", purpose=purpose)
    if "sealed" not in content:
        seed = _from_ring(purpose)
    elif passphrase is None:
        raise KeyUnusable(f"expected a passphrase for {purpose}, found none", purpose=purpose)
    else:
        try:
            seed = AESGCM(_stretch(passphrase, salt, cost)).decrypt(nonce, sealed, _bound(purpose, public))
        except (InvalidTag, ValueError):
            raise KeyUnusable(
                f"expected the passphrase of {purpose}, found another", purpose=purpose
            ) from None
    signer = OnceSigner(purpose, seed) if len(seed) == 32 else None
    if signer is None or signer.public_key != public:
        raise KeyUnusable(f"expected the two halves of {purpose} to belong together, found they do not")
    return signer


def make_throwaway_key(home: Home, purpose: str) -> Signer:
    """A person's key in the clear, in a demo home and in no other. Errors: KeyPurpose, KeyUnusable."""
    _require_person(purpose)
    if not home.demo:
        raise KeyPurpose(f"expected a demo home for a throw-away key, found {home.id}")
    return make_key(home.path / "keys", purpose)


def read_people(home: Home | None = None, folder: Path | None = None) -> dict[str, bytes]:
    """The public keys of the persons whom this user knows; a demo home adds its throw-away ones."""
    places = [people_folder() if folder is None else folder]
    if home is not None and home.demo:
        places.append(home.path / "keys")
    found: dict[str, bytes] = {}
    for place in places:
        for path in sorted(place.glob("person-*.pub")):
            purpose = f"person:{path.stem.removeprefix('person-')}"
            key = load_public_key(place, purpose) if is_purpose(purpose) else None
            if key is not None:
                found.setdefault(purpose, key)
    return found


def system_keyring() -> KeyringBackend:
    """The operating system's keyring.

    Errors: KeyUnusable for any other, among them those that keep nothing or keep it readable.
    """
    import keyring

    chosen: Any = keyring.get_keyring()
    if type(chosen).__module__ == "keyring.backends.chainer":
        chosen = next(iter(chosen.backends), chosen)
    if type(chosen).__module__ not in {f"keyring.backends.{name}" for name in _RINGS}:
        raise KeyUnusable(
            f"expected the keyring of the operating system, found {type(chosen).__module__}",
            hint="Use a passphrase instead: `sterling keys new --help`.",
        )
    ring: KeyringBackend = chosen
    return ring


def _put_in_ring(purpose: str, seed: bytes) -> None:
    from keyring.errors import KeyringError

    try:
        system_keyring().set_password(_RING, purpose, base64_text(seed))
    except KeyringError:
        raise KeyUnusable(f"expected the keyring to keep {purpose}, found it refuses") from None


def _from_ring(purpose: str) -> bytes:
    from keyring.errors import KeyringError

    try:
        return base64.b64decode(system_keyring().get_password(_RING, purpose) or "", validate=True)
    except (KeyringError, ValueError):
        return b""


def _stretch(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase)


def _bound(purpose: str, public: bytes) -> bytes:
    """What the wrapping is bound to, so that it opens under no other name."""
    return _FORMAT.encode("ascii") + b"\x00" + purpose.encode("ascii") + b"\x00" + public


def _require_person(purpose: str) -> None:
    if not purpose.startswith("person:") or not is_purpose(purpose):
        raise KeyPurpose(f"expected person:NAME, found {purpose[:80]!r}")
