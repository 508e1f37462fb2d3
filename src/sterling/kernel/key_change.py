"""Changing keys: rotating and revoking them, and reading who may sign what.

A rotation of `ledger` is: a checkpoint by the old key; the new key written beside
it as `ledger.next.key`; the entry, at exactly the index that both keys signed; the
new key put in place of the old; a checkpoint by the new key. Killed anywhere, the
log says which key signs: a next key whose entry is in the log does, and is put in
place by whoever opens the home for writing; one without an entry is nothing.

Only the home's own keys are rotated here. A person's key belongs to no home: make
another and revoke the old one. The secret that a rotation replaces is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import PROGRAM, Actor, Batch, SizeIs
from sterling.kernel.canonical import Json
from sterling.kernel.checkpoint import note_checkpoint, origin_of
from sterling.kernel.integrity import KeyUnknown
from sterling.kernel.key_history import KeyHistory, revocation_payload, rotation_payload, subject_of
from sterling.kernel.keys import load_key, make_next_key, put_next_key_in_place
from sterling.kernel.locks import Role
from sterling.kernel.person_keys import read_people
from sterling.kernel.signing import KeyPurpose, verifier_text
from sterling.kernel.signing_keys import (
    HOME_PURPOSES,
    follow_keys,
    key_in_force,
    put_entered_keys_in_place,
    read_first_keys,
)

if TYPE_CHECKING:
    from sterling.kernel.home import Home

__all__ = [
    "Rotation",
    "read_key_history",
    "read_ledger_verifiers",
    "revoke_key",
    "rotate_key",
]

_ATTEMPTS = 5
_HINT = "A key of the home is rotated before it is revoked: `sterling keys rotate --help`."


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that happened: at which entry, from which public key to which."""

    purpose: str
    index: int
    old: bytes
    new: bytes


def read_key_history(home: Home, people: Mapping[str, bytes] | None = None) -> KeyHistory:
    """Which key may sign what in this home; it begins with the pinned key and the persons' public keys.

    `people` are the persons' keys to believe (default: those of this user's own folder).
    Errors: KeyUnknown when an entry changes keys and may not, AnchorUnreadable.
    """
    pin = home.anchors.read_pin()
    first = read_first_keys(home.path / "keys", None if pin is None else pin.verifier)
    first |= read_people(home) if people is None else people
    return follow_keys(home.ledger.connection(), home.id, first)


def read_ledger_verifiers(home: Home) -> tuple[str | None, str | None]:
    """Verifier strings of the home's first ledger key, which one pins, and of the one in force.

    Both are None when the first key's public half is not there; the pin is not asked.
    Errors: KeyUnknown when a change of keys does not count.
    """
    first = read_first_keys(home.path / "keys", None)
    now = follow_keys(home.ledger.connection(), home.id, first).current("ledger")
    if "ledger" not in first or now is None:
        return None, None
    return verifier_text(origin_of(home.id), first["ledger"]), verifier_text(origin_of(home.id), now)


def rotate_key(home: Home, purpose: str, reason: str, actor: Actor = PROGRAM) -> Rotation:
    """Let a new key sign for the home from the next entry on.

    Errors: KeyPurpose for a key that is not the home's, KeyUnusable, home.role-taken while
            somebody else rotates, and those of `Ledger.commit` and `Ledger.checkpoint`.
    """
    if purpose not in HOME_PURPOSES:
        raise KeyPurpose(
            f"expected a key of the home, ledger or attest, found {purpose[:80]!r}",
            hint="A person's key belongs to no home: make another, revoke the old: `sterling keys --help`.",
        )
    role = Role(home.path / "run", "keys")
    role.take()
    try:
        if purpose == "ledger":
            home.ledger.checkpoint()  # Whatever an earlier rotation had queued is in the log after this.
        put_entered_keys_in_place(home.path)
        old = load_key(home.path / "keys", purpose)
        new = make_next_key(home.path / "keys", purpose)
        index = _write(
            home,
            "key.rotated",
            purpose,
            lambda index: rotation_payload(home.id, old, new, index, reason),
            actor,
        )
        put_next_key_in_place(home.path / "keys", purpose)
    finally:
        role.release()
    if purpose == "ledger":
        home.ledger.checkpoint()
    return Rotation(purpose, index, old.public_key, new.public_key)


def revoke_key(
    home: Home, purpose: str, key: bytes, reason: str, *, since: int | None = None, actor: Actor = PROGRAM
) -> int:
    """Let nothing count that this key signs from entry `since` on (None: from now on); gives the index.

    Errors: KeyPurpose when the key is the home's own in force (rotate first) or of another
            purpose, KeyUnusable, and those of `Ledger.commit`.
    """

    def payload_at(index: int) -> dict[str, Json]:
        by = key_in_force(home.path / "keys", "ledger", home.ledger.connection())
        start = index if since is None else since
        return revocation_payload(home.id, purpose, key, start, reason, by)

    return _write(home, "key.revoked", purpose, payload_at, actor)


def _write(
    home: Home, kind: str, purpose: str, payload_at: Callable[[int], dict[str, Json]], actor: Actor
) -> int:
    """Write an entry that names its own index; whoever wrote in between makes it try again."""
    for attempt in range(1, _ATTEMPTS + 1):
        is_boundary = kind == "key.rotated" and purpose == "ledger"
        index = note_checkpoint(home.ledger.checkpoint()).size if is_boundary else home.ledger.size()
        payload, subject = payload_at(index), subject_of(purpose)
        history = read_key_history(home)
        try:
            history.observe(index, kind, subject, payload)
        except KeyUnknown as problem:
            raise KeyPurpose(problem.message, hint=_HINT) from problem
        batch = Batch(actor=actor)
        batch.append(kind, payload, subject=subject)
        batch.require(SizeIs(index))
        try:
            return home.ledger.commit(batch).last
        except PreconditionFailed:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")
