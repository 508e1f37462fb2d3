"""Each wall by itself: what a program behind bubblewrap sees when the filter of calls lets all pass."""

from __future__ import annotations

import errno
import json
import os
import platform
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.clock import SystemClock
from sterling.kernel.errors import SterlingError
from sterling.runtime import doctor_sandbox
from sterling.runtime.doctor import NotTried, Patient
from sterling.runtime.doctor_sandbox import sandbox_probe
from sterling.runtime.launch import (
    Launch,
    SandboxUnavailable,
    Walls,
    interpreter,
    python,
    run_sandboxed,
    sandboxed,
)
from sterling.runtime.seccomp import DENIED, filter_bytes

PATIENT = Patient(Path(), SystemClock())
ALL_PASS = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF_0000)
LOOK = """\
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines() if ':' in line)
def errno_of(act):
    try:
        act()
    except OSError as problem:
        return problem.errno
    return 0
def nest():
    if libc.unshare(0x10000000) < 0:
        raise OSError(ctypes.get_errno(), 'unshare')
print(json.dumps({
    'caps': status['CapEff'].strip() + status['CapBnd'].strip(),
    'devices': sorted(os.listdir('/dev')),
    'environ': sorted(os.environ),
    'filtered': status['Seccomp'].strip(),
    'host': socket.gethostname(),
    'interfaces': [name for _, name in socket.if_nameindex()],
    'namespaces': {
        name: os.readlink('/proc/self/ns/' + name) for name in ('ipc', 'net', 'pid', 'user', 'uts')
    },
    'nest': errno_of(nest),
    'privileges': status['NoNewPrivs'].strip(),
    'processes': len([name for name in os.listdir('/proc') if name.isdigit()]),
    'session': os.getsid(0),
    'kernel': errno_of(lambda: open('/proc/sys/kernel/core_pattern', 'r+')),
    'root': errno_of(lambda: open('/new', 'w')),
    'top': sorted(os.listdir('/')),
    'uid': os.getuid(),
}))
"""


def look(launch: Launch) -> dict[str, Any]:
    done = run_sandboxed(launch)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture
def bare(tmp_path: Path) -> Launch:
    """The look behind every wall but the filter."""
    launch = sandboxed((python(), "-I", "-c", LOOK), Walls(tmp_path, interpreter()))
    return replace(launch, filter=ALL_PASS)


def faults(seen: dict[str, Any]) -> set[str]:
    """Which walls are missing from what was seen."""
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in seen["namespaces"]}
    missing = {name for name, where in seen["namespaces"].items() if where == ours[name]}
    rules = {
        "interfaces": seen["interfaces"] == ["lo"],
        "caps": not seen["caps"].strip("0"),
        "environ": set(seen["environ"]) <= {"LC_CTYPE", "PWD"},
        "host": seen["host"] == "sandbox",
        "nest": seen["nest"] != 0,
        "privileges": seen["privileges"] == "1",
        "processes": seen["processes"] == 2,
        "session": seen["session"] == 1,
        "kernel": seen["kernel"] != 0,
        "root": seen["root"] != 0,
        "devices": seen["devices"] == ["full", "null", "random", "urandom", "zero"],
        "uid": seen["uid"] == 65534,
        "top": not {"boot", "sys"} & set(seen["top"]),
    }
    return missing | {name for name, holds in rules.items() if not holds}


def test_every_wall_holds_without_the_filter(bare: Launch) -> None:
    assert faults(look(bare)) == set()


def test_the_filter_holds(tmp_path: Path) -> None:
    launch = sandboxed(
        (python(), "-I", "-c", "print(open('/proc/self/status').read())"),
        Walls(tmp_path, interpreter()),
    )

    assert "Seccomp:\t2" in run_sandboxed(launch).stdout


@pytest.mark.parametrize(
    ("without", "lost"),
    [
        (("--unshare-net",), {"net", "interfaces"}),
        (("--unshare-ipc",), {"ipc"}),
        (("--unshare-uts", "--hostname", "sandbox"), {"uts", "host"}),
        (("--unshare-pid",), {"pid", "processes", "session"}),
        (("--new-session",), {"session"}),
        (("--disable-userns",), {"nest"}),
        (("--clearenv",), {"environ"}),
        (("--uid", "65534", "--gid", "65534"), {"uid"}),
        (("--remount-ro", "/proc", "--remount-ro", "/"), {"root", "kernel"}),
    ],
)
def test_a_wall_that_is_left_out_is_seen(
    bare: Launch, monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], lost: set[str]
) -> None:
    words = " ".join(bare.argv[: bare.argv.index("--")])
    assert " ".join(without) in words or len(without) == 3
    kept = [word for word in bare.argv[: bare.argv.index("--")] if word not in without]
    if "--remount-ro" in without:  # /proc and / are also words of other walls.
        kept = list(bare.argv[: bare.argv.index("--")])
        del kept[kept.index("--remount-ro") : kept.index("--remount-ro") + 4]
    launch = replace(bare, argv=(*kept, *bare.argv[bare.argv.index("--") :]))
    argv, descriptor = launch.prepared()
    done = subprocess.run(argv, pass_fds=(descriptor,), capture_output=True, env={"LEAK": "1"}, check=False)
    os.close(descriptor)

    found = faults(json.loads(done.stdout))

    assert found & lost
    assert found <= lost


