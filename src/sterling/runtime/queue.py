"""Who is next: start-time fair queuing over flows, in order within a flow.

A flow is a pack and an origin. Each has a finish tag in weighted microseconds;
the flow whose next job would start earliest is served, ties go to the lower
queue number. Service is charged when it is known: a grant is set down when a job
starts and put right when it ends, so a hog pays with its own flow's time. Two
flows that both wait all the while differ in weighted service by at most
`lmax_i/w_i + lmax_j/w_j`.

Within a flow: a job that was stopped goes first, then the order of arrival.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["WEIGHTS", "FairQueue", "Waiting"]

WEIGHTS: Mapping[str, int] = {"forced": 4, "drain": 1, "attended": 4}


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A job in the queue. `band` 0 goes before 1; `number` is its place of arrival."""

    band: int
    number: int
    key: str = field(compare=False)
    flow: str = field(compare=False)
    weight: int = field(compare=False, default=1)


class FairQueue:
    """Jobs by flow. `finish` holds each flow's tag from the pass before."""

    def __init__(self, finish: Mapping[str, int] | None = None) -> None:
        self._finish = dict(finish or {})
        self._waiting: dict[str, list[Waiting]] = {}
        self._weights: dict[str, int] = {}
        self._clock = min(self._finish.values(), default=0)

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._waiting.values())

    @property
    def finish(self) -> dict[str, int]:
        """The flows' tags, to begin the next pass with; what all have in common is taken off."""
        least = min(self._finish.values(), default=0)
        return {flow: tag - least for flow, tag in sorted(self._finish.items())}

    def add(self, job: Waiting) -> None:
        """Put a job at its place."""
        heapq.heappush(self._waiting.setdefault(job.flow, []), job)
        self._weights[job.flow] = job.weight

    def peek(self) -> Waiting | None:
        """The next job, left where it is."""
        flows = [(self._start(flow), jobs[0].number, flow) for flow, jobs in self._waiting.items() if jobs]
        return self._waiting[min(flows)[2]][0] if flows else None

    def take(self) -> Waiting | None:
        """The next job, taken out. It costs its flow nothing until it is charged."""
        job = self.peek()
        return None if job is None else heapq.heappop(self._waiting[job.flow])

    def begin(self, job: Waiting, granted_us: int) -> None:
        """A job starts with this grant."""
        start = self._start(job.flow)
        self._clock = max(self._clock, start)
        self._finish[job.flow] = start + granted_us // job.weight

    def end(self, job: Waiting, granted_us: int, charged_us: int) -> None:
        """A job ended: its flow pays what it used instead of what it was granted."""
        self._finish[job.flow] += charged_us // job.weight - granted_us // job.weight

    def _start(self, flow: str) -> int:
        return max(self._clock, self._finish.get(flow, 0))
