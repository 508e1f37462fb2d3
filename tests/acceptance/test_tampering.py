"""Promise 4, tampering shows: each thing somebody can do to a log, on a generated one.

Every case runs both verifiers, which share no code; they must agree on verdict,
code, first bad place and counts. Every case starts from a copy of a home that
both find whole, so that a verdict is the tampering's and not the generator's.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel.anchors import anchors_root
from sterling.kernel.canonical import parse_canonical
from sterling.kernel.chain import seal
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, origin_of, sign_note
from sterling.kernel.home import init_home, open_home
from sterling.kernel.verify import Verification, verify_home
from sterling.kernel.verify_log import LogCheck, Outside, Row
from sterling.testing.clock import FakeClock
from sterling.testing.forged_ledgers import (
    COLUMNS,
    SIZE,
    SIZES,
    STRANGER,
    Forge,
    anchors_of,
    both,
    copy_home,
    flips,
    generate,
    next_batch,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    copy_home(original / "home", original / "state", tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def forge(home: Path) -> Iterator[Forge]:
    made = Forge(home)
    yield made
    made.database.close()


def broken(home: Path, code: str, low: int | None, high: int | None, *, blobs: bool = False) -> Verification:
    found = both(home, blobs=blobs)
    assert found.first_bad is not None, f"expected {code}, found {found.verdict}: {found.code}"
    assert (found.code, found.first_bad.low, found.first_bad.high) == (f"integrity.{code}", low, high)
    assert (found.verdict, found.exit) == ("broken", 3)
    return found


# The untouched twin


def test_the_untouched_twin_holds(home: Path) -> None:
    found = both(home, blobs=True)

    assert (found.verdict, found.exit, found.code) == ("ok", 0, "")
    assert (found.size, found.anchored_to, found.unanchored) == (SIZE, SIZE, 0)
    assert found.checkpoints == len(SIZES) and found.blobs is not None and found.blobs["checked"] == 2
    assert verify_home(home, deep=True).verdict == "ok"


def test_a_home_that_went_on_after_its_last_anchor_holds(home: Path, forge: Forge) -> None:
    forge.reseal([*forge.bodies(), forge.bodies()[-1]])

    found = both(home)

    assert (found.exit, found.size, found.anchored_to, found.unanchored) == (0, SIZE + 1, SIZE, 1)


# An entry edited


class Tables:
    """An entry source over an open database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def entries(self) -> Iterator[Row]:
        return self._database.execute(standalone_verify.ENTRIES)

    def nodes(self, level: int) -> Iterator[Row]:
        query = "SELECT position, hash FROM nodes WHERE level = ? ORDER BY position"
        return self._database.execute(query, (level,))

    def entry(self, index: int) -> Row | None:
        return next((row for row in self.entries() if row[0] == index), None)

    def node_count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM nodes").fetchone()[0])

    def checkpoints(self) -> Iterator[Row]:
        return self._database.execute("SELECT size, note FROM checkpoints ORDER BY size")


def test_no_byte_of_any_field_of_any_entry_can_change_unnoticed(home: Path, forge: Forge) -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    forge.database.backup(database)
    database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    key = standalone_verify.own_key(home, origin_of(forge.home_id))
    tried = 0
    for index in range(SIZE):
        for column in COLUMNS:
            true = forge.value(index, column)
            as_stored = "CAST(? AS TEXT)" if isinstance(true, str) else "?"
            change = f'UPDATE entries SET {column} = {as_stored} WHERE "index" = {index}'
            for flipped in flips(true):
                database.execute(change, (flipped,))
                ours = LogCheck(Tables(database), forge.home_id, Outside()).run().first_bad
                assert ours is not None and (ours.low, ours.high) == (index, index), (index, column)
                if tried % 7 == 0:  # The second verifier is slower; it sees every seventh.
                    with pytest.raises(standalone_verify.Bad) as caught:
                        standalone_verify.Log(database, forge.home_id, key).check()
                    theirs = caught.value.place
                    assert (theirs["low"], theirs["high"], theirs["code"]) == (index, index, ours.code)
                tried += 1
            database.execute(change, (true,))
    assert tried > 5000 and LogCheck(Tables(database), forge.home_id, Outside()).run().first_bad is None


