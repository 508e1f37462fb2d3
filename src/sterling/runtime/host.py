"""Our side of the worker processes: one parent a family, one guarded child a task.

Nothing of a plugin ever runs in this process. A family's parent is a fresh
interpreter (family.py) that gets a fixed environment (nothing of ours, one thread
a library) and no open file of ours but its socket. Code that nobody vouches for
gets an interpreter of its own behind walls (launch.py), under the same guard. When this process
dies, by whatever signal, the sockets end and every guard kills its tree.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from sterling.kernel.errors import SterlingError
from sterling.kernel.liveness import started_ticks
from sterling.kernel.shipped import package_root
from sterling.runtime.engine import HostRow, Task, TaskEnd
from sterling.runtime.frames import ORDER_BYTES_MAX, FrameBuffer, FrameInvalid, FrameTooLarge, frame_bytes
from sterling.runtime.launch import CHANNEL, OWN_PROCESSES, Launch, Walls, interpreter, python, sandboxed
from sterling.runtime.limits import BodyLimits

__all__ = ["OWNER_VARIABLE", "EngineLost", "FamilyHost", "RunningTask"]

OWNER_VARIABLE = "STERLING_OWNER"

STALL_MS = 60_000
_LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from sterling.runtime.family import main; sys.exit(main(int(sys.argv[2]), sys.argv[3:]))"
)
_WORK = (
    "import socket, sys; sys.path.insert(0, sys.argv[1]); "
    "from sterling.runtime.worker import work; work(socket.socket(fileno=int(sys.argv[2])))"
)
_ENVIRONMENT = {
    "HOME": tempfile.gettempdir(),
    "LC_ALL": "C.UTF-8",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": os.defpath,
    "PYTHONHASHSEED": "0",
    "TMPDIR": tempfile.gettempdir(),
    "TZ": "UTC",
}
_PIECE_BYTES = 256 * 1024
_END_WAIT_S = 60


class EngineLost(SterlingError):
    """A family's parent could not be started, or went away."""

    code = "engine.lost"
    hint = "Run it again: finished steps are kept. See `sterling run list`."


class RunningTask:
    """One task under its guard, as seen from here."""

    def __init__(self, task: Task, control: socket.socket) -> None:
        self.task, self.control = task, control
        self._buffer = FrameBuffer()
        self._terminal: dict[str, Any] | None = None

    def fileno(self) -> int:
        return self.control.fileno()

    def tell(self, kind: str) -> None:
        """Send `stop` or `kill`; a task that just ended is no error."""
        try:
            self.control.sendall(frame_bytes({"type": kind}))
        except OSError:
            return

    def read(self) -> tuple[list[tuple[int, int]], TaskEnd | None]:
        """Progress since the last look, and the end if it came. Call it when the socket is readable."""
        try:
            piece = self.control.recv(_PIECE_BYTES)
        except OSError:
            piece = b""
        if not piece:
            return [], self._lost("its guard went away")
        progress: list[tuple[int, int]] = []
        try:
            for frame in self._buffer.feed(piece):
                if frame["type"] == "progress":
                    progress.append((int(frame["done"]), int(frame["total"])))
                elif frame["type"] == "end":
                    return progress, self._end(frame)
                else:
                    self._terminal = frame
        except (FrameInvalid, KeyError, TypeError, ValueError) as problem:
            return progress, self._protocol(str(problem))
        return progress, None

    def close(self) -> None:
        """Let go of the task; a guard that still watches it ends it."""
        self.control.close()

    def _lost(self, why: str) -> TaskEnd:
        return TaskEnd(self.task.key, "died", message=f"The worker died: {why}.")

    def _protocol(self, why: str) -> TaskEnd:
        return TaskEnd(
            self.task.key, "protocol", message=f"The worker sent something that is no message: {why}."
        )

    def _end(self, frame: dict[str, Any]) -> TaskEnd:
        end, reason, message, result = _judge(frame, self._terminal)
        if end == "returned" and result is not None:
            bad = _bad_artifact(self.task, result)
            if bad:
                end, result, message = "invalid", None, bad
        return TaskEnd(
            key=self.task.key,
            end=end,
            result=result,
            message=message,
            signal=frame["signal"],
            rss_max=frame["rss_max"],
            wall_us=frame["wall_us"],
            cpu_us=frame["cpu_us"],
            walls=tuple(frame["walls"]),
            reason=reason,
            output_tail=frame["output_tail"],
        )


