"""One planted fault, one failed row, named at its root; on a healthy home none."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sterling import app
from sterling.kernel import clock as clocks
from sterling.kernel import shipped
from sterling.kernel.adapters import Ability
from sterling.kernel.batch import Batch
from sterling.kernel.blobs import Blobs
from sterling.kernel.crypt import Crypt
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.keys import make_key
from sterling.kernel.leases import Leases
from sterling.kernel.locks import Role, RoleTaken
from sterling.kernel.outbox import Effect
from sterling.kernel.records import Source
from sterling.packs.recall.ocr import probe as reading
from sterling.runtime import doctor_probes, registry
from sterling.runtime.doctor import Row, exit_of
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import open_run
from sterling.testing.clock import FakeClock
from sterling.testing.receiver import FakeReceiver

Patch = pytest.MonkeyPatch
Plant = Callable[[Path, Patch], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A home that has worked: runs, leases, a record, telemetry, anchors."""
    where = tmp_path / "home"
    init_home(where).close()
    work(where)
    return where


def work(path: Path) -> None:
    plan = of_phases("insight", [("only", ())], seed=1, mode="two_lane_strict")
    with (
        app.open_app_home(path, read_only=False, create=False, settings=(), say=print) as home,
        open_run(home, pack="insight", plan=plan, origin="attended") as run,
    ):
        lease = home.leases.acquire("task/a")
        run.settle("only", "ok", "ok", "done", wall_us=10)
        home.leases.release(lease)
        put_record(home)
        put_effect(home)


def put_record(home: Home) -> None:
    batch = Batch()
    document = {
        "before_tree": "a" * 40,
        "after_tree": "b" * 40,
        "touched": [str(home.ledger.size())],
        "added": 1,
        "removed": 0,
        "effective_changes": 1,
        "noop": False,
    }
    home.records.put(batch, "autopilot.apply-stats", document, [Source("blob", blob=home.blobs.put(b"x"))])
    home.ledger.commit(batch)


def put_effect(home: Home) -> None:
    batch, number = Batch(), home.ledger.size()
    home.outbox.put(batch, Effect(f"note/{number}", "file", "notes", {"text": "hello"}))
    home.ledger.commit(batch)


def dead_effect(path: Path) -> None:
    receiver = FakeReceiver(Ability.FINDS)
    receiver.default = "refused"
    with open_home(path) as home:
        (outcome,) = home.outbox.run_once({"file": receiver}, limit=1)
    assert outcome.state == "dead"


def lying_seal(path: Path, patch: Patch) -> None:
    """Another home in its place, encrypted, whose seal does not give back what it took."""
    shutil.rmtree(path)
    init_home(path, encrypt=True).close()
    work(path)
    patch.setattr(Crypt, "unseal_bytes", lambda crypt, sealed: b"something else")


def failed(rows: list[Row]) -> list[str]:
    return [row.id for row in rows if row.state == "failed"]


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path / "ledger.db")
    for statement in statements:
        assert connection.execute(statement).rowcount != 0, statement
    connection.commit()
    connection.close()


def in_the_way(path: Path) -> None:
    path.rename(path.with_name(path.name + ".moved"))
    path.write_text("a file in the place of a folder")


def edit(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def anchors_of(path: Path) -> Path:
    with open_home(path, read_only=True) as home:
        return home.anchors.folder


def old_copy(path: Path) -> None:
    """The home goes back to an earlier copy of itself; the anchors do not."""
    kept = path.with_name("kept")
    shutil.copytree(path, kept)
    work(path)
    path.rename(path.with_name("newer"))
    kept.rename(path)


def another_key(path: Path) -> None:
    folder = path.with_name("other-keys")
    make_key(folder, "ledger")
    for suffix in ("key", "pub"):
        shutil.copy2(folder / f"ledger.{suffix}", path / "keys" / f"ledger.{suffix}")


def orphan(path: Path, name: str) -> None:
    """A process that never took a role holds its lock and does nothing with it."""
    program = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path / "run" / f"{name}.lock")], stdout=subprocess.PIPE
    )
    CHILDREN.append(child)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"


