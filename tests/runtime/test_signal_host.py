"""Readings of the host from made-up `/proc` and `/sys` trees, and once from the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from sterling.kernel.clock import SystemClock
from sterling.runtime.governor_settings import GovernorSettings
from sterling.runtime.signal_host import HostSource
from sterling.runtime.signal_power import PowerSource
from sterling.runtime.signals import Reading, Signal, State, fuse
from sterling.testing.clock import FakeClock

ROOT = 100
GIB = 1024 * 1024


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class _Machine:
    """A `/proc` whose numbers a test moves; ticks of all processors, and per process."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.cgroup = folder / "proc", folder / "cgroup"
        self.user, self.idle = 1_000, 9_000
        self.processes: dict[int, list[int]] = {}  # pid -> [ticks, ticks of ended children]
        self.children: dict[int, list[int]] = {}
        self.add(ROOT, 50)
        _write(self.proc / "meminfo", f"MemTotal: {8 * GIB} kB\nMemFree: 1 kB\nMemAvailable: {6 * GIB} kB\n")
        self.save()

    def add(self, pid: int, ticks: int = 0, parent: int | None = None) -> None:
        self.processes[pid] = [ticks, 0]
        if parent is not None:
            self.children.setdefault(parent, []).append(pid)

    def reap(self, pid: int, parent: int) -> None:
        own, ended = self.processes.pop(pid)
        self.children[parent].remove(pid)
        self.processes[parent][1] += own + ended
        (self.proc / str(pid) / "stat").unlink()

    def save(self) -> None:
        _write(self.proc / "stat", f"cpu  {self.user} 0 0 {self.idle} 0 0 0 0 9 9\ncpu0 1 2 3 4\nintr 5\n")
        for pid, (ticks, ended) in self.processes.items():
            fields = f"S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 {ended} 0 20 0 1 0 0"
            _write(self.proc / str(pid) / "stat", f"{pid} (odd ) name) {fields}")
            below = " ".join(str(child) for child in self.children.get(pid, ()))
            _write(self.proc / str(pid) / "task" / str(pid) / "children", below)

    def source(self) -> HostSource:
        return HostSource(ROOT, proc=self.proc, cgroup=self.cgroup)


def _cpu(source: HostSource, clock: FakeClock) -> Reading:
    return next(r for r in source.read(clock) if r.signal is Signal.CPU_OTHER_BP)


def _ram(source: HostSource) -> Reading:
    return next(r for r in source.read(FakeClock()) if r.signal is Signal.RAM_USED_BP)


def _stall(source: HostSource) -> Reading:
    return next(r for r in source.read(FakeClock()) if r.signal is Signal.STALL_BP)


def test_processor_use_is_missing_until_a_second_has_passed(tmp_path: Path) -> None:
    machine, clock = _Machine(tmp_path), FakeClock()
    source = machine.source()

    states = []
    for _ in range(5):
        states.append(_cpu(source, clock).state)
        clock.advance(250_000)
        machine.idle += 50
        machine.save()

    assert states == [State.MISSING] * 4 + [State.FRESH]


def test_our_own_tree_is_left_out_over_the_same_second(tmp_path: Path) -> None:
    machine, clock = _Machine(tmp_path), FakeClock()
    machine.add(200, 0, parent=ROOT)
    machine.add(300, 0, parent=200)
    machine.save()
    source = machine.source()
    _cpu(source, clock)

    clock.advance(1_000_000)
    machine.user, machine.idle = machine.user + 150, machine.idle + 50
    machine.processes[300][0] += 80
    machine.processes[ROOT][0] += 20
    machine.save()

    assert _cpu(source, clock).value == 2_500


