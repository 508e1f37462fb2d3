"""Telemetry made from the ledger: spans and counters as files that any OTLP reader takes.

A span is derived from the entry that ends it, after that entry is durable, so no
work is instrumented, no evidence rests on a span, and the same ledger gives the
same spans under the same ids. One pass (`record_telemetry`) turns what is new
since the last pass into lines. A pass killed half-way writes some spans again.

Spans hold ids, sizes and codes: text that does not look like one is left out.
Reading a ledger is all that can fail here loudly; what a disk refuses is counted.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sterling.kernel.batch import Batch, Draft
from sterling.kernel.canonical import Json
from sterling.kernel.counters import CounterFold, CounterRule, Counters, document_of
from sterling.kernel.errors import SterlingError
from sterling.kernel.ledger import StoredEntry
from sterling.kernel.locks import Role, RoleTaken
from sterling.kernel.otlp import counters_line, figures_line, metrics_of, scope_version, span_line
from sterling.kernel.sinks import LineSink, whole_lines

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from sterling.kernel.home import Home

__all__ = [
    "KERNEL_SPANS",
    "STREAMS",
    "Recorded",
    "SpanRule",
    "check_counters",
    "has_ended_runs",
    "read_counters",
    "read_sources",
    "record_telemetry",
    "spans_of",
]

STREAMS = ("traces", "metrics", "counters")
_REPORT_EVERY_US = 60_000_000
_PASS_SPANS_MAX = 10_000  # About a second of work; what is left is the next pass's.
_COUNTED_ENTRIES_MAX = 50_000  # So many are folded in about a second; a longer ledger is counted on demand.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,119}")
_STATE = "state.json"


def _never_fails(_: Mapping[str, Json]) -> str:
    return ""


def _always(_: Mapping[str, Json]) -> bool:
    return True


def _why(document: Mapping[str, Json]) -> str:
    return str(document["why"])


@dataclass(frozen=True, slots=True)
class SpanRule:
    """Which entries end a span, and what the span says.

    It begins with the entry of kind `opened_by` of its run (or, where it is
    `of_subject`, with the first of its subject), or `lasted` (a field in
    microseconds) before its end, or is a moment. With `each`, every item of that
    list is a span. `failed` gives the code of a failure; `event` is noted then.
    """

    name: str
    sentence: str
    kind: str
    contract: str = ""
    attributes: tuple[str, ...] = ()
    opened_by: str = ""
    of_subject: bool = False
    lasted: str = ""
    each: str = ""
    holds: Callable[[Mapping[str, Json]], bool] = _always
    failed: Callable[[Mapping[str, Json]], str] = _never_fails
    event: str = ""


_LEASE = SpanRule(
    "sterling.lease",
    "A lease, from its taking to its release.",
    "lease.released",
    attributes=("name", "token", "renewals"),
    lasted="held_us",
)
_EFFECT = SpanRule(
    "sterling.effect",
    "An effect, from its putting to its receipt.",
    "effect.done",
    attributes=("key", "adapter", "order_key", "attempts", "why"),
    opened_by="effect.queued",
    of_subject=True,
)
KERNEL_SPANS = (
    _LEASE,
    replace(
        _LEASE,
        sentence="A lease that had run out before it was given back.",
        kind="lease.expired",
        failed=lambda _: "lease.expired",
    ),
    _EFFECT,
    replace(_EFFECT, sentence="An effect that was given up.", kind="effect.dead", failed=_why),
    replace(_EFFECT, sentence="An effect that was not to be sent.", kind="effect.abandoned", failed=_why),
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one pass did: spans made, lines dropped by cause, torn lines moved aside, entries covered."""

    spans: int
    dropped: Mapping[str, int]
    torn_lines: int
    size: int


@dataclass(slots=True)
class _State:
    """Where the last pass ended and what no entry reports yet."""

    next: int = 0
    counted: int = 0
    at_us: int = 0
    reported_us: int = 0
    spans_dropped: int = 0
    torn_lines: int = 0
    causes: dict[str, int] = field(default_factory=dict)


def has_ended_runs(home: Home) -> bool:
    """Whether a run ended since the last pass. Cost: one small file and one indexed look."""
    after = _read_state(home.path / "telemetry").next - 1
    return next(home.ledger.read(kind="run.closed", after=after), None) is not None


def record_telemetry(
    home: Home, spans: Sequence[SpanRule], counters: Sequence[CounterRule], *, recount: bool = False
) -> Recorded | None:
    """Write what is new: spans, figures of telemetry itself, and counters when they are due.

    A pass makes so many spans at most; `size` of the answer says how far it came.
    Counters are folded from the start of the ledger, so they are due when it has
    grown by a tenth and is not too long, or with `recount`. None when another
    process is at it.

    Errors: those of reading and writing the ledger; OSError when not even the
    note of where the pass ended can be written. A line that the disk refuses is counted.
    """
    role = Role(home.path / "run", "telemetry")
    try:
        role.take()
    except RoleTaken:
        return None
    try:
        return _pass(home, spans, counters, recount=recount)
    finally:
        role.release()


