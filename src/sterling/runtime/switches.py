"""Switches: what an operator may turn on and off, and the proof that turning it changes what it should.

The list is closed: a switch is here because something asks it today. Turning one
edits the home's file whole and writes who turned it and why, in the batch that
says that the settings changed. Whoever works for long reads the file at its next
look. `verify` turns each switch in a scratch home, through this same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import Json
from sterling.kernel.config import Config
from sterling.kernel.config_edit import SettingChange, change_setting, edit_text
from sterling.kernel.config_keys import KEYS_BY_NAME, Setting
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.home import Home, scratch_home
from sterling.runtime.conductor import live_settings
from sterling.runtime.gating_checks import CAUSE_US, GRACE_US, HERE
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.rehearsal import Played, ProbeJob, Rehearsal, rehearse, run_really
from sterling.runtime.signals import Signal

__all__ = [
    "SWITCHES",
    "Proof",
    "Switch",
    "SwitchReasonMissing",
    "SwitchUnknown",
    "find_switch",
    "set_switch",
    "verify",
]

SWITCH_SUBJECT = "runtime.switch"
_REASON_LETTERS_MAX = 1000
_LONG_MS = 9_000
_ACTIVE, _IDLE, _QUERY = "ACTIVE_CAPTURE_ONLY", "IDLE_DRAIN", "USER_QUERY"

Seen = tuple[str, str]  # A mode and its reason.


class SwitchUnknown(SterlingError):
    """There is no such switch."""

    code = "governor.switch-unknown"
    hint = "See the switches: `sterling governor switch`."
    exit = EXIT_USAGE


class SwitchReasonMissing(SterlingError):
    """A switch is turned for a reason, in words."""

    code = "governor.reason-missing"
    hint = "Say why: `sterling governor switch NAME VALUE --reason WHY`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch, and the situation in which it alone decides.

    In that situation (`premise` are the other switches) a job gets its lease with the
    value `opens` and waits with the other one.
    """

    name: str
    opens: bool
    signals: Mapping[Signal, Any]
    opened: Seen
    closed: Seen
    forced: bool = False
    premise: tuple[tuple[str, bool], ...] = ()

    @property
    def key(self) -> str:
        """Its setting."""
        return f"governor.{self.name}"

    @property
    def sentence(self) -> str:
        """What it does, as the table of settings says."""
        return KEYS_BY_NAME[self.key].sentence


SWITCHES: tuple[Switch, ...] = (
    Switch(
        "user_query_heavy",
        True,
        HERE,
        (_QUERY, "mode.query-intent"),
        (_ACTIVE, "mode.user-active"),
        forced=True,
    ),
    Switch(
        "suspend_workers",
        False,
        HERE,
        (_IDLE, "mode.active-allowed"),
        (_ACTIVE, "mode.idle-threshold"),
        premise=(("heavy_while_active", True),),
    ),
    Switch(
        "heavy_while_active",
        True,
        HERE,
        (_IDLE, "mode.active-allowed"),
        (_ACTIVE, "mode.idle-threshold"),
        premise=(("suspend_workers", False),),
    ),
    Switch(
        "heavy_on_battery",
        True,
        {Signal.POWER: "battery", Signal.CHARGE_BP: 9_000},
        (_IDLE, "mode.idle-window"),
        (_ACTIVE, "mode.on-battery"),
    ),
)


@dataclass(frozen=True, slots=True)
class Proof:
    """What turning a switch there and back showed. `problems` is empty when all is as its row says."""

    name: str
    sides: tuple[Mapping[str, Json], ...]
    stop: Mapping[str, Json]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Json]:
        """The row of `governor.switch`."""
        good = "lease, stop and entries flip as the table says, and the first value gives the first bytes"
        return {
            "name": self.name,
            "state": "failed" if self.problems else "ok",
            "because": "; ".join(self.problems) or good,
            "sides": [dict(side) for side in self.sides],
            "stop": dict(self.stop),
        }


def find_switch(name: str) -> Switch:
    """The switch of this name. Errors: SwitchUnknown."""
    for switch in SWITCHES:
        if switch.name == name:
            return switch
    names = ", ".join(switch.name for switch in SWITCHES)
    raise SwitchUnknown(f"expected one of {names}, found {name!r}", name=name)


def set_switch(
    path: Path,
    name: str,
    value: bool,
    *,
    who: str,
    reason: str,
    open_home: Callable[[], AbstractContextManager[Home]],
) -> SettingChange:
    """Turn a switch in a settings file; `entry` is -1 when it stood there already.

    Errors: SwitchUnknown, SwitchReasonMissing; config.* and what keeps the ledger from taking
            the entries, and then the file is as it was.
    """
    switch = find_switch(name)
    words = reason.strip()[:_REASON_LETTERS_MAX]
    if not words:
        raise SwitchReasonMissing(f"expected a reason for turning {name}, found none")

    def tell(batch: Batch, before: Setting, config: Config) -> None:
        payload: dict[str, Json] = {
            "name": name,
            "old": bool(before),
            "new": value,
            "who": who,
            "reason": words,
            "config_sha256": config.sha256,
        }
        batch.append("runtime.switch", payload, subject=SWITCH_SUBJECT)

    return change_setting(path, switch.key, "true" if value else "false", open_home=open_home, beside=tell)


def verify(beside: Path, switches: Iterable[Switch] = SWITCHES, *, really: bool = True) -> list[Proof]:
    """Turn each switch both ways in a scratch home: on the virtual clock and once in real workers."""
    return [_prove(beside, switch, really) for switch in switches]