def test_a_child_that_ended_stays_ours(tmp_path: Path) -> None:
    machine, clock = _Machine(tmp_path), FakeClock()
    machine.add(200, 0, parent=ROOT)
    machine.save()
    source = machine.source()
    _cpu(source, clock)

    clock.advance(1_000_000)
    machine.processes[200][0] = 100
    machine.reap(200, ROOT)
    machine.user, machine.idle = machine.user + 100, machine.idle + 100
    machine.save()

    assert _cpu(source, clock).value == 0


def test_a_process_that_left_our_tree_counts_as_others_work(tmp_path: Path) -> None:
    machine, clock = _Machine(tmp_path), FakeClock()
    machine.add(200, 500, parent=ROOT)
    machine.save()
    source = machine.source()
    _cpu(source, clock)

    clock.advance(1_000_000)
    machine.children[ROOT].clear()
    machine.user, machine.idle = machine.user + 100, machine.idle + 100
    machine.save()

    assert _cpu(source, clock).value == 5_000


def test_a_long_pause_says_nothing_about_the_last_second(tmp_path: Path) -> None:
    machine, clock = _Machine(tmp_path), FakeClock()
    source = machine.source()
    _cpu(source, clock)

    clock.advance(3_000_001)
    machine.user += 900
    machine.save()

    assert _cpu(source, clock).state is State.MISSING


@pytest.mark.parametrize("text", ["", "cpu", "cpu a b c d", "mem 1 2 3 4", "cpu 1 2\n"])
def test_an_unreadable_stat_is_unreadable_and_counts_as_full(tmp_path: Path, text: str) -> None:
    machine, clock = _Machine(tmp_path), FakeClock()
    source = machine.source()
    _write(machine.proc / "stat", text)

    readings = source.read(clock)

    assert readings[0].state is State.UNREADABLE
    assert fuse(readings, clock.boot_us(), GovernorSettings()).cpu_other_bp == 10_000


def test_memory_is_what_is_not_available(tmp_path: Path) -> None:
    assert _ram(_Machine(tmp_path).source()).value == 2_500


@pytest.mark.parametrize(
    "text",
    ["", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "MemTotal: 0 kB\nMemAvailable: 0 kB"],
)
def test_unreadable_memory_counts_as_full(tmp_path: Path, text: str) -> None:
    machine = _Machine(tmp_path)
    _write(machine.proc / "meminfo", text)

    assert _ram(machine.source()).state is State.UNREADABLE


def _group(folder: Path, limit: str, used: int, cold: int) -> None:
    _write(folder / "memory.max", limit)
    _write(folder / "memory.current", str(used))
    _write(folder / "memory.stat", f"anon 5\ninactive_file {cold}\n")


def test_the_lower_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    machine = _Machine(tmp_path)
    _write(machine.proc / str(ROOT) / "cgroup", "0::/app/job\n")
    _group(machine.cgroup / "app" / "job", "max", 10, 0)
    _group(machine.cgroup / "app", "1000000", 900_000, 100_000)

    reading = _ram(machine.source())

    assert reading.value == 8_000 and reading.source.endswith("/app")


def test_a_group_whose_limit_is_above_the_machine_or_absent_is_no_limit(tmp_path: Path) -> None:
    machine = _Machine(tmp_path)
    _write(machine.proc / str(ROOT) / "cgroup", "0::/../../etc\nbroken\n7:cpu:/x\n")
    _group(machine.cgroup / "etc", str(9_000 * GIB * 1024), 8_999 * GIB * 1024, 0)

    assert _ram(machine.source()).value == 2_500


def test_a_group_of_the_first_version_counts_too(tmp_path: Path) -> None:
    machine = _Machine(tmp_path)
    _write(machine.proc / str(ROOT) / "cgroup", "5:cpu,memory:/box\n")
    box = machine.cgroup / "memory" / "box"
    _write(box / "memory.limit_in_bytes", "1000")
    _write(box / "memory.usage_in_bytes", "700")
    _write(box / "memory.stat", "total_inactive_file 100\n")

    assert _ram(machine.source()).value == 6_000