CHILDREN: list[subprocess.Popen[bytes]] = []


def locked_otherwise(path: Path, patch: Patch, name: str) -> Path:
    """A copy of a lock with one digest changed."""
    copy = path.with_name(name)
    digits = shipped.shipped(name).read_text().split('"sha256": "')
    digits[1] = ("0" if digits[1][0] != "0" else "1") + digits[1][1:]
    copy.write_text('"sha256": "'.join(digits))
    return copy


def contracts_lock(path: Path, patch: Patch) -> None:
    copy, really = locked_otherwise(path, patch, "contracts.lock"), shipped.shipped
    patch.setattr(shipped, "shipped", lambda name: copy if name == "contracts.lock" else really(name))


def plugins_lock(path: Path, patch: Patch) -> None:
    copy = path.with_name("plugins.lock")
    lock = json.loads(shipped.shipped("plugins.lock").read_text())
    lock["plugins"].pop(sorted(lock["plugins"])[0])
    copy.write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n")
    patch.setattr(registry, "lock_path", lambda: copy)


def broken_git(path: Path, patch: Patch) -> None:
    folder = path.with_name("bin")
    folder.mkdir()
    (folder / "git").write_text("#!/bin/sh\necho broken >&2\nexit 9\n")
    (folder / "git").chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def damaged_language(path: Path, patch: Patch) -> None:
    folder = path.with_name("tessdata")
    folder.mkdir()
    (folder / "eng.traineddata").write_bytes(b"not a language")
    patch.setattr(reading, "find_language_folder", lambda languages: folder)


def stubborn_lease(path: Path, patch: Patch) -> None:
    """Leases that can be renewed for ever."""
    patch.setattr(Leases, "renew", lambda leases, lease: replace(lease, expires_us=lease.expires_us + 1))


def blobs_that_lie(path: Path, patch: Patch) -> None:
    patch.setattr(Blobs, "get", lambda blobs, address: b"something else")


