"""Checking a run again: every figure of its report is computed anew from the stored bytes.

Four layers. The files: source, tables, exceptions, rejects, registry and report
files are hashed. The evidence: every finding's query and every figure's query
is executed and must give the stored value, bit for bit. The words: every claim
must be its kind's sentence over that value. The report: its body must hash to
what was recorded, show the findings of the ledger, and repeat the mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sterling.kernel.canonical import Json, parse_strict
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.records import Record
from sterling.packs.insight.codes import Reason
from sterling.packs.insight.engine import sealed
from sterling.packs.insight.evidence import reexecute, row_of
from sterling.packs.insight.figures import exception_counts
from sterling.packs.insight.kinds import claim_of
from sterling.packs.insight.report.copies import check_copies
from sterling.packs.insight.report.files import body_hash
from sterling.packs.insight.table import Stored
from sterling.runtime.runs import read_run

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Rechecked", "recheck"]

_KINDS = ("source", "table", "mapping", "registry", "finding", "report")
_WHYS = {"changed": "spelled", "blank": "blank", "missing_word": "missing-word", "unparsed": "unparsed"}


@dataclass(slots=True)
class Rechecked:
    """How many things were checked, and what did not hold, in the order it was met."""

    checked: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, what: str, problem: str = "") -> None:
        """Count one check; `problem` is empty when it held."""
        self.checked += 1
        if problem:
            self.problems.append(f"{Reason.EVIDENCE_MISMATCH}: {what}: {problem}")


def recheck(home: Home, run_id: str) -> Rechecked:
    """Check everything that a run of this pack claims. Writes nothing.

    Errors: run.unknown.
    """
    import duckdb

    found = Rechecked()
    records = _records(home, read_run(home, run_id).id, found)
    if not all(records[name] for name in ("source", "table", "mapping", "registry", "report")):
        found.note("the run", "expected records of its table and its report, found not all of them")
        return found
    source, table, mapping = (records[name][0].document for name in ("source", "table", "mapping"))
    stored = Stored(
        source["blob"],
        source["size_bytes"],
        source["rejects"],
        table["raw"],
        table["normalized"],
        mapping["exceptions"],
    )
    _check_blobs(home, stored, records, found)
    for what, problem in check_copies(home, run_id):
        found.note(what, problem)
    report = _report(home, records["report"][0].document, found)
    try:
        with sealed(stored.paths(home)) as connection:
            _check_findings(connection, records["finding"], found)
            if report is not None:
                _check_figures(connection, report["body"], found)
                _check_mapping(connection, mapping, report["body"], found)
    except duckdb.Error as problem:
        found.note("the stored tables", f"they cannot be read: {str(problem).splitlines()[0][:200]}")
    if report is not None:
        _check_report(report, records, found)
    return found


def _records(home: Home, run: str, found: Rechecked) -> dict[str, list[Record]]:
    """The run's records by kind; one that does not hash to its id is a problem, not a crash."""
    records: dict[str, list[Record]] = {name: [] for name in _KINDS}
    for kind in ("record.put", "record.again"):
        for entry in home.ledger.read(kind=kind, run=run):
            name = str(entry.payload["contract"]).partition("@")[0].removeprefix("insight.")
            if name not in records:
                continue
            what = f"record {entry.payload['id']}"
            try:
                records[name].append(home.records.get(str(entry.payload["id"])))
                found.note(what)
            except SterlingError as problem:
                found.note(what, problem.message)
    return records


def _check_blobs(home: Home, stored: Stored, records: Mapping[str, list[Record]], found: Rechecked) -> None:
    named = {
        "the source": stored.source,
        "the rejects": stored.rejects,
        "the raw table": stored.raw,
        "the normalized table": stored.normalized,
        "the exceptions": stored.exceptions,
        "the registry": records["registry"][0].document["blob"],
    }
    for file in records["report"][0].document["files"]:
        named[str(file["name"])] = str(file["blob"])
    for what, address in named.items():
        verdict = home.blobs.quick_check(address)
        words = f"expected the bytes of blob {address[:12]}, found it {verdict}"
        found.note(what, "" if verdict == "ok" else words)


