"""Fourteen bad plugins in one fleet: fourteen codes, exit 1, and no line of theirs ran."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sterling.cli.plugins import command
from sterling.runtime import plugin_lock, registry
from sterling.testing.fleet import Fleet

Spoil = Callable[[Fleet, str], object]


def altered(fleet: Fleet, code: str) -> None:
    with (fleet.folder / "altered.py").open("a") as file:
        file.write("# One more line.\n")


def escaping(fleet: Fleet, code: str) -> None:
    path = fleet.add("escaping", code).with_suffix(".py")
    outside = fleet.root / "outside.py"
    path.rename(outside)
    path.symlink_to(outside)


def twins(fleet: Fleet, code: str) -> None:
    fleet.add("twin", code, file="deep/twin")


UNTRUSTED = {"trust": "untrusted", "permissions": {"network": True}}
# The fifteenth code of the chapter, plugin.permission-widened, is the answer of `plugins lock`.
BAD: dict[str, Spoil] = {
    "plugin.altered": altered,
    "plugin.api-range": lambda fleet, code: fleet.add("old", code, api=">=2"),
    "plugin.conflict": lambda fleet, code: fleet.add("torn", code, needs={"plugins": ["torn"]}),
    "plugin.contract-unknown": lambda fleet, code: fleet.add("odd", code, contracts={"out": ["no.such"]}),
    "plugin.downstream-missing": lambda fleet, code: fleet.add("deaf", code, terminal_context=False),
    "plugin.id-duplicate": twins,
    "plugin.lane-missing": lambda fleet, code: fleet.add("lost", code, lane=None),
    "plugin.lane-role-conflict": lambda fleet, code: fleet.add("proud", code, decision_capable=True),
    "plugin.library-undeclared": lambda fleet, code: fleet.add("sly", code + "import duckdb\n"),
    "plugin.manifest-invalid": lambda fleet, code: fleet.add("extra", code, surprise=1),
    "plugin.not-listed": lambda fleet, code: fleet.add("new", code),
    "plugin.path-escape": escaping,
    "plugin.undeclared-import": lambda fleet, code: fleet.add("deep", code + "import sterling.app\n"),
    "plugin.untrusted-network": lambda fleet, code: fleet.add("far", code, **UNTRUSTED),
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def code(marker: Path) -> str:
    return f"open({str(marker)!r}, 'a').close()\n\n\ndef run():\n    return Ok(metrics={{'a': 1}})\n"


@pytest.fixture
def fleet(tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet(tmp_path / "package")
    for name in ("altered", "fine", "twin"):
        fleet.add(name, code)
    fleet.write_lock()
    for module in (plugin_lock, registry):
        monkeypatch.setattr(module, "lock_path", lambda: fleet.lock)
    monkeypatch.setattr(plugin_lock, "package_root", lambda: fleet.root)
    return fleet


def check(verb: str, *words: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(command, [verb, *words, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_each_bad_plugin_has_its_own_code_and_none_of_them_ran(fleet: Fleet, code: str, marker: Path) -> None:
    for spoil in BAD.values():
        spoil(fleet, code)

    for verb in ("check", "list"):
        status, found = check(verb)
        assert status == 1
        assert sorted(one["code"] for one in found["refusals"]) == sorted(BAD)
    assert len(BAD) == 14
    assert [one["id"] for one in check("list")[1]["plugins"]] == ["fine", "twin"]
    assert not marker.exists()


@pytest.mark.parametrize("expected", sorted(BAD))
def test_one_bad_plugin_alone_is_told_by_its_code(
    fleet: Fleet, code: str, marker: Path, expected: str
) -> None:
    BAD[expected](fleet, code)

    status, found = check("check")

    codes = {one["code"] for one in found["refusals"]}
    assert (status, codes) == (1, {expected})
    assert not marker.exists()


def test_the_marker_tells_when_the_code_does_run(fleet: Fleet, marker: Path) -> None:
    runpy.run_path(str(fleet.folder / "fine.py"))

    assert marker.exists()


def test_a_refused_widening_shows_what_it_would_change_and_runs_nothing(
    fleet: Fleet, code: str, marker: Path, tmp_path: Path
) -> None:
    fleet.add("fine", code, permissions={"read": ["screen"]})
    fleet.decision("altered", code)
    words = ["lock", "--reason", "because it has to read", "--home", str(tmp_path / "home")]

    refused = CliRunner().invoke(command, words)

    assert refused.exit_code == 1
    assert getattr(refused.exception, "code", "") == "plugin.permission-widened"
    assert refused.stderr.splitlines() == [
        "insight/altered  lane  explanation -> decision",
        "insight/fine  permission  nothing -> read:screen",
    ]
    assert not (tmp_path / "home").exists()
    assert CliRunner().invoke(command, [*words, "--accept-permission", "fine"]).exit_code == 0
    assert check("check")[0] == 0
    assert not marker.exists()
