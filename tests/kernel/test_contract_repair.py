"""Mending a broken contract lock: both ways, their evidence, and what they must not do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import contract_repair
from sterling.kernel import contracts as registry
from sterling.kernel.canonical import Json
from sterling.kernel.contract_lock import ContractsBreaking, ReasonRequired, check, lock_for_reason, write
from sterling.kernel.contract_lock_file import LockMismatch, LockMissing
from sterling.kernel.contract_repair import ContractsUnwritable, Repaired, boot_status, repair
from sterling.kernel.contracts import Contracts, load_contracts, reload_contracts, schema_files
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.shipped import package_root
from sterling.kernel.verify import verify_home

REASON = "somebody edited a schema by hand"
ERROR = "kernel/schemas/error@1.0.json"


class Installation:
    """A package's schemas with their lock, and a home that keeps what happens to them."""

    def __init__(self, folder: Path) -> None:
        self.root, self.lock, self.home_path = folder / "package", folder / "contracts.lock", folder / "home"
        for path in schema_files(package_root()):
            place = self.root / Path(path).relative_to(package_root())
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        write(load_contracts(self.root), self.lock)
        init_home(self.home_path).close()
        self.mended: list[bool] = []
        self.opened = 0

    def open(self, contracts: Contracts) -> Home:
        self.opened += 1
        return open_home(self.home_path, contracts=contracts)

    def plugins(self, contracts: Contracts, write: bool) -> list[Json]:
        self.mended.append(write)
        return []

    def edit(self, change: Callable[[dict[str, Any]], None], file: str = ERROR) -> bytes:
        """Change a schema on the disk; gives the bytes it has then."""
        path = self.root / file
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        reload_contracts(self.root)
        return path.read_bytes()

    def repair(self, action: str, reason: str = REASON, **options: Any) -> Repaired:
        registry._load.cache_clear()
        return repair(
            self.root,
            self.lock,
            action,
            reason,
            open_home=self.open,
            mend_plugins=options.pop("plugins", self.plugins),
            **options,
        )

    def entries(self) -> list[dict[str, Any]]:
        with open_home(self.home_path, read_only=True) as home:
            return [entry.payload for entry in home.ledger.read(kind="contract.repaired")]

    def blob(self, address: str) -> bytes:
        with open_home(self.home_path, read_only=True) as home:
            return home.blobs.get(address)

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_field(document: dict[str, Any]) -> None:
    document["properties"]["note"] = {"description": "One more thing.", "type": "string"}


def narrow(document: dict[str, Any]) -> None:
    document["required"] = sorted({*document.get("required", []), "note"})
    add_field(document)


def test_an_edited_schema_is_put_back_and_the_edit_is_kept(here: Installation) -> None:
    before = (here.root / ERROR).read_bytes()
    edited = here.edit(narrow)
    assert boot_status(here.root, here.lock).status == "contracts.lock-mismatch"

    done = here.repair("restore")

    assert (done.status, done.verdict.word) == ("repaired", "breaking")
    assert (here.root / ERROR).read_bytes() == before
    check(reload_contracts(here.root), here.lock)
    (told,) = here.entries()
    assert told["before"]["status"] == "contracts.lock-mismatch" and ERROR in told["before"]["message"]
    assert [change["change"] for change in told["before"]["fields"][0]["fields"]] == [
        "field-added",
        "field-made-required",
    ]
    assert (told["after"]["status"], told["after"]["fields"]) == ("ok", [])
    assert told["before"]["lock_sha256"] == told["after"]["lock_sha256"]
    assert [(row["file"], here.blob(row["blob"])) for row in told["kept"]] == [(ERROR, edited)]
    assert here.blob(told["lock"]["blob"]) == here.lock.read_bytes()
    assert here.mended == [False, True]


def test_a_compatible_edit_is_accepted_with_its_verdict(here: Installation) -> None:
    edited, lock = here.edit(add_field), here.lock.read_bytes()

    done = here.repair("accept")

    assert (done.status, done.verdict.word) == ("repaired", "compatible")
    assert (here.root / ERROR).read_bytes() == edited
    check(reload_contracts(here.root), here.lock)
    (told,) = here.entries()
    assert told["before"]["lock_sha256"] != told["after"]["lock_sha256"]
    assert [(row["file"], here.blob(row["blob"])) for row in told["kept"]] == [("contracts.lock", lock)]
    assert here.blob(told["lock"]["blob"]) == here.lock.read_bytes()
    steps = json.loads(here.lock.read_bytes())["contracts"]["error@1.0"]["changes"]
    assert (steps[-1]["verdict"], steps[-1]["reason"]) == ("compatible", REASON)


