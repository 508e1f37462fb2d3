"""`sterling governor`: may heavy work run now, what would have happened, and who tells it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sterling.cli import face as faces
from sterling.cli import plain
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.runtime.budgets import Window
    from sterling.runtime.governor_settings import GovernorSettings
    from sterling.runtime.heavy_gate import GateReport

__all__ = ["command"]

_SIMULATE_HELP = """A line of signals, where only at_us is required and null means missing:

\b
  {"at_us": 0, "idle_ms": 60000, "fullscreen": false, "cpu_other_bp": 400,
   "ram_used_bp": 3000, "power": "mains", "query_intent": false}

A signal that a line leaves out keeps its value; idle time grows by itself.
A line of jobs, where id and run_ms are required:

\b
  {"id": "a", "at_us": 0, "run_ms": 900, "estimate_ms": 1000, "origin": "drain",
   "weight": "heavy", "suspend": "kill", "stops_in_ms": 20}
"""


@click.group("governor")
def command() -> None:
    """May heavy work run now, and why."""


@command.command("explain")
@click.option("--at", metavar="TIME", help="An earlier moment, from what passes kept then.")
@faces.options
def explain(at: str | None, *, face: Face) -> None:
    """Read this machine's signals and say what may run, row by row. Changes nothing.

    With --at the answer comes from the ledger: why did nothing run last night?
    """
    if at is not None:
        _explain_at(face, at)
    import time

    from sterling.kernel.clock import SystemClock
    from sterling.runtime import explain as explaining
    from sterling.runtime.signal_sources import default_sources

    settings, window, home = _standing(face)
    seen = explaining.observe(default_sources(settings), SystemClock(), settings, time.sleep)
    result = explaining.explain(seen, settings, window, home=home)
    face.present(result, contract="governor.explain@1.0", text=_explanation(result))


@command.command("simulate", epilog=_SIMULATE_HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.Path(path_type=Path), help="Lines of jobs that want to run.")
@faces.options
def simulate(file: Path, jobs: Path | None, *, face: Face) -> None:
    """Play recorded signals through the same deciders; the same input gives the same bytes."""
    from sterling.runtime.simulate import simulate as play
    from sterling.runtime.simulate_input import read_jobs, read_signals

    settings = _settings(face)
    wanted = read_jobs(jobs) if jobs is not None else []
    report = play(read_signals(file), settings, wanted)
    result = {"events": list(report.events), "summary": report.summary}
    face.present(result, contract="governor.simulate@1.0", text=_played(result))


@command.command("forecast")
@click.option("--days", type=click.IntRange(1, 365), default=7, show_default=True, help="Days allowed.")
@faces.options
def forecast(days: int, *, face: Face) -> None:
    """When what waits will be done, from what passes saw of this machine.

    Exit 0, 1 if it takes longer than the days allowed, 4 if too little was seen to say.
    """
    from dataclasses import asdict

    from sterling.app import forecast_home

    with face.open_home(read_only=True) as home:
        result = asdict(forecast_home(home, days))
    lines = [f"{result['state']}: {result['because']}"]
    lines += [
        f"{plain.text(row['kind'])}: {row['pending']} wait, {_ms(row['work_ms'])}, "
        f"learned from {row['learned_from']} jobs"
        for row in result["kinds"]
    ]
    lines.append(
        f"idle {result['idle_bp'] // 100} % of {result['seen_us'] // 60_000_000} minutes seen; "
        f"a day has room for {_ms(result['day_ms'])}"
    )
    status = {"late": 1, "na": 4}.get(result["state"], 0)
    result["kinds"] = list(result["kinds"])
    face.present(result, contract="governor.forecast@1.0", text="\n".join(lines), exit=status)


@command.command("gate")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What this command printed before with --json: answers that stood then and now.",
)
@faces.options
def gate(baseline: Path | None, *, face: Face) -> None:
    """Try the whole heavy path in a scratch home: what is let in, kept out, stopped, and produced.

    Exit 0 if all holds, 1 if gating is broken or nothing was produced, 4 if only a service is missing.
    """
    from sterling.app import judge_heavy_path
    from sterling.kernel.home import is_home

    keep = face.home_option is not None or is_home(face.home_path)
    report, entry = judge_heavy_path(face.home_path, keep=keep, baseline=baseline)
    result = report.as_json() | {"home": str(face.home_path) if keep else "", "entry": entry}
    face.present(result, contract="governor.gate@1.0", text=_judged(report, entry), exit=report.exit_status)


@command.command("switch")
@click.argument("name", required=False)
@click.argument("value", required=False, type=click.Choice(("true", "false", "on", "off")))
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the ledger.")
@click.option("--verify", is_flag=True, help="Turn NAME, or each switch, both ways in a scratch home.")
@faces.options
def switch(name: str | None, value: str | None, reason: str, verify: bool, *, face: Face) -> None:
    """Show the switches, turn NAME to VALUE, or prove with --verify that turning one changes what it should.

    Exit 0, or 1 if a switch does not do what its row says.
    """
    if verify and value is not None:
        raise click.UsageError("expected --verify without a value, found both")
    if name is not None and value is None and not verify:
        raise click.UsageError(f"expected `switch {name} true` or `false`, found no value")
    if verify:
        _verify_switches(face, name)
    if name is None or value is None:
        _list_switches(face)
    else:
        _turn_switch(face, name, value in ("true", "on"), reason)


@command.command("write-activity")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--idle-ms", type=click.IntRange(min=0), help="Instead of what this machine reads.")
@click.option("--active/--not-active", default=None, help="Instead of what this machine reads.")
@click.option("--fullscreen/--no-fullscreen", default=None, help="Instead of what this machine reads.")
@click.option("--machine", help="Name of this machine (default: its host name).")
@click.option("--every-ms", type=click.IntRange(100, 60_000), default=1_000, show_default=True)
@click.option("--count", type=click.IntRange(min=0), default=1, show_default=True, help="0: until Ctrl-C.")
@faces.options
def write_activity(
    path: Path,
    idle_ms: int | None,
    active: bool | None,
    fullscreen: bool | None,
    machine: str | None,
    every_ms: int,
    count: int,
    *,
    face: Face,
) -> None:
    """Tell another machine's governor how active this one's person is.

    A reader believes the file once it has changed: let it run with --count 0.
    """
    from sterling.runtime.activity_writer import Told, write_repeatedly

    told = Told(idle_ms=idle_ms, active=active, fullscreen=fullscreen, machine=machine)
    last = write_repeatedly(path, told, every_ms=every_ms, count=count)
    face.present(
        last.document(),
        contract="runtime.activity@1.0",
        text=f"ok {plain.text(str(path))} seq {last.seq}",
    )


def _explain_at(face: Face, text: str) -> NoReturn:
    from sterling.cli.words import table
    from sterling.runtime.explain_at import explain_at, parse_moment
    from sterling.runtime.governor_settings import GovernorSettings

    with face.open_home(read_only=True) as home:
        settings = GovernorSettings.from_config(home.config)
        result = explain_at(home, parse_moment(text, home.clock.wall_us()), settings)
    lines = [result["sentence"]]
    if result["mode"]:
        lines.append(f"{result['mode']}  ({result['reason']}, row {result['row']}), as written down then")
    if result["rows"]:
        values = ((one["signal"], "-" if one["value"] is None else one["value"]) for one in result["signals"])
        lines += ["signals: " + ", ".join(f"{name} {plain.text(str(value))}" for name, value in values), ""]
        cells = [
            [
                "=>" if row["matched"] else "",
                str(row["row"]),
                "yes" if row["holds"] else "no",
                row["condition"],
                row["reason"],
            ]
            for row in result["rows"]
        ]
        lines.append(table(cells, ["", "row", "holds", "condition", "reason"]))
    if result["settings_changed"]:
        lines.append("Settings have changed since: the rows are shown under today's.")
    face.present(result, contract="governor.explain-at@1.0", text="\n".join(lines))


def _list_switches(face: Face) -> NoReturn:
    from dataclasses import asdict

    from sterling.cli.words import table
    from sterling.runtime.switches import SWITCHES

    settings = asdict(_settings(face))
    rows = [
        {"name": one.name, "key": one.key, "sentence": one.sentence, "value": settings[one.name]}
        for one in SWITCHES
    ]
    cells = [[row["name"], "true" if row["value"] else "false", row["sentence"]] for row in rows]
    result = {"action": "list", "entry": -1, "switches": rows, "proofs": []}
    face.present(
        result, contract="governor.switch@1.0", text=table(cells, ["switch", "value", "what it does"])
    )


def _turn_switch(face: Face, name: str, value: bool, reason: str) -> NoReturn:
    import getpass

    from sterling.kernel.home import open_home
    from sterling.runtime.switches import find_switch, set_switch

    one = find_switch(name)
    change = set_switch(
        face.settings_file(),
        name,
        value,
        who=getpass.getuser(),
        reason=reason,
        open_home=lambda: open_home(face.home_path),
    )
    row = {"name": name, "key": one.key, "sentence": one.sentence, "value": value}
    result = {"action": "set", "entry": change.entry, "switches": [row], "proofs": []}
    words = f"{name} is {str(value).lower()}"
    told = f"{words} already" if change.entry < 0 else f"{words} from the next look on, entry {change.entry}"
    face.present(result, contract="governor.switch@1.0", text=told)


def _verify_switches(face: Face, name: str | None) -> NoReturn:
    import tempfile

    from sterling.cli.words import state_word
    from sterling.runtime.switches import SWITCHES, find_switch, verify

    chosen = SWITCHES if name is None else (find_switch(name),)
    with tempfile.TemporaryDirectory(prefix="sterling-switch-") as folder:
        proofs = verify(Path(folder), chosen)
    failed = any(proof.problems for proof in proofs)
    lines = []
    for proof in proofs:
        document = proof.as_json()
        lines.append(f"{state_word(str(document['state']))}  {proof.name}: {document['because']}")
        for side in proof.sides[:2]:
            lines.append(
                f"    {str(side['value']).lower():<5}  lease: {side['lease']} {side['lease_reason']}; "
                f"worker: {side['worker']} {side['worker_reason']}"
            )
        asked = proof.stop["asked_us"]
        waited = "not asked to stop" if asked is None else f"asked to stop after {_ms(int(str(asked)))}"
        lines.append(f"    turned while a job runs: {waited}, {proof.stop['end']} {proof.stop['reason']}")
    result = {
        "action": "verify",
        "entry": -1,
        "switches": [],
        "proofs": [proof.as_json() for proof in proofs],
    }
    face.present(result, contract="governor.switch@1.0", text="\n".join(lines), exit=int(failed))


def _settings(face: Face) -> GovernorSettings:
    """The settings of the home, or the defaults where there is no home."""
    return _standing(face)[0]


def _standing(face: Face) -> tuple[GovernorSettings, Window, str]:
    """(settings, budget window, home), read and left as they are."""
    from sterling.kernel.clock import SystemClock
    from sterling.kernel.config import default_config
    from sterling.kernel.home import is_home
    from sterling.runtime import budgets
    from sterling.runtime.governor_settings import GovernorSettings
    from sterling.runtime.window_store import read_window

    if face.home_option is None and not is_home(face.home_path):
        settings = GovernorSettings.from_config(default_config().with_overrides(face.settings))
        limits = budgets.limits_of(settings)
        return settings, budgets.first_window(limits, SystemClock().boot_us()), ""
    with face.open_home(read_only=True) as home:
        settings = GovernorSettings.from_config(home.config)
        limits = budgets.limits_of(settings)
        window, position = read_window(home.ledger, limits, home.clock)
        now_us = position.position_us
        current = budgets.charge(budgets.advance(window, limits, now_us)[0], limits, now_us)
        return settings, current, str(home.path)


def _explanation(result: dict[str, Any]) -> str:
    from sterling.cli.words import table

    allowed = "heavy work may run" if result["heavy"] else "no heavy work"
    lines = [
        f"{result['mode']}: {allowed}",
        f"{result['sentence']}  ({result['reason']}, row {result['row']})",
        *(f"{doubt['sentence']}  ({doubt['reason']})" for doubt in result["because"]),
        f"next: {result['hint']}",
        "",
    ]
    rows = [
        [
            "=>" if row["matched"] else "",
            str(row["row"]),
            "yes" if row["holds"] else "no",
            row["condition"],
            "; ".join(_reading(reading) for reading in row["readings"]) or "-",
        ]
        for row in result["rows"]
    ]
    lines += [table(rows, ["", "row", "holds", "condition", "reading"]), "", _budget(result["window"])]
    if not result["home"]:
        lines.append("No home: default settings apply.")
    return "\n".join(lines)


def _judged(report: GateReport, entry: int) -> str:
    from sterling.cli.words import state_word, table
    from sterling.runtime.reasons import Reason, hint_of

    cells = [[state_word(row.state), row.id, plain.text(row.because, width=160)] for row in report.rows]
    lines = [table(cells, ["", "row", "what was seen"]), ""]
    codes = dict.fromkeys(row.code for row in report.rows if row.code)
    lines += [f"{code}: {hint_of(Reason(code))}" for code in codes]
    kept = f", entry {entry}" if entry >= 0 else ", written nowhere: there is no home"
    return "\n".join([*lines, f"{report.verdict}: {len(report.rows)} rows{kept}"])


def _reading(reading: dict[str, Any]) -> str:
    value = reading["value"]
    word = ("yes" if value else "no") if isinstance(value, bool) else "none" if value is None else str(value)
    return f"{reading['signal']} {word} ({plain.text(reading['source'])}, {reading['state']})"


def _budget(window: dict[str, Any]) -> str:
    return (
        f"window {window['index']}: {_ms(window['remaining_us'])} of {_ms(window['budget_us'])} left, "
        f"{_ms(max(0, window['idle_remaining_us']))} of it for idle work; "
        f"spent {_ms(window['spent_us'])}, reserved {_ms(window['reserved_us'])}, "
        f"debt {_ms(window['debt_us'])}; jobs {window['jobs']} of {window['jobs'] + window['jobs_left']}, "
        f"in flight {window['in_flight']} of {window['in_flight_max']}"
    )


def _ms(amount_us: int) -> str:
    return f"{amount_us // 1000} ms"


def _played(result: dict[str, Any]) -> str:
    lines = [_line(event) for event in result["events"]]
    summary = result["summary"]
    shares = ", ".join(f"{mode} {_ms(spent)}" for mode, spent in summary["mode_us"].items())
    ends = ", ".join(f"{end} {count}" for end, count in summary["ends"].items()) or "none"
    lines.append(
        f"{summary['lines']} lines, {summary['ticks']} looks; {shares}; "
        f"ends: {ends}; waiting {summary['queued']}, running {summary['running']}"
    )
    return "\n".join(lines)


def _line(event: dict[str, Any]) -> str:
    """One event on one line: the time since the clock's start, what, and its fields by name."""
    at_ms, part_us = divmod(event["at_us"], 1000)
    fields = [
        f"{name}={plain.text(','.join(value) if isinstance(value, list) else str(value))}"
        for name, value in event.items()
        if name not in ("at_us", "event") and value not in ("", [])
    ]
    return f"{at_ms}.{part_us:03} ms  {event['event']:<12}  {' '.join(fields)}"
