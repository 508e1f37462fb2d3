"""`sterling governor`: what it prints, under which contract, and how it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel.batch import Batch
from sterling.kernel.clock import SystemClock
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import init_home, open_home
from sterling.runtime import budgets
from sterling.runtime.budgets import Account, Lease
from sterling.runtime.explain import explain, observe
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.signal_file import ActivityFileSource, read_activity, write_activity
from sterling.runtime.signals import Reading, Signal, State
from sterling.runtime.window_store import position_now, read_window, write_window
from sterling.testing.clock import FakeClock

Run = Callable[..., tuple[int, str, str]]
SETTINGS = GovernorSettings()
LINE = {
    "at_us": 0,
    "idle_ms": 60_000,
    "fullscreen": False,
    "cpu_other_bp": 0,
    "ram_used_bp": 0,
    "power": "mains",
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["governor", *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def _document(out: str, contract: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(out)
    assert next(iter(document)) == "contract" and document["contract"] == f"{contract}@1.0"
    load_contracts().validate(contract, document)
    return document


# explain


def test_explain_reads_this_machine_and_shows_every_row_with_its_reading(run: Run) -> None:
    status, out, _ = run("explain", "--json")

    document = _document(out, "governor.explain")
    assert status == 0 and document["home"] == ""
    assert [row["row"] for row in document["rows"]] == list(range(1, 11))
    (matched,) = [row for row in document["rows"] if row["matched"]]
    assert matched["holds"] and matched["row"] == document["row"]
    assert (matched["mode"], matched["reason"]) == (document["mode"], document["reason"])
    assert not any(row["holds"] for row in document["rows"] if row["row"] < document["row"])
    memory = next(r for r in document["signals"] if r["signal"] == "ram_used_bp")
    assert memory["state"] == "fresh" and "/" in memory["source"]
    assert {r["signal"] for r in document["sources"]} >= {"cpu_other_bp", "ram_used_bp"}


def test_explain_shows_the_window_of_a_home_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "home"
    with init_home(path) as home:
        settings = GovernorSettings.from_config(home.config)
        limits = budgets.limits_of(settings)
        position = position_now(None, home.clock)
        lease = Lease("d1", "job", Account.QUERY, 5_000_000, position.position_us, 5_000_000)
        window = budgets.reserve(budgets.first_window(limits, position.position_us), limits, lease)
        batch = Batch()
        write_window(batch, window, limits, position)
        home.ledger.commit(batch)
        size = home.ledger.size()

    status, out, _ = run("explain", "--home", str(path))

    assert status == 0
    assert "in flight 1 of" in out and "jobs 1 of 256" in out
    with open_home(path, read_only=True) as home:
        assert home.ledger.size() == size


def test_the_window_goes_on_after_a_restart_where_it_was_written(tmp_path: Path) -> None:
    limits = budgets.limits_of(SETTINGS)
    clock = FakeClock()
    with init_home(tmp_path / "home", clock=clock) as home:
        empty, position = read_window(home.ledger, limits, clock)
        lease = Lease("d1", "job", Account.IDLE, 9_000_000, position.position_us, 9_000_000)
        window = budgets.reserve(empty, limits, lease)
        batch = Batch()
        write_window(batch, window, limits, position)
        home.ledger.commit(batch)

        clock.reboot()
        clock.step_wall(2_000_000)
        again, later = read_window(home.ledger, limits, clock)

    assert again == window
    assert later.position_us == position.position_us + 2_000_000


def test_explain_takes_a_setting_for_itself_alone(run: Run) -> None:
    status, out, _ = run(
        "explain", "--json", "--set", "governor.ram_limit_bp=1", "--set", "governor.cpu_limit_bp=0"
    )

    document = json.loads(out)
    assert status == 0 and document["settings"]["ram_limit_bp"] == 1
    assert document["rows"][2]["holds"]


def test_explain_refuses_a_limit_beyond_its_maximum(run: Run) -> None:
    status, _, err = run("explain", "--set", "governor.cpu_limit_bp=10001")

    assert status == 2 and "governor.cpu_limit_bp" in err


def test_explain_refuses_a_home_that_is_not_there(run: Run, tmp_path: Path) -> None:
    status, _, err = run("explain", "--home", str(tmp_path / "none"))

    assert status == 2 and "home." in err


class _Script:
    """A clock and a pause on which a test hangs what happens in between."""

    def __init__(self, *happenings: Callable[[], None]) -> None:
        self.clock = FakeClock()
        self.pauses = 0
        self._happenings = list(happenings)

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        self.clock.advance(int(seconds * 1_000_000))
        if self._happenings:
            self._happenings.pop(0)()


def test_looking_takes_a_second_and_no_longer_without_an_activity_file() -> None:
    script = _Script()

    observe([], script.clock, SETTINGS, script.pause)

    assert script.pauses == 4


def test_looking_waits_for_an_activity_file_to_change_but_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    def write() -> None:
        write_activity(path, idle_ms=90_000, active=False, wall_us=5, machine="m", fullscreen=False)

    write()
    nothing = [lambda: None] * 7
    changing, silent = _Script(*nothing, write), _Script()
    seen = observe([ActivityFileSource(path)], changing.clock, SETTINGS, changing.pause)
    given_up = observe([ActivityFileSource(path)], silent.clock, SETTINGS, silent.pause)

    assert changing.pauses == 8 and not seen.signals.active
    assert silent.pauses == 20 and given_up.signals.active


def test_what_a_source_says_is_shown_with_its_state_and_code() -> None:
    class Broken:
        def read(self, clock: object) -> list[Reading]:
            return [Reading(Signal.IDLE_MS, None, "\x1b[2Jfile", 0, State.UNREADABLE, "activity.torn")]

    script = _Script()
    seen = observe([Broken()], script.clock, SETTINGS, script.pause)

    result = explain(seen, SETTINGS, budgets.first_window(budgets.limits_of(SETTINGS), 0))

    load_contracts().validate("governor.explain", result)
    assert result["sources"][0]["code"] == "activity.torn"
    # Processor use is not known either, and its row comes first.
    assert (result["row"], result["because"][0]["reason"]) == (2, "signal.missing")
    from sterling.cli.governor import _explanation

    assert "\x1b" not in _explanation(result)


# simulate


def _save(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_simulate_prints_modes_leases_ends_and_windows(run: Run, tmp_path: Path) -> None:
    signals = _save(tmp_path / "s", LINE, {"at_us": 20_000_000})
    jobs = _save(tmp_path / "j", {"id": "a", "run_ms": 900})

    status, out, _ = run("simulate", signals, "--jobs", jobs, "--json")
    text = run("simulate", signals, "--jobs", jobs)[1]

    document = _document(out, "governor.simulate")
    assert status == 0
    assert [event["event"] for event in document["events"]] == ["mode", "lease", "end", "window"]
    assert "0.000 ms  mode" in text and "900.000 ms  end" in text
    assert text.splitlines()[-1].endswith("ends: completed 1; waiting 0, running 0")


def test_simulate_prints_the_same_bytes_every_time(run: Run, tmp_path: Path) -> None:
    rows = [{**LINE, "at_us": n * 250_000, "idle_ms": (n % 300) * 250} for n in range(2_000)]
    signals = _save(tmp_path / "s", *rows)

    assert run("simulate", signals, "--json") == run("simulate", signals, "--json")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.write_text(""), "simulate.empty"),
        (lambda path: path.mkdir(), "simulate.unreadable"),
        (lambda path: None, "simulate.unreadable"),
        (lambda path: os.mkfifo(path), "cli.bad-value"),
        (lambda path: path.write_bytes(b"\0\1\2" * 99), "simulate.unreadable"),
        (lambda path: path.write_text('{"at_us": 1}\n{"at_u'), "simulate.line-invalid"),
        (lambda path: path.write_bytes(b'{"at_us": 1}\n\xff\xfe\n'), "simulate.line-invalid"),
        (
            lambda path: path.write_text('{"at_us": 1}\n{"at_us": 9007199254740991}\n'),
            "simulate.span-too-long",
        ),
    ],
)
@pytest.mark.parametrize("which", ["signals", "jobs"])
def test_bad_input_gets_a_code_a_sentence_and_a_next_step(
    run: Run, tmp_path: Path, make: Callable[[Path], object], code: str, which: str
) -> None:
    bad = tmp_path / "bad"
    make(bad)
    arguments = [str(bad)] if which == "signals" else [_save(tmp_path / "s", LINE), "--jobs", str(bad)]
    if which == "jobs" and code == "simulate.span-too-long":
        code = "simulate.line-invalid"

    status, out, err = run("simulate", *arguments)
    as_json = json.loads(run("simulate", *arguments, "--json")[1])

    assert (status, out) == (2, "")
    first, second = err.strip().splitlines()
    assert first.startswith(f"{code}: ") and "expected " in first and ", found " in first
    assert second.startswith("next: ") and "`sterling governor simulate --help`" in second
    assert as_json["error"]["code"] == code


def test_simulate_help_shows_lines_that_it_accepts(run: Run, tmp_path: Path) -> None:
    text = run("simulate", "--help")[1]
    shown = [part.split("}")[0] for part in text.split("{")[1:]]
    signals, jobs = ("{" + " ".join(part.split()) + "}" for part in shown)

    (tmp_path / "s").write_text(signals + "\n")
    (tmp_path / "j").write_text(jobs + "\n")
    assert run("simulate", str(tmp_path / "s"), "--jobs", str(tmp_path / "j"))[0] == 0


# write-activity


def test_write_activity_writes_a_file_that_the_reader_believes_after_a_change(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "activity.json"
    source, clock = ActivityFileSource(path), SystemClock()
    for _ in range(2):
        status, out, _ = run(
            "write-activity", str(path), "--idle-ms", "70000", "--no-fullscreen", "--machine", "m"
        )
        readings = source.read(clock)

    assert status == 0 and out == f"ok {path} seq {read_activity(path).seq}\n"
    idle = next(reading for reading in readings if reading.signal is Signal.IDLE_MS)
    assert idle.state is State.FRESH and isinstance(idle.value, int) and idle.value >= 70_000


def test_write_activity_says_what_it_wrote_under_the_files_contract(run: Run, tmp_path: Path) -> None:
    out = run("write-activity", str(tmp_path / "a"), "--idle-ms", "0", "--json")[1]

    document = json.loads(out)
    assert document.pop("contract") == "runtime.activity@1.0"
    assert load_contracts().validate("runtime.activity", document) == "runtime.activity@1.0"
    assert document["active"] is True


def test_write_activity_can_go_on_writing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("sterling.runtime.activity_writer.time.sleep", waited.append)

    run("write-activity", str(tmp_path / "a"), "--count", "3", "--every-ms", "250", "--idle-ms", "1")

    assert waited == [0.25, 0.25]


@pytest.mark.parametrize("kind", ["folder", "no parent", "link"])
def test_write_activity_refuses_what_is_no_file(run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "target"
    if kind == "folder":
        path.mkdir()
    elif kind == "no parent":
        path = tmp_path / "none" / "target"
    else:
        path.symlink_to(tmp_path / "elsewhere")

    status, _, err = run("write-activity", str(path), "--idle-ms", "1")

    assert status == 2 and "next: " in err
    assert not (tmp_path / "elsewhere").exists()