def test_a_breaking_edit_is_never_accepted(here: Installation) -> None:
    here.edit(narrow)
    before, lock = here.files(), here.lock.read_bytes()

    for only_check in (True, False):
        with pytest.raises(ContractsBreaking):
            here.repair("accept", only_check=only_check)

    assert (here.files(), here.lock.read_bytes(), here.entries()) == (before, lock, [])


def test_a_breaking_change_as_a_new_major_is_accepted(here: Installation) -> None:
    document = json.loads((here.root / ERROR).read_bytes())
    narrow(document)
    document["$id"] = "error@2.0"
    (here.root / "kernel/schemas/error@2.0.json").write_text(json.dumps(document), encoding="utf-8")

    assert here.repair("accept").status == "repaired"
    check(reload_contracts(here.root), here.lock)


@pytest.mark.parametrize("action", ["restore", "accept"])
@pytest.mark.parametrize("reason", [REASON, ""])
def test_a_second_repair_finds_nothing_to_do(here: Installation, action: str, reason: str) -> None:
    here.edit(add_field)
    here.repair(action)
    before, lock = here.files(), here.lock.read_bytes()

    again = here.repair(action, reason)

    assert (again.status, again.entry, len(here.entries())) == ("nothing-to-do", -1, 1)
    assert (here.files(), here.lock.read_bytes()) == (before, lock)


@pytest.mark.parametrize("action", ["restore", "accept"])
def test_a_dry_run_tells_and_changes_nothing(here: Installation, action: str) -> None:
    here.edit(add_field)
    before, lock = here.files(), here.lock.read_bytes()

    done = here.repair(action, "", only_check=True)

    assert (done.status, done.before.status, done.after.status) == (
        "repairable",
        "contracts.lock-mismatch",
        "ok",
    )
    assert (here.files(), here.lock.read_bytes(), here.opened, here.mended) == (before, lock, 0, [False])


@pytest.mark.parametrize("action", ["restore", "accept"])
@pytest.mark.parametrize("reason", ["", "too short", "x" * 2001])
def test_a_repair_without_a_real_reason_is_refused(here: Installation, action: str, reason: str) -> None:
    here.edit(add_field)
    before = here.files()

    with pytest.raises(ReasonRequired):
        here.repair(action, reason)

    assert (here.files(), here.entries()) == (before, [])


def remove(here: Installation) -> None:
    (here.root / ERROR).rename(here.root / "error")


def move(here: Installation) -> None:
    (here.root / "elsewhere" / "schemas").mkdir(parents=True)
    (here.root / ERROR).rename(here.root / "elsewhere/schemas/error@1.0.json")


def add(here: Installation) -> None:
    document = json.loads((here.root / ERROR).read_bytes()) | {"$id": "another@1.0"}
    (here.root / "kernel/schemas/another@1.0.json").write_text(json.dumps(document), encoding="utf-8")


def misname(here: Installation) -> None:
    (here.root / "kernel/schemas/no contract.json").write_text("{}", encoding="utf-8")


def tear(here: Installation) -> None:
    (here.root / ERROR).write_bytes(b'{"$schema": ')


def respell(here: Installation) -> None:
    (here.root / ERROR).write_bytes((here.root / ERROR).read_bytes() + b"\n")


def break_its_own_contract(here: Installation) -> None:
    (here.root / "kernel/schemas/contract.repaired@1.0.json").write_bytes(b"nothing")


DAMAGE = [remove, move, add, misname, tear, respell, break_its_own_contract]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_whatever_was_done_to_the_schemas_restoring_mends_it(
    here: Installation, damage: Callable[[Installation], None]
) -> None:
    whole = {name: raw for name, raw in here.files().items() if name.endswith(".json")}
    damage(here)
    damaged = set(here.files().values())

    here.repair("restore")

    assert {name: raw for name, raw in here.files().items() if name.endswith(".json")} == whole
    check(reload_contracts(here.root), here.lock)
    (told,) = here.entries()
    kept = {here.blob(row["blob"]) for row in told["kept"]}
    assert damaged <= {*kept, *here.files().values()}
    assert verify_home(here.home_path, deep=True, blobs=True).exit == 0


def test_a_schema_that_the_lock_does_not_know_is_set_aside_and_not_removed(here: Installation) -> None:
    add(here)
    raw = (here.root / "kernel/schemas/another@1.0.json").read_bytes()

    here.repair("restore")

    assert (here.root / "kernel/schemas/another@1.0.json.unlocked").read_bytes() == raw


