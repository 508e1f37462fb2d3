"""The activity file: what another machine, or the host around a guest, says of its person.

Its contract is `runtime.activity`. A writer replaces the whole file by rename
and raises `seq` each time. Freshness never compares two machines' clocks: the
file is fresh while `seq` last changed within `stale_ms` on our own steady clock,
and on first sight it has to change once. From that change on, idle time grows.

Whatever is wrong with the file has a code of its own, is counted, and means
`active`. A `seq` that goes back is refused once; the file has to change again
before it is believed.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import CanonicalInvalid, DuplicateKey, parse_strict
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.runtime.signals import Reading, Signal, State, SteadyClock, missing

__all__ = [
    "ACTIVITY_BYTES_MAX",
    "ACTIVITY_CONTRACT",
    "Activity",
    "ActivityFileSource",
    "ActivityRefused",
    "ActivityUnwritable",
    "Fault",
    "parse_activity",
    "read_activity",
    "write_activity",
]

ACTIVITY_CONTRACT = "runtime.activity@1.0"
ACTIVITY_BYTES_MAX = 64 * 1024
_NUMBER_MAX = 2**53 - 1
_MACHINE_LETTERS_MAX = 200


class Fault(StrEnum):
    """What can be wrong with an activity file."""

    ABSENT = "activity.absent"
    FORBIDDEN = "activity.forbidden"
    SYMLINK = "activity.symlink"
    NOT_REGULAR = "activity.not-regular"
    TOO_LARGE = "activity.too-large"
    EMPTY = "activity.empty"
    NOT_TEXT = "activity.not-text"
    TORN = "activity.torn"
    DUPLICATE_KEY = "activity.duplicate-key"
    NOT_OBJECT = "activity.not-object"
    OTHER_SCHEMA = "activity.other-schema"
    FIELD_MISSING = "activity.field-missing"
    FIELD_UNKNOWN = "activity.field-unknown"
    WRONG_TYPE = "activity.wrong-type"
    OUT_OF_RANGE = "activity.out-of-range"
    SEQ_BACK = "activity.seq-back"
    FIRST_SIGHT = "activity.first-sight"
    UNCHANGED = "activity.unchanged"


class ActivityRefused(SterlingError):
    """An activity file that cannot be used; `fault` names what is wrong with it."""

    code = "signal.file-unreadable"
    hint = "Write the file with `sterling governor write-activity PATH`."
    exit = EXIT_USAGE

    def __init__(self, fault: Fault, expected: str, found: str) -> None:
        super().__init__(f"{fault}: expected {expected}, found {found}", fault=str(fault))
        self.fault = fault


class ActivityUnwritable(SterlingError):
    """The activity file cannot be written where it was asked for."""

    code = "activity.unwritable"
    hint = "Name a file in a folder you may write: `sterling governor write-activity --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Activity:
    """One version of the file. None means that the writer does not know."""

    seq: int
    machine: str
    written_us: int
    idle_ms: int
    active: bool
    fullscreen: bool | None
    activity_score_bp: int
    power: str | None
    charge_bp: int | None

    def document(self) -> dict[str, Any]:
        """The JSON object that stands in the file."""
        rows = {name: getattr(self, name) for name in _FIELDS}
        return {"schema": ACTIVITY_CONTRACT, **rows}


@dataclass(frozen=True, slots=True)
class _Field:
    """Type and range of one field; `nullable` allows null."""

    kind: type
    least: int = 0
    greatest: int = _NUMBER_MAX
    nullable: bool = False


_FIELDS: dict[str, _Field] = {
    "seq": _Field(int),
    "machine": _Field(str, 1, _MACHINE_LETTERS_MAX),
    "written_us": _Field(int),
    "idle_ms": _Field(int),
    "active": _Field(bool),
    "fullscreen": _Field(bool, nullable=True),
    "activity_score_bp": _Field(int, 0, 10_000),
    "power": _Field(str, nullable=True),
    "charge_bp": _Field(int, 0, 10_000, nullable=True),
}
_POWERS = ("mains", "battery")


class ActivityFileSource:
    """Reads one activity file; remembers when its `seq` last changed and counts its faults."""

    def __init__(self, path: Path, *, stale_ms: int = 5_000) -> None:
        self._path = path
        self._stale_us = stale_ms * 1000
        self._seq: int | None = None
        self._changed_us: int | None = None
        self.faults: dict[Fault, int] = {}

    def read(self, clock: SteadyClock) -> Sequence[Reading]:
        now_us = clock.boot_us()
        try:
            activity = read_activity(self._path)
            self._follow(activity.seq, now_us)
        except ActivityRefused as refused:
            self.faults[refused.fault] = self.faults.get(refused.fault, 0) + 1
            return self._refused(refused.fault, now_us)
        if self._changed_us is None:
            return self._readings(activity, now_us, now_us, State.STALE, Fault.FIRST_SIGHT)
        if now_us - self._changed_us > self._stale_us:
            return self._readings(activity, now_us, self._changed_us, State.STALE, Fault.UNCHANGED)
        return self._readings(activity, now_us, self._changed_us, State.FRESH, "")

    def _follow(self, seq: int, now_us: int) -> None:
        """Note a change of `seq`. Going back starts over: refused now, believed after a change."""
        before = self._seq
        self._seq = seq
        if before is None or seq == before:
            return
        if seq < before:
            self._changed_us = None
            raise ActivityRefused(Fault.SEQ_BACK, f"seq of at least {before}", str(seq))
        self._changed_us = now_us

    def _readings(
        self, activity: Activity, now_us: int, changed_us: int, state: State, code: str
    ) -> Sequence[Reading]:
        rows: list[tuple[Signal, int | bool | str | None]] = [
            (Signal.IDLE_MS, activity.idle_ms + (now_us - changed_us) // 1000),
            (Signal.ACTIVE, activity.active),
            (Signal.ACTIVITY_SCORE_BP, activity.activity_score_bp),
            (Signal.FULLSCREEN, activity.fullscreen),
            (Signal.POWER, activity.power),
            (Signal.CHARGE_BP, activity.charge_bp),
        ]
        return tuple(
            missing(signal, str(self._path), now_us)
            if value is None
            else Reading(signal, value, str(self._path), changed_us, state, code)
            for signal, value in rows
        )

    def _refused(self, fault: Fault, now_us: int) -> Sequence[Reading]:
        state = State.MISSING if fault is Fault.ABSENT else State.UNREADABLE
        return tuple(
            Reading(signal, None, str(self._path), now_us, state, fault)
            for signal in (Signal.IDLE_MS, Signal.ACTIVE, Signal.FULLSCREEN)
        )


def read_activity(path: Path) -> Activity:
    """Read one activity file without following a link or waiting on a pipe.

    Errors: ActivityRefused naming the fault.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as problem:
        raise _cannot_open(problem) from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ActivityRefused(Fault.NOT_REGULAR, "a regular file", stat.filemode(status.st_mode))
        if status.st_size > ACTIVITY_BYTES_MAX:
            raise ActivityRefused(
                Fault.TOO_LARGE, f"at most {ACTIVITY_BYTES_MAX} bytes", f"{status.st_size} bytes"
            )
        data = os.read(descriptor, ACTIVITY_BYTES_MAX + 1)
    except OSError as problem:
        raise _cannot_open(problem) from problem
    finally:
        os.close(descriptor)
    return parse_activity(data)


