"""Guards of contracts, settings and migrations, broken one at a time: a scenario notices each.

A scenario takes the module and fails when it misbehaves; the original passes all
of its scenarios, and a snippet that is no longer in the source fails too.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mutants import run_mutants

from sterling.kernel import append, config_watch, contract_diff, contract_repair, migrate, upcast
from sterling.kernel.anchors import anchors_root
from sterling.kernel.batch import Batch, ConfigIs
from sterling.kernel.contract_lock import write
from sterling.kernel.contracts import load_contracts, reload_contracts
from sterling.kernel.home import init_home, open_home
from sterling.testing import notes

GOLDEN = Path(__file__).parent.parent / "golden" / "homes" / "v1.tar.gz"
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "ci.note@1.0",
    "title": "Note",
    "description": "A note.",
    "x-owner": "ci",
    "x-kind": "record",
    "type": "object",
    "additionalProperties": False,
    "properties": {"a": {"description": "A.", "enum": ["x", "y"]}, "n": {"description": "N.", "maximum": 5}},
}


CUT = 'DELETE FROM entries WHERE "index" > 21;DELETE FROM nodes WHERE ((position + 1) << level) > 22'


def field(**keywords: Any) -> dict[str, Any]:
    return {**SCHEMA, "properties": {"a": {"description": "A.", **keywords}}}


def verdicts_are_those_of_the_table(module: ModuleType) -> None:
    point = {"type": "object", "properties": {"a": {"not": {"$ref": "#/$defs/x"}}}}
    rows = [
        (field(maximum=5), field(maximum=4), "breaking"),
        (field(maximum=5), field(maximum=6), "compatible"),
        (field(minimum=5), field(minimum=6), "breaking"),
        (field(enum=["x", "y"]), field(enum=["x"]), "breaking"),
        (field(enum=["x"]), field(enum=["x", "y"]), "compatible"),
        (field(enum=["x"], **{"x-closed": True}), field(enum=["x", "y"], **{"x-closed": True}), "breaking"),
        (SCHEMA, {**SCHEMA, "required": ["a"]}, "breaking"),
        (SCHEMA, field(), "breaking"),
        (field(pattern="a"), field(pattern="a|b"), "breaking"),
        ({**point, "$defs": {"x": {"minimum": 2}}}, {**point, "$defs": {"x": {}}}, "breaking"),
    ]
    for old, new, expected in rows:
        assert module.gravest(module.compare_contracts(old, new)).word == expected, (old, new)


def repaired(module: ModuleType, change: Callable[[Path, Path], None], action: str = "restore") -> None:
    """Damage a locked tree, mend it, and look at what is left of it."""
    with tempfile.TemporaryDirectory() as folder:
        root, lock, home = Path(folder) / "package", Path(folder) / "contracts.lock", Path(folder) / "home"
        place = root / "ci" / "schemas" / "ci.note@1.0.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(SCHEMA), encoding="utf-8")
        told = load_contracts().get("contract.repaired")
        (place.parent / "contract.repaired@1.0.json").write_bytes(told.raw)
        write(reload_contracts(root), lock)
        init_home(home).close()
        change(place, lock)
        damaged = place.read_bytes()
        reload_contracts(root)
        with open_home(home, read_only=True) as opened:
            size = opened.ledger.size()

        def mend() -> None:
            module.repair(
                root,
                lock,
                action,
                "a reason of many letters",
                open_home=lambda contracts: open_home(home, contracts=contracts),
                mend_plugins=lambda contracts, write: [],
            )

        if "outside" in lock.read_text(encoding="utf-8"):
            with pytest.raises(Exception, match="expected schemas"):
                mend()
            assert not (Path(folder) / "outside").exists()
            return
        mend()
        assert json.loads(place.read_bytes()) == SCHEMA
        with open_home(home, read_only=True) as opened:
            (entry,) = list(opened.ledger.read(kind="contract.repaired"))
            assert entry.index == size
            assert entry.payload["before"]["status"] == "contracts.lock-mismatch"
            assert damaged in [opened.blobs.get(row["blob"]) for row in entry.payload["kept"]]
            assert opened.blobs.get(entry.payload["lock"]["blob"]) == lock.read_bytes()


def a_restored_schema_is_the_locked_one_and_the_edit_is_kept(module: ModuleType) -> None:
    repaired(module, lambda place, lock: place.write_text(json.dumps({**SCHEMA, "title": "B"})) and None)


def a_lock_cannot_write_outside(module: ModuleType) -> None:
    for outside in ("..", str):

        def point_elsewhere(place: Path, lock: Path, outside: Any = outside) -> None:
            document = json.loads(lock.read_bytes())
            folder = outside if isinstance(outside, str) else lock.parent
            document["contracts"]["ci.note@1.0"]["file"] = f"{folder}/outside/schemas/ci.note@1.0.json"
            lock.write_text(json.dumps(document), encoding="utf-8")

        repaired(module, point_elsewhere)


def moved(module: ModuleType, harm: str = "", statement: str = "") -> None:
    """Move the golden home, harmed before or by a statement; harm of any kind leaves it as it was."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(Path(folder) / "user"))
        with tarfile.open(GOLDEN) as archive:
            archive.extractall(folder, filter="data")
        anchors_root().parent.mkdir(parents=True)
        next(Path(folder).glob("state/**/anchors")).rename(anchors_root())
        home = Path(folder) / "home"
        home.chmod(0o700)
        guards = [f"DROP TRIGGER entries_are_never_{what}d" for what in ("update", "delete")]
        with closing(sqlite3.connect(home / "ledger.db")) as connection:
            for each in [*guards, *harm.split(";")] if harm else []:
                connection.execute(each)
            connection.commit()
        if statement:
            real = module.statements_of
            patched.setattr(
                module, "statements_of", lambda number: [*real(number), *guards, *statement.split(";")]
            )
        if harm or statement:
            with pytest.raises(module.NotMigrated):
                module.migrate_home(home)
        else:
            done = module.migrate_home(home)
            assert done.entry == 23 and Path(done.backup).is_file()
        with closing(sqlite3.connect(home / "ledger.db")) as connection:
            query = "SELECT value FROM meta WHERE name = 'home_version'"
            version = connection.execute(query).fetchone()[0]
            assert version == ("1" if harm or statement else "2")