def _report(home: Home, record: Mapping[str, Json], found: Rechecked) -> Mapping[str, Json] | None:
    """report.json as stored, when its bytes can be trusted to be what was written."""
    address = next(str(file["blob"]) for file in record["files"] if file["name"] == "report.json")
    try:
        data = home.blobs.get(address)
        report: Mapping[str, Json] = parse_strict(data, limit=len(data))
    except SterlingError:
        return None  # The blob check has said so already.
    again = body_hash(report["body"])
    same = again == report["body_sha256"] == record["body_sha256"]
    words = f"expected {record['body_sha256'][:12]}, found {again[:12]}"
    found.note("the body of report.json", "" if same else words)
    return report


def _check_findings(connection: DuckDBPyConnection, records: list[Record], found: Rechecked) -> None:
    for record in records:
        document = record.document
        what = f"finding {record.id} ({document['kind']} of {', '.join(document['target'])[:80]})"
        found.note(what, reexecute(connection, document["evidence"]) or _claim_problem(document))


def _claim_problem(document: Mapping[str, Json]) -> str:
    try:
        claim = claim_of(document["kind"], row_of(document["evidence"]), document["names"])
    except (KeyError, ValueError) as problem:
        return f"its sentence cannot be filled: {problem}"
    return "" if claim == document["claim"] else f"expected the claim {claim!r}, found {document['claim']!r}"


def _check_figures(connection: DuckDBPyConnection, body: Mapping[str, Json], found: Rechecked) -> None:
    for row in body["figures"]:
        problem = reexecute(connection, row["evidence"])
        if not problem and row["evidence"]["value"][0][0] != row["value"]:
            problem = f"expected {row['evidence']['value'][0][0]}, found {row['value']}"
        found.note(f"figure {row['id']}", problem)
    for row in body["rejects"]:
        problem = reexecute(connection, row["evidence"])
        if not problem and row["evidence"]["value"][0] != [row["rows"], row["first_lines"]]:
            problem = "the figures shown are not those of its evidence"
        found.note(f"rejected rows, {row['reason']}", problem)


def _check_mapping(
    connection: DuckDBPyConnection, mapping: Mapping[str, Json], body: Mapping[str, Json], found: Rechecked
) -> None:
    """What mapping and report say of exceptions is what the exceptions file holds."""
    counts = exception_counts(connection)
    shown = {row["name"]: row for row in body["mapping"]}
    for column in mapping["columns"]:
        name = column["target"]
        expected = {part: counts.get((name, why), 0) for part, why in _WHYS.items()}
        told = {part: column[part] for part in _WHYS}
        also = {part: shown[name][part] for part in _WHYS} if name in shown else {}
        words = f"expected {expected}, found {told} and {also}"
        found.note(f"mapping of {name}", "" if expected == told == also else words)


def _check_report(report: Mapping[str, Json], records: Mapping[str, list[Record]], found: Rechecked) -> None:
    """The report shows the findings of the ledger, all of them, as they stand there."""
    body = report["body"]
    known = {record.id: record for record in records["finding"]}
    for row in _shown(body):
        record = known.get(row["record"])
        what = f"finding {row['record']} of the report"
        if record is None:
            found.note(what, "expected it in the ledger, found none")
            continue
        same = record.hash == row["record_hash"] and all(
            record.document[part] == row[part] for part in ("claim", "evidence", "id")
        )
        found.note(what, "" if same else "it differs from the ledger")
    left_out = body["findings_left_out"] + body["profiles_left_out"]
    told = len(body["findings"]) + len(body["profiles"]) + left_out
    words = f"expected {len(known)} findings, found {told}"
    found.note("the number of findings", "" if len(known) == told else words)
    tests, tried = records["registry"][0].document["tests"], body["registry"]["tests"]
    found.note("the number of hypotheses", "" if tests == tried else f"expected {tests}, found {tried}")


def _shown(body: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    yield from body["findings"]
    yield from body["profiles"]