def test_a_path_inside_the_output_stays_read_only_and_the_output_inside_a_read_stays_writable(
    tmp_path: Path,
) -> None:
    output = tmp_path / "outer" / "output"
    (output / "given").mkdir(parents=True)
    script = (
        "import sys\nfor path in sys.argv[1:]:\n    try:\n        open(path + '/n', 'w')\n        print(1)\n"
        "    except OSError:\n        print(0)\n"
    )
    places = [tmp_path / "outer", output, output / "given"]
    walls = Walls(output, (*interpreter(), tmp_path / "outer", output / "given"))
    launch = sandboxed((python(), "-I", "-c", script, *map(str, places)), walls)

    assert run_sandboxed(launch).stdout.split() == ["0", "1", "0"]


def test_only_the_environment_that_was_handed_over_is_there(tmp_path: Path) -> None:
    walls = Walls(tmp_path, interpreter(), environment={"TZ": "UTC"})
    launch = sandboxed((python(), "-I", "-c", "import os; print(*sorted(os.environ))"), walls)

    assert set(run_sandboxed(launch).stdout.split()) - {"LC_CTYPE"} == {"PWD", "TZ"}


def test_a_launch_survives_being_written_down(bare: Launch) -> None:
    assert Launch.from_json(json.loads(json.dumps(bare.as_json()))) == bare


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("may_fork", [False, True])
def test_every_jump_of_the_filter_lands_inside_it_and_it_ends_in_a_verdict(
    machine: str, may_fork: bool
) -> None:
    packed = filter_bytes(machine, may_fork=may_fork)
    rules = list(struct.iter_unpack("<HBBI", packed))

    assert rules[-1] == (0x06, 0, 0, 0x7FFF_0000)
    assert all(
        index + 1 + max(yes, no) < len(rules)
        for index, (code, yes, no, _) in enumerate(rules)
        if code & 7 == 5
    )


def test_no_number_is_written_down_twice() -> None:
    for column in (0, 1):
        numbers = [pair[column] for pair in DENIED.values() if pair[column]]
        assert len(numbers) == len(set(numbers))


def test_another_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(SandboxUnavailable, match="riscv64"):
        sandboxed(("true",), Walls(tmp_path))


def test_the_doctor_names_each_way_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def let_all_pass(argv: Sequence[str], walls: Walls) -> Launch:
        return replace(sandboxed(argv, walls), filter=ALL_PASS)

    assert "8 ways out tried" in sandbox_probe().act(PATIENT)
    monkeypatch.setattr(doctor_sandbox, "sandboxed", let_all_pass)

    with pytest.raises(SterlingError, match="open: a process, a set-user-id file, the network") as found:
        sandbox_probe().act(PATIENT)
    assert found.value.code == "doctor.sandbox-leaks"


def test_the_doctor_says_how_to_get_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NotTried) as found:
        sandbox_probe().act(PATIENT)
    assert found.value.cure == "apt-get install bubblewrap"


def test_every_denied_call_is_refused_by_the_filter(tmp_path: Path) -> None:
    column = ["x86_64", "aarch64"].index(platform.machine())
    numbers = {name: pair[column] for name, pair in DENIED.items() if pair[column]}
    script = (
        "import ctypes, json, sys\nlibc = ctypes.CDLL(None, use_errno=True)\nfound = {}\n"
        "for name, number in json.loads(sys.argv[1]).items():\n"
        "    ctypes.set_errno(0)\n    libc.syscall(number, -1, 0, 0, 0, 0)\n"
        "    found[name] = ctypes.get_errno()\n"
        "print(json.dumps(found))\n"
    )
    launch = sandboxed(
        (python(), "-I", "-c", script, json.dumps(numbers)), Walls(tmp_path, interpreter(), processes=2)
    )

    found = json.loads(run_sandboxed(launch).stdout)

    assert set(found) == set(numbers)
    assert {name for name, number in found.items() if number != errno.EPERM} == set()
