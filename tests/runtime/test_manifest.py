from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sterling.runtime.manifest import Manifest, api_accepts, load_manifest
from sterling.runtime.plugin_refusals import (
    PluginApiRange,
    PluginConflict,
    PluginContractUnknown,
    PluginDownstreamMissing,
    PluginLaneMissing,
    PluginLaneRoleConflict,
    PluginManifestInvalid,
    PluginPathEscape,
    PluginRefused,
    PluginUntrustedNetwork,
)
from sterling.testing.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def load(fleet: Fleet, path: Path) -> Manifest:
    return load_manifest(path, fleet.pack, fleet.folder)


def test_a_plain_manifest_fills_what_its_contract_leaves_open(fleet: Fleet) -> None:
    manifest = load(fleet, fleet.add("toy", limits={"memory_bytes": 1 << 28, "wall_ms": 1000}))

    assert manifest.name == "insight/toy"
    assert (manifest.limits.cpu_ms, manifest.limits.processes) == (4000, 1)
    assert (manifest.trust, manifest.permissions.network, manifest.estimate_ms) == ("package", False, 1000)


def test_the_packs_own_table_is_kept_as_it_is(fleet: Fleet) -> None:
    assert load(fleet, fleet.add("toy", insight={"grid": [1, 2]})).own == {"grid": [1, 2]}


# Decision: capable, not diagnostic. Explanation: not capable. A mapping that is required needs feeds,
# and an explanation without one must say that it is the end of a line.
ROLE = PluginLaneRoleConflict
DOWN = PluginDownstreamMissing
FLAGS: dict[tuple[str, bool, bool, bool], type[PluginRefused] | None] = {
    ("decision", False, False, False): ROLE,
    ("decision", False, False, True): ROLE,
    ("decision", False, True, False): ROLE,
    ("decision", False, True, True): ROLE,
    ("decision", True, False, False): None,
    ("decision", True, False, True): DOWN,
    ("decision", True, True, False): ROLE,
    ("decision", True, True, True): ROLE,
    ("explanation", False, False, False): DOWN,
    ("explanation", False, False, True): DOWN,
    ("explanation", False, True, False): DOWN,
    ("explanation", False, True, True): DOWN,
    ("explanation", True, False, False): ROLE,
    ("explanation", True, False, True): ROLE,
    ("explanation", True, True, False): ROLE,
    ("explanation", True, True, True): ROLE,
}


def verdict(fleet: Fleet, **changes: Any) -> type[PluginRefused] | None:
    try:
        load(fleet, fleet.add("toy", **changes))
    except PluginRefused as refusal:
        return type(refusal)
    return None


@pytest.mark.parametrize("lane", ["decision", "explanation"])
@pytest.mark.parametrize("flags", list(product((False, True), repeat=3)))
def test_each_of_the_eight_flag_combinations_has_one_verdict_in_each_lane(
    fleet: Fleet, lane: str, flags: tuple[bool, bool, bool]
) -> None:
    capable, diagnostic, mapping = flags
    changes = {
        "lane": lane,
        "decision_capable": capable,
        "diagnostic_only": diagnostic,
        "requires_downstream_mapping": mapping,
        "terminal_context": False,
    }
    fed = FLAGS[lane, *flags] if FLAGS[lane, *flags] is not DOWN else (None if mapping else DOWN)
    last = FLAGS[lane, *flags] if mapping or lane == "decision" or capable else None

    assert verdict(fleet, **changes, feeds=[]) is FLAGS[lane, *flags]
    assert verdict(fleet, **changes, feeds=["other"]) is fed
    assert verdict(fleet, **{**changes, "terminal_context": True}, feeds=[]) is last


