"""The baseline: health is a gate, keys hold for one thing, a broken seal is believed by nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sterling.packs.ci.baseline import (
    Baseline,
    KeyParts,
    baseline_from_json,
    differences,
    health_of,
    unstable_ids,
)
from sterling.packs.ci.baseline_file import (
    BaselineTampered,
    BaselineUnreadable,
    read_baseline_file,
    write_baseline_file,
)
from sterling.packs.ci.facts import Facts

MakeFacts = Callable[..., Facts]
PARTS = KeyParts("t" * 64, "", ("python", "-m", "pytest"), "3.11.7", "linux-x86_64", ("xdist==3",))


def made(facts: Facts, **changes: Any) -> Baseline:
    return Baseline(
        PARTS, facts, **{"healthy": True, "why": "", "unstable": ("a::x",), "commit": "c", **changes}
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"exit_class": "timed_out"}, "time limit"),
        ({"exit_class": "killed"}, "killed"),
        ({"exit_class": "collect_failed", "collectors": {"b.py": "c"}}, "could not be loaded"),
        ({"exit_class": ""}, "Nobody stated"),
        ({"fault": "ci.report-torn"}, "made so"),
        ({"facets": {"collectors": "absent"}}, "collectors"),
        ({"facets": {"all_ids": "partial"}}, "all_ids"),
        ({"facets": {"skip_ids": "partial"}}, "skip_ids"),
        ({"tests": {"a::x": "skipped"}}, "No test ran"),
        ({"tests": {"a::x": "failed"}, "status": 0}, "otherwise"),
        ({"status": 1}, "otherwise"),
    ],
)
def test_what_is_not_healthy_says_why(facts: MakeFacts, options: dict[str, Any], words: str) -> None:
    assert words in health_of(facts(options.pop("tests", None), **options))


@pytest.mark.parametrize(
    "options",
    [{}, {"tests": {"a::x": "failed"}}, {"collectors": {"b.py": "c"}}, {"tests": {"a::x": "xfailed"}}],
)
def test_a_red_base_is_as_healthy_as_a_green_one(facts: MakeFacts, options: dict[str, Any]) -> None:
    assert health_of(facts(options.pop("tests", None), **options)) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"tree": "u" * 64},
        {"lock": "l" * 64},
        {"argv": ("python", "-m", "pytest", "-x")},
        {"version": "3.12.0"},
        {"platform": "linux-aarch64"},
        {"plugins": ()},
    ],
)
def test_every_part_changes_the_key(change: dict[str, Any]) -> None:
    assert replace(PARTS, **change).key != PARTS.key


@pytest.mark.parametrize(
    ("change", "blocks"),
    [
        ({"argv": ("python", "-m", "pytest", "-x")}, True),
        ({"version": "3.12.0"}, True),
        ({"platform": "linux-aarch64"}, True),
        ({"tree": "u" * 64}, False),
        ({"lock": "l" * 64}, False),
        ({"plugins": ()}, False),
    ],
)
def test_only_command_interpreter_and_platform_stand_in_the_way(change: dict[str, Any], blocks: bool) -> None:
    blocking, notes = differences(PARTS, replace(PARTS, **change))

    assert bool(blocking) is blocks
    assert blocks or "tree" in change or notes


def test_an_interpreter_on_one_side_only_stands_in_the_way() -> None:
    assert differences(PARTS, replace(PARTS, version=""))[0]
    assert differences(replace(PARTS, version=""), PARTS)[0]


def test_a_command_split_otherwise_is_another_command() -> None:
    assert differences(PARTS, replace(PARTS, argv=("python -m", "pytest")))[0]


def test_parts_that_nobody_stated_are_notes() -> None:
    blocking, notes = differences(PARTS, None)

    assert blocking == []
    assert len(notes) == 3


def test_ids_that_swing_between_repetitions_are_unstable(facts: MakeFacts) -> None:
    runs = [
        facts({"a::x": "passed", "a::y": "passed", "a::z": "passed"}),
        facts({"a::x": "failed", "a::y": "passed"}),
    ]

    assert unstable_ids(runs) == ("a::x", "a::z")


def test_a_baseline_survives_its_file(facts: MakeFacts, tmp_path: Path) -> None:
    baseline = made(facts({"a::x": ("failed", "s"), "a::é": "passed"}), policy_text="[ci]\n", runs=2)

    write_baseline_file(baseline, tmp_path / "b.baseline.json")

    assert read_baseline_file(tmp_path / "b.baseline.json") == baseline
    assert baseline_from_json(baseline.as_json()) == baseline


def test_layout_may_change_and_content_may_not(facts: MakeFacts, tmp_path: Path) -> None:
    path = tmp_path / "b.baseline.json"
    write_baseline_file(made(facts({"a::x": "failed"})), path)
    value = json.loads(path.read_text())

    path.write_text(json.dumps(value))
    assert read_baseline_file(path).facts.failing == ["a::x"]

    value["baseline"]["facts"]["results"]["tests"]["a::x"]["outcome"] = "passed"
    path.write_text(json.dumps(value))
    with pytest.raises(BaselineTampered) as caught:
        read_baseline_file(path)
    assert caught.value.exit == 3


@pytest.mark.parametrize(
    "place",
    [
        ("healthy",),
        ("key",),
        ("why",),
        ("unstable",),
        ("commit",),
        ("dirty",),
        ("policy_text",),
        ("runs",),
        ("facts",),
        ("parts",),
    ],
)
def test_any_field_that_is_edited_breaks_the_seal(
    facts: MakeFacts, tmp_path: Path, place: tuple[str, ...]
) -> None:
    path = tmp_path / "b.baseline.json"
    write_baseline_file(made(facts({"a::x": "failed"})), path)
    value = json.loads(path.read_text())
    value["baseline"][place[0]] = {"other": 1}
    path.write_text(json.dumps(value))

    with pytest.raises(BaselineTampered):
        read_baseline_file(path)


def test_a_file_cut_at_any_place_is_never_believed(facts: MakeFacts, tmp_path: Path) -> None:
    path = tmp_path / "b.baseline.json"
    write_baseline_file(made(facts({"a::x": "failed"})), path)
    data = path.read_bytes().rstrip()

    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        with pytest.raises((BaselineTampered, BaselineUnreadable)):
            read_baseline_file(path)


def test_a_sealed_document_of_another_shape_is_refused(facts: MakeFacts, tmp_path: Path) -> None:
    from sterling.packs.ci.baseline_file import _seal

    path = tmp_path / "b.baseline.json"
    for content in (
        {},
        {"parts": 1},
        {**made(facts()).as_json(), "key": "0" * 64},
        {**made(facts()).as_json(), "facts": []},
    ):
        document = {"contract": "ci.baseline-file@1.0", "baseline": content, "seal": _seal(content)}
        path.write_text(json.dumps(document))
        with pytest.raises(BaselineTampered):
            read_baseline_file(path)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"[]", b"plain words", b"{}", b'{"contract": "other@1.0"}']
)
def test_what_never_was_a_baseline_is_wrong_usage(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "b.baseline.json"
    path.write_bytes(data)

    with pytest.raises(BaselineUnreadable) as caught:
        read_baseline_file(path)

    assert caught.value.exit == 2


def test_a_folder_and_a_missing_file_are_wrong_usage(tmp_path: Path, facts: MakeFacts) -> None:
    for path in (tmp_path, tmp_path / "none.baseline.json"):
        with pytest.raises(BaselineUnreadable):
            read_baseline_file(path)
    with pytest.raises(BaselineUnreadable):
        write_baseline_file(made(facts()), tmp_path / "no" / "folder.baseline.json")
    with pytest.raises(BaselineUnreadable):
        write_baseline_file(made(facts()), tmp_path / ("n" * 300))
    assert list(tmp_path.iterdir()) == [], "a file that could not be written leaves nothing behind"
