"""Verifying a home: where it looks, what it may touch, and what `deep` adds.

What somebody can do to a log stands in tests/acceptance/test_tampering.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel import verify as verify_module
from sterling.kernel.anchors import Anchors, anchors_root
from sterling.kernel.batch import Batch, FenceHolds
from sterling.kernel.canonical import Json, canonical_bytes, parse_canonical
from sterling.kernel.errors import all_errors
from sterling.kernel.hashing import RECORD_TAG, tagged_hash
from sterling.kernel.home import init_home, open_home
from sterling.kernel.ids import id_from_hash
from sterling.kernel.signing import VerifierInvalid
from sterling.kernel.store_sqlite import StoreUnavailable
from sterling.kernel.verify import NotALedger, Verification, verify_home
from sterling.testing.forged_ledgers import (
    BLOB_ENTRY,
    SIZE,
    SPILLED_ENTRY,
    Forge,
    copy_home,
    generate,
    next_batch,
)

STANDALONE = Path(standalone_verify.__file__).read_text()


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


# Where it looks


def test_a_home_is_found_by_its_folder_and_by_its_database(home: Path) -> None:
    by_folder, by_file = verify_home(home), verify_home(home / "ledger.db")

    assert by_folder == by_file and by_folder.verdict == "ok"


def test_a_relative_path_is_the_same_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)

    assert verify_home(Path()).verdict == verify_home(Path("ledger.db")).verdict == "ok"


def nothing(path: Path) -> None:
    pass


def a_file(path: Path) -> None:
    path.write_bytes(b"some file")


def an_empty_folder(path: Path) -> None:
    path.mkdir()


def a_folder_in_its_place(path: Path) -> None:
    (path / "ledger.db").mkdir(parents=True)


@pytest.mark.parametrize("make", [nothing, a_file, an_empty_folder, a_folder_in_its_place])
def test_a_place_where_no_ledger_is_or_was_is_wrong_usage(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "place")

    with pytest.raises(NotALedger) as caught:
        verify_home(tmp_path / "place")

    assert caught.value.exit == 2


@pytest.mark.parametrize("left", ["keys", "blobs"])
def test_a_home_without_its_ledger_is_broken_even_when_nobody_remembers_it(tmp_path: Path, left: str) -> None:
    (tmp_path / "home" / left).mkdir(parents=True)

    found = verify_home(tmp_path / "home")

    assert (found.code, found.exit, found.size) == ("integrity.ledger-missing", 3, 0)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "integrity.ledger-missing"),
        (b"SQLite", "integrity.ledger-unreadable"),
        (b"\x00" * 4096, "integrity.ledger-unreadable"),
        (b"SQLite format 3\x00", "integrity.ledger-unreadable"),
        (b"SQLite format 3\x00" + b"\xff" * 8192, "integrity.ledger-unreadable"),
    ],
)
def test_a_file_that_is_no_database_is_broken(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "ledger.db").write_bytes(content)

    found = verify_home(tmp_path)

    assert (found.code, found.exit) == (code, 3)


def test_the_database_of_another_program_holds_no_ledger(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as other:
        other.execute("CREATE TABLE notes (text)")

    assert verify_home(tmp_path).code == "integrity.ledger-missing"


@pytest.mark.parametrize("home_id", ["../../escape", "/etc", "", "home\x00", "A"])
def test_a_home_id_that_leads_elsewhere_is_never_followed(home: Path, home_id: str) -> None:
    Forge(home).database.execute("UPDATE meta SET value = ? WHERE name = 'home_id'", (home_id,))

    found = verify_home(home)

    assert (found.code, found.exit) == ("integrity.forked", 3)


@pytest.mark.parametrize("table", ["meta", "nodes", "checkpoints"])
def test_a_missing_table_is_unreadable(home: Path, table: str) -> None:
    Forge(home).database.execute(f"DROP TABLE {table}")

    assert verify_home(home).code == "integrity.ledger-unreadable"


def test_a_busy_database_is_neither_held_nor_broken(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(sqlite3.OperationalError):
        sqlite_errorcode = sqlite3.SQLITE_BUSY

    def refuse(*_: Any) -> None:
        raise Busy("database is locked")

    monkeypatch.setattr(verify_module.LogCheck, "run", refuse)

    with pytest.raises(StoreUnavailable):
        verify_home(home)


# What it may touch


def contents(folder: Path) -> dict[str, str]:
    """Every file but SQLite's own shared memory, which a reader of a WAL database makes."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(("-shm", "-wal"))
    }


