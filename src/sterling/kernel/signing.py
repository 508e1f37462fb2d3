"""Ed25519: a key that signs for one purpose, and checking what it signed.

A `Signer` never shows its secret: not in `repr`, not in an error, not in a
pickle. A signature is 64 bytes, a public key 32.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sterling.kernel.errors import EXIT_BROKEN, EXIT_USAGE, SterlingError

__all__ = [
    "PUBLIC_KEY_BYTES",
    "SIGNATURE_BYTES",
    "KeyPurpose",
    "SignatureInvalid",
    "Signer",
    "Verifier",
    "VerifierInvalid",
    "base64_text",
    "fingerprint_of",
    "is_key_name",
    "key_id",
    "parse_signature",
    "parse_verifier",
    "verifier_text",
    "verify_signature",
]

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_ED25519 = b"\x01"  # The C2SP signature type; it stands before the key in ids and verifier strings.
_NAME = re.compile(r"[\x21-\x2a\x2c-\x7e]{1,200}")


class KeyPurpose(SterlingError):
    """A key was asked to sign what it is not for."""

    code = "keys.purpose"
    hint = "Each purpose has a key of its own. Make a home with them: `sterling init --help`."


class SignatureInvalid(SterlingError):
    """A signature does not belong to these bytes and this key."""

    code = "keys.signature-invalid"
    hint = "Check that the file is the one that was signed, then run `sterling verify`."
    exit = EXIT_BROKEN


class VerifierInvalid(SterlingError):
    """A text is no verifier string (`name+id+key`)."""

    code = "keys.verifier-invalid"
    hint = "Pass the verifier string that `sterling ledger head` printed on the machine you trust."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name."""

    name: str
    public_key: bytes


class Signer:
    """The right to sign for one purpose. Made by `keys.make_key` or `keys.load_key`."""

    __slots__ = ("_private", "public_key", "purpose")

    def __init__(self, purpose: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.purpose = purpose
        self.public_key: bytes = self._private.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the public key, in hex."""
        return fingerprint_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of these bytes."""
        return self._private.sign(message)

    def verifier(self, name: str) -> str:
        """The public key under a name, as C2SP note verifiers read it: `name+id+key`."""
        return verifier_text(name, self.public_key)

    def require(self, *purposes: str) -> None:
        """Refuse to go on unless the key is for one of these purposes."""
        if self.purpose not in purposes:
            raise KeyPurpose(f"expected a key for {' or '.join(purposes)}, found one for {self.purpose}")

    def __repr__(self) -> str:
        return f"Signer({self.purpose!r}, {self.fingerprint[:16]})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is never pickled: its secret stays in this process")


def fingerprint_of(public_key: bytes) -> str:
    """The SHA-256 of a public key, in hex."""
    return hashlib.sha256(public_key).hexdigest()


def key_id(name: str, public_key: bytes) -> bytes:
    """The 4-byte C2SP id of an Ed25519 key under a name."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + _ED25519 + public_key).digest()[:4]


def is_key_name(text: str) -> bool:
    """Whether a key can carry this name: printable ASCII without space and plus."""
    return _NAME.fullmatch(text) is not None


def verifier_text(name: str, public_key: bytes) -> str:
    """`name+id+key`: what somebody keeps outside to check our notes."""
    return f"{name}+{key_id(name, public_key).hex()}+{base64_text(_ED25519 + public_key)}"


def parse_verifier(text: str) -> Verifier:
    """Read `name+id+key`.

    Errors: VerifierInvalid.
    """
    name, _, rest = text.strip().partition("+")
    encoded = rest.partition("+")[2]
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError as problem:
        raise VerifierInvalid(f"expected name+id+key, found {text[:120]!r}") from problem
    verifier = Verifier(name, key[1:])
    if not is_key_name(name) or len(verifier.public_key) != PUBLIC_KEY_BYTES:
        raise VerifierInvalid(f"expected name+id+key of an Ed25519 key, found {text[:120]!r}")
    if verifier_text(name, verifier.public_key) != text.strip():
        raise VerifierInvalid(f"expected the id of the key to fit it, found {text[:120]!r}")
    return verifier


def base64_text(data: bytes) -> str:
    """A key, a signature or other bytes as text."""
    return base64.b64encode(data).decode("ascii")


def parse_signature(text: object) -> bytes:
    """The 64 bytes of a signature in base64; no bytes for anything else, another spelling included."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""
    return data if len(data) == SIGNATURE_BYTES and base64_text(data) == text else b""


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check a signature.

    Raises:
        SignatureInvalid: wrong key, wrong bytes, or not a key or signature at all.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise SignatureInvalid(
            f"expected {PUBLIC_KEY_BYTES} key and {SIGNATURE_BYTES} signature bytes,"
            f" found {len(public_key)} and {len(signature)}"
        )
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as problem:
        raise SignatureInvalid(
            f"expected a signature by {fingerprint_of(public_key)[:16]}, found one that is not"
        ) from problem
