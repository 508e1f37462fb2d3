"""The child's side of a task: check the code, load it, call it, send what it returned.

The code is read once; its hash is checked and these very bytes are compiled, so
that nothing can change in between. The plugin gets the inputs that its `run`
names: the worker fills `settings`, `seed`, `progress`, `should_stop` and
`out_dir`, the pack's provider builds the rest. One task a process; the process
ends when the task does.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from sterling.runtime import plugin_api
from sterling.runtime.frames import FrameBuffer, FrameTooLarge, read_frame, send_frame
from sterling.runtime.plugin_api import Na, Ok, Outcome, Wiring

__all__ = ["answer", "work"]

_PROGRESS_EVERY_S = 0.05
_MESSAGE_MAX = 1500


class _Altered(Exception):
    """The code on the disk is not the code that was checked."""


class _Invalid(Exception):
    """The plugin has no `run`, wants what nobody gives, or returned something that is no outcome."""


def work(channel: socket.socket) -> None:
    """Do the one task that arrives on the channel and send its one terminal frame."""
    task = read_frame(channel)
    if task is None:
        return
    try:
        plugin_api.wire(_wiring(channel, Path(task["out_dir"])))
        words = {"type": "result", "result": answer(task)}
        try:
            send_frame(channel, words)
        except FrameTooLarge as problem:
            raise _Invalid(
                f"expected a result within a frame ({problem}); write large things to out_dir()"
            ) from problem
        except (TypeError, ValueError) as problem:
            raise _Invalid(f"expected a result of plain JSON values, found {problem}") from problem
    except MemoryError:
        send_frame(channel, {"type": "memory"})
    except _Altered as problem:
        send_frame(channel, {"type": "altered", "message": str(problem)})
    except _Invalid as problem:
        send_frame(channel, {"type": "invalid", "message": str(problem)[:_MESSAGE_MAX]})
    except BaseException as problem:  # noqa: BLE001 - whatever a plugin raises is its outcome.
        # What is raised after the request to stop is the answer to it, not an error.
        kind = "stopped" if plugin_api.should_stop() else "raised"
        send_frame(channel, {"type": kind, "message": _words(problem, task["code_path"])})
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def answer(task: Mapping[str, Any]) -> dict[str, Any]:
    """Check, load and call the plugin of a task; what it returned, as a document. Raises what it raises."""
    return _document(_call(task))


def _wiring(channel: socket.socket, out_dir: Path) -> Wiring:
    buffer = FrameBuffer()
    asked = False
    told_at = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= _PROGRESS_EVERY_S or done >= total:
            told_at = now
            send_frame(channel, {"type": "progress", "done": int(done), "total": int(total)})

    def should_stop() -> bool:
        nonlocal asked
        if not asked:
            try:
                piece = channel.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            asked = not piece or any(frame.get("type") == "stop" for frame in buffer.feed(piece))
        return asked

    return Wiring(progress=progress, should_stop=should_stop, out_dir=out_dir)


def _call(task: Mapping[str, Any]) -> Outcome:
    run = _load(task)
    settings = {**task["defaults"], **task["settings"]}
    own: dict[str, object] = {
        "out_dir": Path(task["out_dir"]),
        "progress": plugin_api.progress,
        "seed": task["seed"],
        "settings": settings,
        "should_stop": plugin_api.should_stop,
    }
    names = tuple(inspect.signature(run).parameters)
    wanted = tuple(name for name in names if name not in own)
    given = _provide(task, wanted, settings) if wanted else {}
    missing = [name for name in wanted if name not in given]
    if missing:
        raise _Invalid(f"expected inputs that exist, found none for {', '.join(missing)}")
    outcome = run(**{name: own[name] if name in own else given[name] for name in names})
    if not isinstance(outcome, Ok | Na):
        raise _Invalid(f"expected Ok or Na from run, found {type(outcome).__name__}")
    return outcome


def _load(task: Mapping[str, Any]) -> Callable[..., Outcome]:
    path = Path(task["code_path"])
    code = path.read_bytes()
    found = hashlib.sha256(code).hexdigest()
    if found != task["code_sha256"]:
        raise _Altered(f"expected code {task['code_sha256']}, found {found}")
    module = ModuleType(f"sterling_plugin_{path.stem.replace('-', '_')}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(code, str(path), "exec"), module.__dict__)
    run = getattr(module, "run", None)
    if not callable(run):
        raise _Invalid(f"expected a function run in {path.name}, found none")
    return run  # type: ignore[no-any-return]


def _provide(
    task: Mapping[str, Any], names: tuple[str, ...], settings: Mapping[str, Any]
) -> Mapping[str, object]:
    """What the pack gives. Its inputs also hold `step`: plugin, version, seed, settings, folder, tables."""
    inputs = dict(task["inputs"])
    if not task["provider"]:
        return inputs
    inputs["step"] = {
        "out_dir": task["out_dir"],
        "own": task["own"],
        "plugin": task["plugin"],
        "access": task["access"],
        "seed": task["seed"],
        "settings": dict(settings),
        "version": task["version"],
    }
    provider = importlib.import_module(task["provider"])
    return provider.provide(inputs, names)  # type: ignore[no-any-return]


def _document(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Na):
        return {"status": "na", "reason": outcome.reason, "because": outcome.because}
    return {
        "status": "ok",
        "findings": [
            {
                "kind": finding.kind,
                "claim": finding.claim,
                "evidence": dict(finding.evidence),
                "values": dict(finding.values),
            }
            for finding in outcome.findings
        ],
        "artifacts": [
            {"name": artifact.name, "path": artifact.path, "media": artifact.media}
            for artifact in outcome.artifacts
        ],
        "metrics": dict(outcome.metrics),
    }


def _words(problem: BaseException, code_path: str) -> str:
    """What was raised, and the last line of the plugin that led to it."""
    text = f"{type(problem).__name__}: {problem}"[:_MESSAGE_MAX]
    lines = [
        frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == code_path
    ]
    return f"{text} ({Path(code_path).name}, line {lines[-1]})" if lines else text