@pytest.mark.parametrize("index", [0, 7, SIZE - 1])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("hash", bytes(32)),
        ("hash", b""),
        ("previous", b"\x01" * 32),
        ("kind", "lease.acquired"),
        ("contract", "recall.frame"),
        ("subject", "somebody else"),
        ("run", "run-other"),
        ("at_us", 5),
        ("body", b""),
        ("body", b"{}"),
        ("body", b"[" * 100_000),
        ("body", b'{"at_us":' + b"9" * 5000 + b"}"),
        ("body", b'{"at_us":1,"at_us":2}'),
        ("body", b"\xff\xfe"),
    ],
)
def test_an_edited_field_is_named_by_index(
    home: Path, forge: Forge, index: int, column: str, value: Any
) -> None:
    forge.edit(index, column, value)

    broken(home, "entry-altered", index, index)


def test_an_edited_index_breaks_the_chain_where_it_was(home: Path, forge: Forge) -> None:
    forge.edit(7, "index", 700)

    broken(home, "chain-broken", 7, 7)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.replace(b'":', b'": ', 1),
        lambda body: body.replace(b"tool", b"\\u0074ool", 1),
        lambda body: body[:-1] + b',"v":1}',
        lambda body: body.replace(b'"v":1', b'"v":1.0'),
        lambda body: body.replace(b'"v":1', b'"v":2'),
        lambda body: body.replace(b'"v":1', b'"v":true'),
        lambda body: body.replace(b'"kind":', b'"kinds":'),
        lambda body: body.replace(b'"actor":', b'"a":1,"actor":'),
        lambda body: b"[" + body + b"]",
        lambda body: body.replace(b'"tool"', b"[" * 70 + b"]" * 70),
        lambda body: body.replace(b'"tool"', b"9007199254740993"),
        lambda body: body.replace(b'"tool"', b"9" * 5000),
        lambda body: body.replace(b'"tool"', b"NaN"),
        lambda body: body.replace(b'"tool"', b'"' + b"x" * 70_000 + b'"'),
    ],
)
def test_a_resealed_twin_that_is_no_canonical_entry_is_named_by_index(
    home: Path, forge: Forge, spoil: Callable[[bytes], bytes]
) -> None:
    bodies = forge.bodies()
    bodies[7] = spoil(bodies[7])
    assert bodies[7] != forge.bodies()[7]
    forge.reseal(bodies)

    broken(home, "entry-altered", 7, 7)


@pytest.mark.parametrize("type_name", ["TEXT", "REAL"])
def test_a_table_that_was_made_again_with_other_types_is_found(
    home: Path, forge: Forge, type_name: str
) -> None:
    forge.database.executescript(
        f'CREATE TABLE other("index" {type_name}, hash,previous,kind,contract,subject,run,at_us,body);'
        "INSERT INTO other SELECT * FROM entries; DROP TABLE entries; ALTER TABLE other RENAME TO entries;"
    )

    broken(home, "chain-broken", 0, 0)


def test_a_body_kept_as_text_is_found(home: Path, forge: Forge) -> None:
    forge.database.executescript(
        'CREATE TABLE other ("index" INTEGER, hash, previous, kind, contract, subject, run, at_us, body);'
        "INSERT INTO other SELECT * FROM entries; DROP TABLE entries; ALTER TABLE other RENAME TO entries;"
        'UPDATE entries SET body = CAST(body AS TEXT) WHERE "index" = 7;'
    )

    broken(home, "entry-altered", 7, 7)


# Deleted, inserted, reordered, repeated


@pytest.mark.parametrize("index", [0, 7, SIZE - 2])
def test_a_deleted_entry_is_named_where_it_was(home: Path, forge: Forge, index: int) -> None:
    forge.delete(index)

    broken(home, "chain-broken", index, index)


@pytest.mark.parametrize("index", [0, 7, SIZE - 2])
def test_a_deleted_and_renumbered_entry_is_named_where_it_was(home: Path, forge: Forge, index: int) -> None:
    forge.delete(index)
    for later in range(index + 1, SIZE):
        forge.edit(later, "index", later - 1)

    broken(home, "chain-broken", index, index)


