"""JUnit XML, as pytest and unittest-style writers make it, read as a stream.

The parser refuses document types, entities and more than 100 levels. A report
that stops early or is not well formed is `ci.report-torn`: what was read is
kept for people and carries no verdict. Counts in the header are never used; the
cases are.

JUnit does not hold an exit status, and pytest writes an unexpected pass as a
pass, so those facets are absent here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

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
from sterling.packs.ci.signature import cause_of, read_failure, signature_of

__all__ = ["DEPTH_MAX", "read_junit"]

DEPTH_MAX = 100

_PIECE_BYTES = 256 * 1024
_TEXT_LETTERS_MAX = 1024 * 1024
_RESULTS = frozenset({"failure", "error", "skipped"})
_XFAIL_TYPES = frozenset({"pytest.xfail", "XFAIL", "expectedFailure"})
_STATUS_WORDS = {
    "notrun": "skipped",
    "disabled": "skipped",
    "skipped": "skipped",
    "ignored": "skipped",
    "fail": "failed",
    "failed": "failed",
    "error": "error",
}
_CONTROL_BYTES = bytes(code for code in range(32) if code not in (9, 10, 13))
_STAMPED_SUITE = re.compile(r"-\d{14}$")
_SUBTEST = re.compile(r"^(?P<name>\w+)(?: \[.*\])?(?: \(.*\))?$", re.DOTALL)
_NOT_LOADED = "unittest.loader._FailedTest"


def read_junit(stream: BinaryIO, paths: PathMap, *, runner: str = "", root: str = "") -> Reading:
    """What one JUnit report states.

    `runner` overrides the dialect told from the file. The stream must be
    seekable: a report with control bytes or in Latin-1 is read a second time.
    """
    notes: list[str] = []
    try:
        report = _parse(_pieces(stream))
    except DefusedXmlException:
        return _fault(
            "ci.report-hostile", "The XML declares a document type or an entity, which no test runner writes."
        )
    except _TooDeep:
        return _fault("ci.report-hostile", f"The XML nests deeper than {DEPTH_MAX} levels.")
    except SAXParseException as problem:
        stream.seek(0)
        cleaned = _parse_cleaned(stream)
        if cleaned is None:
            partial = (
                problem.args[1] if len(problem.args) > 1 and isinstance(problem.args[1], _Report) else None
            )
            return _torn(partial, paths, problem)
        report, note = cleaned
        notes.append(note)
    if not report.is_junit:
        return _fault(
            "ci.report-unknown", f"The XML root is <{report.root[:40]}>, not <testsuites> or <testsuite>."
        )
    return _reading(report, paths, runner=runner, root=root, notes=notes)


class _TooDeep(Exception):
    """More levels than a report has."""


@dataclass(slots=True)
class _Case:
    """One or more test cases under one raw name."""

    found: list[tuple[str, str, str, str]] = field(default_factory=list)  # element, type, message, text
    cases: int = 0
    attempts: int = 1
    duration_us: int | None = None
    status: str = ""


@dataclass(slots=True)
class _Report:
    """Everything the stream held, still under the names it used."""

    root: str = ""
    suite_names: list[str] = field(default_factory=list)
    cases: dict[tuple[str, str, str], _Case] = field(default_factory=dict)
    header: dict[str, int] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)

    @property
    def is_junit(self) -> bool:
        return self.root in ("testsuites", "testsuite")


class _Reader(ContentHandler):
    def __init__(self, report: _Report) -> None:
        super().__init__()
        self._report = report
        self._depth = 0
        self._case: _Case | None = None
        self._element: tuple[str, str, str] | None = None
        self._text: list[str] = []
        self._letters = 0

    def startElement(self, name: str, attrs: Any) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _TooDeep
        if name == "testcase":
            self._start_case(attrs)
        elif self._case is not None:
            if name in _RESULTS:
                self._element = (name, attrs.get("type", ""), attrs.get("message", ""))
                self._text, self._letters = [], 0
            elif name in ("rerunFailure", "rerunError", "flakyFailure", "flakyError"):
                self._case.attempts += 1
        elif self._depth == 1 or name == "testsuite":
            self._start_suite(name, attrs)

    def characters(self, content: str) -> None:
        if self._element is not None and self._letters < _TEXT_LETTERS_MAX:
            self._text.append(content)
            self._letters += len(content)

    def endElement(self, name: str) -> None:
        self._depth -= 1
        if name == "testcase":
            self._case = None
        elif self._element is not None and name == self._element[0] and self._case is not None:
            text = "".join(self._text)[:_TEXT_LETTERS_MAX]
            self._case.found.append((*self._element, text))
            self._report.elements[name] = self._report.elements.get(name, 0) + 1
            self._element = None

    def _start_suite(self, name: str, attrs: Any) -> None:
        if self._depth == 1:
            self._report.root = name.rpartition(":")[2]
        if len(self._report.suite_names) < 1000:
            self._report.suite_names.append(attrs.get("name", ""))
        if name == "testsuite":
            for column in ("failures", "errors", "skipped"):
                if (text := attrs.get(column, "")).isdecimal():
                    self._report.header[column] = self._report.header.get(column, 0) + int(text[:9])

    def _start_case(self, attrs: Any) -> None:
        key = (attrs.get("classname", ""), attrs.get("name", ""), attrs.get("file", ""))
        case = self._report.cases.get(key)
        if case is None:
            case = self._report.cases[key] = _Case()
        case.cases += 1
        case.status = attrs.get("status", "").lower() or case.status
        spent = _microseconds(attrs.get("time", ""))
        if spent is not None:
            case.duration_us = (case.duration_us or 0) + spent
        self._case, self._element = case, None


def _parse(pieces: Iterable[bytes]) -> _Report:
    report = _Report()
    parser = DefusedExpatParser(forbid_dtd=True)
    parser.setContentHandler(_Reader(report))
    try:
        for piece in pieces:
            parser.feed(piece)
        parser.close()
    except SAXParseException as problem:
        problem.args = (problem.args[0] if problem.args else "", report)
        raise
    return report


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(_PIECE_BYTES):
        yield piece


def _parse_cleaned(stream: BinaryIO) -> tuple[_Report, str] | None:
    """Read again without control bytes, as UTF-8 and then as Latin-1; None if it is torn all the same."""
    head = stream.read(4)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<"):
        return None
    for latin in (False, True):
        stream.seek(0)
        plain = (piece.translate(None, _CONTROL_BYTES) for piece in _pieces(stream))
        pieces = (piece.decode("latin-1").encode("utf-8") for piece in plain) if latin else plain
        try:
            report = _parse(pieces)
        except (SAXParseException, DefusedXmlException, _TooDeep):
            continue
        return (
            report,
            "Control bytes were dropped." if not latin else "Read as Latin-1, control bytes dropped.",
        )
    return None


def _fault(code: str, because: str) -> Reading:
    return Reading("junit", "", None, {}, {}, {}, fault=code, because=because)


def _torn(partial: _Report | None, paths: PathMap, problem: SAXParseException) -> Reading:
    where = f"line {problem.getLineNumber()}"
    because = (
        f"The XML ends early or is not well formed at {where}; what was read before it carries no verdict."
    )
    if partial is None or not partial.is_junit:
        return _fault("ci.report-torn", because)
    read = _reading(partial, paths, runner="", root="", notes=[])
    kept = {name: PARTIAL for name, state in read.facets.items() if state == COMPLETE}
    return Reading(
        "junit", read.runner, None, read.tests, read.collectors, kept, read.notes, "ci.report-torn", because
    )


def _reading(report: _Report, paths: PathMap, *, runner: str, root: str, notes: list[str]) -> Reading:
    dialect = runner or _dialect(report)
    tests: dict[str, Result] = {}
    collectors: dict[str, Collector] = {}
    unsure = 0
    while report.cases:
        key = next(iter(report.cases))
        case = report.cases.pop(key)
        classname, name, file = key
        if collector := _collector_name(dialect, classname, name, case, paths):
            failed = [entry for entry in case.found if entry[0] in ("error", "failure")]
            if failed:
                collectors[collector] = _collector(failed[-1], root)
            else:
                notes.append(f"{collector}: collection skipped")
            continue
        placed = _place(classname, file, paths, dialect)
        unsure += not placed.sure
        inner = _SUBTEST.match(name) if dialect == "unittest" else None
        identity = id_of_test(placed.path, placed.inside, inner["name"] if inner else name)
        result = _result(case, root)
        known = tests.get(identity)
        tests[identity] = result if known is None else fold(known, result)
    if unsure and dialect != "generic":
        notes.append(f"{unsure} ids were split into file and class by guess: no list of files settled them.")
    notes += _header_notes(report)
    return Reading(
        "junit", dialect, None, tests, collectors, _facets(dialect, tests, collectors), tuple(notes)
    )


def _dialect(report: _Report) -> str:
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


def _collector_name(dialect: str, classname: str, name: str, case: _Case, paths: PathMap) -> str:
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


def _result(case: _Case, root: str) -> Result:
    outcomes = [_outcome(element, kind) for element, kind, _, _ in case.found]
    if case.cases > len(outcomes):
        outcomes += [_STATUS_WORDS.get(case.status, "passed")] * (case.cases - len(outcomes))
    outcome = worst(outcomes)
    listed = tuple(sorted(outcomes, key=OUTCOMES.index)) if len(outcomes) > 1 else ()
    last = next((entry for entry in reversed(case.found) if _outcome(entry[0], entry[1]) == outcome), None)
    if last is None:
        return Result(outcome, duration_us=case.duration_us, attempts=case.attempts, occurrences=listed)
    message, text = last[2], last[3]
    shown = excerpt(message or text)
    if outcome not in FAILING:
        return Result(outcome, "", "", shown, case.duration_us, case.attempts, listed)
    signature, cause = _signed(text, message, root)
    return Result(outcome, signature, cause, shown, case.duration_us, case.attempts, listed)


def _outcome(element: str, kind: str) -> str:
    if element == "skipped":
        return "xfailed" if kind in _XFAIL_TYPES else "skipped"
    return "failed" if element == "failure" or kind == "UnexpectedSuccess" else "error"


def _signed(text: str, message: str, root: str) -> tuple[str, str]:
    if not text.strip() and not message.strip():
        return "", ""
    failure = read_failure(text, message)
    return signature_of(failure, root), cause_of(failure)


def _collector(entry: tuple[str, str, str, str], root: str) -> Collector:
    _, _, message, text = entry
    signature, cause = _signed(text, "" if message.startswith("collection ") else message, root)
    shown = read_failure(text)
    return Collector(signature, cause, excerpt(f"{shown.exception}: {shown.message}".strip(": ")))


def _facets(dialect: str, tests: Mapping[str, Result], collectors: Mapping[str, Collector]) -> dict[str, str]:
    signed = all(result.signature for result in tests.values() if result.outcome in FAILING)
    signed = signed and all(found.signature for found in collectors.values())
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


def _header_notes(report: _Report) -> list[str]:
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
