from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sterling.kernel.shipped import package_root
from sterling.runtime.commands import CommandEnd, CommandLimits, CommandNotStarted, run_command

MARK = "sterling-test-mark"


def run(tmp_path: Path, code: str, *, grace_ms: int = 200, **limits: int) -> CommandEnd:
    return run_command(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.defpath, "MARK": MARK},
        limits=CommandLimits(**limits),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
        grace_ms=grace_ms,
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_the_exit_status_and_both_streams_come_back(tmp_path: Path, status: int) -> None:
    end = run(tmp_path, f"import sys; print('to out'); print('to err', file=sys.stderr); sys.exit({status})")

    assert (end.status, end.signal, end.limit) == (status, None, None)
    assert (tmp_path / "out").read_text() == "to out\n"
    assert (tmp_path / "err").read_text() == "to err\n"
    assert end.output_bytes == 14
    assert end.rss_max > 0
    assert "tree:subreaper" in end.walls


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_deadly_signal_comes_back_as_a_signal(tmp_path: Path, number: int) -> None:
    end = run(tmp_path, f"import os; os.kill(os.getpid(), {int(number)})")

    assert (end.status, end.signal, end.limit) == (None, number, None)


def test_one_path_for_both_streams_keeps_their_order(tmp_path: Path) -> None:
    end = run_command(
        ["/bin/sh", "-c", "echo 1; echo 2 >&2; echo 3"],
        cwd=tmp_path,
        env={},
        limits=CommandLimits(),
        stdout=tmp_path / "all",
        stderr=tmp_path / "all",
    )

    assert end.status == 0
    assert (tmp_path / "all").read_text() == "1\n2\n3\n"


def test_words_are_never_read_by_a_shell(tmp_path: Path) -> None:
    run_command(
        ["/bin/echo", "$(id); `id` && rm -rf /"],
        cwd=tmp_path,
        env={},
        limits=CommandLimits(),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
    )

    assert (tmp_path / "out").read_text() == "$(id); `id` && rm -rf /\n"


def test_the_command_sees_the_environment_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    run(tmp_path, "import os; print(sorted(k for k in os.environ if k != 'LC_CTYPE'), os.getcwd())")

    assert (tmp_path / "out").read_text() == f"['MARK', 'PATH'] {tmp_path}\n"


def test_the_command_reads_an_empty_input_and_no_descriptor_of_ours(tmp_path: Path) -> None:
    run(
        tmp_path,
        "import os, sys; print(repr(sys.stdin.read()), sorted(map(int, os.listdir('/proc/self/fd')))[:4])",
    )

    assert (tmp_path / "out").read_text() == "'' [0, 1, 2, 3]\n"


@pytest.mark.parametrize(
    ("limit", "code", "limits"),
    [
        ("limit.wall", "import time; time.sleep(60)", {"wall_ms": 150}),
        (
            "limit.wall",
            "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)",
            {"wall_ms": 150},
        ),
        ("limit.cpu", "while True: pass", {"cpu_ms": 200}),
        (
            "limit.memory",
            "held = []\nwhile True: held.append(bytearray(1 << 20))",
            {"memory_bytes": 96 << 20},
        ),
        ("limit.output", "while True: print('x' * 1000)", {"output_bytes": 50_000}),
        (
            "limit.processes",
            "import os, time\nfor _ in range(40):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)",
            {"processes": 10},
        ),
    ],
)
def test_what_passes_a_limit_is_ended_under_its_name(
    tmp_path: Path, limit: str, code: str, limits: dict[str, int]
) -> None:
    end = run(tmp_path, code, **limits)

    assert end.limit == limit
    assert end.status is None
    assert (tmp_path / "out").stat().st_size <= 50_000


def test_a_file_over_its_size_ends_the_command(tmp_path: Path) -> None:
    code = "import signal; signal.signal(25, signal.SIG_DFL); open('big', 'wb').write(bytes(1 << 20))"

    assert run(tmp_path, code, file_bytes=4096).limit == "limit.output"
    assert (tmp_path / "big").stat().st_size <= 4096


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        os.close(1); os.close(2)
        time.sleep(300)
    os._exit(0)
os.wait()
"""


def test_a_daemon_that_left_its_session_ends_with_the_command(tmp_path: Path) -> None:
    end = run(tmp_path, DAEMON + "time.sleep(0.2)")
    pid = int((tmp_path / "out").read_text())

    assert (end.status, end.left_behind) == (0, 1)
    assert not is_running(pid)


@pytest.mark.parametrize("argv", [[], ["nonesuch-program"], ["/"], ["./nonesuch"]])
def test_a_command_that_cannot_start_is_a_usage_error(tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(CommandNotStarted) as caught:
        run_command(
            argv,
            cwd=tmp_path,
            env={"PATH": os.defpath},
            limits=CommandLimits(),
            stdout=tmp_path / "out",
            stderr=tmp_path / "err",
        )

    assert caught.value.exit == 2


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(CommandNotStarted):
        run(tmp_path / "nonesuch", "pass")


OWNER = """
import os, sys
from pathlib import Path
from sterling.runtime.commands import CommandLimits, run_command
folder = Path(sys.argv[1])
run_command([sys.executable, "-c", sys.argv[2]], cwd=folder, env={}, limits=CommandLimits(),
            stdout=folder / "out", stderr=folder / "err")
"""


def owner(tmp_path: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A process that runs the daemon as its command, and the daemon's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), DAEMON + "time.sleep(300)"],
        env={"PYTHONPATH": str(package_root().parent)},
        stderr=subprocess.DEVNULL,
    )
    out = tmp_path / "out"
    deadline = time.monotonic() + 20
    while not (out.exists() and out.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the command never started"
        threading.Event().wait(0.01)
    return process, int(out.read_text())


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return not is_running(pid)


def test_ctrl_c_in_the_owner_ends_the_whole_tree_before_it_goes_on(tmp_path: Path) -> None:
    process, daemon = owner(tmp_path)
    process.send_signal(signal.SIGINT)

    assert process.wait(20) != 0
    assert not is_running(daemon)


def test_killing_the_owner_outright_leaves_nothing_behind(tmp_path: Path) -> None:
    process, daemon = owner(tmp_path)
    process.kill()
    process.wait(20)

    assert wait_until_gone(daemon)
