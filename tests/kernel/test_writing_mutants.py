"""Checks of the spool, the room on a disk and the writer, each broken once: a scenario notices."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from mutants import run_mutants

from sterling.kernel import ledger as ledgers
from sterling.kernel import pressure as pressures
from sterling.kernel import spool as spools
from sterling.kernel import writer as writers
from sterling.kernel.append import Receipt
from sterling.kernel.ballast import Ballast
from sterling.kernel.batch import Batch, NewestIs
from sterling.kernel.blobs import BlobNoSpace
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.writer import StorePressure
from sterling.testing.clock import FakeClock

HOME_ID = "home-of-mutants"


def batch(text: str = "a", *, closing: bool = False) -> Batch:
    made = Batch(submission="5" * 32, closing=closing)
    made.append("process.started", {"command": text, "pid": 1, "boot": "b"})
    return made


def refused(code: str, action: Callable[[], object]) -> None:
    with pytest.raises(SterlingError) as caught:
        action()
    assert caught.value.code == code


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def drained(spool: spools.Spool, place: Path, commit: Callable[[Batch], Receipt] | None = None) -> list[str]:
    seen: list[str] = []

    def remember(given: Batch) -> Receipt:
        seen.append(given.drafts[0].kind)
        return Receipt(0, 0, b"")

    spool.drain(lambda data: seen.append(data.decode()) or "", commit or remember, place, 10)
    return seen


# The spool


def a_changed_item_is_set_aside(module: ModuleType) -> None:
    with folder() as place:
        spool = module.Spool(place, HOME_ID)
        path = spool.accept(batch(), {"0" * 64: b"pixels"}, 1)
        path.write_bytes(path.read_bytes().replace(b"pixels", b"pixelz"))
        assert drained(spool, place / "run") == ["spool.quarantined"]
        assert [file.name for file in (spool.folder / "quarantine").iterdir()] == [path.name]


def an_item_of_another_home_is_set_aside(module: ModuleType) -> None:
    with folder() as place:
        spool = module.Spool(place, HOME_ID)
        other = module.Spool(place, "home-elsewhere").accept(batch(), {}, 1)
        spool.folder.mkdir(parents=True)
        other.rename(spool.folder / other.name)
        assert drained(spool, place / "run") == ["spool.quarantined"]


def another_batch_under_an_id_is_refused(module: ModuleType) -> None:
    with folder() as place:
        spool = module.Spool(place, HOME_ID)
        assert spool.accept(batch(), {}, 1) == spool.accept(batch(), {}, 2)
        refused("spool.collision", lambda: spool.accept(batch("b"), {}, 3))
        assert len(spool.waiting()) == 1


def a_batch_with_a_condition_is_not_kept(module: ModuleType) -> None:
    with folder() as place:
        asking = batch()
        asking.require(NewestIs("x", None))
        refused("store.pressure", lambda: module.Spool(place, HOME_ID).accept(asking, {}, 1))


def an_item_stays_until_it_is_in_the_log(module: ModuleType) -> None:
    with folder() as place:
        spool = module.Spool(place, HOME_ID)
        spool.accept(batch(), {"0" * 64: b"pixels"}, 1)

        def full(_: Batch) -> Receipt:
            raise StorePressure("expected room, found none")

        assert drained(spool, place / "run", full) == ["pixels"]
        assert len(spool.waiting()) == 1
        assert drained(spool, place / "run") == ["pixels", "process.started"]
        assert spool.waiting() == []


def an_item_waits_where_its_blobs_find_no_room(module: ModuleType) -> None:
    with folder() as place:
        spool = module.Spool(place, HOME_ID)
        spool.accept(batch(), {"0" * 64: b"pixels"}, 1)

        def full(_: bytes) -> str:
            raise BlobNoSpace("expected room, found none")

        done = spool.drain(full, lambda _: Receipt(0, 0, b""), place / "run", 10)
        assert (done.written, done.quarantined, done.left) == (0, 0, 1)


SPOOL = [
    ("trailer not checked", "!= trailer:", "!= trailer and False:"),
    ("home not checked", 'if header["home_id"] != home_id:', 'if header["home_id"] != home_id and False:'),
    ("collision not seen", "if _without_time(found) != _without_time(data):", "if found == b'':"),
    ("conditions taken", "if batch.operations or batch.conditions:", "if batch.operations:"),
    (
        "released before its commit",
        "                    commit(batch)\n                except",
        "                    path.unlink()\n                    commit(batch)\n                except",
    ),
    ("no fault set aside", "if not problem.code.startswith(_OWN_FAULTS):", "if True:"),
    ("a full disk set aside", "if not problem.code.startswith(_OWN_FAULTS):", "if False:"),
]


def test_each_check_of_the_spool_is_needed() -> None:
    scenarios = [
        a_changed_item_is_set_aside,
        an_item_of_another_home_is_set_aside,
        another_batch_under_an_id_is_refused,
        a_batch_with_a_condition_is_not_kept,
        an_item_stays_until_it_is_in_the_log,
        an_item_waits_where_its_blobs_find_no_room,
    ]
    run_mutants(Path(spools.__file__), SPOOL, scenarios)


# Room


def the_states_are_as_published(module: ModuleType) -> None:
    limits = module.RoomLimits(100, 50, 10, 5)
    free = [100, 99, 50, 49, 10, 9]
    with_spool = [module.pressure(each, 5, limits).value for each in free]
    without = [module.pressure(each, None, limits).value for each in free]
    assert with_spool == ["ok", "warn", "warn", "soft", "soft", "spooling"]
    assert without == ["ok", "warn", "warn", "soft", "soft", "soft"]
    assert module.pressure(9, 4, limits).value == "full"
    assert module.pressure(1000, None, limits, refused=True).value == "full"


PRESSURE = [
    ("refusal forgotten", "if refused or (", "if ("),
    ("hard floor moved", "free_bytes < limits.hard_bytes and", "free_bytes <= limits.hard_bytes and"),
    ("spool floor ignored", "spool_free_bytes >= limits.spool_bytes", "spool_free_bytes >= 0"),
    ("warning moved", "if free_bytes < limits.warn_bytes else", "if free_bytes <= limits.warn_bytes else"),
]


def test_each_border_of_room_is_needed() -> None:
    run_mutants(Path(pressures.__file__), PRESSURE, [the_states_are_as_published])


# The writer


@contextmanager
def home_with(module: ModuleType, *settings: str) -> Iterator[tuple[Home, FakeClock]]:
    clock, real = FakeClock(), ledgers.StoreWriter
    with folder() as place:
        init_home(place / "home", clock=clock).close()
        try:
            ledgers.StoreWriter = module.StoreWriter  # type: ignore[misc]
            home = open_home(place / "home", clock=clock, settings=settings)
            try:
                yield home, clock
            finally:
                home.close()
        finally:
            ledgers.StoreWriter = real  # type: ignore[misc]


def write(home: Home, *, closing: bool = False) -> int:
    made = Batch(closing=closing)
    made.append("process.ended", {"command": "a", "exit": 0})
    return home.ledger.commit(made).last


def a_full_disk_takes_only_what_closes(module: ModuleType) -> None:
    with home_with(module) as (home, _):
        real, Ballast.refill = Ballast.refill, lambda _: False  # type: ignore[method-assign]
        try:
            assert home.fill_ballast()
            write(home)
            home.ledger._writer.drop(OSError(28, "No space left on device"))
            assert Ballast(home.path / "ballast").is_released
            refused("store.pressure", lambda: write(home))
            assert write(home, closing=True) > 0
        finally:
            Ballast.refill = real  # type: ignore[method-assign]
        assert write(home) > 0
        kinds = [entry.kind for entry in home.ledger.read()]
        assert kinds.count("ledger.io-recovered") == 1 and kinds.count("ballast.refilled") == 1


def what_another_process_wrote_is_seen(module: ModuleType) -> None:
    with home_with(module) as (home, clock):
        write(home)
        with open_home(home.path, clock=clock) as other:
            last = write(other)
        assert write(home) == last + 1


def a_checkpoint_is_asked_for_due_by_age_and_by_count(module: ModuleType) -> None:
    with home_with(module) as (home, clock):
        write(home)
        assert home.anchors.latest_size() == 1
        home.ledger.checkpoint()
        assert home.anchors.latest_size() == 2
        clock.advance(11_000_000)
        write(home)
        assert home.anchors.latest_size() == 3
        many = Batch()
        for _ in range(300):
            many.append("process.ended", {"command": "a", "exit": 0})
        home.ledger.commit(many)
        assert home.anchors.latest_size() == 303


def a_lagging_anchor_refuses(module: ModuleType) -> None:
    with home_with(module, "anchor.lag_entries_max=20") as (home, clock):
        write(home)
        aside = home.anchors.folder.rename(home.anchors.folder.with_name("aside"))
        clock.advance(11_000_000)
        for _ in range(5):
            write(home)
        refused("anchor.unwritable", lambda: [write(home) for _ in range(30)])
        aside.rename(home.anchors.folder)
        write(home)
        assert (home.anchors.latest_size() or 0) > 1


WRITER = [
    ("closing refused too", "if self._is_full and not prepared.batch.closing:", "if self._is_full:"),
    ("a full disk forgotten", "if self._is_full and not prepared", "if False and not prepared"),
    ("ballast kept", "            self._ballast.release()\n", "            pass\n"),
    (
        "recovery not told",
        "        if self._dropped:\n            self._write",
        "        if 0:\n            self._write",
    ),
    ("others not seen", "if version != self._version:", "if version == -1:"),
    ("no checkpoint by count", "full or old or (asked", "old or (asked"),
    ("no checkpoint by age", "full or old or (asked", "full or (asked"),
    ("no checkpoint when asked", "(asked and size > self._noted_size)", "(asked and False)"),
    ("lag not measured", "lag > entries_max or", "False or"),
]


def test_each_check_of_the_writer_is_needed() -> None:
    scenarios = [
        a_full_disk_takes_only_what_closes,
        what_another_process_wrote_is_seen,
        a_checkpoint_is_asked_for_due_by_age_and_by_count,
        a_lagging_anchor_refuses,
    ]
    run_mutants(Path(writers.__file__), WRITER, scenarios)