def a_sound_home_moves(module: ModuleType) -> None:
    moved(module)


def a_cut_tail_stops_the_move(module: ModuleType) -> None:
    moved(module, harm=CUT)


def a_log_that_is_whole_and_forged_stops_the_move(module: ModuleType) -> None:
    moved(module, harm="UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND position = 3")


def a_statement_that_edits_an_entry_does_not_count(module: ModuleType) -> None:
    moved(module, statement="UPDATE entries SET body = CAST('{}' AS BLOB) WHERE \"index\" = 5")


def a_statement_that_cuts_the_tail_does_not_count(module: ModuleType) -> None:
    moved(module, statement=CUT)


def old_documents_are_brought_whole_or_refused(module: ModuleType) -> None:
    contracts = load_contracts()
    old, name = {"text": "a"}, "testing.note@1.0"
    for steps in ({}, {("testing.note", 1): lambda document: document}):
        module.UPCASTERS = steps
        with pytest.raises(module.RecordUnreadable):
            module.to_newest(contracts, name, old)
    module.UPCASTERS = {("testing.note", 1): notes.note_2}
    new = {"lines": ["a"], "written_by": None}
    assert module.to_newest(contracts, name, old) == ("testing.note@2.0", new)


def bad_settings_are_refused_and_told_once(module: ModuleType) -> None:
    with tempfile.TemporaryDirectory() as folder, init_home(Path(folder) / "home") as home:
        path, watch = home.path / "sterling.toml", module.ConfigWatch(home)
        good = watch.look()
        text = path.read_text(encoding="utf-8")
        for comment in ("once", "twice"):
            path.write_text(text.replace("reruns = 1", f"reruns = 99 # {comment}"), encoding="utf-8")
            assert watch.look() is good and watch.refusal is not None
        path.write_text(text.replace("reruns = 1", "reruns = 2"), encoding="utf-8")
        assert watch.look().get("ci.reruns") == home.config.get("ci.reruns") == 2
        assert watch.refusal is None
        watch.look()
        kinds = [entry.kind for entry in home.ledger.read(subject="config")]
        assert kinds == ["config.invalid", "config.changed"]


