from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sterling.kernel.canonical import CanonicalInvalid, canonical_bytes
from sterling.kernel.hashing import address_of
from sterling.runtime import plan as planning
from sterling.runtime.plan import (
    PlanCrossLane,
    PlanCycle,
    PlanDuplicateStep,
    PlanLaneMissing,
    PlanModeUnknown,
    PlanRequest,
    PlanUnknownNeed,
    PlanUnknownPlugin,
    build,
    of_phases,
)

SRC = Path(planning.__file__).parents[2]


@dataclass(frozen=True)
class Toy:
    id: str
    step_needs: tuple[str, ...] = ()
    lane: str = "explanation"
    version: str = "1.0"
    feeds: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    lock_sha256: str = "0" * 64


def ids(plan: planning.Plan) -> list[str]:
    return [step.id for step in plan.steps]


def test_steps_are_ordered_by_lane_then_priority_then_id_as_far_as_needs_allow() -> None:
    toys = [
        Toy("z", lane="decision"),
        Toy("y", ("z",), lane="decision"),
        Toy("b"),
        Toy("a"),
        Toy("c", ("y",)),
    ]

    plan = build(toys, PlanRequest("insight", priorities={"b": 1}))

    assert ids(plan) == ["z", "y", "b", "a", "c"]
    assert plan.lanes == {"decision": ("z", "y"), "explanation": ("b", "a", "c")}


def test_the_hash_does_not_depend_on_the_order_of_discovery() -> None:
    toys = [Toy(f"p{n}", tuple(f"p{m}" for m in range(n) if (n * m) % 3 == 1)) for n in range(30)]
    shuffler = random.Random(7)
    plans = []
    for _ in range(50):
        shuffler.shuffle(toys)
        plans.append(build(toys, PlanRequest("insight", seed=4)))

    assert len({plan.sha256 for plan in plans}) == 1
    assert len({tuple(ids(plan)) for plan in plans}) == 1


def test_the_hash_does_not_depend_on_the_hash_seed_of_the_interpreter() -> None:
    code = (
        "from sterling.runtime.plan import of_phases;"
        "print(of_phases('ci', [('b', []), ('a', ['b']), ('c', ['a', 'b'])], seed=2).sha256)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(SRC), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "99")
    }

    assert len(found) == 1


@pytest.mark.parametrize(
    "request_", [PlanRequest("insight", seed=1), PlanRequest("insight", mode="legacy"), PlanRequest("ci")]
)
def test_seed_mode_and_pack_change_the_hash(request_: PlanRequest) -> None:
    toys = [Toy("a"), Toy("b", ("a",))]

    assert build(toys, request_).sha256 != build(toys, PlanRequest("insight")).sha256


@pytest.mark.parametrize(
    "changed", [Toy("a", version="1.1"), Toy("a", lock_sha256="1" * 64), Toy("a", feeds=("b",))]
)
def test_what_a_plugin_is_changes_the_hash(changed: Toy) -> None:
    before = build([Toy("a"), Toy("b")], PlanRequest("insight"))

    assert build([changed, Toy("b")], PlanRequest("insight")).sha256 != before.sha256


def test_settings_change_the_hash_by_value_and_not_by_key_order() -> None:
    def planned(settings: dict[str, object]) -> str:
        return build([Toy("a")], PlanRequest("insight", settings={"a": settings})).sha256

    assert planned({"x": 1, "y": 0.5}) == planned({"y": 0.5, "x": 1})
    assert planned({"x": 1}) != planned({"x": 2})


def test_a_cycle_names_the_shortest_circle_from_its_smallest_id_and_the_edges_that_remain() -> None:
    toys = [Toy("c", ("b", "d")), Toy("b", ("a",)), Toy("a", ("c",)), Toy("d", ("e",)), Toy("e", ("f",))]
    toys += [Toy("f", ("c",)), Toy("side", ("a",)), Toy("free")]
    texts = set()
    for turn in range(50):
        random.Random(turn).shuffle(toys)
        with pytest.raises(PlanCycle) as caught:
            build(toys, PlanRequest("insight"))
        texts.add(caught.value.message)

    assert caught.value.cycle == ("a", "b", "c")
    assert len(texts) == 1
    assert "a -> b -> c -> a" in texts.pop()
    assert ("c", "f") in caught.value.edges
    assert ("a", "side") in caught.value.edges


def test_a_step_that_needs_itself_is_a_cycle_of_one() -> None:
    with pytest.raises(PlanCycle) as caught:
        build([Toy("a", ("a",)), Toy("b")], PlanRequest("insight"))

    assert caught.value.cycle == ("a",)