@pytest.mark.parametrize("raw", [None, b"", b"{", b'{"format": 2}'])
def test_a_lock_that_is_gone_or_torn_comes_back_from_the_ledger(
    here: Installation, raw: bytes | None
) -> None:
    here.edit(add_field)
    lock_for_reason(load_contracts(here.root), here.lock, REASON, open_home=lambda: open_home(here.home_path))
    lock = here.lock.read_bytes()
    here.edit(narrow)
    here.lock.rename(here.lock.with_name("gone")) if raw is None else here.lock.write_bytes(raw)

    here.repair("restore")

    assert here.lock.read_bytes() == lock
    check(reload_contracts(here.root), here.lock)


@pytest.mark.parametrize(("raw", "error"), [(None, LockMissing), (b"{", LockMismatch)])
def test_a_lock_that_nobody_kept_cannot_be_restored_and_can_be_made_anew(
    here: Installation, raw: bytes | None, error: type[Exception]
) -> None:
    here.lock.rename(here.lock.with_name("gone")) if raw is None else here.lock.write_bytes(raw)

    with pytest.raises(error):
        here.repair("restore")

    assert here.repair("accept").before.status == str(error.code)  # type: ignore[attr-defined]
    check(reload_contracts(here.root), here.lock)


@pytest.mark.parametrize(
    "file",
    [
        "../outside/schemas/error@1.0.json",
        "kernel/schemas/other.json",
        "error@1.0.json",
        "/tmp/schemas/error@1.0.json",
    ],
)
def test_a_lock_that_points_elsewhere_writes_nothing(here: Installation, file: str) -> None:
    document = json.loads(here.lock.read_bytes())
    document["contracts"]["error@1.0"]["file"] = file
    here.lock.write_text(json.dumps(document), encoding="utf-8")
    before = here.files()

    with pytest.raises(LockMismatch, match=r"error@1\.0"):
        here.repair("restore")

    assert (here.files(), here.entries()) == (before, [])


def test_a_lock_whose_text_was_edited_restores_nothing(here: Installation) -> None:
    document = json.loads(here.lock.read_bytes())
    document["contracts"]["error@1.0"]["text"] += " "
    here.lock.write_text(json.dumps(document), encoding="utf-8")
    here.edit(narrow)
    before = here.files()

    with pytest.raises(LockMismatch, match=r"error@1\.0/text"):
        here.repair("restore")

    assert here.files() == before


def test_an_installation_that_cannot_be_written_is_refused_before_anything_is_said(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.edit(narrow)
    before = here.files()
    real = os.open

    def closed(path: Path, *given: Any) -> int:
        if path.name.endswith(".incoming") and path.parent.name == "schemas":
            raise PermissionError(13, os.strerror(13), str(path))
        return real(path, *given)

    monkeypatch.setattr(os, "open", closed)

    with pytest.raises(ContractsUnwritable, match="Permission denied") as caught:
        here.repair("restore")

    assert caught.value.exit == 1
    assert (here.files(), here.opened) == (before, 0)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("action", ["restore", "accept"])
@pytest.mark.parametrize("point", [1, 2])
def test_killed_between_entry_and_files_it_is_still_broken_and_a_second_repair_completes_it(
    here: Installation, action: str, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.edit(add_field)
    add(here)

    class Killing:
        left = point

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def replace(self, *given: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise Killed
            os.replace(*given)

    with monkeypatch.context() as patched:
        patched.setattr(contract_repair, "os", Killing())
        if action == "restore" or point == 1:
            with pytest.raises(Killed):
                here.repair(action)
            assert boot_status(here.root, here.lock).status == "contracts.lock-mismatch"

    here.repair(action)

    check(reload_contracts(here.root), here.lock)
    assert here.repair(action).status == "nothing-to-do"


def test_a_repair_that_the_ledger_cannot_keep_changes_nothing(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.edit(add_field)
    lock, raw = here.lock.read_bytes(), (here.root / ERROR).read_bytes()
    here.home_path = here.home_path.with_name("nowhere")

    with pytest.raises(Exception, match="expected a home"):
        here.repair("restore")

    assert (here.lock.read_bytes(), (here.root / ERROR).read_bytes()) == (lock, raw)


def test_plugins_that_pin_other_contracts_are_mended_even_where_the_lock_agrees(here: Installation) -> None:
    stale: list[Json] = [{"plugin": "recall/x", "what": "contracts", "before": "a", "after": "b"}]

    def plugins(contracts: Contracts, write: bool) -> list[Json]:
        found = list(stale)
        if write:
            stale.clear()
        return found

    assert here.repair("restore", plugins=plugins, only_check=True).status == "repairable"
    done = here.repair("restore", plugins=plugins)

    assert (done.status, done.kept) == ("repaired", ())
    assert here.entries()[0]["plugins"] == list(done.plugins)
    assert here.repair("restore", plugins=plugins).status == "nothing-to-do"