def parse_activity(data: bytes) -> Activity:
    """The activity in these bytes.

    Errors: ActivityRefused naming the fault.
    """
    document = _object(data)
    if document.get("schema") != ACTIVITY_CONTRACT:
        raise ActivityRefused(Fault.OTHER_SCHEMA, ACTIVITY_CONTRACT, repr(document.get("schema"))[:100])
    values = {name: value for name, value in document.items() if name != "schema"}
    absent = sorted(set(_FIELDS) - set(values))
    if absent:
        raise ActivityRefused(Fault.FIELD_MISSING, "every field", f"no {', '.join(absent)}")
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise ActivityRefused(Fault.FIELD_UNKNOWN, "no other field", f"{', '.join(unknown)[:200]!r}")
    for name, field in _FIELDS.items():
        _check(name, values[name], field)
    if values["power"] not in (None, *_POWERS):
        raise ActivityRefused(Fault.OUT_OF_RANGE, "power mains, battery or null", repr(values["power"])[:100])
    return Activity(**values)


def write_activity(
    path: Path,
    *,
    idle_ms: int,
    active: bool,
    wall_us: int,
    machine: str,
    fullscreen: bool | None = None,
    activity_score_bp: int = 0,
    power: str | None = None,
    charge_bp: int | None = None,
) -> Activity:
    """The reference writer: replace the file whole, with the next `seq`.

    A file that is absent or cannot be read starts again at the writer's own time
    in microseconds, which lies above every `seq` counted up from an earlier one.

    Errors: ActivityRefused for values outside the contract, ActivityUnwritable.
    """
    try:
        seq = read_activity(path).seq + 1
    except ActivityRefused as refused:
        if refused.fault in (Fault.NOT_REGULAR, Fault.SYMLINK):
            raise
        seq = wall_us
    activity = Activity(
        seq, machine, wall_us, idle_ms, active, fullscreen, activity_score_bp, power, charge_bp
    )
    data = json.dumps(activity.document(), sort_keys=True).encode("utf-8") + b"\n"
    parse_activity(data)
    _replace(path, data)
    return activity


