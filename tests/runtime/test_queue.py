from __future__ import annotations

import random

import pytest

from sterling.runtime.queue import FairQueue, Waiting


def waiting(key: str, flow: str = "recall/drain", number: int = 0, band: int = 1, weight: int = 1) -> Waiting:
    return Waiting(band, number, key, flow, weight)


def drained(queue: FairQueue, cost_us: int = 100) -> list[str]:
    order = []
    while (job := queue.take()) is not None:
        queue.begin(job, cost_us)
        queue.end(job, cost_us, cost_us)
        order.append(job.key)
    return order


def test_one_flow_is_served_in_order_of_arrival() -> None:
    queue = FairQueue()
    for number in (2, 0, 1):
        queue.add(waiting(str(number), number=number))

    assert drained(queue) == ["0", "1", "2"]


def test_a_job_that_was_stopped_goes_first_in_its_flow() -> None:
    queue = FairQueue()
    queue.add(waiting("new", number=0))
    queue.add(waiting("stopped", number=1, band=0))

    assert drained(queue) == ["stopped", "new"]


def test_flows_of_one_weight_take_turns_whatever_came_first() -> None:
    queue = FairQueue()
    for number in range(3):
        queue.add(waiting(f"a{number}", "a", number))
    for number in range(3):
        queue.add(waiting(f"b{number}", "b", 3 + number))

    assert drained(queue) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_hog_pays_with_its_own_flows_time() -> None:
    queue = FairQueue()
    queue.add(waiting("hog", "a", 0))
    queue.add(waiting("after hog", "a", 1))
    for number in range(2, 6):
        queue.add(waiting(f"short {number}", "b", number))
    hog = queue.take()
    assert hog is not None
    queue.begin(hog, 100)
    queue.end(hog, 100, 100_000)

    assert drained(queue)[-1] == "after hog"


def test_a_grant_counts_until_the_charge_is_known() -> None:
    queue = FairQueue()
    for number, flow in enumerate("aab"):
        queue.add(waiting(f"{flow}{number}", flow, number))
    first = queue.take()
    assert first is not None
    queue.begin(first, 30_000)

    following = queue.peek()
    assert following is not None
    assert following.flow == "b"


def test_tags_go_on_in_the_next_pass_without_growing_for_ever() -> None:
    queue = FairQueue({"a": 5_000_000, "b": 5_000_400})
    queue.add(waiting("b", "b", 0))
    queue.add(waiting("a", "a", 1))

    assert drained(queue) == ["a", "b"]
    assert min(queue.finish.values()) == 0


def test_a_flow_that_was_away_gains_no_credit() -> None:
    queue = FairQueue({"a": 9_000, "b": 9_000})
    for number in range(4):
        queue.add(waiting(f"a{number}", "a", number))
    for _ in range(2):
        job = queue.take()
        assert job is not None
        queue.begin(job, 1_000)
        queue.end(job, 1_000, 1_000)
    for number in range(4, 8):
        queue.add(waiting(f"b{number}", "b", number))

    assert drained(queue, 1_000)[:4] in (
        ["b4", "a2", "b5", "a3"],
        ["a2", "b4", "b5", "a3"],
        ["b4", "b5", "a2", "b6"],
    )


@pytest.mark.parametrize("seed", range(3))
def test_two_backlogged_flows_stay_within_the_published_bound(seed: int) -> None:
    """Start-time fair queuing: weighted service differs by at most lmax_i/w_i + lmax_j/w_j."""

    def simulate() -> list[tuple[str, int]]:
        rng = random.Random(seed)
        flows = {"a": (1, 900), "b": (4, 30_000), "c": (1, 5_000)}
        queue, served, log = FairQueue(), dict.fromkeys(flows, 0), []
        number = 0
        for flow, (weight, _) in flows.items():
            for _ in range(2):
                queue.add(waiting(f"{flow}{number}", flow, number, weight=weight))
                number += 1
        for _ in range(10_000):
            job = queue.take()
            assert job is not None
            weight, longest = flows[job.flow]
            length = rng.randrange(weight, longest + 1, weight)
            queue.begin(job, length)
            queue.end(job, length, length)
            served[job.flow] += length
            queue.add(waiting(f"{job.flow}{number}", job.flow, number, weight=weight))
            number += 1
            log.append((job.key, length))
            for one, (w_one, l_one) in flows.items():
                for two, (w_two, l_two) in flows.items():
                    gap = abs(served[one] / w_one - served[two] / w_two)
                    assert gap <= l_one / w_one + l_two / w_two + 1
        return log

    assert simulate() == simulate()