def test_every_unknown_need_is_listed() -> None:
    with pytest.raises(PlanUnknownNeed) as caught:
        build([Toy("a", ("ghost", "b")), Toy("b", ("spirit",))], PlanRequest("insight"))

    assert caught.value.edges == (("ghost", "a"), ("spirit", "b"))


def test_strict_mode_refuses_a_decision_that_needs_an_explanation_and_lists_each_edge() -> None:
    toys = [Toy("e"), Toy("d2", ("e",), lane="decision"), Toy("d1", ("e",), lane="decision")]

    with pytest.raises(PlanCrossLane) as caught:
        build(toys, PlanRequest("insight"))

    assert caught.value.edges == (("e", "d1"), ("e", "d2"))


def test_legacy_mode_allows_that_edge_and_tags_it() -> None:
    toys = [Toy("e"), Toy("d", ("e",), lane="decision"), Toy("f", ("d",))]

    plan = build(toys, PlanRequest("insight", mode="legacy"))

    assert [(edge.before, edge.after, edge.tag) for edge in plan.edges] == [
        ("d", "f", ""),
        ("e", "d", "cross-lane"),
    ]
    assert ids(plan) == ["e", "d", "f"]


@pytest.mark.parametrize("mode", ["", "strict", "two-lane-strict", "LEGACY"])
def test_any_other_mode_is_a_usage_error(mode: str) -> None:
    with pytest.raises(PlanModeUnknown) as caught:
        build([Toy("a")], PlanRequest("insight", mode=mode))

    assert caught.value.exit == 2


@pytest.mark.parametrize("mode", planning.MODES)
@pytest.mark.parametrize("lane", ["", "Decision", "other"])
def test_a_step_without_a_lane_is_refused_in_both_modes(mode: str, lane: str) -> None:
    with pytest.raises(PlanLaneMissing):
        build([Toy("a", lane=lane)], PlanRequest("insight", mode=mode))


def test_two_steps_of_one_id_are_refused() -> None:
    with pytest.raises(PlanDuplicateStep):
        build([Toy("a"), Toy("a")], PlanRequest("insight"))


def test_named_plugins_bring_what_they_need_and_nothing_else() -> None:
    toys = [Toy("a"), Toy("b", ("a",)), Toy("c", ("b",)), Toy("other")]

    assert ids(build(toys, PlanRequest("insight", plugins=("b",)))) == ["a", "b"]


def test_a_named_plugin_that_nobody_knows_is_a_usage_error() -> None:
    with pytest.raises(PlanUnknownPlugin) as caught:
        build([Toy("a")], PlanRequest("insight", plugins=("a", "ghost")))

    assert caught.value.exit == 2
    assert "ghost" in caught.value.message


def test_phases_keep_their_order_where_needs_leave_it_open() -> None:
    plan = of_phases("ci", [("read", []), ("judge", ["read"]), ("alpha", [])])

    assert ids(plan) == ["read", "judge", "alpha"]
    assert plan.steps[1].plugin == "ci/judge"


@pytest.mark.parametrize("title", ["plain", 'quo"te\\ and \x1f\x7f', "übung", "\u2028", "😀"])
def test_the_hash_is_that_of_the_plans_canonical_bytes(title: str) -> None:
    plan = build([Toy("a"), Toy("b", ("a",), version=title)], PlanRequest("insight", seed=-3))
    body = {name: value for name, value in plan.as_json().items() if name != "sha256"}

    assert plan.sha256 == address_of(canonical_bytes(body))


def test_a_seed_that_json_cannot_keep_is_refused() -> None:
    with pytest.raises(CanonicalInvalid):
        build([Toy("a")], PlanRequest("insight", seed=2**53))


def test_an_empty_plan_is_a_plan() -> None:
    plan = build([], PlanRequest("insight"))

    assert plan.steps == ()
    assert plan.lanes == {"decision": (), "explanation": ()}


def test_every_step_stands_behind_all_it_needs_in_random_graphs() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        toys = [
            Toy(
                f"s{n:02}",
                tuple(f"s{m:02}" for m in range(n) if rng.random() < 0.2),
                rng.choice(planning.LANES),
            )
            for n in range(25)
        ]
        rng.shuffle(toys)

        plan = build(toys, PlanRequest("insight", mode="legacy"))

        place = {step.id: index for index, step in enumerate(plan.steps)}
        assert all(place[need] < place[step.id] for step in plan.steps for need in step.needs)
        assert len(plan.steps) == 25
