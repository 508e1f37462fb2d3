"""The scan: it takes up where it stopped, finds what changed, and says what it could not look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.archive import archive_blobs
from sterling.kernel.batch import Batch
from sterling.kernel.home import Home, init_home
from sterling.kernel.records import Source
from sterling.kernel.scan import scan_step

SESSION = {"source": "images", "machine": "", "zone": "UTC", "rules_hash": "0" * 64}
ALL = 1 << 40


@pytest.fixture(params=["plain", "encrypted"])
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    with init_home(tmp_path / "home", encrypt=request.param == "encrypted") as home:
        yield home


def put(home: Home, data: bytes) -> str:
    address = home.blobs.put(data)
    batch = Batch()
    home.records.put(batch, "recall.session", SESSION | {"name": address}, [Source("image", blob=address)])
    home.ledger.commit(batch)
    return address


def spoil(home: Home, address: str) -> None:
    file = home.blobs.forms(address)[0].path
    file.chmod(0o600)
    data = file.read_bytes()
    file.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])


def test_an_empty_home_is_scanned_in_one_step(home: Home) -> None:
    done = scan_step(home, ALL).completed

    assert done is not None and done["ok"] == done["missing"] == 0
    (entry,) = home.ledger.read(kind="scan.completed")
    assert entry.payload == done


def test_a_pass_takes_up_where_the_last_step_stopped(home: Home) -> None:
    for number in range(5):
        put(home, bytes([number]) * 1000)

    steps = [scan_step(home, 1) for _ in range(5)]

    assert [step.completed for step in steps[:-1]] == [None] * 4
    assert all(step.read_bytes > 0 for step in steps)
    done = steps[-1].completed
    assert done is not None and done["ok"] == 5
    again = scan_step(home, ALL).completed
    assert again is not None and again["ok"] == 5


def test_what_changed_is_found_and_named(home: Home) -> None:
    altered, missing = put(home, b"a" * 1000), put(home, b"b" * 1000)
    put(home, b"c" * 1000)
    home.blobs.put(b"named by nobody")
    spoil(home, altered)
    home.blobs.forms(missing)[0].path.unlink()

    step = scan_step(home, ALL)

    assert step.completed is not None
    counts = {each: step.completed[each] for each in ("ok", "altered", "missing", "unreferenced")}
    assert counts == {"ok": 2, "altered": 1, "missing": 1, "unreferenced": 1}
    assert set(step.completed["bad"]) == {*step.altered, missing}
    assert home.is_encrypted or step.altered == (altered,)


def test_an_attached_archive_is_hashed_and_a_detached_one_is_not_checked(home: Home, tmp_path: Path) -> None:
    address, disk = put(home, b"a" * 1000), tmp_path / "disk"
    disk.mkdir()
    archive_blobs(home, [address], disk, "space")
    home.blobs.stores = (disk,)
    attached = scan_step(home, ALL).completed
    disk.rename(tmp_path / "drawer")

    detached = scan_step(home, ALL).completed

    assert attached is not None and (attached["ok"], attached["archived"], attached["unchecked"]) == (1, 1, 0)
    assert detached is not None and (detached["ok"], detached["archived"], detached["unchecked"]) == (0, 1, 1)
    assert attached["missing"] == detached["missing"] == 0


@pytest.mark.parametrize(
    "place",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"at": ["", ""]}',
        b'{"at": ["zz"], "bad": [], "ok": 9, "altered": 0, "unchecked": 0}',
        b'{"at": [1, 2], "bad": [], "ok": 9, "altered": 0, "unchecked": 0}',
        b'{"at": ["", ""], "bad": [], "ok": true, "altered": 0, "unchecked": 0}',
    ],
)
def test_an_odd_place_begins_the_pass_anew(home: Home, place: bytes) -> None:
    put(home, b"a")
    (home.path / "index" / "scan.json").write_bytes(place)

    done = scan_step(home, ALL).completed

    assert done is not None and done["ok"] == 1


def test_a_file_that_moves_away_during_a_pass_is_no_finding(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = put(home, b"a" * 1000)
    check = type(home.blobs).check

    def moved(self: object, stored: object, *rest: str) -> str:
        for each in home.blobs.forms(address):
            each.path.rename(tmp_path / "away")
        return check(home.blobs, stored, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(home.blobs), "check", moved)
    step = scan_step(home, 1)

    assert step.altered == ()
    assert step.completed is not None and step.completed["missing"] == 1  # Without an entry it is missing.
