"""JUnit XML, as pytest and unittest-style writers make it.

A report that stops early or is not well formed is `ci.report-torn`: what was read
is kept for people and carries no verdict. Counts in the header are never used;
the cases are. `junit_xml.py` reads the stream.

JUnit does not hold an exit status, and pytest writes an unexpected pass as a
pass, so those facets are absent here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import BinaryIO

from defusedxml.common import DefusedXmlException

from sterling.packs.ci.facts import (
    ABSENT,
    COMPLETE,
    FAILING,
    OUTCOMES,
    PARTIAL,
    Collector,
    Reading,
    Result,
    excerpt,
    fold,
    worst,
)
from sterling.packs.ci.identity import PathMap, Placed, id_of_test, normal_path
from sterling.packs.ci.reports.junit_xml import (
    DEPTH_MAX,
    Found,
    RawCase,
    RawReport,
    ReportTorn,
    TooDeep,
    parse_report,
)
from sterling.packs.ci.signature import cause_of, read_failure, signature_of

__all__ = ["read_junit"]

_XFAIL_TYPES = frozenset({"pytest.xfail", "XFAIL", "expectedFailure"})
_STAMPED_SUITE = re.compile(r"-\d{14}$")
_SUBTEST = re.compile(r"^(?P<name>\w+)(?: \[.*\])?(?: \(.*\))?$", re.DOTALL)
_NOT_LOADED = "unittest.loader._FailedTest"
_ENTITIES = "The XML declares a document type or an entity, which no test runner writes."
_DEEP = f"The XML nests deeper than {DEPTH_MAX} levels."


def read_junit(stream: BinaryIO, paths: PathMap, *, runner: str = "", root: str = "") -> Reading:
    """What one JUnit report states.

    `runner` overrides the dialect told from the file. The stream must be
    seekable: a report with control bytes or in Latin-1 is read a second time.
    """
    try:
        report, note = parse_report(stream)
    except DefusedXmlException:
        return _fault("ci.report-hostile", _ENTITIES)
    except TooDeep:
        return _fault("ci.report-hostile", _DEEP)
    except ReportTorn as torn:
        return _torn(torn, paths)
    if not report.is_junit:
        because = f"The XML root is <{report.root[:40]}>, not <testsuites> or <testsuite>."
        return _fault("ci.report-unknown", because)
    return _reading(report, paths, runner=runner, root=root, notes=[note] if note else [])


def _fault(code: str, because: str) -> Reading:
    return Reading("junit", "", None, {}, {}, {}, fault=code, because=because)


def _torn(torn: ReportTorn, paths: PathMap) -> Reading:
    because = (
        f"The XML ends early or is not well formed at line {torn.line}; what was read carries no verdict."
    )
    if not torn.partial.is_junit:
        return _fault("ci.report-torn", because)
    read = _reading(torn.partial, paths, runner="", root="", notes=[])
    kept = {name: PARTIAL for name, state in read.facets.items() if state == COMPLETE}
    tests, collectors = read.tests, read.collectors
    return Reading("junit", read.runner, None, tests, collectors, kept, read.notes, "ci.report-torn", because)


def _reading(report: RawReport, paths: PathMap, *, runner: str, root: str, notes: list[str]) -> Reading:
    dialect = runner or _dialect(report)
    tests: dict[str, Result] = {}
    collectors: dict[str, Collector] = {}
    names = _Names(paths, dialect)
    for (classname, name, file), case in report.cases.items():
        if collector := _collector_name(dialect, classname, name, case, paths):
            failed = [entry for entry in case.found if entry[0] in ("error", "failure")]
            if failed:
                collectors[collector] = _collector(failed[-1], root)
            else:
                notes.append(f"{collector}: collection skipped")
            continue
        identity, result = names.of(classname, name, file), _result(case, root)
        known = tests.get(identity)
        tests[identity] = result if known is None else fold(known, result)
    signed = all(result.signature for result in tests.values() if result.outcome in FAILING)
    _add_plain(report, names, tests)
    if names.unsure and dialect != "generic":
        notes.append(
            f"{names.unsure} ids were split into file and class by guess: no list of files settled them."
        )
    notes += _header_notes(report)
    facets = _facets(dialect, signed=signed and all(found.signature for found in collectors.values()))
    return Reading("junit", dialect, None, tests, collectors, facets, tuple(notes))


class _Names:
    """Ids from raw names; the part before a test's own name is worked out once a class."""

    def __init__(self, paths: PathMap, dialect: str) -> None:
        self._paths, self._dialect = paths, dialect
        self._prefixes: dict[tuple[str, str], tuple[str, bool]] = {}
        self.unsure = 0

    def of(self, classname: str, name: str, file: str) -> str:
        prefix, sure = self._prefixes.get((classname, file)) or self._prefix(classname, file)
        self.unsure += not sure
        if self._dialect == "unittest" and (inner := _SUBTEST.match(name)):
            name = inner["name"]
        if name and name.isascii():
            return prefix + name
        return id_of_test(prefix.removesuffix("::"), (), name)

    def is_settled(self, classname: str) -> bool:
        """Whether every test of a class is its prefix and its name, with no guess in it."""
        return self._dialect != "unittest" and self._prefixes.get((classname, ""), ("", False))[1]

    def prefix(self, classname: str) -> str:
        """What stands before the names of a class that is settled."""
        return self._prefixes[classname, ""][0]

    def _prefix(self, classname: str, file: str) -> tuple[str, bool]:
        placed = _place(classname, file, self._paths, self._dialect)
        text = id_of_test(placed.path, placed.inside, "")
        self._prefixes[classname, file] = (f"{text}::" if text else "", placed.sure)
        return self._prefixes[classname, file]