NO_TRIGGERS = ("DROP TRIGGER entries_are_never_updated",)
FAULTS: dict[str, tuple[str, str, int, Plant]] = {
    # fault: row, code, exit, how it is planted
    "SQLite is old": (
        "sqlite",
        "doctor.sqlite-unfit",
        1,
        lambda path, patch: patch.setattr(sqlite3, "sqlite_version", "3.36.0"),
    ),
    "contracts.lock edited": ("contracts", "contracts.lock-mismatch", 1, contracts_lock),
    "plugins.lock edited": ("plugins", "plugin.not-listed", 1, plugins_lock),
    "git broken": ("tool.git", "doctor.tool-broken", 1, broken_git),
    "language data damaged": ("tool.tesseract", "doctor.probe-failed", 1, damaged_language),
    "settings damaged": (
        "settings",
        "config.invalid",
        1,
        lambda path, patch: (path / "sterling.toml").write_text("[governor\n"),
    ),
    "settings unknown": (
        "settings",
        "config.unknown-key",
        1,
        lambda path, patch: (path / "sterling.toml").write_text("[governor]\nidel_ms = 1\n"),
    ),
    "home open to others": ("home", "home.permissions", 1, lambda path, patch: path.chmod(0o755)),
    "database overwritten": (
        "home",
        "store.unreadable",
        3,
        lambda path, patch: (path / "ledger.db").write_bytes(b"garbage" * 1000),
    ),
    "ledger gone": (
        "home",
        "integrity.ledger-missing",
        3,
        lambda path, patch: (path / "ledger.db").rename(path / "ledger.moved"),
    ),
    "blobs in the way": ("store.blobs", "doctor.store-unusable", 1, lambda p, _: in_the_way(p / "blobs")),
    "spool gone": ("store.spool", "doctor.store-unusable", 1, lambda p, _: (p / "spool").rmdir()),
    "spool's disk not there": (
        "store.spool",
        "doctor.store-unusable",
        1,
        lambda path, patch: (path / "sterling.toml").write_text('[spool]\npath = "/nowhere/spool"\n'),
    ),
    "telemetry in the way": (
        "store.telemetry",
        "doctor.store-unusable",
        1,
        lambda path, patch: in_the_way(path / "telemetry"),
    ),
    "run in the way": ("store.run", "doctor.store-unusable", 1, lambda p, _: in_the_way(p / "run")),
    "anchors in the way": (
        "store.anchors",
        "doctor.store-unusable",
        1,
        lambda path, patch: in_the_way(anchors_of(path)),
    ),
    "disk nearly full": (
        "space",
        "doctor.space-low",
        1,
        lambda path, patch: patch.setattr(
            doctor_probes.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1)
        ),
    ),
    "role held by an orphan": (
        "role.conductor",
        "doctor.role-orphaned",
        1,
        lambda p, _: orphan(p, "conductor"),
    ),
    "turn kept": ("turn", "doctor.role-orphaned", 1, lambda p, _: orphan(p, "writer")),
    "role's lock a folder": (
        "role.recorder",
        "doctor.probe-failed",
        1,
        lambda path, patch: (path / "run" / "recorder.lock").mkdir(),
    ),
    "entry edited": (
        "ledger",
        "integrity.entry-altered",
        3,
        lambda path, patch: execute(
            path,
            *NO_TRIGGERS,
            "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), 'done', 'gone') AS BLOB) "
            "WHERE kind = 'runtime.outcome'",
        ),
    ),
    "node edited": (
        "table.nodes",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "UPDATE nodes SET hash = zeroblob(32) WHERE level = 1"),
    ),
    "node deleted": (
        "table.nodes",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "DELETE FROM nodes WHERE level = 0 AND position = 0"),
    ),
    "record edited": (
        "table.records",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "UPDATE records SET entry = 0"),
    ),
    "record added": (
        "table.records",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "INSERT INTO records VALUES ('r-x', zeroblob(32), 'a.b', 1)"),
    ),
    "lease token turned back": (
        "table.leases",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "UPDATE leases SET token = 0"),
    ),
    "effect turned back": (
        "table.effects",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "UPDATE effects SET attempts = 7"),
    ),
    "effect in no state": (
        "table.effects",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "UPDATE effects SET state = 'sent'"),
    ),
    "effect deleted": (
        "table.effects",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "DELETE FROM effects"),
    ),
    "effect given up": ("effects", "doctor.effects-dead", 1, lambda path, patch: dead_effect(path)),
    "seal lies": ("sealed", "doctor.seal-misbehaves", 1, lying_seal),
    "submission reaches too far": (
        "table.submissions",
        "integrity.projection-altered",
        3,
        lambda path, patch: execute(path, "UPDATE submissions SET last = 9999 WHERE first = 1"),
    ),
    "anchors gone": (
        "anchor",
        "integrity.no-anchor",
        4,
        lambda path, patch: (lambda folder: folder.rename(folder.with_name("moved")))(anchors_of(path)),
    ),
    "home rolled back": ("anchor", "integrity.rolled-back", 3, lambda path, patch: old_copy(path)),
    "clock stepped back": (
        "clock",
        "doctor.clock-behind",
        1,
        lambda path, patch: patch.setattr(clocks, "SystemClock", lambda: FakeClock(wall_us=1)),
    ),
    "key swapped": ("key.ledger", "keys.unusable", 1, lambda path, patch: another_key(path)),
    "key open to others": (
        "key.attest",
        "keys.unusable",
        1,
        lambda path, patch: (path / "keys" / "attest.key").chmod(0o644),
    ),
    "public half swapped": (
        "key.attest",
        "keys.unusable",
        1,
        lambda path, patch: shutil.copy2(path / "keys" / "ledger.pub", path / "keys" / "attest.pub"),
    ),
    "leases never run out": ("lease", "doctor.lease-misbehaves", 1, stubborn_lease),
    "blobs lie": ("blob", "doctor.store-unusable", 1, blobs_that_lie),
    "telemetry torn": (
        "telemetry",
        "doctor.telemetry-unreadable",
        1,
        lambda path, patch: (path / "telemetry" / "traces.jsonl").open("ab").write(b'{"resourceS'),
    ),
    "telemetry of other content": (
        "telemetry",
        "doctor.telemetry-unreadable",
        1,
        lambda path, patch: (path / "telemetry" / "metrics.jsonl").write_bytes(b"hello\n"),
    ),
    "counters edited": (
        "counters",
        "doctor.counters-differ",
        1,
        lambda path, patch: edit(path / "telemetry" / "counters.jsonl", b'"asInt":"1"', b'"asInt":"7"'),
    ),
}