class FamilyHost:
    """The parent process of one family. `preload` names the modules it loads before it forks.

    `owner` stands in its environment as `OWNER_VARIABLE`, and so in that of everything it forks.
    """

    def __init__(self, family: str, preload: Sequence[str] = (), *, owner: str = "") -> None:
        self.family = family
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [
                sys.executable,
                "-P",
                "-c",
                _LAUNCH,
                str(package_root().parent),
                str(theirs.fileno()),
                *preload,
            ]
            self._process = subprocess.Popen(
                words,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=_ENVIRONMENT | ({OWNER_VARIABLE: owner} if owner else {}),
            )
        self.row = HostRow(self._process.pid, started_ticks(self._process.pid) or 0, family)

    def start(self, task: Task) -> RunningTask:
        """Start a task in a fresh worker.

        Raises:
            EngineLost: the family's parent is gone.
            FrameTooLarge, TypeError, ValueError: the task's inputs are no small JSON.
            SandboxUnavailable: nobody vouches for the plugin, and there are no walls for it.
        """
        words = frame_bytes(_task_document(task))
        order = _order(task)
        if len(order) > ORDER_BYTES_MAX:
            raise FrameTooLarge(f"expected an order of {ORDER_BYTES_MAX} bytes at most, found {len(order)}")
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._orders, [order], [theirs.fileno()])
            ours.sendall(words)
        except OSError as problem:
            ours.close()
            raise EngineLost(f"expected the parent of family {self.family}, found {problem}") from problem
        return RunningTask(task, ours)

    def close(self) -> None:
        """End the parent once its guards are done. Close every RunningTask first."""
        self._orders.close()
        while True:
            try:
                self._process.wait(_END_WAIT_S)
                return
            except KeyboardInterrupt:
                continue
            except subprocess.TimeoutExpired:
                os.kill(self._process.pid, signal.SIGKILL)


def _task_document(task: Task) -> dict[str, Any]:
    plugin = task.plugin
    return {
        "access": list(plugin.access),
        "code_path": str(plugin.code_path),
        "code_sha256": plugin.code_sha256,
        "defaults": dict(plugin.settings),
        "inputs": dict(task.inputs),
        "out_dir": str(task.out_dir),
        "own": dict(plugin.own),
        "plugin": plugin.id,
        "provider": task.provider,
        "seed": task.seed,
        "settings": dict(task.settings),
        "type": "task",
        "version": plugin.version,
    }


def _order(task: Task) -> bytes:
    launch = None if task.plugin.trust == "package" else _launch(task).as_json()
    order = {
        "launch": launch,
        "limits": _limits_of(task).as_json(),
        "out_dir": str(task.out_dir),
        "stall_ms": STALL_MS,
    }
    return json.dumps(order).encode()


def _launch(task: Task) -> Launch:
    """An interpreter behind walls: it sees this package, its code, what the task reads, and its folder."""
    out_dir = task.out_dir.resolve()
    walls = Walls(
        output=out_dir,
        reads=(*interpreter(), package_root(), task.plugin.code_path, *task.reads),
        environment={**_ENVIRONMENT, "HOME": str(out_dir), "TMPDIR": "/tmp"},
        processes=task.plugin.limits.processes,
    )
    return sandboxed((python(), "-P", "-s", "-c", _WORK, str(package_root().parent), str(CHANNEL)), walls)


def _limits_of(task: Task) -> BodyLimits:
    limits = task.plugin.limits
    own = OWN_PROCESSES if task.plugin.trust != "package" and limits.processes else 0
    return BodyLimits(
        wall_ms=limits.wall_ms,
        cpu_ms=limits.cpu_ms,
        memory_bytes=limits.memory_bytes,
        file_bytes=limits.output_bytes,
        output_bytes=limits.output_bytes,
        processes=limits.processes + own,
    )


def _judge(
    frame: dict[str, Any], terminal: dict[str, Any] | None
) -> tuple[str, str, str, dict[str, Any] | None]:
    """(end, reason, message, result). A passed limit counts before whatever the worker managed to say."""
    limit = frame["limit"]
    if limit.startswith("limit."):
        return "limit", limit, "", None
    by_limit = {"step.hung": "hung", "worker.protocol": "protocol", "stopped": "stopped"}
    if limit in by_limit:
        return by_limit[limit], "", frame["message"], None
    if terminal is None or frame["signal"]:
        return "died", "", _death(frame), None
    kind = terminal["type"]
    if kind == "result":
        return "returned", "", "", terminal["result"]
    if kind == "memory":
        return "limit", "limit.memory", "", None
    if kind == "altered":
        return "refused", "plugin.altered", str(terminal["message"]), None
    return kind, "", str(terminal.get("message", "")), None


def _death(frame: dict[str, Any]) -> str:
    number = frame["signal"]
    if number:
        return f"The worker was ended by {signal.Signals(number).name} (signal {number}) before it was done."
    return f"The worker ended with status {frame['status']} before it gave a result."


def _bad_artifact(task: Task, result: dict[str, Any]) -> str:
    """Why an artifact cannot be kept, or "". The outcome rules judge shapes; this looks at the disk."""
    artifacts = result.get("artifacts") if isinstance(result, dict) else None
    root = task.out_dir.resolve()
    for artifact in artifacts if isinstance(artifacts, list) else ():
        path = artifact.get("path") if isinstance(artifact, dict) else None
        if not isinstance(path, str):
            continue
        file = task.out_dir / path
        if not file.resolve().is_relative_to(root) or file.is_symlink() or not file.is_file():
            return f"Expected the artifact {path!r} as a file in the step's folder, found none."
    return ""