@pytest.mark.parametrize("index", [1, 7, SIZE - 1])
def test_an_inserted_entry_breaks_what_follows_it(home: Path, forge: Forge, index: int) -> None:
    for later in reversed(range(index, SIZE)):
        forge.edit(later, "index", later + 1)
    body = forge.value(index - 1, "body")
    forge.insert(seal(index, forge.value(index - 1, "hash"), body))

    # The inserted entry follows; its tree node is the first thing that disagrees.
    broken(home, "root-mismatch", index, index)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (6, 7), (3, 15)])
def test_reordered_entries_are_named_at_the_first(home: Path, forge: Forge, first: int, second: int) -> None:
    forge.edit(first, "index", -5)
    forge.edit(second, "index", first)
    forge.edit(-5, "index", second)

    broken(home, "chain-broken", first, first)


def test_a_repeated_entry_breaks_the_chain(home: Path, forge: Forge) -> None:
    for column in COLUMNS:
        forge.edit(8, column, forge.value(7, column))

    broken(home, "chain-broken", 8, 8)


# The tail cut, the log rolled back, gone or exchanged


@pytest.mark.parametrize("kept", [0, 1, 3, 9, 13, 19])
@pytest.mark.parametrize("tidy", [True, False])
def test_a_cut_tail_is_missing_from_the_cut_on(home: Path, forge: Forge, kept: int, tidy: bool) -> None:
    if tidy:
        forge.forget_after(kept)
    else:
        forge.delete(*range(kept, SIZE))

    code = "rolled-back" if tidy and kept in SIZES else "tail-missing"
    broken(home, code, kept, SIZE - 1)