def other_settings_refuse_the_batch(module: ModuleType) -> None:
    with tempfile.TemporaryDirectory() as folder, init_home(Path(folder) / "home") as home:
        home.ledger.close()
        with closing(sqlite3.connect(home.path / "ledger.db", isolation_level=None)) as connection:
            connection.execute("BEGIN")
            batch = Batch()
            batch.require(ConfigIs("1" * 64))
            writer = module.Appender(connection, home.clock, {ConfigIs: lambda: "2" * 64})
            with pytest.raises(module.PreconditionFailed):
                writer.apply(module.Prepared(batch, ()))


Scenario = Callable[[ModuleType], None]
RESTORING: list[Scenario] = [
    a_restored_schema_is_the_locked_one_and_the_edit_is_kept,
    a_lock_cannot_write_outside,
]
UPCASTING: list[Scenario] = [old_documents_are_brought_whole_or_refused]
KEEPING = "            if put.path.is_file():\n                home.blobs.put"
MUTANTS: list[tuple[ModuleType, list[Scenario], str, str]] = [
    *(
        (contract_diff, [verdicts_are_those_of_the_table], old, new)
        for old, new in [
            ("new >= old if upper else new <= old", "new <= old if upper else new >= old"),
            ("new >= old if upper else new <= old", "True"),
            ("after is not None and not before <= after", "after is not None and not after <= before"),
            ('"field-made-required", Verdict.BREAKING', '"field-made-required", Verdict.COMPATIBLE'),
            ('"field-removed", Verdict.BREAKING', '"field-removed", Verdict.COMPATIBLE'),
            ("verdict = Verdict.BREAKING if closed else", "verdict ="),
            ("gravest(changes) is not Verdict.BREAKING and", "False and"),
            (
                'FieldChange(pointer, "undecidable", Verdict.BREAKING',
                'FieldChange(pointer, "undecidable", Verdict.NONE',
            ),
        ]
    ),
    *(
        (contract_repair, RESTORING, old, new)
        for old, new in [
            (KEEPING, KEEPING.replace("put.path.is_file()", "False")),
            (' and ".." not in path.parts', ""),
            ("path.is_relative_to(root)", "True"),
            ("    _stage(plan.puts)\n", ""),
            ("home.blobs.put(plan.lock)", 'home.blobs.put(b"")'),
            ("row.raw) for name, row in rows.items() if", "row.raw[:-1]) for name, row in rows.items() if"),
        ]
    ),
    *(
        (
            migrate,
            [
                a_sound_home_moves,
                a_cut_tail_stops_the_move,
                a_log_that_is_whole_and_forged_stops_the_move,
                a_statement_that_edits_an_entry_does_not_count,
                a_statement_that_cuts_the_tail_does_not_count,
            ],
            old,
            new,
        )
        for old, new in [
            ("        _check_entries(connection, head)\n", ""),
            ('found.verdict == "broken" or ', ""),
            ("    if found != head:\n", "    if False:\n"),
            ("    os.replace(copy, backup)\n", ""),
            ('"UPDATE meta SET value = ? WHERE', '"SELECT ?  WHERE 1 OR'),
            ('        connection.execute("COMMIT")\n        return receipt', "        return receipt"),
        ]
    ),
    (upcast, UPCASTING, "        newest.validate(document)\n", "        pass\n"),
    (upcast, UPCASTING, "        document = step(document)\n", ""),
    *(
        (config_watch, [bad_settings_are_refused_and_told_once], old, new)
        for old, new in [
            ("self._seen, self.refusal = raw, refusal", "self._seen, self.refusal = raw, None"),
            ("        self._home.config = after\n", ""),
            ("refusal.message != self.refusal.message", "True"),
            ("self.refusal is not None or (keys and not is_told)", "True"),
        ]
    ),
    (append, [other_settings_refuse_the_batch], "if now != condition.sha256:", "if False:"),
]  # fmt: skip


@pytest.mark.parametrize("module", dict.fromkeys(row[0] for row in MUTANTS), ids=lambda each: each.__name__)
def test_each_broken_guard_is_noticed(module: ModuleType) -> None:
    scenarios = next(row[1] for row in MUTANTS if row[0] is module)
    broken = [(old, old, new) for each, _, old, new in MUTANTS if each is module]

    run_mutants(Path(str(module.__file__)), broken, scenarios)