def test_verifying_changes_nothing_and_makes_no_anchors(home: Path) -> None:
    shutil.rmtree(anchors_root())
    before = contents(home)

    assert verify_home(home, deep=True, blobs=True).exit == 4

    assert contents(home) == before and not anchors_root().exists()


def test_media_that_cannot_be_written_are_read_as_they_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for leftover in home.glob("ledger.db-*"):
        leftover.unlink()
    connect, tried = sqlite3.connect, []

    def on_read_only_media(address: str, **options: Any) -> sqlite3.Connection:
        tried.append("immutable" in address)
        return connect(address if tried[-1] else f"file:{home}/no/such/file?mode=ro", **options)

    monkeypatch.setattr(sqlite3, "connect", on_read_only_media)

    assert verify_home(home).verdict == "ok" and tried == [False, True, False, True]
    (home / "ledger.db-wal").write_bytes(b"entries that only a writer could fold in")
    with pytest.raises(StoreUnavailable):
        verify_home(home)


def test_a_running_writer_never_causes_a_false_alarm(home: Path) -> None:
    found: list[Verification] = []
    done = threading.Event()

    def verify_again_and_again() -> None:
        while not done.is_set():
            found.append(verify_home(home))

    with open_home(home) as opened:
        reader = threading.Thread(target=verify_again_and_again)
        reader.start()
        for at in range(60):
            opened.ledger.commit(next_batch(opened))
            if at % 10 == 0:
                opened.ledger.checkpoint()
        done.set()
        reader.join()

    assert {each.verdict for each in found} == {"ok"} and len(found) > 2
    assert [each.size for each in found] == sorted(each.size for each in found)


def test_every_verdict_names_a_registered_code_and_its_next_step(home: Path) -> None:
    assert verify_home(home).hint == ""
    shutil.rmtree(anchors_root())
    assert "--anchor" in verify_home(home).hint
    codes = {name for name in all_errors() if name.startswith("integrity.")}
    source = "".join(
        Path(verify_module.__file__).with_name(f"{name}.py").read_text()
        for name in ("verify", "verify_log", "verify_deep", "verify_blobs")
    )
    told = {
        word for word in source.replace('"', " ").split() if word.startswith("integrity.") and "{" not in word
    }
    assert told and told <= codes


def test_the_reference_page_says_what_the_code_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "ledger-format.md").read_text()
    fields = re.findall(r"^\| `(\w+)` \| [a-z0-9 ]+ \| (yes|no) \|", page, re.MULTILINE)
    codes = set(re.findall(r"`(integrity\.[a-z-]+)`", page))
    told = {f"integrity.{code}" for code in re.findall(r'Bad\([^"]*"([a-z-]+)"', STANDALONE)} | {
        "integrity.no-anchor"
    }

    assert {name for name, _ in fields} == standalone_verify.FIELDS
    assert {name for name, always in fields if always == "yes"} == standalone_verify.REQUIRED
    assert told <= codes <= set(all_errors())


def test_a_bad_pin_is_wrong_usage(home: Path) -> None:
    with pytest.raises(VerifierInvalid):
        verify_home(home, pin="nonsense")


def test_entries_after_the_newest_anchor_count_as_unanchored(home: Path) -> None:
    with open_home(home) as opened:
        opened.ledger.commit(next_batch(opened))
        opened.ledger.commit(next_batch(opened))

        found = verify_home(home)
        strict = verify_home(home, require_anchored=True)

    assert (found.exit, found.anchored_to, found.unanchored) == (0, SIZE, 2)
    assert (strict.exit, strict.code) == (4, "integrity.no-anchor")
    assert verify_home(home, require_anchored=True).exit == 0  # Closing wrote a checkpoint.


