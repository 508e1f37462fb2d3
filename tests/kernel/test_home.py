"""A home: made whole or not at all, and opened only when it is safe to."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sterling.kernel import home as homes
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import HomeMissing, HomeNotMade, HomeTaken, default_home_path, init_home, open_home
from sterling.kernel.keys import KeyUnusable
from sterling.kernel.store_sqlite import StoreUnreadable


def test_a_new_home_is_private_named_anchored_and_explained(tmp_path: Path) -> None:
    with init_home(tmp_path / "home") as home:
        assert home.path.stat().st_mode & 0o777 == 0o700
        assert (
            (home.path / "README.txt")
            .read_text(encoding="utf-8")
            .startswith("This folder is a Sterling home")
        )
        assert home.anchors.latest_size() == 1
        assert [entry.kind for entry in home.ledger.read()] == ["home.created"]
        for file in (home.path / "keys").iterdir():
            assert file.stat().st_mode & 0o077 == 0


def test_a_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(homes, "create_store", fail)

    with pytest.raises(RuntimeError, match="no"):
        init_home(tmp_path / "home")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["file", "full folder", "home"])
def test_a_taken_path_is_refused_and_untouched(tmp_path: Path, what: str) -> None:
    path = tmp_path / "home"
    if what == "file":
        path.write_text("mine", encoding="utf-8")
    elif what == "home":
        init_home(path).close()
    else:
        path.mkdir()
        (path / "mine").write_text("mine", encoding="utf-8")
    before = sorted(path.rglob("*"))

    with pytest.raises(HomeTaken):
        init_home(path)

    assert sorted(path.rglob("*")) == before


def test_an_empty_folder_may_become_a_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()

    init_home(tmp_path / "home").close()

    open_home(tmp_path / "home").close()


def test_a_path_without_a_home_is_missing(tmp_path: Path) -> None:
    with pytest.raises(HomeMissing):
        open_home(tmp_path / "nothing")


def test_a_home_that_an_anchor_remembers_and_that_is_gone_is_broken_not_missing(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    (tmp_path / "home" / "ledger.db").rename(tmp_path / "elsewhere.db")

    with pytest.raises(homes.LedgerMissing) as caught:
        open_home(tmp_path / "home")

    assert caught.value.exit == 3


def test_a_home_that_others_can_read_is_refused(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    (tmp_path / "home").chmod(0o755)

    with pytest.raises(homes.HomePermissions):
        open_home(tmp_path / "home")


def test_a_shared_home_may_be_read_by_others_when_its_file_says_so(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    (tmp_path / "home").chmod(0o755)
    settings = tmp_path / "home" / "sterling.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("shared_home = false", "shared_home = true"), encoding="utf-8")

    open_home(tmp_path / "home").close()


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all, but long enough to look at", os.urandom(8192)]
)
def test_a_ledger_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    init_home(tmp_path / "home").close()
    (tmp_path / "home" / "ledger.db").write_bytes(content)

    with pytest.raises((StoreUnreadable, HomeMissing)):
        open_home(tmp_path / "home")


def test_a_newer_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_home(tmp_path / "home").close()
    monkeypatch.setattr(homes, "HOME_VERSION", 0)

    with pytest.raises(homes.HomeTooNew):
        open_home(tmp_path / "home")


def test_a_lost_key_refuses_to_checkpoint(tmp_path: Path) -> None:
    home = init_home(tmp_path / "home")
    home.close()
    for file in (tmp_path / "home" / "keys").glob("ledger*"):
        file.chmod(0o644)

    with open_home(tmp_path / "home") as again, pytest.raises(KeyUnusable):
        again.ledger._signer(again.ledger.connection())


def test_the_default_home_follows_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STERLING_HOME", str(tmp_path / "mine"))

    assert default_home_path() == tmp_path / "mine"


def test_every_refusal_here_has_a_next_step(tmp_path: Path) -> None:
    for error in (HomeMissing, HomeTaken, homes.HomePermissions, homes.HomeTooNew, homes.LedgerMissing):
        assert issubclass(error, SterlingError) and error.hint


def test_a_ledger_that_lost_a_table_is_named_and_not_a_defect(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as database:
        database.execute("DROP TABLE leases")

    with pytest.raises(StoreUnreadable, match="leases"):
        open_home(tmp_path / "home")


def test_a_place_that_takes_no_home_is_refused_with_what_the_disk_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(HomeNotMade, match="file"):
        init_home(tmp_path / "file" / "home")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]