def _prove(beside: Path, switch: Switch, really: bool) -> Proof:
    first = bool(KEYS_BY_NAME[switch.key].default)
    problems: list[str] = []
    with rehearse(beside) as stage:
        path = _prepare(stage.home, switch)
        bytes_before = path.read_bytes()
        sides = [_side(stage, switch, value, problems) for value in (first, not first, first)]
        if path.read_bytes() != bytes_before:
            problems.append("expected the settings file as it was after turning back, found another")
        if sides[0] != sides[2]:
            problems.append(f"expected the first value to give {sides[0]}, found {sides[2]}")
        stop = _stop(stage, switch, problems)
        _entries(stage.home, switch, first, problems)
    if really:
        with scratch_home(beside) as home:
            _prepare(home, switch)
            for side, value in zip(sides, (first, not first, first), strict=True):
                side.update(_worker(home, switch, value, problems))
    return Proof(switch.name, tuple(sides), stop, tuple(problems))


def _prepare(home: Home, switch: Switch) -> Path:
    """Put the other switches where this one decides."""
    path = home.path / "sterling.toml"
    text = path.read_text(encoding="utf-8")
    for name, value in switch.premise:
        text = edit_text(text, f"governor.{name}", value)
    path.write_text(text, encoding="utf-8")
    return path


def _turn(home: Home, switch: Switch, value: bool) -> None:
    path = home.path / "sterling.toml"
    words = {"who": "sterling", "reason": "verifying the switch"}
    set_switch(path, switch.name, value, open_home=lambda: nullcontext(home), **words)


def _play(
    stage: Rehearsal, switch: Switch, job: ProbeJob, turn_at: Callable[[int], None] | None = None
) -> Played:
    look = live_settings(stage.home)

    def now(gone_us: int) -> GovernorSettings:
        if turn_at is not None:
            turn_at(gone_us)
        return look()

    return stage.play([job], ((0, switch.signals),), settings=look(), settings_at=now, forced=switch.forced)


def _side(stage: Rehearsal, switch: Switch, value: bool, problems: list[str]) -> dict[str, Json]:
    """What one value lets a job do."""
    _turn(stage.home, switch, value)
    played = _play(stage, switch, ProbeJob("a"))
    mode, reason = switch.opened if value == switch.opens else switch.closed
    found = played.end_of("a")
    _expect(f"{value}: end", _end_of(switch, value), found, problems)
    _expect(f"{value}: modes", [(mode, reason)], [seen[1:] for seen in played.modes], problems)
    tag = played.dispatches["a"].mode if "a" in played.dispatches else ""
    _expect(f"{value}: mode of the dispatch", mode, tag, problems)
    modes: list[Json] = [f"{seen[1]} {seen[2]}" for seen in played.modes]
    return {
        "value": value,
        "lease": found[0],
        "lease_reason": found[1],
        "modes": modes,
        "worker": "",
        "worker_reason": "",
    }


def _stop(stage: Rehearsal, switch: Switch, problems: list[str]) -> dict[str, Json]:
    """Turn the switch against a job that runs; the look at one second sees it."""
    _turn(stage.home, switch, switch.opens)
    turned: list[int] = []

    def turn_at(gone_us: int) -> None:
        if gone_us >= CAUSE_US and not turned:
            turned.append(gone_us)
            _turn(stage.home, switch, not switch.opens)

    played = _play(stage, switch, ProbeJob("a", _LONG_MS), turn_at)
    asked = {name: at_us - CAUSE_US for name, at_us in played.asked.items()}
    found = played.end_of("a")
    _expect("asked to stop", {"a": GRACE_US}, asked, problems)
    _expect("end of the running job", ("yielded", switch.closed[1]), found, problems)
    _expect("modes", [switch.opened, switch.closed], [seen[1:] for seen in played.modes], problems)
    return {"asked_us": asked.get("a"), "end": found[0], "reason": found[1]}


def _entries(home: Home, switch: Switch, first: bool, problems: list[str]) -> None:
    """Each turn is one entry, and each names the settings that it led to."""
    entries = [entry.payload for entry in home.ledger.read(kind="runtime.switch")]
    values = [first]
    for value in (not first, first, switch.opens, not switch.opens):
        if value != values[-1]:
            values.append(value)
    expected = list(pairwise(values))
    _expect("entries", expected, [(entry["old"], entry["new"]) for entry in entries], problems)
    told = [entry.payload["after"] for entry in home.ledger.read(kind="config.changed")]
    if not {entry["config_sha256"] for entry in entries} <= set(told):
        problems.append("expected each entry to name settings that came into force, found others")


def _worker(home: Home, switch: Switch, value: bool, problems: list[str]) -> dict[str, Json]:
    _turn(home, switch, value)
    played = run_really(home, ProbeJob("a", 20), ((0, switch.signals),), forced=switch.forced)
    found = played.end_of("a")
    _expect(f"{value}: end in a worker", _end_of(switch, value), found, problems)
    return {"worker": found[0], "worker_reason": found[1]}


def _end_of(switch: Switch, value: bool) -> Seen:
    return ("completed", "ok") if value == switch.opens else ("not_admitted", switch.closed[1])


def _expect(what: str, expected: object, found: object, problems: list[str]) -> None:
    if expected != found:
        problems.append(f"{what}: expected {expected}, found {found}")