def test_the_worst_pressure_counts_and_none_is_no_reading(tmp_path: Path) -> None:
    machine = _Machine(tmp_path)

    assert _stall(machine.source()).state is State.MISSING
    _write(machine.proc / "pressure" / "cpu", "some avg10=1.50 avg60=0.11 avg300=0.28 total=6\n")
    _write(machine.proc / "pressure" / "io", "some avg10=12.07 avg60=0 avg300=0 total=6\nfull avg10=99.00\n")
    assert _stall(machine.source()).value == 1_207


def test_a_torn_pressure_file_alone_is_unreadable(tmp_path: Path) -> None:
    machine = _Machine(tmp_path)
    _write(machine.proc / "pressure" / "cpu", "full avg10=1.00\n")

    assert _stall(machine.source()).state is State.UNREADABLE


def test_the_real_machine_tells_its_memory() -> None:
    readings = {reading.signal: reading for reading in HostSource().read(SystemClock())}

    assert readings[Signal.RAM_USED_BP].state is State.FRESH
    assert readings[Signal.CPU_OTHER_BP].state is State.MISSING


# Power


def _supply(folder: Path, name: str, **rows: str) -> None:
    for key, value in rows.items():
        _write(folder / name / key, value + "\n")


def _power(folder: Path) -> dict[Signal, Reading]:
    return {reading.signal: reading for reading in PowerSource(folder).read(FakeClock())}


@pytest.mark.parametrize(
    ("status", "online", "expected"),
    [
        ("Discharging", "0", "battery"),
        ("Discharging", "1", "battery"),
        ("Charging", "1", "mains"),
        ("Full", "1", "mains"),
        ("Not charging", "1", "mains"),
        ("Unknown", "1", "mains"),
        ("Unknown", "0", "battery"),
        ("Not charging", "0", "mains"),
    ],
)
def test_mains_or_battery_follows_battery_and_adapter(
    tmp_path: Path, status: str, online: str, expected: str
) -> None:
    _supply(tmp_path, "AC", type="Mains", online=online)
    _supply(tmp_path, "BAT0", type="Battery", status=status, capacity="57")

    readings = _power(tmp_path)

    assert readings[Signal.POWER].value == expected
    assert readings[Signal.CHARGE_BP].value == 5_700


def test_the_emptiest_battery_counts_and_mice_do_not(tmp_path: Path) -> None:
    _supply(tmp_path, "BAT0", type="Battery", status="Discharging", capacity="80")
    _supply(tmp_path, "BAT1", type="Battery", status="Discharging", energy_now="10", energy_full="40")
    _supply(tmp_path, "BAT2", type="Battery", status="Discharging", capacity="3", present="0")
    _supply(tmp_path, "mouse", type="Battery", status="Discharging", capacity="1", scope="Device")

    assert _power(tmp_path)[Signal.CHARGE_BP].value == 2_500


def test_a_desktop_is_on_mains(tmp_path: Path) -> None:
    _supply(tmp_path, "mouse", type="Battery", status="Discharging", capacity="1", scope="Device")

    readings = _power(tmp_path)

    assert readings[Signal.POWER].value == "mains"
    assert _power(tmp_path / "none")[Signal.POWER].state is State.MISSING


@pytest.mark.parametrize(
    "broken", [{"capacity": "x"}, {"capacity": "101"}, {"status": None}, {"capacity": None}]
)
def test_a_battery_that_cannot_be_read_counts_as_low(tmp_path: Path, broken: dict[str, str | None]) -> None:
    rows = {"type": "Battery", "status": "Charging", "capacity": "90", **broken}
    _supply(tmp_path, "BAT0", **{key: value for key, value in rows.items() if value is not None})

    readings = PowerSource(tmp_path).read(FakeClock())

    assert {reading.state for reading in readings} == {State.UNREADABLE}
    signals = fuse(readings, FakeClock().boot_us(), GovernorSettings())
    assert signals.on_battery and signals.charge_bp == 0
