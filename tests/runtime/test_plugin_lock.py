from __future__ import annotations

from pathlib import Path

import pytest

from sterling.kernel.errors import SterlingError
from sterling.runtime import plugin_lock
from sterling.runtime.plugin_lock import (
    compare_locks,
    lock_bytes,
    make_lock,
    read_lock,
    refuse_widening,
    scan_imports,
    scan_plugins,
)
from sterling.runtime.plugin_refusals import PluginLockStale, PluginPermissionWidened
from sterling.testing.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.add("one")
    fleet.add("two")
    return fleet


def lock_of(fleet: Fleet) -> dict[str, object]:
    return make_lock(scan_plugins((fleet.pack,), root=fleet.root).manifests, root=fleet.root)


def test_the_same_tree_gives_the_same_bytes(fleet: Fleet) -> None:
    assert lock_bytes(lock_of(fleet)) == lock_bytes(lock_of(fleet))


def test_a_lock_written_is_the_lock_read(fleet: Fleet) -> None:
    fleet.write_lock()

    assert read_lock(fleet.lock) == lock_of(fleet)


def test_each_difference_is_named_by_plugin_and_part(fleet: Fleet) -> None:
    before = lock_of(fleet)
    fleet.add("one", "def run():\n    return Na('insight.none', 'Nothing.')\n")
    fleet.decision("two")
    fleet.add("three")

    changes = [(change.plugin, change.what) for change in compare_locks(before, lock_of(fleet))]

    assert changes == [
        ("insight/one", "code"),
        ("insight/three", "added"),
        ("insight/two", "lane"),
        ("insight/two", "manifest"),
    ]


def test_a_plugin_that_went_away_is_a_difference(fleet: Fleet) -> None:
    before = lock_of(fleet)
    after = {**before, "plugins": {}}

    assert [change.what for change in compare_locks(before, after)] == ["removed", "removed"]


@pytest.mark.parametrize("permissions", [{"gpu": True}, {"network": True}, {"read": ["screen"]}])
def test_a_wider_permission_is_refused_until_it_is_accepted_by_name(
    fleet: Fleet, permissions: dict[str, object]
) -> None:
    before = lock_of(fleet)
    fleet.add("one", permissions=permissions)
    after = lock_of(fleet)

    with pytest.raises(PluginPermissionWidened, match="insight/one"):
        refuse_widening(before, after, ["two"])
    refuse_widening(before, after, ["one"])
    refuse_widening(after, before, [])


def test_a_new_plugin_with_a_permission_is_a_widening(fleet: Fleet) -> None:
    before = lock_of(fleet)
    fleet.add("three", permissions={"gpu": True})

    with pytest.raises(PluginPermissionWidened):
        refuse_widening(before, lock_of(fleet), [])


@pytest.mark.parametrize(
    "words", ["", "{}", "[]", "not json", '{"api": "9.9", "lane_policy": 1, "plugins": {}}', '{"api": "1.0"}']
)
def test_a_lock_that_cannot_vouch_is_stale(fleet: Fleet, words: str) -> None:
    fleet.lock.write_text(words, encoding="utf-8")

    with pytest.raises(PluginLockStale):
        read_lock(fleet.lock)


def test_imports_are_found_anywhere_in_the_code_without_running_it() -> None:
    code = b"""
import json, numpy as np
from scipy.stats import norm
raise SystemExit("this must not run")
def late():
    from sterling.runtime.plugin_api import Ok
    from sterling.runtime import runs
    from .other import thing
    import sterling.kernel.home
"""
    third_party, own = scan_imports(code)

    assert third_party == {"numpy", "scipy"}
    assert own == {
        "sterling.runtime.plugin_api",
        "sterling.runtime.runs",
        ".other.thing",
        "sterling.kernel.home",
    }


def test_the_builders_command_refuses_a_fleet_with_a_bad_member(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.add("bad", lane=None)
    monkeypatch.setattr(plugin_lock, "package_root", lambda: fleet.root)
    monkeypatch.setattr(plugin_lock, "lock_path", lambda: fleet.lock)

    assert plugin_lock.main(["--write"]) == 1
    assert "plugin.lane-missing" in capsys.readouterr().err
    assert not fleet.lock.exists()


def test_the_builders_command_says_whether_the_lock_is_current(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plugin_lock, "package_root", lambda: fleet.root)
    monkeypatch.setattr(plugin_lock, "lock_path", lambda: fleet.lock)

    assert plugin_lock.main([]) == 1
    assert plugin_lock.main(["--write"]) == 0
    assert plugin_lock.main([]) == 0
    fleet.add("three")
    assert plugin_lock.main([]) == 1


def test_every_refusal_is_an_error_of_ours_with_a_hint() -> None:
    from sterling.runtime import plugin_refusals

    classes = [getattr(plugin_refusals, name) for name in plugin_refusals.__all__]

    assert all(issubclass(one, SterlingError) and "sterling plugins" in one.hint for one in classes)