def test_on_a_healthy_home_no_row_fails_and_nothing_is_left_behind(path: Path) -> None:
    def listed() -> list[str]:
        """Without the files of locks and of SQLite's readers, which hold nothing."""
        return sorted(
            str(f.relative_to(path)) for f in path.rglob("*") if not f.name.endswith(("lock", "-shm", "-wal"))
        )

    before, size, anchors = listed(), open_size(path), anchors_of(path).parent
    homes = sorted(anchors.iterdir())

    rows = app.examine_home(path)

    assert failed(rows) == [] and exit_of(rows) == 0
    assert {row.id for row in rows if row.state == "na"} <= {
        "keyring",
        "tool.git",
        "tool.tesseract",
        "sandbox",
    }
    assert listed() == before and open_size(path) == size and sorted(anchors.iterdir()) == homes


def open_size(path: Path) -> int:
    with open_home(path, read_only=True) as home:
        return home.ledger.size()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_exactly_its_row(fault: str, path: Path, monkeypatch: Patch) -> None:
    row_id, code, status, plant = FAULTS[fault]
    plant(path, monkeypatch)
    try:
        rows = app.examine_home(path)
    finally:
        while CHILDREN:
            CHILDREN[-1].kill()
            CHILDREN.pop().communicate()

    found = {row.id: row for row in rows}
    assert failed(rows) == [row_id], [row for row in rows if row.state != "ok"]
    assert found[row_id].code == code and found[row_id].cure and found[row_id].because
    assert exit_of(rows) == status
    for row in rows:
        reason = row.root == row_id or row.id in ("keyring", "settings")
        assert row.state != "na" or reason, row


