"""The stream under JUnit XML: elements into raw cases, nothing judged.

The parser refuses document types, entities and more than 100 levels. Most cases
of a report passed and hold nothing, so of those the attributes are kept as they
come; only cases with a result, a status word or a retry get more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

__all__ = [
    "DEPTH_MAX",
    "Found",
    "RawCase",
    "RawReport",
    "ReportTorn",
    "TooDeep",
    "parse_report",
]

DEPTH_MAX = 100

_PIECE_BYTES = 256 * 1024
_TEXT_LETTERS_MAX = 1024 * 1024
_RESULTS = frozenset({"failure", "error", "skipped"})
_RETRIES = frozenset({"rerunFailure", "rerunError", "flakyFailure", "flakyError"})
# Words that runners put into `status` instead of an element of their own.
_STATUS_WORDS: Mapping[str, str] = {
    "notrun": "skipped",
    "disabled": "skipped",
    "skipped": "skipped",
    "ignored": "skipped",
    "fail": "failure",
    "failed": "failure",
    "error": "error",
}
_CONTROL_BYTES = bytes(code for code in range(32) if code not in (9, 10, 13))

# Element (failure, error or skipped), type, message, text.
Found = tuple[str, str, str, str]
# Class name, name, file.
RawName = tuple[str, str, str]


class TooDeep(Exception):
    """More levels than a report has."""


class ReportTorn(Exception):
    """The XML stops early or is not well formed; `partial` is what came before."""

    def __init__(self, line: int | None, partial: RawReport) -> None:
        super().__init__(f"line {line}")
        self.line, self.partial = line, partial


@dataclass(slots=True)
class RawCase:
    """Everything stated under one raw name that did not simply pass."""

    found: list[Found] = field(default_factory=list)
    attempts: int = 1
    times: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RawReport:
    """Everything the stream held, under the names it used. `plain` holds attributes of what simply passed."""

    root: str = ""
    suite_names: list[str] = field(default_factory=list)
    plain: list[Mapping[str, str]] = field(default_factory=list)
    cases: dict[RawName, RawCase] = field(default_factory=dict)
    header: dict[str, int] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)

    @property
    def is_junit(self) -> bool:
        return self.root in ("testsuites", "testsuite")


def parse_report(stream: BinaryIO) -> tuple[RawReport, str]:
    """The raw report in a seekable stream, and a note if its bytes needed cleaning.

    Raises: ReportTorn, TooDeep, DefusedXmlException for a document type or an entity.
    """
    try:
        return _parse(_pieces(stream)), ""
    except ReportTorn as torn:
        stream.seek(0)
        head = stream.read(4)
        if head[:2] in (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<"):
            raise
        for note, pieces in _cleanings(stream):
            try:
                return _parse(pieces), note
            except (ReportTorn, DefusedXmlException, TooDeep):
                continue
        raise torn from None


class _Reader(DefusedExpatParser):
    """The defused parser with its callbacks taken over: the plain interface costs twice as much."""

    def __init__(self, report: RawReport) -> None:
        super().__init__(forbid_dtd=True)
        self._report = report
        self._depth = 0
        self._case: Mapping[str, str] | None = None
        self._found: list[Found] = []
        self._attempts = 1
        self._element: tuple[str, str, str] | None = None
        self._text: list[str] = []
        self._letters = 0
        letters = ContentHandler()
        letters.characters = self.characters  # type: ignore[method-assign]
        self.setContentHandler(letters)

    def start_element(self, name: str, attrs: Mapping[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise TooDeep
        if name == "testcase":
            if self._case is not None:
                self._end_case()
            self._case = attrs
        elif self._case is not None:
            if name in _RESULTS:
                self._element = (name, attrs.get("type", ""), attrs.get("message", ""))
                self._text, self._letters = [], 0
            elif name in _RETRIES:
                self._attempts += 1
        elif self._depth == 1 or name == "testsuite":
            self._start_suite(name, attrs)

    def end_element(self, name: str) -> None:
        self._depth -= 1
        if name == "testcase":
            if self._case is not None:
                self._end_case()
        elif self._element is not None and name == self._element[0]:
            self._found.append((*self._element, "".join(self._text)[:_TEXT_LETTERS_MAX]))
            self._report.elements[name] = self._report.elements.get(name, 0) + 1
            self._element = None

    def characters(self, content: str) -> None:
        if self._element is not None and self._letters < _TEXT_LETTERS_MAX:
            self._text.append(content)
            self._letters += len(content)

    def _start_suite(self, name: str, attrs: Mapping[str, str]) -> None:
        if self._depth == 1:
            self._report.root = name.rpartition(":")[2]
        if len(self._report.suite_names) < 1000:
            self._report.suite_names.append(attrs.get("name", ""))
        if name == "testsuite":
            for column in ("failures", "errors", "skipped"):
                if (text := attrs.get(column, "")).isdecimal():
                    self._report.header[column] = self._report.header.get(column, 0) + int(text[:9])

    def _end_case(self) -> None:
        attributes, self._case = self._case, None
        assert attributes is not None, "a case that ends has started"
        word = _STATUS_WORDS.get(attributes["status"].lower(), "") if "status" in attributes else ""
        if word and not self._found:
            self._found.append((word, "", "", ""))
        if not self._found and self._attempts == 1:
            self._report.plain.append(attributes)
            return
        read = attributes.get
        name = (read("classname", ""), read("name", ""), read("file", ""))
        case = self._report.cases.get(name)
        if case is None:
            case = self._report.cases[name] = RawCase()
        case.found += self._found
        case.attempts = max(case.attempts, self._attempts)
        case.times.append(read("time", ""))
        self._found, self._attempts, self._element = [], 1, None


def _parse(pieces: Iterable[bytes]) -> RawReport:
    report = RawReport()
    reader: Any = _Reader(report)
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.close()
    except SAXParseException as problem:
        raise ReportTorn(problem.getLineNumber(), report) from problem
    return report


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while piece := stream.read(_PIECE_BYTES):
        yield piece


def _cleanings(stream: BinaryIO) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The same bytes without control bytes, as they are and then as Latin-1."""
    stream.seek(0)
    yield "Control bytes were dropped.", (piece.translate(None, _CONTROL_BYTES) for piece in _pieces(stream))
    stream.seek(0)
    plain = (piece.translate(None, _CONTROL_BYTES) for piece in _pieces(stream))
    yield "Read as Latin-1, control bytes dropped.", (piece.decode("latin-1").encode() for piece in plain)
