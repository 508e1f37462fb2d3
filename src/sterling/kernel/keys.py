"""Key files: one Ed25519 key a purpose, readable by its owner alone.

`<purpose>.key` holds the secret and says what it is for, so that a file under
another name is refused. `<purpose>.pub` holds the public half of the *first* key
of the purpose, where its history begins; it is a convenience of the home and
proves nothing about it. `<purpose>.next.key` is a key that a rotation is about to
put in place; `key_change.py` says when.

A key file that is a link, belongs to somebody else, can be read by others, or
says another purpose is `keys.unusable`. Nothing here prints a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sterling.kernel.durable import sync_folder, write_new
from sterling.kernel.errors import SterlingError
from sterling.kernel.key_history import is_purpose
from sterling.kernel.signing import PUBLIC_KEY_BYTES, Signer, base64_text

__all__ = [
    "KeyUnusable",
    "load_key",
    "load_next_key",
    "load_public_key",
    "make_key",
    "make_next_key",
    "put_next_key_in_place",
    "read_private",
]

_FORMAT = "sterling/key/1"
_SEED_BYTES = 32
_FILE_BYTES_MAX = 4096


class KeyUnusable(SterlingError):
    """A key file is missing, unreadable, unsafe, or for something else."""

    code = "keys.unusable"
    hint = "Put the key file back with mode 0600 and your own user as owner, then run `sterling status`."


def make_key(folder: Path, purpose: str) -> Signer:
    """Make a key for a purpose, durably; a key that is there already is never replaced.

    Errors: KeyUnusable when a key of that purpose exists or the folder cannot be written.
    """
    signer, text = _fresh(purpose)
    with writing(folder, purpose):
        write_new(key_path(folder, purpose, "key"), text)
        write_new(key_path(folder, purpose, "pub"), base64_text(signer.public_key) + "\n")
    return signer


def load_key(folder: Path, purpose: str) -> Signer:
    """The key of a purpose.

    Errors: KeyUnusable.
    """
    return _load(key_path(folder, _checked(purpose), "key"), purpose)


def make_next_key(folder: Path, purpose: str) -> Signer:
    """Write a fresh key beside the one in force, durably, in place of a next key that came to nothing.

    Errors: KeyUnusable.
    """
    signer, text = _fresh(purpose)
    path = key_path(folder, purpose, "next.key")
    growing = path.with_suffix(f".{secrets.token_hex(4)}.incoming")
    with writing(folder, purpose):
        write_new(growing, text)
        growing.replace(path)
    return signer


def load_next_key(folder: Path, purpose: str) -> Signer | None:
    """The next key of a purpose, or None when there is none.

    Errors: KeyUnusable.
    """
    path = key_path(folder, _checked(purpose), "next.key")
    try:
        return _load(path, purpose) if os.path.lexists(path) else None
    except KeyUnusable:
        if os.path.lexists(path):
            raise
        return None  # It was put in place at this very moment.


def put_next_key_in_place(folder: Path, purpose: str) -> None:
    """Let the next key take the place of the one in force, whose secret is gone with that.

    ADR 14: a secret that signs nothing any more would only serve a thief.
    Errors: KeyUnusable.
    """
    with writing(folder, purpose), suppress(FileNotFoundError):  # Missing: another process was first.
        key_path(folder, _checked(purpose), "next.key").replace(key_path(folder, purpose, "key"))


def _load(path: Path, purpose: str) -> Signer:
    content = read_private(path, purpose)
    try:
        parsed = json.loads(content)
        form, stated = parsed["format"], parsed["purpose"]
        seed = base64.b64decode(parsed["private"], validate=True)
        public = base64.b64decode(parsed["public"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        # The content is left out of the message, and `from None` keeps it out of a traceback.
        raise KeyUnusable(f"expected a key file at {path}, found other content", purpose=purpose) from None
    if form != _FORMAT or stated != purpose or len(seed) != _SEED_BYTES:
        raise KeyUnusable(f"expected a {purpose} key at {path}, found one for {stated!r}", purpose=purpose)
    signer = Signer(purpose, seed)
    if signer.public_key != public:
        raise KeyUnusable(f"expected the two halves of {path} to belong together, found they do not")
    return signer


def load_public_key(folder: Path, purpose: str) -> bytes | None:
    """The 32 public bytes that lie beside a key, or None when there are none that can be read.

    They come from the home itself: use them to see whether it agrees with itself,
    never to trust it.
    """
    try:
        text = key_path(folder, _checked(purpose), "pub").read_bytes()[:_FILE_BYTES_MAX].strip()
        data = base64.b64decode(text, validate=True)
    except (OSError, ValueError, binascii.Error):
        return None
    return data if len(data) == PUBLIC_KEY_BYTES else None


def _checked(purpose: str) -> str:
    if not is_purpose(purpose):
        raise KeyUnusable(f"expected ledger, attest, witness or person:NAME, found {purpose[:80]!r}")
    return purpose


def key_path(folder: Path, purpose: str, suffix: str) -> Path:
    return folder / f"{purpose.replace(':', '-')}.{suffix}"


def _fresh(purpose: str) -> tuple[Signer, str]:
    """A new key and what its file says."""
    seed = secrets.token_bytes(_SEED_BYTES)
    signer = Signer(_checked(purpose), seed)
    halves = {"private": base64_text(seed), "public": base64_text(signer.public_key)}
    return signer, json.dumps({"format": _FORMAT, "purpose": purpose} | halves, sort_keys=True) + "\n"


@contextmanager
def writing(folder: Path, purpose: str) -> Iterator[None]:
    """Make the folder, sync it afterwards, and name what the disk refuses."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
        sync_folder(folder)
    except OSError as problem:
        raise KeyUnusable(
            f"expected to write a {purpose} key in {folder}, found: {problem.strerror}", purpose=purpose
        ) from problem


def read_private(path: Path, purpose: str) -> bytes:
    """The bytes of a key file, once its kind, owner and mode are what they must be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        raise KeyUnusable(
            f"expected a {purpose} key at {path}, found: {problem.strerror}", purpose=purpose
        ) from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnusable(f"expected a regular file at {path}, found another kind", purpose=purpose)
        if status.st_uid != os.geteuid():
            raise KeyUnusable(
                f"expected {path} to belong to user {os.geteuid()}, found {status.st_uid}", purpose=purpose
            )
        if status.st_mode & 0o077:
            raise KeyUnusable(
                f"expected mode 0600 on {path}, found {status.st_mode & 0o777:o}", purpose=purpose
            )
        return os.read(descriptor, _FILE_BYTES_MAX)
    finally:
        os.close(descriptor)