def test_a_full_disk_is_one_fault_with_one_name(path: Path) -> None:
    """A file size limit refuses every write, as a full disk does."""
    program = (
        "import json, resource, signal, sys\nfrom pathlib import Path\nfrom sterling import app\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "rows = app.examine_home(Path(sys.argv[1]))\n"
        "print(json.dumps([row.as_json() for row in rows if row.state == 'failed']))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )

    (row,) = json.loads(done.stdout)
    assert row["id"] == "store.home" and row["code"] == "doctor.store-unusable"


def test_a_role_that_a_live_process_holds_is_na_and_names_it(path: Path) -> None:
    role = Role(path / "run", "authority")
    role.take()

    rows = {row.id: row for row in app.examine_home(path)}

    role.release()
    assert rows["role.authority"].state == "na" and f"pid {os.getpid()}" in rows["role.authority"].because
    assert failed(list(rows.values())) == []


def test_writers_that_leave_no_pause_are_no_fault(path: Path, monkeypatch: Patch) -> None:
    def busy(role: Role, *, wait_ms: int = 0) -> None:
        if role.name == "writer":
            with open_home(path) as home:
                put_record(home)
            raise RoleTaken("expected role writer to be free, found it held", holder="")

    monkeypatch.setattr(Role, "take", busy)

    rows = {row.id: row for row in app.examine_home(path)}

    assert rows["turn"].state == "na" and failed(list(rows.values())) == []


def test_a_home_that_is_being_written_is_examined_all_the_same(path: Path) -> None:
    with open_home(path) as home:
        put_record(home)

        rows = app.examine_home(path)

    assert failed(rows) == []


def test_without_a_home_the_machine_is_still_examined(tmp_path: Path) -> None:
    rows = app.examine_home(tmp_path / "nothing")

    found = {row.id: row for row in rows}
    assert failed(rows) == ["home"] and found["home"].code == "home.missing" and exit_of(rows) == 4
    assert found["sqlite"].state == found["contracts"].state == "ok"
    assert not (tmp_path / "nothing").exists()


def test_git_that_is_not_there_is_na_with_the_command_that_installs_it(
    path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    row = next(row for row in app.examine_home(path) if row.id == "tool.git")

    assert (row.state, row.cure) == ("na", "apt-get install git")


def test_language_data_that_is_not_there_is_na_with_the_command_that_installs_it(path: Path) -> None:
    rows = app.examine_home(path, ["ocr.languages=xxx"])

    row = next(row for row in rows if row.id == "tool.tesseract")
    assert row.state == "na" and "apt-get install tesseract-ocr-xxx" in row.cure and failed(rows) == []


def test_two_faults_are_two_rows(path: Path) -> None:
    (path / "spool").rmdir()
    execute(path, "UPDATE leases SET token = 0")

    rows = app.examine_home(path)

    assert failed(rows) == ["store.spool", "table.leases"] and exit_of(rows) == 3


def test_the_command_prints_its_contract_and_its_exit(path: Path) -> None:
    from sterling.kernel.contracts import load_contracts

    (path / "spool").rmdir()
    command = [sys.executable, "-m", "sterling", "doctor", "--home", str(path)]

    spoken = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    counters = subprocess.run([*command, "--counters", "--json"], capture_output=True, text=True, check=False)

    load_contracts().validate("doctor.result", json.loads(spoken.stdout))
    load_contracts().validate("doctor.counters", json.loads(counters.stdout))
    assert (spoken.returncode, shown.returncode, counters.returncode) == (1, 1, 0)
    assert f"next: `mkdir -m 700 {path / 'spool'}`" in shown.stdout and "1 failed" in shown.stdout


def test_the_cure_of_a_torn_line_mends_it(path: Path) -> None:
    with (path / "telemetry" / "traces.jsonl").open("ab") as file:
        file.write(b'{"resourceS')

    done = subprocess.run(
        [sys.executable, "-m", "sterling", "doctor", "--telemetry", "--home", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0 and "1 torn lines moved aside" in done.stderr
    assert (path / "telemetry" / "traces.jsonl.torn").read_bytes() == b'{"resourceS\n'


def test_deep_verification_says_which_counter_is_wrong(path: Path) -> None:
    edit(path / "telemetry" / "counters.jsonl", b'"asInt":"1"', b'"asInt":"7"')

    done = subprocess.run(
        [sys.executable, "-m", "sterling", "verify", "--deep", "--home", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "doctor.counters-differ: counters at" in done.stderr and "found 7" in done.stderr
    assert done.returncode == 0


def test_every_code_of_a_row_names_a_command_that_exists() -> None:
    from sterling.cli.table import COMMANDS
    from sterling.kernel.errors import all_errors

    own = {code: error for code, error in all_errors().items() if code.startswith("doctor.")}
    names = {row.name for row in COMMANDS}
    assert len(own) == 13
    for error in own.values():
        assert (
            issubclass(error, SterlingError)
            and error.hint.split("`sterling ")[1].split("`")[0].split()[0] in names
        )
