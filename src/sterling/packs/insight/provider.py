"""Inside the worker: builds what a plugin's `run` names, from the inputs the pipeline sent.

`table` is the access proxy, `registry` registers facts and makes findings from
them, `windows` names the windows (only `all` exists until roles are known).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import Json
from sterling.packs.insight.access import ColumnView, TableAccess
from sterling.packs.insight.codes import Reason, sentence
from sterling.packs.insight.engine import sealed
from sterling.packs.insight.evidence import TABLE_VIEW, row_of
from sterling.packs.insight.journal import Journal
from sterling.packs.insight.kinds import claim_of
from sterling.packs.insight.registry import Hypothesis
from sterling.runtime.plugin_api import Finding, Na, Ok

__all__ = ["FactRegistry", "provide"]

_INLINE_BYTES_MAX = 512 * 1024  # Above this, findings go through the journal and not through a message.
_open = ExitStack()  # One task a process: what is opened here ends with it.


class FactRegistry:
    """The injected `registry`: names a fact before it is computed, and makes findings of it."""

    def __init__(self, plugin: str, journal: Journal) -> None:
        self._plugin, self._journal = plugin, journal

    def fact(self, estimand: str, *, target: Sequence[str], unit: str, direction: str = "two-sided") -> str:
        """Register an exact fact and give its id."""
        key = Hypothesis(self._plugin, tuple(target), estimand, unit, direction=direction)
        self._journal.write("registered", id=key.id, key=key.document())
        return key.id

    def finding(
        self, kind: str, hypothesis: str, evidence: Mapping[str, Json], names: Mapping[str, str]
    ) -> Finding:
        """A finding whose claim is its kind's sentence over the evidence and these names."""
        row = row_of(evidence)
        claim = claim_of(kind, row, names)
        return Finding(kind, claim, evidence, {"hypothesis": hypothesis, "names": dict(names)})

    def nothing(self, reason: str, **facts: object) -> Na:
        """`Na` for a reason of the pack's table, with its sentence filled in."""
        return Na(reason, sentence(Reason(reason), **facts))

    def outcome(self, findings: Sequence[Finding], metrics: Mapping[str, int | str]) -> Ok:
        """`Ok` with these findings; the ones that do not fit into a message go to the journal."""
        inline: list[Finding] = []
        size = 0
        for finding in findings:
            document = {
                "kind": finding.kind,
                "claim": finding.claim,
                "evidence": dict(finding.evidence),
                "values": dict(finding.values),
            }
            size += len(json.dumps(document))
            if size <= _INLINE_BYTES_MAX:
                inline.append(finding)
            else:
                self._journal.write("finding", finding=document)
        return Ok(inline, metrics=metrics)


def provide(inputs: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, object]:
    """The arguments that a plugin's `run` names."""
    step = inputs["step"]
    journal = Journal(Path(inputs["journal"]))
    columns = [ColumnView(**column) for column in inputs["columns"]]
    connection = _open.enter_context(
        sealed({TABLE_VIEW: Path(inputs["normalized"])}, memory_bytes=int(inputs["memory_bytes"]))
    )
    given: dict[str, object] = {
        "table": TableAccess(
            connection,
            journal,
            declared=step["own"].get("table", []),
            columns=columns,
            row_count=int(inputs["rows"]),
        ),
        "registry": FactRegistry(str(step["plugin"]), journal),
        "windows": ("all",),
    }
    return {name: given[name] for name in names if name in given}
