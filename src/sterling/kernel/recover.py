"""Going on after a loss, in the open.

A log restored from a backup is shorter than its anchor, and nobody may write to
it. `recover_log` is the one way on: a holder of the key admits the loss in an
entry, `ledger.recovered`, signs a checkpoint over it, and marks the place in the
anchor history. From then on the log can be written again, and every verifier
tells of the loss for ever.

It refuses a log that is no earlier state of the anchored one, as far as that can
be shown: every outside copy that the log is long enough for must agree with it.
Killed anywhere, it completes when it is run again.
"""

from __future__ import annotations

from dataclasses import dataclass

from sterling.kernel import merkle
from sterling.kernel.append import Appender, PreconditionFailed, Prepared
from sterling.kernel.batch import PROGRAM, Actor, Batch
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, origin_of, sign_note
from sterling.kernel.home import Home
from sterling.kernel.integrity import TailMissing
from sterling.kernel.locks import Role
from sterling.kernel.signing_keys import key_in_force, read_key_changes
from sterling.kernel.store_sqlite import connect_writer, read_node, read_rows, read_size
from sterling.kernel.verify import Verification, verify_home

__all__ = ["Recovery", "recover_log"]

_BEHIND = frozenset(("integrity.tail-missing", "integrity.rolled-back"))


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was given up: the payload of the entry at `entry`, and the note that covers it."""

    entry: int
    payload: dict[str, Json]
    note: str


def recover_log(home: Home, *, reason: str, actor: Actor = PROGRAM) -> Recovery:
    """Admit what the log lost and make it writable again.

    Errors: ledger.precondition when no anchor is ahead of the log, integrity.tail-missing when the log is
            no earlier state of the anchored one, record.invalid for a reason that is too short,
            keys.unusable, home.role-taken, anchor.unreadable, anchor.unwritable.
    """
    role = Role(home.path / "run", "writer")
    role.take(wait_ms=int(home.config.get("store.wait_ms_max")))
    try:
        signer = key_in_force(home.path / "keys", "ledger", home.ledger.connection())
        begun = _begun(home)
        found = verify_home(home.path, anchors=home.anchors)
        payload = begun or {**_loss(home, found), "reason": reason}
        home.contracts.validate("ledger.recovered", payload)
        _check_prefix(home, payload["lost"]["from"])
        connection = connect_writer(home.path / "ledger.db")
        try:
            if not begun:
                batch = Batch(actor=actor)
                batch.append("ledger.recovered", payload, subject=home.id)
                connection.execute("BEGIN IMMEDIATE")
                prepared = Prepared(batch, ((batch.drafts[0], canonical_bytes(payload)),))
                Appender(connection, home.clock).apply(prepared)
                connection.execute("COMMIT")
            size, head, _ = read_size(connection)
            root = merkle.root(size, lambda *at: read_node(connection, *at))
            note = sign_note(Checkpoint(origin_of(home.id), size, root), signer)
            connection.execute("INSERT OR IGNORE INTO checkpoints (size, note) VALUES (?, ?)", (size, note))
        finally:
            connection.close()
        changes = read_key_changes(home.ledger.connection(), "ledger")
        home.anchors.append(note, changes, recovered=(size - 1, head.hex()))
    finally:
        role.release()
    return Recovery(size - 1, payload, note)


def _begun(home: Home) -> dict[str, Json] | None:
    """The payload of a recovery that was killed between its entry and its mark."""
    size, head, _ = read_size(home.ledger.connection())
    row = next(read_rows(home.ledger.connection(), {"kind": "ledger.recovered"}, after=size - 2), None)
    if row is None or any((mark.entry, mark.hash) == (size - 1, head.hex()) for mark in home.anchors.marks()):
        return None
    payload: dict[str, Json] = parse_canonical(row[8])["payload"]
    return payload


def _loss(home: Home, found: Verification) -> dict[str, Json]:
    """The range that is lost, and the newest anchored state of it."""
    bad = found.first_bad
    if bad is None:
        raise PreconditionFailed(
            f"expected an anchor ahead of the log, found none beyond its {found.size} entries",
            hint="There is nothing to recover from: `sterling verify` says what holds.",
        )
    if found.code not in _BEHIND or bad.high is None or found.size == 0:
        raise _no_prefix(found)
    size = bad.high + 1
    notes = [each for each in map(note_checkpoint, home.anchors.history()) if each.size == size]
    return {
        "lost": {"from": found.size, "to": bad.high},
        "anchored": {"size": size, "root": notes[-1].root.hex()},
    }


def _check_prefix(home: Home, size: int) -> None:
    """Everything must hold beside the outside copies that are not larger than `size`."""
    found = verify_home(home.path, anchors=home.anchors, anchored_up_to=size)
    if found.verdict != "ok" and (found.first_bad is not None or found.anchored_to is not None):
        raise _no_prefix(found)


def _no_prefix(found: Verification) -> TailMissing:
    return TailMissing(
        f"expected an earlier state of the anchored log, found {found.code}: {found.message}",
        hint="Restore a whole backup first; see `sterling verify` and `sterling ledger diff --help`.",
    )
