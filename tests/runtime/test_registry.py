from __future__ import annotations

from pathlib import Path

import pytest

from sterling.runtime.plugin_refusals import PluginAltered, PluginLockStale, PluginNotListed
from sterling.runtime.registry import PluginUnknown, inspect, load_registry
from sterling.testing.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.add("one")
    fleet.add("two", file="deep/two")
    return fleet


def test_a_pinned_fleet_loads_sorted_by_name(fleet: Fleet) -> None:
    registry = fleet.registry()

    assert [manifest.name for manifest in registry.manifests("insight")] == ["insight/one", "insight/two"]
    assert registry.get("insight", "two").path.parent.name == "deep"
    assert registry.manifests("recall") == ()


def test_a_name_that_nobody_has_is_unknown(fleet: Fleet) -> None:
    with pytest.raises(PluginUnknown):
        fleet.registry().get("insight", "ghost")


def test_one_changed_byte_of_code_keeps_the_fleet_from_loading(fleet: Fleet) -> None:
    fleet.write_lock()
    code = fleet.folder / "one.py"
    code.write_bytes(code.read_bytes().replace(b"was here", b"was hero"))

    with pytest.raises(PluginAltered, match="insight/one"):
        load_registry("insight", root=fleet.root, lock=fleet.lock)


def test_a_changed_manifest_keeps_the_fleet_from_loading(fleet: Fleet) -> None:
    fleet.write_lock()
    fleet.add("one", estimate_ms=7)

    with pytest.raises(PluginAltered, match="manifest"):
        load_registry("insight", root=fleet.root, lock=fleet.lock)


def test_code_that_the_lock_does_not_list_never_loads(fleet: Fleet) -> None:
    fleet.write_lock()
    fleet.add("three")

    with pytest.raises(PluginNotListed, match="insight/three"):
        load_registry("insight", root=fleet.root, lock=fleet.lock)


def test_a_listed_plugin_whose_files_are_gone_is_altered(fleet: Fleet) -> None:
    fleet.write_lock()
    for name in ("one.toml", "one.py"):
        (fleet.folder / name).rename(fleet.root / name)

    with pytest.raises(PluginAltered, match="found none"):
        load_registry("insight", root=fleet.root, lock=fleet.lock)


def test_a_changed_contract_alters_the_plugins_that_use_it(fleet: Fleet) -> None:
    fleet.add("one", contracts={"out": ["plugin.manifest"]})
    fleet.write_lock()
    words = fleet.lock.read_text(encoding="utf-8")
    start = words.index('"plugin.manifest@1.0": "') + len('"plugin.manifest@1.0": "')
    fleet.lock.write_text(words[:start] + "0" * 64 + words[start + 64 :], encoding="utf-8")

    with pytest.raises(PluginAltered, match="contract"):
        load_registry("insight", root=fleet.root, lock=fleet.lock)


def test_no_lock_is_a_refusal_and_not_a_first_run(fleet: Fleet) -> None:
    with pytest.raises(PluginLockStale):
        load_registry("insight", root=fleet.root, lock=fleet.lock)


def test_no_plugins_need_no_lock(tmp_path: Path) -> None:
    assert len(load_registry("ci", root=tmp_path, lock=tmp_path / "plugins.lock")) == 0


def test_inspect_lists_every_refusal_and_the_plugins_that_stand(fleet: Fleet) -> None:
    fleet.write_lock()
    fleet.add("one", estimate_ms=7)
    fleet.add("three")
    fleet.add("four", lane=None)

    scan = inspect("insight", root=fleet.root, lock=fleet.lock)

    assert [manifest.id for manifest in scan.manifests] == ["two"]
    assert [(refusal.plugin, refusal.code) for refusal in scan.refusals] == [
        ("insight/four", "plugin.lane-missing"),
        ("insight/one", "plugin.altered"),
        ("insight/three", "plugin.not-listed"),
    ]


def test_the_modules_a_plugin_imports_come_from_the_lock(fleet: Fleet) -> None:
    fleet.add("one", "import duckdb\n\n\ndef run():\n    return Ok()\n", needs={"libraries": ["DuckDB"]})

    assert fleet.registry().get("insight", "one").imports == ("duckdb",)
