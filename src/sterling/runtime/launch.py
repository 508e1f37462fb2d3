"""The one place that builds a bubblewrap command line: code that nobody vouches for runs behind it.

What is started sees its own interpreter, the system's programs and the paths it
was given, all read-only; a private /tmp; and one folder to write. It has new
user, network, process, IPC and host-name namespaces, no capability, no way to a
terminal, an environment that is handed to it, and the filter of seccomp.py. It
dies with whoever started it. Where this cannot be had, it is refused: nothing is
ever started with fewer walls.

Limits over memory, time and processes are held by the guard (guard.py).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError
from sterling.runtime.seccomp import filter_bytes

__all__ = [
    "CHANNEL",
    "OWN_PROCESSES",
    "Launch",
    "SandboxUnavailable",
    "Walls",
    "interpreter",
    "prove",
    "python",
    "run_sandboxed",
    "sandboxed",
]

CHANNEL = 3  # The descriptor at which a sandboxed worker finds its channel.
OWN_PROCESSES = 2  # Bubblewrap outside, and the first process inside that collects orphans.
HELD = (
    "sandbox:bubblewrap",
    "calls:seccomp",
    "files:mount-namespace",
    "network:namespace",
    "tree:pid-namespace",
)
_NOBODY = "65534"
_SYSTEM = "/usr"
_SYSTEM_LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")
_DEVICES = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")
_LIBRARY_INDEX = "/etc/ld.so.cache"
_TMP_BYTES = 64 * 1024 * 1024
_PROOF = ("-I", "-S", "-c", "print('held')")
_PROOF_S = 20


class SandboxUnavailable(SterlingError):
    """Untrusted code should run, and this machine has no sandbox for it."""

    code = "sandbox.unavailable"
    hint = "Install bubblewrap and allow user namespaces: see the row `sandbox` of `sterling doctor`."
    exit = EXIT_CANNOT_JUDGE


@dataclass(frozen=True, slots=True)
class Walls:
    """What the started program may have. Paths stand inside where they stand outside.

    A read inside `output` is read-only there; one `processes` means that it cannot fork at all.
    """

    output: Path
    reads: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1
    tmp_bytes: int = _TMP_BYTES


@dataclass(frozen=True, slots=True)
class Launch:
    """A program behind its walls, ready to start. `held` names the walls for the record."""

    argv: tuple[str, ...]
    filter: bytes
    held: tuple[str, ...] = HELD

    def prepared(self) -> tuple[list[str], int]:
        """The command line, and the descriptor of the filter that the new process must inherit."""
        descriptor = os.memfd_create("seccomp")
        os.write(descriptor, self.filter)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return [self.argv[0], "--seccomp", str(descriptor), *self.argv[1:]], descriptor

    def execute(self) -> NoReturn:
        """Become the program. Errors: OSError when bubblewrap cannot be executed."""
        argv, descriptor = self.prepared()
        os.set_inheritable(descriptor, True)
        os.execve(argv[0], argv, {})

    def as_json(self) -> dict[str, Any]:
        return {"argv": list(self.argv), "filter": self.filter.hex(), "held": list(self.held)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Launch:
        return cls(tuple(document["argv"]), bytes.fromhex(document["filter"]), tuple(document["held"]))


def interpreter() -> tuple[Path, ...]:
    """What this Python needs to start, wherever it is installed."""
    return tuple(sorted({Path(os.path.abspath(sys.prefix)), Path(os.path.abspath(sys.base_prefix))}))


def python() -> str:
    """This interpreter by a path that exists behind the walls."""
    own = Path(os.path.abspath(sys.executable))
    return str(own if any(own.is_relative_to(root) for root in interpreter()) else own.resolve())


def sandboxed(argv: Sequence[str], walls: Walls) -> Launch:
    """The launch of this command behind these walls.

    Raises:
        SandboxUnavailable: no bubblewrap, or a processor whose system calls nobody wrote down.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable("expected bubblewrap (bwrap) on PATH, found none")
    try:
        calls = filter_bytes(platform.machine(), may_fork=walls.processes > 1)
    except KeyError:
        raise SandboxUnavailable(
            f"expected x86_64 or aarch64 for the filter of system calls, found {platform.machine()}"
        ) from None
    nested = ["--disable-userns"] if "--disable-userns" in _help(program) else []
    words = [
        *(program, "--unshare-user", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--uid", _NOBODY, "--gid", _NOBODY, "--cap-drop", "ALL", *nested),
        *("--new-session", "--die-with-parent", "--hostname", "sandbox", "--clearenv"),
        *(word for name, value in sorted(walls.environment.items()) for word in ("--setenv", name, value)),
        *_files(walls),
        *("--chdir", str(walls.output), "--", *argv),
    ]
    held = HELD if walls.processes > 1 else (*HELD, "processes:seccomp")
    return Launch(tuple(words), calls, held)


@cache
def prove() -> None:
    """Start an interpreter behind walls, once a process.

    Raises:
        SandboxUnavailable: it did not start; the message holds the last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = run_sandboxed(sandboxed((python(), *_PROOF), Walls(Path(folder), interpreter())))
    if done.stdout != "held\n":
        last = done.stderr.strip()[-300:] or f"exit {done.returncode}"
        raise SandboxUnavailable(f"expected a program to start behind bubblewrap, found: {last}")


def run_sandboxed(launch: Launch) -> subprocess.CompletedProcess[str]:
    """Run a short program of ours behind its walls and wait for it.

    Raises:
        SandboxUnavailable: bubblewrap did not start or did not end.
    """
    argv, descriptor = launch.prepared()
    try:
        return subprocess.run(
            argv,
            pass_fds=(descriptor,),
            capture_output=True,
            text=True,
            env={},
            timeout=_PROOF_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise SandboxUnavailable(f"expected bubblewrap to start, found {problem!r:.200}") from problem
    finally:
        os.close(descriptor)


def _files(walls: Walls) -> list[str]:
    """The file system: the system's programs, /proc and devices, then the given paths, outer ones first."""
    words = ["--ro-bind", _SYSTEM, _SYSTEM, "--ro-bind-try", _LIBRARY_INDEX, _LIBRARY_INDEX]
    for link in _SYSTEM_LINKS:
        if os.path.islink(link):
            words += ["--symlink", os.readlink(link), link]
        else:
            words += ["--ro-bind-try", link, link]
    for device in _DEVICES:
        words += ["--dev-bind-try", device, device]
    words += ["--proc", "/proc", "--size", str(walls.tmp_bytes), "--tmpfs", "/tmp"]
    given = [(len(path.parts), "--ro-bind", str(path)) for path in {*walls.reads} - {walls.output}]
    given.append((len(walls.output.parts), "--bind", str(walls.output)))
    for _, flag, path in sorted(given, key=lambda row: (row[0], row[1] == "--bind", row[2])):
        words += [flag, path, path]
    # Who is root outside owns /proc/sys inside too, by the kernel's own rule, so /proc is read-only.
    return [*words, "--remount-ro", "/proc", "--remount-ro", "/"]


@cache
def _help(program: str) -> str:
    """What this bubblewrap can do, in its own words; nothing when it does not run."""
    try:
        done = subprocess.run(
            [program, "--help"], capture_output=True, text=True, timeout=_PROOF_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