def test_other_anchors_may_be_named(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(anchors_root(), moved)
    found = verify_home(home)
    assert found.exit == 4

    assert verify_home(home, anchors=Anchors.open(found.home_id, root=moved)).exit == 0


# Deep


@pytest.fixture
def forge(home: Path) -> Iterator[Forge]:
    """Somebody who holds the key and reseals cleanly: only the meaning can give it away."""
    made = Forge(home)
    yield made
    made.database.close()


def reseal(forge: Forge, bodies: list[bytes]) -> None:
    forge.reseal(bodies)
    forge.database.execute("DELETE FROM checkpoints")
    shutil.rmtree(anchors_root(), ignore_errors=True)


def edited(forge: Forge, index: int, change: Callable[[dict[str, Json]], None]) -> None:
    bodies = forge.bodies()
    body = parse_canonical(bodies[index])
    change(body)
    bodies[index] = canonical_bytes(body)
    reseal(forge, bodies)


def deep(home: Path, code: str, low: int | None) -> None:
    assert verify_home(home).exit == 4  # The log alone agrees with itself.
    found = verify_home(home, deep=True)
    assert found.first_bad is not None
    assert (found.code, found.first_bad.low, found.exit) == (f"integrity.{code}", low, 3)


def test_a_whole_home_passes_the_deep_check(home: Path) -> None:
    found = verify_home(home, deep=True, blobs=True)

    assert found.verdict == "ok" and found.blobs is not None and found.blobs["missing_count"] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["payload"]["document"].update(name="another"),
        lambda body: body["payload"].update(hash="0" * 64),
        lambda body: body["payload"].update(contract="recall.tick@1.0"),
        lambda body: body["payload"].pop("hash"),
        lambda body: body["payload"].pop("document"),
        lambda body: body["payload"].update(sources=[{"role": "x", "record": "r-" + "a" * 26}]),
        lambda body: body["payload"].update(sources={}),
        lambda body: body.update(subject="r-" + "a" * 26),
        lambda body: body.update(contract="recall.frame"),
        lambda body: body.update(payload=[]),
    ],
)
def test_a_record_that_is_not_its_document_is_named_by_its_entry(
    home: Path, forge: Forge, change: Callable[[dict[str, Json]], None]
) -> None:
    edited(forge, BLOB_ENTRY, change)

    deep(home, "record-altered", BLOB_ENTRY)


def test_a_resealed_record_of_an_invalid_document_is_named(home: Path, forge: Forge) -> None:
    def change(body: dict[str, Json]) -> None:
        payload = body["payload"]
        payload["document"] = {"source": "no such source"}
        data = canonical_bytes(payload["document"])
        digest = tagged_hash(RECORD_TAG, payload["contract"].encode(), b"\x00", data)
        payload |= {"hash": digest.hex(), "id": id_from_hash("r", digest)}
        body["subject"] = payload["id"]

    edited(forge, BLOB_ENTRY, change)

    deep(home, "record-altered", BLOB_ENTRY)


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (7, lambda body: body["payload"].update(exit="text")),
        (
            7,
            lambda body: body.update(
                kind="record.again", payload={"contract": "a.b@1.0", "id": "r-" + "a" * 26}
            ),
        ),
        (7, lambda body: body.update(fence=[{"lease": "task/1", "token": 1}])),
        (7, lambda body: body.update(fence="task/1")),
        (
            7,
            lambda body: body.update(
                kind="lease.acquired", payload={"name": "n", "token": 0, "holder": "h", "ttl_us": 1}
            ),
        ),
        (SPILLED_ENTRY, lambda body: body.update(payload={"command": "c", "pid": "text", "boot": "b"})),
    ],
)
def test_an_entry_that_means_nothing_possible_is_named(
    home: Path, forge: Forge, index: int, change: Callable[[dict[str, Json]], None]
) -> None:
    edited(forge, index, change)

    deep(home, "record-altered", index)


