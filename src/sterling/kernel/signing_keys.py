"""Which key of a home signs now: the one on disk, or the next one once the log holds its rotation.

The log decides, as it is seen through the connection of whoever is about to sign;
a writer sees what its own transaction holds. Changing keys is `key_change.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sterling.kernel.canonical import parse_canonical
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.key_history import KEY_KINDS, KeyChange, KeyHistory, subject_of
from sterling.kernel.keys import load_key, load_next_key, load_public_key, put_next_key_in_place
from sterling.kernel.signing import Signer, verifier_text
from sterling.kernel.store_sqlite import connect_reader, read_rows

__all__ = [
    "HOME_PURPOSES",
    "key_in_force",
    "put_entered_keys_in_place",
    "read_key_changes",
    "read_verifiers",
]

HOME_PURPOSES = ("attest", "ledger")


def key_in_force(keys: Path, purpose: str, connection: sqlite3.Connection) -> Signer:
    """The key with which a home signs what follows everything that this connection sees.

    Asked within a transaction it sees a rotation that the transaction holds. Nothing is moved.
    Errors: KeyUnusable.
    """
    following = load_next_key(keys, purpose)
    if following is not None and _is_entered(connection, following):
        return following
    return load_key(keys, purpose)


def put_entered_keys_in_place(home: Path) -> None:
    """Finish what a killed rotation left: next keys whose entry is in the log become the keys.

    Errors: KeyUnusable.
    """
    for purpose in HOME_PURPOSES:
        following = load_next_key(home / "keys", purpose)
        if following is not None:
            with closing(connect_reader(home / "ledger.db")) as connection:
                is_entered = _is_entered(connection, following)
            if is_entered:
                put_next_key_in_place(home / "keys", purpose)


def read_key_changes(connection: sqlite3.Connection, purpose: str) -> Iterator[KeyChange]:
    """Every entry about the keys of a purpose, in order: (index, kind, subject, payload)."""
    for row in read_rows(connection, {"subject": subject_of(purpose)}, after=-1):
        if row[3] in KEY_KINDS:
            yield row[0], row[3], row[5], parse_canonical(bytes(row[8]))["payload"]


def read_verifiers(keys: Path, home_id: str, connection: sqlite3.Connection) -> tuple[str | None, str | None]:
    """Verifier strings of the home's first ledger key, which one pins, and of the one in force.

    Both are None when the first key's public half is not there.
    Errors: KeyUnknown when a change of keys does not count.
    """
    first = load_public_key(keys, "ledger")
    if first is None:
        return None, None
    history = KeyHistory(home_id, {"ledger": first})
    for change in read_key_changes(connection, "ledger"):
        history.observe(*change)
    now = history.current("ledger") or first
    return verifier_text(origin_of(home_id), first), verifier_text(origin_of(home_id), now)


def _is_entered(connection: sqlite3.Connection, key: Signer) -> bool:
    """Whether the log says that this key follows another."""
    changes = read_key_changes(connection, key.purpose)
    return any(
        kind == "key.rotated" and payload["new"] == key.public_key.hex() for _, kind, _, payload in changes
    )
