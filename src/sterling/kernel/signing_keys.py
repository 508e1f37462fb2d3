"""Which key of a home signs now: the one on disk, or the next one once the log holds its rotation.

The log decides, as it is seen through the connection of whoever is about to sign;
a writer sees what its own transaction holds. Changing keys is `key_change.py`.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from sterling.kernel.canonical import parse_canonical
from sterling.kernel.key_history import KEY_KINDS, KeyChange, KeyHistory, subject_of
from sterling.kernel.keys import load_key, load_next_key, load_public_key, put_next_key_in_place
from sterling.kernel.signing import Signer, parse_verifier
from sterling.kernel.store_sqlite import connect_reader, read_rows

__all__ = [
    "HOME_PURPOSES",
    "follow_keys",
    "key_in_force",
    "put_entered_keys_in_place",
    "read_first_keys",
    "read_key_changes",
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


def read_first_keys(keys: Path, pin: str | None) -> dict[str, bytes]:
    """The public keys with which a home began: the pinned one (a verifier string), else what lies there."""
    found = {purpose: load_public_key(keys, purpose) for purpose in HOME_PURPOSES}
    if pin is not None:
        found["ledger"] = parse_verifier(pin).public_key
    return {purpose: key for purpose, key in found.items() if key is not None}


def follow_keys(connection: sqlite3.Connection, home_id: str, first: Mapping[str, bytes]) -> KeyHistory:
    """Which key may sign what after everything that this connection sees.

    Errors: KeyUnknown when an entry changes keys and may not.
    """
    history = KeyHistory(home_id, first)
    rows = (read_rows(connection, {"kind": kind}, after=-1) for kind in KEY_KINDS)
    for row in heapq.merge(*rows):
        history.observe(row[0], row[3], row[5], parse_canonical(bytes(row[8]))["payload"])
    return history


def _is_entered(connection: sqlite3.Connection, key: Signer) -> bool:
    """Whether the log says that this key follows another."""
    changes = read_key_changes(connection, key.purpose)
    return any(
        kind == "key.rotated" and payload["new"] == key.public_key.hex() for _, kind, _, payload in changes
    )