def test_a_kind_that_this_program_does_not_know_cannot_be_judged(home: Path, forge: Forge) -> None:
    edited(forge, 7, lambda body: body.update(kind="future.kind"))

    found = verify_home(home, deep=True)

    assert found.exit == 4 and found.first_bad is None


def test_lease_tokens_are_followed_through_the_log(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as opened:
        for _ in range(3):
            lease = opened.leases.acquire("task/1")
            batch = Batch()
            batch.require(FenceHolds(lease.name, lease.token))
            batch.append("process.ended", {"command": "tool", "exit": 0})
            opened.ledger.commit(batch)
            opened.leases.release(lease)

    assert verify_home(tmp_path / "home", deep=True).verdict == "ok"
    forge = Forge(tmp_path / "home")
    fenced = [at for at, body in enumerate(forge.bodies()) if b'"fence"' in body]
    assert len(fenced) == 3
    edited(forge, fenced[2], lambda body: body["fence"][0].update(token=2))
    deep(tmp_path / "home", "record-altered", fenced[2])


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM records",
        "UPDATE records SET entry = 5",
        "UPDATE records SET hash = zeroblob(32)",
        "UPDATE records SET contract = 'recall.frame'",
        "INSERT INTO records VALUES ('r-x', zeroblob(32), 'recall.frame', 7)",
        "INSERT INTO leases VALUES ('task/1', 4, 'me', 1, 1, 'b', 1, 2, 0, '')",
        "INSERT INTO effects VALUES ('e', 'k', 's', 'file', 'o', 'b', '[]', 3, 'queued', '', 0, 8, 0, 3)",
        "UPDATE submissions SET last = 500 WHERE first = 7",
        "UPDATE submissions SET first = 0 WHERE first = 7",
    ],
)
def test_a_derived_table_that_says_otherwise_is_found(home: Path, forge: Forge, change: str) -> None:
    assert forge.database.execute(change).rowcount >= 1

    found = verify_home(home, deep=True)

    assert verify_home(home).exit == 0
    assert (found.code, found.exit) == ("integrity.projection-altered", 3)


def test_a_search_index_that_hides_an_entry_is_found(home: Path, forge: Forge) -> None:
    forge.database.execute("PRAGMA writable_schema=ON")
    forge.database.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'subject <> ''''', 'subject <> ''tool/1''')"
        " WHERE name = 'entries_by_subject'"
    )
    forge.database.close()

    found = verify_home(home, deep=True)

    assert (found.code, found.exit) == ("integrity.ledger-unreadable", 3)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(Path.unlink, "blob-missing"), (lambda file: file.write_bytes(b"{}"), "blob-altered")],
)
def test_a_payload_kept_apart_is_read_and_checked(
    home: Path, spoil: Callable[[Path], object], code: str
) -> None:
    with open_home(home, read_only=True) as opened:
        entry = opened.ledger.entry(SPILLED_ENTRY)
    assert entry is not None
    address = json.loads(entry.body)["payload"]["blob"]
    file = home / "blobs" / address[:2] / address[2:]
    os.chmod(file, 0o600)
    spoil(file)

    found = verify_home(home, deep=True)

    assert (found.code, found.first_bad and found.first_bad.low) == (f"integrity.{code}", SPILLED_ENTRY)


def test_blobs_named_inside_a_payload_kept_apart_are_looked_for(home: Path, forge: Forge) -> None:
    inner = "5" * 64
    data = canonical_bytes({"deep": [{"blobs": [inner]}]})
    address = hashlib.sha256(data).hexdigest()
    file = home / "blobs" / address[:2] / address[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    edited(forge, 7, lambda body: body.update(payload={"blob": address, "size_bytes": len(data)}))

    found = verify_home(home, blobs=True)

    assert (found.code, found.first_bad and found.first_bad.low) == ("integrity.blob-missing", 7)
    assert inner in found.message
