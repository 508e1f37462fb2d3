"""Spans and counters as OTLP JSON: one self-contained line each, as any OTLP reader takes them.

Pure. Ids are lower-case hex and 64-bit integers are strings, as the OTLP
specification asks of its JSON form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sterling import __version__
from sterling.kernel.counters import Count, Counters

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["counters_line", "figures_line", "metrics_of", "scope_version", "span_line"]

_CUMULATIVE, _DELTA = 2, 1
_NO_RECORDED_VALUE = 1  # The flag by which OTLP says that a figure is not known.
_STATUS = {"UNSET": 0, "OK": 1, "ERROR": 2}


def span_line(span: ReadableSpan) -> bytes:
    """One span with its resource and scope."""
    assert span.context is not None and span.resource is not None
    found: dict[str, Any] = {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": _STATUS[span.status.status_code.name]},
    }
    if span.parent is not None:
        found["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.status.description:
        found["status"]["message"] = span.status.description
    if span.events:
        found["events"] = [
            {
                "timeUnixNano": str(event.timestamp),
                "name": event.name,
                "attributes": _attributes(event.attributes or {}),
            }
            for event in span.events
        ]
    scoped = {"scope": _scope(), "spans": [found]}
    return _line("resourceSpans", "scopeSpans", dict(span.resource.attributes), scoped)


def counters_line(counters: Counters, home_id: str, at_us: int) -> bytes:
    """The counters at one size of the ledger, dated by its last entry."""
    resource = {
        "service.name": "sterling",
        "sterling.home.id": home_id,
        "sterling.entry.index": counters.size - 1,
    }
    scoped = {"scope": _scope(), "metrics": metrics_of(counters, at_us)}
    return _line("resourceMetrics", "scopeMetrics", resource, scoped)


def figures_line(figures: Mapping[str, int], home_id: str, from_us: int, at_us: int) -> bytes:
    """What telemetry says of itself: figures of the time between two passes."""
    metrics = [
        {
            "name": f"sterling.telemetry.{name}",
            "sum": {
                "aggregationTemporality": _DELTA,
                "isMonotonic": True,
                "dataPoints": [
                    {
                        "startTimeUnixNano": str(from_us * 1000),
                        "timeUnixNano": str(at_us * 1000),
                        "asInt": str(value),
                    }
                ],
            },
        }
        for name, value in sorted(figures.items())
    ]
    scoped = {"scope": _scope(), "metrics": metrics}
    return _line(
        "resourceMetrics", "scopeMetrics", {"service.name": "sterling", "sterling.home.id": home_id}, scoped
    )


def metrics_of(counters: Counters, at_us: int) -> list[dict[str, Any]]:
    """One cumulative sum a counter, one point a set of labels; na is a point without a value."""
    return [
        {
            "name": f"sterling.{name}",
            "sum": {
                "aggregationTemporality": _CUMULATIVE,
                "isMonotonic": True,
                "dataPoints": _points(count, str(at_us * 1000)),
            },
        }
        for name, count in counters.counts.items()
    ]


def scope_version() -> str:
    """The program whose rules made a line; another version's lines are not comparable."""
    return __version__


def _points(count: Count, time: str) -> list[dict[str, Any]]:
    if count.value is None:
        return [{"timeUnixNano": time, "flags": _NO_RECORDED_VALUE}]
    rows = sorted(count.split.items()) or [((), 0)]
    return [
        {"timeUnixNano": time, "asInt": str(value), "attributes": _attributes(dict(labels))}
        for labels, value in rows
    ]


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}


def _scope() -> dict[str, str]:
    return {"name": "sterling", "version": scope_version()}


def _line(outer: str, inner: str, resource: Mapping[str, Any], scoped: dict[str, Any]) -> bytes:
    document = {outer: [{"resource": {"attributes": _attributes(resource)}, inner: [scoped]}]}
    return json.dumps(document, separators=(",", ":")).encode("ascii")
