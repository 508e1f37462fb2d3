"""The plan: which steps a run takes, in which order, and the hash that names it.

`build` is pure and total: the same manifests and the same request give the same
bytes, whatever order the manifests were found in. Steps are sorted by (lane,
priority, id) inside Kahn's algorithm, so decision steps come before explanation
steps wherever needs allow it. What cannot be planned is refused with all of its
edges; nothing falls back silently.

Two modes. `two_lane_strict` refuses a decision step that needs an explanation
step. `legacy` allows it and tags the edge. Any other word is a usage error.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of

__all__ = [
    "LANES",
    "LANE_POLICY_VERSION",
    "MODES",
    "Edge",
    "Plan",
    "PlanCrossLane",
    "PlanCycle",
    "PlanDuplicateStep",
    "PlanLaneMissing",
    "PlanModeUnknown",
    "PlanRefused",
    "PlanRequest",
    "PlanUnknownNeed",
    "PlanUnknownPlugin",
    "Plannable",
    "Step",
    "build",
    "of_phases",
    "parse_mode",
]

LANES = ("decision", "explanation")  # In the order in which ready steps start.
MODES = ("two_lane_strict", "legacy")
LANE_POLICY_VERSION = 1
PRIORITY_DEFAULT = 100

_LANE_RANK = {lane: rank for rank, lane in enumerate(LANES)}


class PlanRefused(SterlingError):
    """These steps cannot be planned. `edges` lists every edge that is to blame."""

    hint = "See what the plugins need with `sterling plugins list`."

    def __init__(self, message: str, edges: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, edges=[f"{before} -> {after}" for before, after in edges])
        self.edges = tuple(edges)


class PlanCycle(PlanRefused):
    """Steps need each other in a circle. `cycle` is the shortest one."""

    code = "plan.cycle"

    def __init__(self, cycle: Sequence[str], edges: Sequence[tuple[str, str]]) -> None:
        circle = " -> ".join([*cycle, cycle[0]])
        rest = ", ".join(f"{before} -> {after}" for before, after in edges)
        super().__init__(f"expected no cycle, found {circle}; edges that remain: {rest}", edges)
        self.cycle = tuple(cycle)


class PlanUnknownNeed(PlanRefused):
    """Steps need what nobody provides. `edges` holds (missing, step) for all of them."""

    code = "plan.unknown-need"


class PlanCrossLane(PlanRefused):
    """A decision step needs an explanation step, which `two_lane_strict` refuses."""

    code = "plan.cross-lane"


class PlanLaneMissing(PlanRefused):
    """A step has no lane, or one that does not exist."""

    code = "plan.lane-missing"


class PlanDuplicateStep(PlanRefused):
    """Two steps have one id."""

    code = "plan.duplicate-step"


class PlanUnknownPlugin(PlanRefused):
    """The request names plugins that the registry does not hold."""

    code = "plan.unknown-plugin"
    exit = EXIT_USAGE


class PlanModeUnknown(SterlingError):
    """A mode that does not exist."""

    code = "plan.mode-unknown"
    hint = "Modes are two_lane_strict and legacy. See `sterling analyze --help`."
    exit = EXIT_USAGE


class Plannable(Protocol):
    """What the plan reads of a manifest."""

    @property
    def id(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def lane(self) -> str: ...
    @property
    def feeds(self) -> tuple[str, ...]: ...
    @property
    def lock_sha256(self) -> str: ...
    @property
    def step_needs(self) -> tuple[str, ...]: ...
    @property
    def tolerates(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One node: a plugin, or a phase of a pack. `needs` and `tolerates` hold step ids."""

    id: str
    plugin: str
    version: str
    lane: str
    needs: tuple[str, ...] = ()
    tolerates: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    priority: int = PRIORITY_DEFAULT
    lock_sha256: str = ""
    settings_sha256: str = ""

    def as_json(self) -> Json:
        """The step as the plan entry and the plan hash hold it."""
        return {
            "feeds": list(self.feeds),
            "id": self.id,
            "lane": self.lane,
            "lock_sha256": self.lock_sha256,
            "needs": list(self.needs),
            "plugin": self.plugin,
            "priority": self.priority,
            "settings_sha256": self.settings_sha256,
            "tolerates": list(self.tolerates),
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Edge:
    """`before` must settle before `after` starts. `tag` is "" or "cross-lane"."""

    before: str
    after: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in plan order, their edges, and the hash over all of it."""

    pack: str
    steps: tuple[Step, ...]
    edges: tuple[Edge, ...]
    lanes: Mapping[str, tuple[str, ...]]
    mode: str
    seed: int
    sha256: str

    def step(self, step_id: str) -> Step:
        """The step with this id; KeyError when the plan has none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def as_json(self) -> Json:
        """What the plan entry holds; `sha256` is the hash of the rest."""
        return {**_body(self.pack, self.steps, self.edges, self.mode, self.seed), "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to plan. `plugins` None means all; named ones bring what they need with them."""

    pack: str
    seed: int = 0
    mode: str = MODES[0]
    plugins: tuple[str, ...] | None = None
    priorities: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


def parse_mode(text: str) -> str:
    """A mode that exists.

    Raises:
        PlanModeUnknown: any other word.
    """
    if text not in MODES:
        raise PlanModeUnknown(f"expected one of {', '.join(MODES)}, found {text!r}", mode=text)
    return text


def build(manifests: Iterable[Plannable], request: PlanRequest) -> Plan:
    """The plan of these plugins.

    Raises:
        PlanModeUnknown, PlanUnknownPlugin, PlanDuplicateStep, PlanUnknownNeed,
        PlanLaneMissing, PlanCrossLane, PlanCycle.
    Cost: O((steps + edges) log steps); the search for the shortest cycle, only
          on refusal, is O(steps x edges).
    """
    parse_mode(request.mode)
    known: dict[str, Plannable] = {}
    for manifest in manifests:
        if manifest.id in known:
            raise PlanDuplicateStep(f"expected each id once, found {manifest.id!r} twice")
        known[manifest.id] = manifest
    chosen = _closure(known, request.plugins)
    steps = [_step_of(known[plugin], request) for plugin in sorted(chosen)]
    return _arrange(request.pack, steps, request.seed, request.mode)


def of_phases(
    pack: str,
    phases: Sequence[tuple[str, Sequence[str]]],
    *,
    seed: int = 0,
    mode: str = MODES[0],
    lane: str = "explanation",
) -> Plan:
    """A plan whose steps are a pack's phases: (id, ids it needs). Order breaks ties.

    Raises: as `build`.
    """
    parse_mode(mode)
    steps = [
        Step(
            id=name,
            plugin=f"{pack}/{name}",
            version="1.0",
            lane=lane,
            needs=tuple(sorted(needs)),
            priority=place,
        )
        for place, (name, needs) in enumerate(phases)
    ]
    return _arrange(pack, steps, seed, mode)


def _closure(known: Mapping[str, Plannable], wanted: tuple[str, ...] | None) -> set[str]:
    if wanted is None:
        return set(known)
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise PlanUnknownPlugin(f"expected plugins that exist, found {', '.join(unknown)}")
    chosen: set[str] = set()
    open_ids = sorted(set(wanted))
    while open_ids:
        plugin = open_ids.pop()
        if plugin in chosen:
            continue
        chosen.add(plugin)
        open_ids.extend(need for need in known[plugin].step_needs if need in known)
    return chosen


def _step_of(manifest: Plannable, request: PlanRequest) -> Step:
    settings = request.settings.get(manifest.id)
    return Step(
        id=manifest.id,
        plugin=manifest.id,
        version=manifest.version,
        lane=manifest.lane,
        needs=_sorted_ids(manifest.step_needs),
        tolerates=_sorted_ids(manifest.tolerates),
        feeds=_sorted_ids(manifest.feeds),
        priority=request.priorities.get(manifest.id, PRIORITY_DEFAULT),
        lock_sha256=manifest.lock_sha256,
        settings_sha256=address_of(canonical_bytes(dict(settings), floats=True)) if settings else "",
    )


def _sorted_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    return ids if len(ids) < 2 else tuple(sorted(set(ids)))


def _arrange(pack: str, steps: Sequence[Step], seed: int, mode: str) -> Plan:
    by_id: dict[str, Step] = {}
    for step in steps:
        if step.id in by_id:
            raise PlanDuplicateStep(f"expected each id once, found {step.id!r} twice")
        by_id[step.id] = step
    _refuse_unknown(by_id)
    _refuse_laneless(by_id)
    edges = _edges(by_id, mode)
    ordered = _kahn(by_id)
    lanes = {lane: tuple(step.id for step in ordered if step.lane == lane) for lane in LANES}
    sha256 = address_of(_plan_bytes(_body(pack, ordered, edges, mode, seed), ordered))
    return Plan(pack, ordered, edges, lanes, mode, seed, sha256)


def _body(pack: str, steps: Iterable[Step], edges: Iterable[Edge], mode: str, seed: int) -> dict[str, Any]:
    return {
        "edges": [{"after": edge.after, "before": edge.before, "tag": edge.tag} for edge in edges],
        "lane_policy": LANE_POLICY_VERSION,
        "mode": mode,
        "pack": pack,
        "seed": seed,
        "steps": [step.as_json() for step in steps],
    }


def _plan_bytes(body: dict[str, Any], steps: Iterable[Step]) -> bytes:
    """The canonical bytes of a plan, quickly where the standard encoder is known to give the same.

    A plan holds only text and integers; for ASCII text and integers that every
    JSON reader keeps, sorted keys and no spaces are all that RFC 8785 asks for.
    """
    numbers = [body["seed"], *(step.priority for step in steps)]
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if text.isascii() and all(type(number) is int and abs(number) < 2**53 for number in numbers):
        return text.encode("ascii")
    return canonical_bytes(body)


def _refuse_unknown(by_id: Mapping[str, Step]) -> None:
    missing = sorted((need, step.id) for step in by_id.values() for need in step.needs if need not in by_id)
    if missing:
        text = ", ".join(f"{need} (needed by {step})" for need, step in missing)
        raise PlanUnknownNeed(f"expected every need in the plan, found none for {text}", missing)


def _refuse_laneless(by_id: Mapping[str, Step]) -> None:
    bad = sorted(step.id for step in by_id.values() if step.lane not in _LANE_RANK)
    if bad:
        raise PlanLaneMissing(
            f"expected a lane of {', '.join(LANES)} for every step, found none for {', '.join(bad)}"
        )


def _edges(by_id: Mapping[str, Step], mode: str) -> tuple[Edge, ...]:
    edges: list[Edge] = []
    crossing: list[tuple[str, str]] = []
    for step_id in sorted(by_id):
        step = by_id[step_id]
        for need in step.needs:
            crosses = step.lane == "decision" and by_id[need].lane == "explanation"
            edges.append(Edge(need, step_id, "cross-lane" if crosses else ""))
            if crosses:
                crossing.append((need, step_id))
    if crossing and mode == "two_lane_strict":
        text = ", ".join(f"{before} -> {after}" for before, after in sorted(crossing))
        raise PlanCrossLane(
            f"expected no decision step that needs an explanation step, found {text}", sorted(crossing)
        )
    return tuple(sorted(edges, key=lambda edge: (edge.before, edge.after)))


def _kahn(by_id: Mapping[str, Step]) -> tuple[Step, ...]:
    waiting = {step.id: len(step.needs) for step in by_id.values()}
    followers: dict[str, list[str]] = {step_id: [] for step_id in by_id}
    for step in by_id.values():
        for need in step.needs:
            followers[need].append(step.id)
    ready = [_rank(by_id[step_id]) for step_id, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered: list[Step] = []
    while ready:
        step_id = heapq.heappop(ready)[2]
        ordered.append(by_id[step_id])
        for follower in followers[step_id]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, _rank(by_id[follower]))
    if len(ordered) < len(by_id):
        _refuse_cycle({step_id for step_id, count in waiting.items() if count > 0}, followers)
    return tuple(ordered)


def _rank(step: Step) -> tuple[int, int, str]:
    return (_LANE_RANK[step.lane], step.priority, step.id)


def _refuse_cycle(left: set[str], followers: Mapping[str, Sequence[str]]) -> None:
    edges = sorted((before, after) for before in left for after in followers[before] if after in left)
    after_of: dict[str, list[str]] = {step_id: [] for step_id in left}
    for before, after in edges:
        after_of[before].append(after)
    best: list[str] | None = None
    for start in sorted(left):
        found = _shortest_cycle_from(start, after_of)
        if found is not None and (best is None or (len(found), found) < (len(best), best)):
            best = found
    assert best is not None, "steps remain only when a cycle holds them"
    raise PlanCycle(best, edges)


def _shortest_cycle_from(start: str, after_of: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The shortest cycle through `start` in which it is the smallest id, by breadth-first search."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for following in after_of[here]:
            if following == start:
                path = [here]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if following > start and following not in came_from:
                came_from[following] = here
                queue.append(following)
    return None
