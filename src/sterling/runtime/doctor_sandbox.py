"""What the doctor tries on the sandbox: code behind walls tries to get out; each open way is named."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from sterling.kernel.errors import SterlingError
from sterling.runtime.doctor import NotTried, Patient, Probe
from sterling.runtime.launch import (
    SandboxUnavailable,
    Walls,
    interpreter,
    prove,
    python,
    run_sandboxed,
    sandboxed,
)

__all__ = ["sandbox_probe"]

_TRY = """\
import ctypes, json, os, socket, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(status):
    if status < 0:
        raise OSError(ctypes.get_errno(), 'refused')
ways = {
    'a file outside': lambda: open(sys.argv[1]).read(),
    'a device': lambda: os.mknod('device', stat.S_IFCHR | 0o600, os.makedev(1, 11)),
    'a namespace': lambda: call(libc.unshare(0x10000000)),
    'a process': lambda: os.waitpid(os.fork() or os._exit(0), 0),
    'a set-user-id file': lambda: os.close(os.open('lend', os.O_CREAT, 0o4755)),
    'the kernel': lambda: open('/proc/self/oom_score_adj', 'w'),
    'the network': lambda: socket.socket(socket.AF_INET),
    'tracing': lambda: call(libc.ptrace(0, 0, 0, 0)),
}
opened = []
for name, way in ways.items():
    try:
        way()
        opened.append(name)
    except OSError:
        pass
print(json.dumps([len(ways), opened]))
"""


class SandboxLeaks(SterlingError):
    """Code behind walls got out."""

    code = "doctor.sandbox-leaks"
    hint = "Run no untrusted plugin here; install another bubblewrap, then run `sterling doctor`."


def sandbox_probe() -> Probe:
    """The row `sandbox`."""
    return Probe("sandbox", "Code behind walls tries to get out and is refused.", _sandbox)


def _sandbox(_: Patient) -> str:
    if shutil.which("bwrap") is None:
        raise NotTried(
            "bubblewrap is not installed; an untrusted plugin will not run", "apt-get install bubblewrap"
        )
    try:
        prove()
        with tempfile.TemporaryDirectory() as folder:
            outside, output = Path(folder, "outside"), Path(folder, "output")
            outside.touch()
            output.mkdir()
            argv = (python(), "-I", "-S", "-c", _TRY, str(outside))
            done = run_sandboxed(sandboxed(argv, Walls(output, interpreter())))
    except SandboxUnavailable as problem:
        raise NotTried(
            f"{problem.message}; an untrusted plugin will not run",
            "Allow user namespaces, such as with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ) from None
    if done.returncode != 0:
        raise SandboxLeaks(f"expected every way out tried, found: {done.stderr.strip()[-200:]}")
    count, opened = json.loads(done.stdout)
    if opened:
        raise SandboxLeaks(f"expected every way out refused, found open: {', '.join(opened)}")
    return f"{count} ways out tried, each refused"
