from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sterling.runtime.execute import gather_facts
from sterling.runtime.manifest import Manifest, load_manifest
from sterling.runtime.outcomes import Settled
from sterling.runtime.preflight import Facts, check, check_all, normal_name
from sterling.testing.fleet import Fleet

FACTS = Facts(
    libraries={"numpy": "2.0"}, contracts=frozenset({"plugin.manifest"}), models=frozenset({"small"})
)


def manifest(tmp_path: Path, **changes: Any) -> Manifest:
    fleet = Fleet(tmp_path)
    return load_manifest(fleet.add("toy", **changes), "insight", fleet.folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"needs": {"libraries": ["numpy", "absent"]}}, "need.library-missing"),
        ({"needs": {"models": ["large"]}}, "need.model-missing"),
        ({"contracts": {"in": ["plugin.manifest@1.0"]}}, "need.contract-missing"),
        ({"permissions": {"gpu": True}}, "need.gpu-missing"),
    ],
)
def test_what_is_absent_fails_by_its_own_name(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    settled = check(manifest(tmp_path, **changes), FACTS)

    assert settled is not None
    assert (settled.state, settled.reason) == ("failed", reason)


def test_what_is_there_lets_the_step_run(tmp_path: Path) -> None:
    needs = {"libraries": ["NumPy"], "models": ["small"]}

    assert check(manifest(tmp_path, needs=needs, contracts={"in": ["plugin.manifest"]}), FACTS) is None


def test_a_permission_that_was_not_granted_fails(tmp_path: Path) -> None:
    narrow = Facts(permissions=frozenset())

    settled = check(manifest(tmp_path, permissions={"read": ["screen"]}), narrow)

    assert settled is not None
    assert settled.reason == "plugin.permission-widened"


def test_the_packs_own_check_keeps_its_code_and_comes_last(tmp_path: Path) -> None:
    absent = Settled("na", "insight.role-missing", "No column tells a time.")

    assert check(manifest(tmp_path), FACTS, lambda found: absent) == absent
    needs = {"libraries": ["absent"]}
    first = check(manifest(tmp_path, needs=needs), FACTS, lambda found: absent)
    assert first is not None
    assert first.reason == "need.library-missing"


def test_only_steps_that_may_not_start_are_listed(tmp_path: Path) -> None:
    assert check_all([manifest(tmp_path)], FACTS) == {}


def test_the_facts_of_this_installation_hold_what_is_installed() -> None:
    facts = gather_facts()

    assert "jsonschema-rs" in facts.libraries
    assert normal_name("A.b_C") == "a-b-c"
    assert {"plugin.manifest", "plugin.manifest@1.0"} <= facts.contracts