def _add_plain(report: RawReport, names: _Names, tests: dict[str, Result]) -> None:
    """Add the cases that simply passed. Equal results are one object: most of a suite shares a few."""
    passed: dict[str, Result] = {}
    settled: dict[str, str] = {}
    for attributes in report.plain:
        read = attributes.get
        classname, name, time = read("classname", ""), read("name", ""), read("time", "")
        result = passed.get(time)
        if result is None:
            result = passed[time] = Result("passed", duration_us=_microseconds(time))
        prefix = settled.get(classname)
        if prefix is not None and name.isascii() and name and "file" not in attributes:
            identity = prefix + name
        else:
            identity = names.of(classname, name, read("file", ""))
            if names.is_settled(classname):
                settled[classname] = names.prefix(classname)
        if identity in tests:
            tests[identity] = fold(tests[identity], result)
        else:
            tests[identity] = result


def _dialect(report: RawReport) -> str:
    names = report.suite_names
    if any(name in ("pytest", "pytest tests") for name in names):
        return "pytest"
    for (classname, _, _), case in report.cases.items():
        if classname == _NOT_LOADED:
            return "unittest"
        if any(kind.startswith("pytest.") for _, kind, _, _ in case.found):
            return "pytest"
        if not classname and any(message.startswith("collection ") for _, _, message, _ in case.found):
            return "pytest"
    return "unittest" if any(_STAMPED_SUITE.search(name) for name in names) else "generic"


def _collector_name(dialect: str, classname: str, name: str, case: RawCase, paths: PathMap) -> str:
    """The file or package this case stands for, if it is no test but a place that did not load."""
    if dialect == "unittest" and classname == _NOT_LOADED:
        return paths.place(name, whole=True).path
    stands_for_file = any(message.startswith("collection ") for _, _, message, _ in case.found)
    if dialect == "pytest" and not classname and stands_for_file:
        return paths.place(name, whole=True).path
    return ""


def _place(classname: str, file: str, paths: PathMap, dialect: str) -> Placed:
    if dialect == "generic":
        suite = tuple(part for part in (normal_path(classname),) if part)
        return Placed(normal_path(file), suite, sure=bool(file))
    placed = paths.place(classname)
    if placed.sure or not file or file.startswith("/"):
        return placed
    path = normal_path(file)
    prefix = path.removesuffix(".py").replace("/", ".")
    inside = classname.removeprefix(prefix).strip(".") if classname.startswith(prefix) else ""
    return Placed(path, tuple(part for part in inside.split(".") if part), sure=True)


def _result(case: RawCase, root: str) -> Result:
    outcomes = [_outcome(element, kind) for element, kind, _, _ in case.found] or ["passed"]
    outcome = worst(outcomes)
    listed = tuple(sorted(outcomes, key=OUTCOMES.index)) if len(outcomes) > 1 else ()
    duration = _total(case.times)
    last = next((entry for entry in reversed(case.found) if _outcome(entry[0], entry[1]) == outcome), None)
    if last is None:
        return Result(outcome, duration_us=duration, attempts=case.attempts, occurrences=listed)
    message, text = last[2], last[3]
    shown = excerpt(message or text)
    if outcome not in FAILING:
        return Result(outcome, "", "", shown, duration, case.attempts, listed)
    signature, cause = _signed(text, message, root)
    return Result(outcome, signature, cause, shown, duration, case.attempts, listed)


def _outcome(element: str, kind: str) -> str:
    if element == "skipped":
        return "xfailed" if kind in _XFAIL_TYPES else "skipped"
    return "failed" if element == "failure" or kind == "UnexpectedSuccess" else "error"


def _signed(text: str, message: str, root: str) -> tuple[str, str]:
    if not text.strip() and not message.strip():
        return "", ""
    failure = read_failure(text, message)
    return signature_of(failure, root), cause_of(failure)


def _collector(entry: Found, root: str) -> Collector:
    _, _, message, text = entry
    signature, cause = _signed(text, "" if message.startswith("collection ") else message, root)
    shown = read_failure(text)
    return Collector(signature, cause, excerpt(f"{shown.exception}: {shown.message}".strip(": ")))


def _total(times: Iterable[str]) -> int | None:
    known = [spent for text in times if (spent := _microseconds(text)) is not None]
    return sum(known) if known else None


def _facets(dialect: str, *, signed: bool) -> dict[str, str]:
    return {
        "exit": ABSENT,
        "tally": COMPLETE,
        "failing_ids": COMPLETE,
        "all_ids": COMPLETE,
        "collectors": ABSENT if dialect == "generic" else COMPLETE,
        "skip_ids": COMPLETE,
        "xpass": COMPLETE if dialect == "unittest" else ABSENT,
        "signatures": COMPLETE if signed else PARTIAL,
    }


def _header_notes(report: RawReport) -> list[str]:
    notes: list[str] = []
    for column, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        said, listed = report.header.get(column), report.elements.get(element, 0)
        if said is not None and said != listed:
            notes.append(f"The header says {said} {column}, the cases list {listed}; the cases count.")
    return notes


def _microseconds(text: str) -> int | None:
    try:
        seconds = float(text.replace(",", ""))
    except ValueError:
        return None
    return int(seconds * 1_000_000) if math.isfinite(seconds) and 0 <= seconds < 1e9 else None