def spans_of(entry: StoredEntry, rules: Iterable[SpanRule], home: Home) -> Iterator[ReadableSpan]:
    """The spans that an entry ends, as the OpenTelemetry SDK knows them."""
    document = document_of(entry)
    for rule in rules:
        if (rule.kind, rule.contract) != (entry.kind, entry.contract) or document is None:
            continue
        if rule.holds(document):
            items = document.get(rule.each) if rule.each else [document]
            for number, item in enumerate(items if isinstance(items, list) else []):
                yield _span(entry, rule, item, number, home)


def read_sources(
    home: Home,
    sources: Iterable[tuple[str, str]],
    *,
    after: int = -1,
    lost: Callable[[tuple[str, str], str], None] | None = None,
) -> Iterator[StoredEntry]:
    """The entries of these kinds and contracts in ledger order, record documents included.

    A source that cannot be read ends there; `lost` is told, or the error is raised.
    """

    def read(source: tuple[str, str]) -> Iterator[StoredEntry]:
        kind, contract = source
        try:
            for entry in home.ledger.read(kind=kind, contract=contract or None, after=after):
                yield _with_document(home, entry)
        except SterlingError as problem:
            if lost is None:
                raise
            lost(source, problem.message)

    return heapq.merge(*(read(source) for source in sorted(set(sources))), key=lambda entry: entry.index)


def read_counters(home: Home, rules: Sequence[CounterRule], *, size: int | None = None) -> Counters:
    """The counters over the first `size` entries (default: all)."""
    known, fold = home.ledger.size() if size is None else size, CounterFold(rules)
    entries = read_sources(home, fold.sources, lost=fold.lose)
    for entry in takewhile(lambda entry: entry.index < known, entries):
        fold.add(entry)
    return fold.counters(known)


def check_counters(home: Home, rules: Sequence[CounterRule]) -> list[str]:
    """Every line of `telemetry/counters.jsonl` against its recomputation; what differs, in words.

    Lines of another version of the program are passed over: its rules were others.
    """
    problems: list[str] = []
    told: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(whole_lines(home.path / "telemetry" / "counters.jsonl"), start=1):
        try:
            index, version, metrics = _told(line)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            problems.append(f"counters.jsonl line {number} is no line of counters")
            continue
        if version == scope_version():
            told.append((index + 1, metrics))
    fold, size = CounterFold(rules), home.ledger.size()
    entries = read_sources(home, fold.sources, lost=fold.lose)
    waiting = next(entries, None)
    for at, metrics in sorted(told, key=lambda each: each[0]):
        if at > size:
            problems.append(f"counters at {at} entries: expected a ledger of that size, found {size}")
            continue
        while waiting is not None and waiting.index < at:
            fold.add(waiting)
            waiting = next(entries, None)
        found = {metric["name"]: _without_time(metric) for metric in metrics_of(fold.counters(at), 0)}
        for name in sorted(metrics.keys() | found):
            if metrics.get(name) != found.get(name):
                problems.append(
                    f"counters at {at} entries: {name} is not what the entries say:"
                    f" expected {_figures(found.get(name))}, found {_figures(metrics.get(name))}"
                )
    return problems


def _pass(
    home: Home, spans: Sequence[SpanRule], counters: Sequence[CounterRule], *, recount: bool
) -> Recorded:
    folder, size = home.path / "telemetry", home.ledger.size()
    state, now_us, made = _read_state(folder), home.clock.wall_us(), 0
    if state.next > size:
        state = _State()  # Another, shorter ledger: its spans are its own.
    sink, reached = LineSink(folder), size
    sources = {(rule.kind, rule.contract) for rule in spans}
    try:
        entries = read_sources(home, sources, after=state.next - 1)
        for entry in takewhile(lambda entry: entry.index < size, entries):
            if made >= _PASS_SPANS_MAX:
                reached = entry.index
                break
            for span in spans_of(entry, spans, home):
                made += 1
                sink.offer("traces", span_line(span))
        if recount or state.counted * 11 < size * 10 <= _COUNTED_ENTRIES_MAX * 10:
            last = home.ledger.entry(size - 1)
            at_us = 0 if last is None else last.at_us
            sink.offer("counters", counters_line(read_counters(home, counters, size=size), home.id, at_us))
            state.counted = size
        figures = {"spans": made, "spans_dropped": state.spans_dropped, "entries": reached - state.next}
        sink.offer("metrics", figures_line(figures, home.id, state.at_us or now_us, now_us))
    finally:
        sink.close()
    causes: dict[str, int] = {}
    for (stream, cause), count in sorted(sink.dropped.items()):
        causes[cause] = causes.get(cause, 0) + count
        state.spans_dropped += count if stream == "traces" else 0
        state.causes[cause] = state.causes.get(cause, 0) + count
    state.torn_lines += sink.torn_lines
    state.next, state.at_us = reached, now_us
    _write_state(folder, state)  # First: without it the next pass writes the same spans, and none is dropped.
    if _report(home, state, now_us):
        _write_state(folder, state)
    return Recorded(made, causes, sink.torn_lines, reached)


