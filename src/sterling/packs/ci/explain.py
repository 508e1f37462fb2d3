"""Why a decision was what it was: from the ledger and its blobs, nothing else.

The checkout and the reports may be gone. Every record and blob the decision came
from is verified again on the way, and what no longer verifies is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Record
from sterling.packs.ci.decision import case_of_decision
from sterling.packs.ci.delta import KINDS
from sterling.packs.ci.evidence import load_delta_states, load_facts, read_blob_json
from sterling.packs.ci.exits import ProcessEnd
from sterling.packs.ci.facts import clean_text
from sterling.packs.ci.ingest import ingest_blobs
from sterling.packs.ci.verdict import judge

__all__ = [
    "STATES_SHOWN_MAX",
    "DecisionUnknown",
    "Explanation",
    "Recheck",
    "explain",
    "recheck",
    "states_shown",
]

STATES_SHOWN_MAX = 10_000
_KEPT = (
    *("verdict", "exit", "reasons", "warnings", "gates", "severity", "counts", "hint"),
    *("baseline", "head", "tally", "exit_class", "rule", "delta", "notes"),
)
# Faults that came from the files' times and kinds, which a blob does not keep.
_NOT_IN_BYTES = frozenset({"ci.report-stale", "ci.report-unknown"})


class DecisionUnknown(SterlingError):
    """No decision has this id."""

    code = "decision.unknown"
    hint = "`sterling ci verdict` prints the id; a run's id works too: `sterling run list`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision as recorded, its delta's states, and what was verified on the way."""

    record: Record
    states: Mapping[str, str]
    delta: Mapping[str, Json]
    checked: int
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Json]:
        document = self.record.document
        return {
            **{name: document[name] for name in _KEPT},
            "decision": self.record.id,
            "run": self.record.run,
            "at_us": self.record.at_us,
            "approved_by": list(document["overrides"]),
            "states": dict(self.states),
            "checked": self.checked,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class Recheck:
    """How many claims of a run were made again from their bytes, and which came out otherwise."""

    checked: int
    problems: tuple[str, ...]


def explain(home: Home, name: str) -> Explanation:
    """The decision with this id, or the newest one of the run with this id.

    Errors: DecisionUnknown, integrity.record-altered for the decision itself.
    """
    record = _find(home, name)
    checked, problems = _verify_closure(home, record)
    delta: Mapping[str, Json] = {}
    states: Mapping[str, str] = {}
    try:
        found = home.records.get(record.document["delta"])
        delta, states = found.document, states_shown(load_delta_states(home, found))
    except SterlingError as problem:
        problems.append(f"{problem.code}: {problem.message}")
    return Explanation(record, states, delta, checked, tuple(dict.fromkeys(problems)))


def recheck(home: Home, run_id: str) -> Recheck:
    """Read every report of a run again from its bytes, and judge every decision again.

    A reading or a verdict that comes out otherwise is a problem; so is evidence
    that no longer verifies.
    """
    checked, problems = 0, []
    for entry in home.ledger.read(kind="record.put", run=run_id):
        contract, name = str(entry.payload["contract"]).partition("@")[0], str(entry.payload["id"])
        again = {"ci.facts": _facts_again, "ci.decision": _decision_again}.get(contract)
        checked += 1
        try:
            problems += [] if again is None else again(home, home.records.get(name))
            if again is None:
                home.records.get(name)
        except SterlingError as problem:
            problems.append(f"{contract} {name}: {problem.code}: {problem.message}")
    return Recheck(checked, tuple(problems))


def states_shown(states: Mapping[str, Json]) -> dict[str, str]:
    """State by id, all but `same`; nothing above ten thousand, where the record of the delta has them."""
    if len(states) > STATES_SHOWN_MAX:
        return {}
    return {name: str(found["state"]) for name, found in sorted(states.items())}


def noteworthy(states: Mapping[str, str], limit: int = 5) -> list[str]:
    """The lines that matter most in a delta: what blocks, then what warns, then what was mended."""
    order = {state: place for place, state in enumerate(KINDS)}
    ranked = sorted(states.items(), key=lambda pair: (order[pair[1]], pair[0]))
    lines = [f"{state.replace('_', ' ')}: {name}" for name, state in ranked if state != "new_pass"]
    if len(lines) > limit:
        lines[limit - 1 :] = [f"and {len(lines) - limit + 1} more"]
    return lines


def _find(home: Home, name: str) -> Record:
    if name and home.records.has(name):
        record = home.records.get(name)
        if record.contract.startswith("ci.decision@"):
            return record
        raise DecisionUnknown(f"expected a decision, found a record of {record.contract}", id=name)
    matching = [
        entry
        for entry in home.ledger.read(kind="record.put", contract="ci.decision")
        if name and (entry.run.startswith(name) or str(entry.payload["id"]).startswith(name))
    ]
    runs = {entry.run for entry in matching}
    if not matching or len(runs) > 1:
        found = "none" if not matching else f"{len(matching)}"
        raise DecisionUnknown(f"expected one decision with id {clean_text(name)!r}, found {found}", id=name)
    return home.records.get(str(matching[-1].payload["id"]))


def _verify_closure(home: Home, record: Record) -> tuple[int, list[str]]:
    checked = 0
    problems: list[str] = []
    for item in _closure(home, record, problems):
        checked += 1
        for source in item.sources:
            if source.blob:
                checked += 1
                state = home.blobs.quick_check(source.blob)
                if state != "ok":
                    problems.append(f"blob.{state}: {source.role} of {item.id} at {source.blob}")
    return checked, problems


def _closure(home: Home, record: Record, problems: list[str]) -> Iterator[Record]:
    """The record and everything it came from; what cannot be read becomes a problem and the walk goes on."""
    waiting, seen = [record.id], {record.id}
    while waiting:
        try:
            found = home.records.get(waiting.pop(0))
        except SterlingError as problem:
            problems.append(f"{problem.code}: {problem.message}")
            continue
        yield found
        near = [source.record for source in found.sources if source.record and source.record not in seen]
        seen.update(near)
        waiting.extend(near)


def _facts_again(home: Home, record: Record) -> list[str]:
    document = record.document
    given, kept = document["reading"], load_facts(home, record.id)
    end = None if given["end"] is None else ProcessEnd(**given["end"])
    again = ingest_blobs(
        [(source["name"], source["blob"]) for source in document["sources"]],
        blobs=home.blobs,
        listing=read_blob_json(home, given["paths"]),
        end=end,
        runner=given["runner"],
        root=given["root"],
    )
    if again.results_json() != kept.results_json():
        return [f"ci.facts {record.id}: the reports read otherwise now"]
    if kept.fault in _NOT_IN_BYTES:
        return []
    same = (again.fault, again.gate_hash, again.core_hash) == (kept.fault, kept.gate_hash, kept.core_hash)
    return [] if same else [f"ci.facts {record.id}: the hashes come out otherwise now"]


def _decision_again(home: Home, record: Record) -> list[str]:
    case, policy = case_of_decision(home, record)
    verdict = judge(case, policy).as_json()
    kept = {name: record.document[name] for name in verdict}
    differing = sorted(name for name in verdict if verdict[name] != kept[name])
    return [f"ci.decision {record.id}: {', '.join(differing)} come out otherwise now"] if differing else []
