"""The key of a step, the reasons for a miss, and each rule of them broken once."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import run_mutants

from sterling.runtime import cache as real_cache
from sterling.runtime.cache import (
    CacheReason,
    Hit,
    KeyPartMissing,
    KeyParts,
    Material,
    Miss,
    Row,
    judge,
    key_parts,
)

SOURCE = Path(real_cache.__file__)
GIVEN: dict[str, Any] = {
    "step": "insight/toy toy",
    "code": "c1",
    "manifest": {"version": "1.0"},
    "settings": {"share": 0.5},
    "inputs": {"table": "t1"},
    "upstream": {"need": "u1"},
    "seed": 0,
    "mode": "two_lane_strict",
    "lane_policy_version": 1,
    "interpreter": ("CPython 3.11.1", "linux-x86_64"),
    "libraries": {"numpy": "2.0"},
    "models": {"small": "m1"},
    "contracts": {"a@1.0": "k1"},
}
# What is changed, and the one reason that says so.
CHANGES = [
    ({"code": "c2"}, "code"),
    ({"manifest": {"version": "1.1"}}, "manifest"),
    ({"settings": {"share": 0.6}}, "settings"),
    ({"inputs": {"table": "t2"}}, "input"),
    ({"inputs": {}}, "input"),
    ({"upstream": {"need": "u2"}}, "upstream"),
    ({"upstream": {"other": "u1"}}, "upstream"),
    ({"seed": 1}, "seed"),
    ({"mode": "legacy"}, "policy"),
    ({"lane_policy_version": 2}, "policy"),
    ({"interpreter": ("CPython 3.12.0", "linux-x86_64")}, "library"),
    ({"interpreter": ("CPython 3.11.1", "linux-aarch64")}, "library"),
    ({"libraries": {"numpy": "2.1"}}, "library"),
    ({"models": {"small": "m2"}}, "model"),
    ({"contracts": {"a@1.0": "k2"}}, "contract"),
    ({"step": "insight/toy other"}, "first-time"),
]


def parts(**changes: Any) -> KeyParts:
    return key_parts(Material(**{**GIVEN, **changes}))


@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_one_change_gives_another_key_and_exactly_its_reason(change: dict[str, Any], reason: str) -> None:
    assert parts(**change).key != parts().key
    assert judge(parts(**change), None, parts()) == Miss((CacheReason(reason),))


@given(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_all_reasons_are_told_in_one_order_whatever_order_changes_came_in(
    picked: list[tuple[dict[str, Any], str]], chance: random.Random
) -> None:
    changes = {name: value for change, _ in picked for name, value in change.items()}
    shuffled = list(changes.items())
    chance.shuffle(shuffled)
    expected = {reason for change, reason in CHANGES if any(changes.get(n) == v for n, v in change.items())}

    verdict = judge(parts(**dict(shuffled)), None, parts())

    assert isinstance(verdict, Miss)
    order = list(CacheReason)
    assert list(verdict.reasons) == sorted(verdict.reasons, key=order.index)
    wanted = {"first-time"} if "first-time" in expected else expected
    assert {str(reason) for reason in verdict.reasons} == wanted


@given(
    st.dictionaries(st.text(), st.integers(-(2**53) + 1, 2**53 - 1) | st.text()),
    st.randoms(use_true_random=False),
)
def test_the_order_of_tables_does_not_count(table: dict[str, Any], chance: random.Random) -> None:
    shuffled = list(table.items())
    chance.shuffle(shuffled)

    for name in ("settings", "inputs", "upstream", "libraries", "manifest", "models", "contracts"):
        assert parts(**{name: table}) == parts(**{name: dict(shuffled)})


def test_equal_values_in_two_parts_have_two_hashes() -> None:
    same = parts(settings={}, inputs={}, upstream={}, models={}, contracts={})

    assert len(set(same.as_json().values())) == len(same.as_json())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 2**60, {1, 2}, b"bytes", object()])
def test_what_is_no_json_has_no_key(bad: object) -> None:
    with pytest.raises(KeyPartMissing, match="input"):
        parts(inputs={"table": bad})


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("ok"), Hit()),
        (Row("na"), Hit()),
        (Row("failed"), Miss((CacheReason.FAILED_BEFORE,))),
        (Row("ok", tampered=True), Miss((CacheReason.TAMPERED,))),
        (Row("na", tampered=True), Miss((CacheReason.TAMPERED,))),
        (Row("skipped"), Miss((CacheReason.FAILED_BEFORE,))),
    ],
)
def test_only_a_whole_row_that_ended_well_is_reused(row: Row, verdict: Any) -> None:
    for last in (None, parts(), parts(seed=3)):
        assert judge(parts(), row, last) == verdict


def test_no_key_and_no_wish_give_no_reuse() -> None:
    assert judge(None, Row("ok"), parts()) == Miss((CacheReason.KEY_ERROR,))
    assert judge(parts(), Row("ok"), parts(), bypass=True) == Miss((CacheReason.BYPASS,))
    assert judge(parts(), None, None) == Miss((CacheReason.FIRST_TIME,))
    assert judge(parts(), None, parts()) == Miss((CacheReason.FIRST_TIME,))


def test_the_reasons_stand_in_the_order_of_the_chapter() -> None:
    told = " ".join(str(reason) for reason in CacheReason)

    assert told == (
        "first-time code manifest settings input upstream seed policy library model contract tampered "
        "failed-before key-error bypass"
    )


def test_the_page_lists_the_reasons_in_order() -> None:
    page = (SOURCE.parents[3] / "docs" / "reference" / "step-cache.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `cache\.([a-z-]+)` \|", page, re.M) == [str(reason) for reason in CacheReason]


# The rules, broken one at a time.


def each_change_is_told(cache: ModuleType) -> None:
    first = cache.key_parts(cache.Material(**GIVEN))
    for change, reason in CHANGES:
        other = cache.key_parts(cache.Material(**{**GIVEN, **change}))
        assert other.key != first.key
        assert [str(each) for each in cache.judge(other, None, first).reasons] == [reason]


def two_changes_are_told_in_order(cache: ModuleType) -> None:
    first = cache.key_parts(cache.Material(**GIVEN))
    other = cache.key_parts(cache.Material(**{**GIVEN, "seed": 1, "code": "c2"}))
    assert [str(each) for each in cache.judge(other, None, first).reasons] == ["code", "seed"]
    stranger = cache.key_parts(cache.Material(**{**GIVEN, "step": "insight/other toy", "code": "c2"}))
    assert [str(each) for each in cache.judge(stranger, None, first).reasons] == ["first-time"]


def nothing_bad_is_reused(cache: ModuleType) -> None:
    found = cache.key_parts(cache.Material(**GIVEN))
    for row in (cache.Row("failed"), cache.Row("ok", tampered=True), cache.Row("degraded")):
        assert isinstance(cache.judge(found, row, found), cache.Miss)
    assert isinstance(cache.judge(found, cache.Row("ok"), found, bypass=True), cache.Miss)
    assert isinstance(cache.judge(None, cache.Row("ok"), found), cache.Miss)
    assert isinstance(cache.judge(found, None, found), cache.Miss)


def na_is_reused(cache: ModuleType) -> None:
    found = cache.key_parts(cache.Material(**GIVEN))
    assert isinstance(cache.judge(found, cache.Row("na"), None), cache.Hit)


def what_follows_sees_every_part_of_an_outcome(cache: ModuleType) -> None:
    seen = {
        cache.outcome_hash(*outcome)
        for outcome in (
            ("ok", "ok", "1 finding.", {"result": "a"}),
            ("na", "ok", "1 finding.", {"result": "a"}),
            ("ok", "no", "1 finding.", {"result": "a"}),
            ("ok", "ok", "2 findings.", {"result": "a"}),
            ("ok", "ok", "1 finding.", {"result": "b"}),
        )
    }
    assert len(seen) == 5


SCENARIOS = [
    each_change_is_told,
    two_changes_are_told_in_order,
    nothing_bad_is_reused,
    na_is_reused,
    what_follows_sees_every_part_of_an_outcome,
]
MUTANTS = [
    ("failed is reused", 'if row.state not in ("ok", "na"):', 'if row.state not in ("ok", "na", "failed"):'),
    ("na is run again", 'if row.state not in ("ok", "na"):', 'if row.state != "ok":'),
    ("tampered is reused", "    if row.tampered:\n", "    if False:\n"),
    ("bypass is ignored", "    if bypass:\n", "    if False:\n"),
    ("no key is no reason", "    if parts is None:\n", "    if parts is None and row is None:\n"),
    ("another step is the same", "if last is None or last.step != parts.step:", "if last is None:"),
    (
        "an unwritten row is a hit",
        "Miss(different or (CacheReason.FIRST_TIME,))",
        "Miss(different) if different else Hit()",
    ),
    ("only the first reason", "return Miss(different or", "return Miss(different[:1] or"),
    ("seed left out", '"seed": material.seed,', '"seed": 0,'),
    ("inputs left out", '"input": dict(material.inputs),', '"input": {},'),
    ("upstream names only", '"upstream": dict(material.upstream),', '"upstream": sorted(material.upstream),'),
    ("libraries left out", "dict(material.libraries)]", "{}]"),
    ("policy version left out", "[material.mode, material.lane_policy_version]", "[material.mode]"),
    ("models left out", '"model": dict(material.models),', '"model": {},'),
    ("contracts left out", '"contract": dict(material.contracts),', '"contract": {},'),
    ("results not seen downstream", "[state, reason, because, dict(kept)]", "[state, reason, because]"),
]  # fmt: skip


def test_each_broken_rule_is_noticed() -> None:
    assert len(run_mutants(SOURCE, MUTANTS, SCENARIOS)) == len(MUTANTS)


def test_a_key_depends_on_every_part() -> None:
    first = parts()

    for name in first.as_json():
        assert replace(first, **{name: "0" * 64}).key != first.key