@pytest.mark.parametrize("lane", [None, "", "Decision", "both", 3])
def test_a_lane_is_never_guessed(fleet: Fleet, lane: Any) -> None:
    assert verdict(fleet, lane=lane) is PluginLaneMissing


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None},
        {"title": None},
        {"limits": None},
        {"limits": {"memory_bytes": 1 << 28}},
        {"limits": {"memory_bytes": 1, "wall_ms": 1000}},
        {"limits": {"memory_bytes": 1 << 28, "wall_ms": "long"}},
        {"family": "Numeric!"},
        {"surprise": 1},
        {"needs": {"rows_min": -1}},
        {"recall": {"grain": "frame"}},
        {"id": "other_name"},
        {"decision_capable": "yes"},
        {"trust": "friends"},
    ],
)
def test_a_manifest_that_breaks_its_contract_is_invalid(fleet: Fleet, changes: dict[str, Any]) -> None:
    assert verdict(fleet, **changes) is PluginManifestInvalid


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"id = ",
        b"\xff\xfe",
        b"when = 2024-01-01T00:00:00Z\nlane = 'decision'\n",
        b"[" * 5000,
        b"#" * 70_000,
    ],
)
def test_bytes_that_are_no_manifest_are_refused_by_a_code(fleet: Fleet, raw: bytes) -> None:
    path = fleet.add("toy")
    path.write_bytes(raw)

    with pytest.raises((PluginManifestInvalid, PluginLaneMissing)):
        load(fleet, path)


def test_a_manifest_without_code_is_invalid(fleet: Fleet) -> None:
    path = fleet.add("toy")
    path.with_suffix(".py").rename(fleet.folder / "gone.txt")

    with pytest.raises(PluginManifestInvalid):
        load(fleet, path)


@pytest.mark.parametrize("plugin_id", ["../toy", "a/b", "..", "a\\b", ".hidden"])
def test_an_id_that_leaves_the_folder_is_an_escape(fleet: Fleet, plugin_id: str) -> None:
    assert verdict(fleet, id=plugin_id) is PluginPathEscape


def test_code_linked_from_outside_is_an_escape(fleet: Fleet, tmp_path: Path) -> None:
    path = fleet.add("toy")
    outside = tmp_path / "outside.py"
    path.with_suffix(".py").rename(outside)
    path.with_suffix(".py").symlink_to(outside)

    with pytest.raises(PluginPathEscape):
        load(fleet, path)


@pytest.mark.parametrize(
    "api", ["2", "0.9", "1.1", ">=2", "<1", ">=1,<1.0", "one", ">=", "1.x", ">=1.0,banana"]
)
def test_another_plugin_api_is_refused(fleet: Fleet, api: str) -> None:
    assert not api_accepts(api)
    assert verdict(fleet, api=api) is PluginApiRange


@pytest.mark.parametrize("api", ["1", "1.0", ">=1.0,<2", ">=1", "==1.0", "<=1.0", " >= 1.0 , < 2 "])
def test_ranges_that_hold_our_plugin_api_are_accepted(api: str) -> None:
    assert api_accepts(api)


@pytest.mark.parametrize(
    "changes",
    [
        {"needs": {"plugins": ["toy"]}},
        {"feeds": ["toy"], "requires_downstream_mapping": True},
        {"needs": {"plugins": ["a"]}, "feeds": ["a"], "requires_downstream_mapping": True},
        {"needs": {"plugins": ["a"], "tolerates": ["b"]}},
    ],
)
def test_declarations_that_contradict_each_other_are_a_conflict(
    fleet: Fleet, changes: dict[str, Any]
) -> None:
    assert verdict(fleet, **changes) is PluginConflict


def test_an_untrusted_plugin_gets_no_network(fleet: Fleet) -> None:
    assert verdict(fleet, trust="untrusted", permissions={"network": True}) is PluginUntrustedNetwork
    assert verdict(fleet, trust="untrusted") is None


@pytest.mark.parametrize("side", ["in", "out"])
def test_a_contract_that_nobody_registered_is_refused(fleet: Fleet, side: str) -> None:
    assert verdict(fleet, contracts={side: ["insight.nonesuch"]}) is PluginContractUnknown
    assert verdict(fleet, contracts={side: ["plugin.manifest", "plugin.manifest@1.0"]}) is None