def _report(home: Home, state: _State, now_us: int) -> bool:
    """Say in the ledger what was dropped, at most once a minute; the rest waits for the next pass."""
    if home.read_only or not (state.causes or state.torn_lines):
        return False
    if state.reported_us and 0 <= now_us - state.reported_us < _REPORT_EVERY_US:
        return False
    payload = {"spans": state.spans_dropped, "causes": state.causes, "torn_lines": state.torn_lines}
    home.ledger.commit(Batch(drafts=[Draft("telemetry.dropped", payload)]))
    state.spans_dropped, state.causes, state.torn_lines, state.reported_us = 0, {}, 0, now_us
    return True


def _span(
    entry: StoredEntry, rule: SpanRule, item: Mapping[str, Json], number: int, home: Home
) -> ReadableSpan:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    end, start, shown = entry.at_us, entry.at_us, dict(item)
    if rule.opened_by:
        subject, run = (entry.subject, None) if rule.of_subject else (None, entry.run)
        opener = next(home.ledger.read(kind=rule.opened_by, subject=subject, run=run), None)
        if opener is not None:
            start, shown = opener.at_us, dict(opener.payload) | shown
    elif rule.lasted:
        start -= int(item.get(rule.lasted, 0))
    trace = _digest(home.id, entry.run or entry.hash.hex())[:16]
    is_run = bool(rule.opened_by) and not rule.of_subject
    own = _digest(home.id, "run", entry.run) if is_run else _digest(entry.hash.hex(), rule.name, str(number))

    def context(span: bytes) -> SpanContext:
        return SpanContext(
            int.from_bytes(trace, "big"),
            int.from_bytes(span[:8], "big"),
            False,
            TraceFlags(TraceFlags.SAMPLED),
        )

    attributes: dict[str, str | int] = {
        "sterling.entry.index": entry.index,
        "sterling.entry.hash": entry.hash.hex(),
    }
    for name, value in (("run", entry.run), *((name, shown.get(name)) for name in rule.attributes)):
        if isinstance(value, int) or (isinstance(value, str) and _PLAIN.fullmatch(value)):
            attributes[f"sterling.{name}"] = value
    code = rule.failed(item)
    noted = code if _PLAIN.fullmatch(code) else ""
    return ReadableSpan(
        rule.name,
        context(own),
        None if is_run or not entry.run else context(_digest(home.id, "run", entry.run)),
        Resource({"service.name": "sterling", "sterling.home.id": home.id}),
        attributes,
        events=[Event(rule.event, {"sterling.code": noted}, end * 1000)] if code and rule.event else (),
        status=Status(StatusCode.ERROR, noted) if code else Status(StatusCode.UNSET),
        start_time=min(start, end) * 1000,
        end_time=end * 1000,
    )


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("/".join(parts).encode("utf-8")).digest()


def _with_document(home: Home, entry: StoredEntry) -> StoredEntry:
    """The entry with the document of its record in place; unchanged when that cannot be read."""
    if entry.kind != "record.put" or "document" in entry.payload:
        return entry
    try:
        document = home.records.get(str(entry.payload["id"])).document
    except SterlingError:
        return entry  # `document_of` finds none, and the counters of this source are na.
    return replace(entry, payload={**entry.payload, "document": document})


def _told(line: bytes) -> tuple[int, str, dict[str, Any]]:
    """The index, the program's version and the metrics by name of a line of counters."""
    (resource,) = json.loads(line)["resourceMetrics"]
    attributes = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
    (scoped,) = resource["scopeMetrics"]
    metrics = {metric["name"]: _without_time(metric) for metric in scoped["metrics"]}
    return int(attributes["sterling.entry.index"]["intValue"]), str(scoped["scope"]["version"]), metrics


def _without_time(metric: dict[str, Any]) -> dict[str, Any]:
    points = [
        {key: value for key, value in point.items() if key != "timeUnixNano"}
        for point in metric["sum"]["dataPoints"]
    ]
    return {**metric, "sum": {**metric["sum"], "dataPoints": points}}


def _figures(metric: dict[str, Any] | None) -> str:
    points = [] if metric is None else metric["sum"]["dataPoints"]
    return ", ".join(str(point.get("asInt", "na")) for point in points)[:100] or "nothing"


def _read_state(folder: Path) -> _State:
    """Where the last pass ended; without a usable note of it, the beginning."""
    try:
        return _State(**json.loads((folder / _STATE).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return _State()


def _write_state(folder: Path, state: _State) -> None:
    growing = folder / f".{_STATE}.incoming"
    growing.touch(mode=0o600)
    growing.write_text(json.dumps(asdict(state), sort_keys=True) + "\n", encoding="ascii")
    growing.replace(folder / _STATE)