def test_an_older_copy_of_the_whole_home_is_rolled_back(home: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(home, older)
    with open_home(home) as opened:
        opened.ledger.commit(next_batch(opened))
        size = opened.ledger.size()
    shutil.rmtree(home)
    older.rename(home)

    broken(home, "rolled-back", SIZE, size - 1)


def test_a_lost_write_ahead_log_is_a_missing_tail(home: Path, tmp_path: Path) -> None:
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open_home(home) as opened:
        opened.ledger.commit(next_batch(opened))
        opened.ledger.checkpoint()
        shutil.copytree(home, tmp_path / "copy")
    (tmp_path / "copy" / "ledger.db-wal").unlink()
    (tmp_path / "copy" / "ledger.db-shm").unlink()

    found = broken(tmp_path / "copy", "rolled-back", SIZE, SIZE)
    assert found.anchored_to == SIZE


@pytest.mark.parametrize("loss", ["home", "ledger", "empty", "tables"])
def test_a_ledger_that_an_anchor_remembers_is_missing(home: Path, forge: Forge, loss: str) -> None:
    if loss == "home":
        shutil.rmtree(home)
    elif loss == "tables":
        forge.database.execute("DROP TABLE entries")
    else:
        (home / "ledger.db").unlink()
        if loss == "empty":
            (home / "ledger.db").touch()

    broken(home, "ledger-missing", 0, None)


@pytest.mark.parametrize("keep", [0, 16, 100, 5000, 20_000])
def test_a_torn_database_is_broken(home: Path, forge: Forge, keep: int) -> None:
    forge.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    forge.database.close()
    raw = (home / "ledger.db").read_bytes()
    assert len(raw) > 20_000
    (home / "ledger.db").write_bytes(raw[:keep])

    assert both(home).exit == 3


def test_overwritten_pages_are_broken_wherever_they_lie(home: Path, forge: Forge) -> None:
    forge.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    forge.database.close()
    raw = (home / "ledger.db").read_bytes()
    for start in range(0, len(raw), 4096):
        (home / "ledger.db").write_bytes(raw[:start] + b"\xa5" * 4096 + raw[start + 4096 :])

        found = both(home)

        # Pages of search indexes hold nothing that a verifier reads; `deep` looks at them.
        assert found.exit == 3 or verify_home(home, deep=True).exit == 3


def test_another_home_in_its_place_is_forked(home: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        generate(tmp_path / "other")
    shutil.rmtree(home)
    (tmp_path / "other").rename(home)

    broken(home, "forked", 0, SIZE - 1)


def test_the_log_of_another_home_under_this_name_is_forked(home: Path, forge: Forge, tmp_path: Path) -> None:
    generate(tmp_path / "other")
    forge.reseal(Forge(tmp_path / "other").bodies())

    broken(home, "forked", 0, 0)


def test_a_changed_home_id_is_forked(home: Path, forge: Forge) -> None:
    forge.database.execute("UPDATE meta SET value = 'home-other' WHERE name = 'home_id'")

    broken(home, "forked", 0, 0)


# Sealed again


def resealed_from(forge: Forge, index: int) -> None:
    bodies = forge.bodies()
    bodies[index] = bodies[index].replace(b'"tool"', b'"fool"')
    assert bodies != forge.bodies()
    forge.reseal(bodies)


@pytest.mark.parametrize(("index", "low", "high"), [(1, 1, 3), (7, 4, 8), (9, 9, 13), (19, 14, 19)])
def test_a_suffix_sealed_again_without_the_key_is_between_two_checkpoints(
    home: Path, forge: Forge, index: int, low: int, high: int
) -> None:
    resealed_from(forge, index)

    broken(home, "root-mismatch", low, high)


def test_a_suffix_sealed_again_with_another_key_is_of_an_unknown_key(home: Path, forge: Forge) -> None:
    resealed_from(forge, 7)
    forge.sign(STRANGER, SIZES[2:])

    broken(home, "key-unknown", 4, 8)


def test_a_suffix_sealed_again_without_its_checkpoints_is_forked(home: Path, forge: Forge) -> None:
    resealed_from(forge, 7)
    forge.database.execute("DELETE FROM checkpoints WHERE size > 4")

    broken(home, "forked", 4, 8)


def test_a_suffix_sealed_again_with_the_stolen_key_is_forked(home: Path, forge: Forge) -> None:
    resealed_from(forge, 7)
    forge.sign(forge.key, SIZES[2:])

    broken(home, "forked", 4, 8)


def test_a_home_with_another_key_throughout_is_found_with_and_without_the_pin(
    home: Path, forge: Forge
) -> None:
    bodies = forge.bodies()
    bodies[0] = bodies[0].replace(forge.key.fingerprint.encode(), STRANGER.fingerprint.encode())
    forge.reseal(bodies)
    forge.sign(STRANGER, SIZES)

    broken(home, "key-unknown", 0, 0)
    (anchors_of(home).folder / "pin.json").unlink()
    (home / "keys" / "ledger.pub").unlink()
    broken(home, "forked", 0, 0)


def test_a_holder_of_the_key_and_of_every_copy_is_not_found_and_we_say_so(home: Path, forge: Forge) -> None:
    resealed_from(forge, 7)
    forge.sign(forge.key, SIZES[2:])
    anchors = anchors_of(home)
    kept = anchors.history()[:2]
    (anchors.folder / "history.jsonl").unlink()
    (anchors.folder / "latest").unlink()
    for note in [*kept, *(forge.note(size, forge.key) for size in SIZES[2:])]:
        if note_checkpoint(note).size in (1, 4, SIZE):
            anchors.append(note)

    # docs/concepts/integrity.md names this limit; a copy on another machine answers it.
    assert both(home).exit == 0


# The copies themselves


def begun_anew(home: Path) -> None:
    """Every copy is removed, and then the owner writes again."""
    shutil.rmtree(anchors_root())
    with open_home(home) as opened:
        opened.ledger.checkpoint()


def test_copies_that_were_gone_and_began_anew_are_told_for_ever(home: Path) -> None:
    assert both(home).restored_at == ()
    begun_anew(home)
    begun_anew(home)

    found = both(home)

    assert (found.exit, found.restored_at) == (0, (SIZE, SIZE + 1))


def test_copies_younger_than_their_restoration_are_not_enough_where_anchors_are_required(
    home: Path, forge: Forge
) -> None:
    old, older = anchors_of(home).latest(), anchors_of(home).history()[3]
    assert old is not None and verify_home(home, require_anchored=True).exit == 0
    begun_anew(home)
    young = anchors_of(home).latest()
    assert young is not None

    def required(*notes: str) -> Verification:
        return verify_home(home, notes=notes, require_anchored=True)

    assert (required().exit, required().code) == (4, "integrity.no-anchor")
    assert required(young).exit == 4
    assert required(older).exit == 4 and "entries 14 to 19" in required(older).message
    assert required(old).exit == required(old, young).exit == 0


def test_a_log_forged_while_the_copies_were_gone_is_told_from_a_true_one_by_a_note_kept_elsewhere(
    home: Path, forge: Forge
) -> None:
    """Without the key: cut and forge, remove every checkpoint and copy, and wait for the owner to sign."""
    kept = anchors_of(home).latest()
    assert kept is not None
    resealed_from(forge, 7)
    forge.database.execute("DELETE FROM checkpoints")
    begun_anew(home)

    assert (both(home).exit, both(home).restored_at) == (0, (SIZE,))
    assert verify_home(home, require_anchored=True).exit == 4
    assert both(home, notes=(kept,)).code == "integrity.forked"


# Checkpoints, tree and time


def test_a_checkpoint_larger_than_the_log_is_out_of_order(home: Path, forge: Forge) -> None:
    shutil.rmtree(anchors_root())
    forge.put_checkpoint(99, sign_note(Checkpoint(origin_of(forge.home_id), 99, bytes(32)), forge.key))

    broken(home, "checkpoint-order", SIZE, None)


@pytest.mark.parametrize("size", [0, -3])
def test_a_checkpoint_of_no_size_is_out_of_order(home: Path, forge: Forge, size: int) -> None:
    forge.put_checkpoint(size, forge.note(4, forge.key))

    broken(home, "checkpoint-order", 0, 0)


def test_a_checkpoint_under_another_size_is_out_of_order(home: Path, forge: Forge) -> None:
    forge.put_checkpoint(9, forge.note(4, forge.key))

    broken(home, "checkpoint-order", 4, 8)


def test_a_checkpoint_taken_out_is_out_of_order(home: Path, forge: Forge) -> None:
    forge.database.execute("DELETE FROM checkpoints WHERE size = 9")

    broken(home, "checkpoint-order", 4, 8)


def test_a_checkpoint_of_another_log_is_forked(home: Path, forge: Forge) -> None:
    (anchors_of(home).folder / "pin.json").unlink()
    (home / "keys" / "ledger.pub").unlink()
    forge.put_checkpoint(9, forge.note(9, forge.key, origin="sterling/home-other"))

    broken(home, "forked", 4, 8)


def test_no_byte_of_a_checkpoint_can_change_unnoticed(home: Path, forge: Forge) -> None:
    note = forge.note(9, forge.key)
    for at in range(len(note)):
        forge.put_checkpoint(9, note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :])

        found = both(home)

        assert found.first_bad is not None and (found.first_bad.low, found.first_bad.high) == (4, 8)


@pytest.mark.parametrize("where", [(0, 0), (0, 7), (2, 1), (4, 0)])
@pytest.mark.parametrize("change", ["UPDATE nodes SET hash = zeroblob(32)", "DELETE FROM nodes"])
def test_an_altered_or_missing_tree_node_is_named_by_its_leaves(
    home: Path, forge: Forge, where: tuple[int, int], change: str
) -> None:
    level, position = where
    forge.database.execute(f"{change} WHERE level = ? AND position = ?", where)

    broken(home, "root-mismatch", position << level, ((position + 1) << level) - 1)


@pytest.mark.parametrize("where", [(0, SIZE), (4, 1), (9, 0)])
def test_a_tree_node_too_many_is_found(home: Path, forge: Forge, where: tuple[int, int]) -> None:
    forge.database.execute("INSERT INTO nodes VALUES (?, ?, ?)", (*where, bytes(32)))

    broken(home, "root-mismatch", SIZE, None)


def test_time_that_falls_is_explained_by_an_entry_or_broken(home: Path, forge: Forge, tmp_path: Path) -> None:
    clock = FakeClock()
    with init_home(tmp_path / "stepped", clock=clock) as opened:
        clock.step_wall(-5_000_000)
        opened.ledger.commit(next_batch(opened))
    assert both(tmp_path / "stepped").exit == 0

    holder = Forge(tmp_path / "stepped")
    bodies = holder.bodies()
    assert [parse_canonical(body)["kind"] for body in bodies][1] == "clock.stepped"
    holder.reseal([bodies[0], *bodies[2:]])
    holder.database.execute("DELETE FROM checkpoints")
    shutil.rmtree(anchors_root())

    broken(tmp_path / "stepped", "time-unexplained", 1, 1)
