"""Reading what a simulation is fed: lines of signals, and lines of jobs.

A line of signals is a `runtime.signals` document: `at_us` and any of the signals.
A signal that a line leaves out keeps its value, null means that no source gave
it; before the first value a signal is missing. Idle time grows until the next
line that states it.

A line that cannot be used is refused with its number; nothing is skipped, filled
in or guessed, because a replay that left out a line would explain another night.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import parse_strict
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.runtime.governor import JobRequest, Origin, Weight
from sterling.runtime.signals import Reading, Signal, State

__all__ = [
    "InputEmpty",
    "InputUnreadable",
    "LineInvalid",
    "Recorded",
    "SignalsLine",
    "SimulatedJob",
    "read_jobs",
    "read_signals",
]

_LINE_BYTES_MAX = 64 * 1024
_NUMBER_MAX = 2**53 - 1
_JOBS_MAX = 100_000
_SOURCE = "recorded"

_SIGNAL_TYPES: dict[str, tuple[type, int]] = {
    "idle_ms": (int, _NUMBER_MAX),
    "active": (bool, 0),
    "fullscreen": (bool, 0),
    "cpu_other_bp": (int, 10_000),
    "ram_used_bp": (int, 10_000),
    "stall_bp": (int, 10_000),
    "gpu_busy_bp": (int, 10_000),
    "power": (str, 0),
    "charge_bp": (int, 10_000),
}
_NOT_FRESH = ("stale", "missing", "unreadable")
_POWERS = ("mains", "battery")
_OTHER_FIELDS = frozenset({"at_us", "query_intent", "sources", "states"})

_JOB_NUMBERS = ("at_us", "run_ms", "estimate_ms", "least_slice_ms", "memory_bytes")
_JOB_FIELDS = frozenset({*_JOB_NUMBERS, "id", "kind", "weight", "origin", "gpu", "suspend", "stops_in_ms"})


class InputUnreadable(SterlingError):
    """A file of a simulation that cannot be read as text."""

    code = "simulate.unreadable"
    hint = "Name a file of JSON lines; `sterling governor simulate --help` shows one."
    exit = EXIT_USAGE


class InputEmpty(SterlingError):
    """A file of a simulation without a single line."""

    code = "simulate.empty"
    hint = "Give at least one line of signals; `sterling governor simulate --help` shows one."
    exit = EXIT_USAGE


class LineInvalid(SterlingError):
    """A line of a simulation that is not what its file holds."""

    code = "simulate.line-invalid"
    hint = "Correct the named line; `sterling governor simulate --help` shows the fields."
    exit = EXIT_USAGE

    def __init__(self, path: Path, line: int, expected: str, found: str) -> None:
        super().__init__(
            f"{path.name} line {line}: expected {expected}, found {found}", file=str(path), line=line
        )
        self.line = line


@dataclass(frozen=True, slots=True)
class SignalsLine:
    """What one line says: its time, the intent if it states one, values, and why a null is null."""

    at_us: int
    query_intent: bool | None
    values: dict[str, int | bool | str | None]
    states: dict[str, State]


@dataclass(slots=True)
class Recorded:
    """The signals as the lines taken so far leave them."""

    query_intent: bool = False
    values: dict[str, int | bool | str | None] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    idle_at_us: int = 0

    def take(self, line: SignalsLine) -> None:
        """Go on to the next line."""
        if line.query_intent is not None:
            self.query_intent = line.query_intent
        for name in line.values:
            self.states.pop(name, None)
        self.values.update(line.values)
        self.states.update(line.states)
        if "idle_ms" in line.values:
            self.idle_at_us = line.at_us

    def readings(self, now_us: int) -> list[Reading]:
        """What the sources would say at this time."""
        found: list[Reading] = []
        for name, signal in _SIGNALS.items():
            value = self.values.get(name)
            if value is None:
                state = self.states.get(name, State.MISSING)
                found.append(Reading(signal, None, _SOURCE, now_us, state))
                continue
            if signal is Signal.IDLE_MS:
                value = int(value) + (now_us - self.idle_at_us) // 1000
            found.append(Reading(signal, value, _SOURCE, now_us))
        return found


_SIGNALS = {name: Signal(name) for name in _SIGNAL_TYPES}


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """One job: what it asks for, when it is due, how long it runs and how it takes a stop.

    `stops_in_us` is the time it needs to stop when asked; None ignores the asking.
    """

    request: JobRequest
    at_us: int | None
    run_us: int
    stops_in_us: int | None = 0


def read_signals(path: Path) -> Iterator[SignalsLine]:
    """Every line of a file, in order.

    Errors: InputUnreadable, InputEmpty, LineInvalid.
    """
    before_us = -1
    for number, document in _lines(path):
        line = _signals_line(document, path, number)
        if line.at_us < before_us:
            raise LineInvalid(path, number, f"at_us of at least {before_us}", str(line.at_us))
        before_us = line.at_us
        yield line
    if before_us < 0:
        raise InputEmpty(f"expected lines of signals in {path.name}, found none", file=str(path))


def read_jobs(path: Path) -> list[SimulatedJob]:
    """Every job of a file, in its order.

    Errors: InputUnreadable, InputEmpty, LineInvalid.
    """
    jobs: list[SimulatedJob] = []
    seen: set[str] = set()
    for number, document in _lines(path):
        job = _job(document, path, number)
        if job.request.job in seen:
            raise LineInvalid(path, number, "each job id once", f"{job.request.job!r} again")
        if len(jobs) >= _JOBS_MAX:
            raise LineInvalid(path, number, f"at most {_JOBS_MAX} jobs", "more")
        seen.add(job.request.job)
        jobs.append(job)
    if not jobs:
        raise InputEmpty(f"expected lines of jobs in {path.name}, found none", file=str(path))
    return jobs


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
            raise InputUnreadable(f"expected a file at {path}, found {found}", file=str(path))
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > _LINE_BYTES_MAX:
                    raise LineInvalid(path, number, f"at most {_LINE_BYTES_MAX} bytes", "more")
                if line.strip():
                    yield number, _object(line, path, number)
    except OSError as problem:
        raise InputUnreadable(
            f"expected to read {path}, found {problem.strerror}", file=str(path)
        ) from problem


def _object(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    if b"\0" in line:
        raise InputUnreadable(f"expected text in {path.name}, found a zero byte in line {number}")
    try:
        document = parse_strict(line, limit=_LINE_BYTES_MAX)
    except SterlingError as problem:
        raise LineInvalid(path, number, "one JSON object", problem.message[:200]) from problem
    if not isinstance(document, dict):
        raise LineInvalid(path, number, "one JSON object", type(document).__name__)
    return document


def _signals_line(document: Mapping[str, Any], path: Path, number: int) -> SignalsLine:
    at_us = document.get("at_us")
    if type(at_us) is not int or not 0 <= at_us <= _NUMBER_MAX:
        raise LineInvalid(path, number, "at_us in microseconds", repr(at_us)[:80])
    intent = document.get("query_intent")
    if "query_intent" in document and type(intent) is not bool:
        raise LineInvalid(path, number, "query_intent true or false", repr(intent)[:80])
    values: dict[str, int | bool | str | None] = {}
    for name, value in document.items():
        if name not in _OTHER_FIELDS:
            _check_signal(name, value, path, number)
            values[name] = value
    words = document.get("states", {})
    if not isinstance(words, dict):
        raise LineInvalid(path, number, "states as an object", type(words).__name__)
    states: dict[str, State] = {}
    for name, word in words.items():
        if name not in values or values[name] is not None:
            raise LineInvalid(path, number, "a state for a null signal only", f"{name!r}"[:80])
        states[name] = _state(word, path, number)
    return SignalsLine(at_us, intent, values, states)


def _state(word: object, path: Path, number: int) -> State:
    if not isinstance(word, str) or word not in _NOT_FRESH:
        raise LineInvalid(path, number, "a state stale, missing or unreadable", repr(word)[:80])
    return State(word)


def _check_signal(name: str, value: object, path: Path, number: int) -> None:
    if name not in _SIGNAL_TYPES:
        raise LineInvalid(path, number, "a signal", f"{name!r}"[:80])
    if value is None:
        return
    kind, greatest = _SIGNAL_TYPES[name]
    if type(value) is not kind:
        raise LineInvalid(path, number, f"{name} as {kind.__name__} or null", type(value).__name__)
    if kind is int and isinstance(value, int) and not 0 <= value <= greatest:
        raise LineInvalid(path, number, f"{name} between 0 and {greatest}", str(value))
    if kind is str and value not in _POWERS:
        raise LineInvalid(path, number, "power mains or battery", repr(value)[:80])


def _job(document: Mapping[str, Any], path: Path, number: int) -> SimulatedJob:
    unknown = sorted(set(document) - _JOB_FIELDS)
    if unknown:
        raise LineInvalid(path, number, "no other field", repr(", ".join(unknown))[:80])
    identity = document.get("id")
    if not isinstance(identity, str) or not 1 <= len(identity) <= 200:
        raise LineInvalid(path, number, "id as text", repr(identity)[:80])
    kind = document.get("kind", "")
    if not isinstance(kind, str):
        raise LineInvalid(path, number, "kind as text", repr(kind)[:80])
    numbers = {name: _number(document, name, path, number) for name in _JOB_NUMBERS}
    if numbers["run_ms"] is None:
        raise LineInvalid(path, number, "run_ms", "none")
    gpu = document.get("gpu", False)
    if type(gpu) is not bool:
        raise LineInvalid(path, number, "gpu true or false", repr(gpu)[:80])
    whole = _word(document, "suspend", "kill", ("kill", "freeze"), path, number) == "freeze"
    stops_ms = None if whole else 0  # A whole job cannot yield.
    if "stops_in_ms" in document:
        stops_ms = _number(document, "stops_in_ms", path, number)
    request = JobRequest(
        job=identity,
        kind=kind,
        weight=Weight(_word(document, "weight", "heavy", tuple(Weight), path, number)),
        origin=Origin(_word(document, "origin", "drain", tuple(Origin), path, number)),
        estimate_us=(numbers["estimate_ms"] or 0) * 1000,
        least_slice_us=(numbers["least_slice_ms"] or 0) * 1000,
        memory_bytes=numbers["memory_bytes"] or 0,
        gpu=gpu,
        whole=whole,
    )
    stops_in_us = None if stops_ms is None else stops_ms * 1000
    return SimulatedJob(request, numbers["at_us"], numbers["run_ms"] * 1000, stops_in_us)


def _number(document: Mapping[str, Any], name: str, path: Path, number: int) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX // 1000:
        raise LineInvalid(path, number, f"{name} as a number from 0", repr(value)[:80])
    return value


def _word(
    document: Mapping[str, Any], name: str, default: str, words: tuple[str, ...], path: Path, number: int
) -> str:
    value = document.get(name, default)
    if value not in words:
        raise LineInvalid(path, number, f"{name} as one of {', '.join(words)}", repr(value)[:80])
    return str(value)
