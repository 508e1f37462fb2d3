"""Files the runner could not load: labels against the baseline, and groups by cause.

One absent module often explains most of the broken files, so groups are ordered
by the shallowest missing module first, and a module that is missing itself
takes in what is missing below it.

Pure: collectors in, labels and groups out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.packs.ci.facts import Collector

__all__ = ["CollectGroup", "explain_groups", "group_by_cause", "label_of"]

_MODULE = "missing-module "


@dataclass(frozen=True, slots=True)
class CollectGroup:
    """Collectors that failed for one cause."""

    cause: str
    names: tuple[str, ...]

    def as_json(self) -> dict[str, Json]:
        return {"cause": self.cause, "collectors": list(self.names)}


def label_of(name: str, found: Collector, base: Mapping[str, Collector]) -> str:
    """`new`, `changed` (broken before, for another reason) or `debt` (the same as in the baseline)."""
    known = base.get(name)
    if known is None:
        return "new"
    return "debt" if known.signature and known.signature == found.signature else "changed"


def group_by_cause(collectors: Mapping[str, Collector]) -> tuple[CollectGroup, ...]:
    """Groups of collectors by cause, the shallowest missing module first, then the largest group."""
    missing = {found.cause.removeprefix(_MODULE) for found in collectors.values() if _is_missing(found.cause)}
    groups: dict[str, list[str]] = {}
    for name in sorted(collectors):
        groups.setdefault(_root_cause(collectors[name].cause, missing), []).append(name)
    ordered = sorted(groups.items(), key=lambda pair: (_depth(pair[0]), -len(pair[1]), pair[0]))
    return tuple(CollectGroup(cause, tuple(names)) for cause, names in ordered)


def explain_groups(groups: tuple[CollectGroup, ...]) -> str:
    """One sentence on what is behind the broken files; empty if nothing is broken."""
    total = sum(len(group.names) for group in groups)
    if not total:
        return ""
    if total == 1:
        return f"{groups[0].names[0]} could not be loaded: {groups[0].cause or 'cause unknown'}."
    largest = max(groups, key=lambda group: len(group.names))
    share = "all" if len(largest.names) == total else f"{len(largest.names)}"
    cause = largest.cause or "an unknown cause"
    return f"{total} files could not be loaded; {cause} explains {share} of them."


def _is_missing(cause: str) -> bool:
    return cause.startswith(_MODULE)


def _root_cause(cause: str, missing: set[str]) -> str:
    """The shallowest module that is missing itself and holds this one."""
    if not _is_missing(cause):
        return cause
    parts = cause.removeprefix(_MODULE).split(".")
    above = (".".join(parts[:cut]) for cut in range(1, len(parts) + 1))
    return _MODULE + next(name for name in above if name in missing)


def _depth(cause: str) -> int:
    return cause.count(".") if _is_missing(cause) else 1_000