def _cannot_open(problem: OSError) -> ActivityRefused:
    if problem.errno in (errno.ENOENT, errno.ENOTDIR):
        return ActivityRefused(Fault.ABSENT, "an activity file", "none")
    if problem.errno == errno.ELOOP:
        return ActivityRefused(Fault.SYMLINK, "a regular file", "a symbolic link")
    if problem.errno in (errno.ENXIO, errno.ENODEV, errno.EISDIR):
        return ActivityRefused(Fault.NOT_REGULAR, "a regular file", os.strerror(problem.errno))
    return ActivityRefused(Fault.FORBIDDEN, "a file we may read", problem.strerror or "an error")


def _object(data: bytes) -> Mapping[str, Any]:
    """The JSON object in these bytes."""
    if not data.strip():
        raise ActivityRefused(Fault.EMPTY, "a JSON object", "nothing")
    if len(data) > ACTIVITY_BYTES_MAX:
        raise ActivityRefused(Fault.TOO_LARGE, f"at most {ACTIVITY_BYTES_MAX} bytes", "more")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ActivityRefused(Fault.NOT_TEXT, "UTF-8", f"byte {problem.start} is not") from problem
    try:
        document = parse_strict(data, limit=ACTIVITY_BYTES_MAX)
    except DuplicateKey as problem:
        raise ActivityRefused(Fault.DUPLICATE_KEY, "each key once", problem.message) from problem
    except CanonicalInvalid as problem:
        raise ActivityRefused(Fault.TORN, "whole JSON", problem.message[:200]) from problem
    if not isinstance(document, dict):
        raise ActivityRefused(Fault.NOT_OBJECT, "a JSON object", type(document).__name__)
    return document


def _check(name: str, value: object, field: _Field) -> None:
    if value is None and field.nullable:
        return
    if type(value) is not field.kind:
        raise ActivityRefused(
            Fault.WRONG_TYPE, f"{name} to be {field.kind.__name__}", f"{type(value).__name__}"
        )
    size = len(value) if isinstance(value, str) else value
    if isinstance(size, int) and not isinstance(size, bool) and not field.least <= size <= field.greatest:
        raise ActivityRefused(
            Fault.OUT_OF_RANGE, f"{name} between {field.least} and {field.greatest}", str(size)[:40]
        )


def _replace(path: Path, data: bytes) -> None:
    """Write beside the file, then rename over it, so that a reader never sees half."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            made = Path(folder) / path.name
            made.write_bytes(data)
            made.chmod(0o644)
            os.replace(made, path)
    except OSError as problem:
        raise ActivityUnwritable(f"expected to write {path}, found {problem.strerror}") from problem
