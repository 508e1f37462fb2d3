from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.runtime import plugin_api
from sterling.runtime.frames import (
    FRAME_BYTES_MAX,
    FrameBuffer,
    FrameInvalid,
    frame_bytes,
    read_frame,
    send_frame,
)
from sterling.runtime.worker import work

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Give code to the worker's function, in this process, and read its terminal frame."""

    def ask(code: str, *, hears: tuple[dict[str, Any], ...] = (), **changes: Any) -> dict[str, Any]:
        path = tmp_path / "toy.py"
        path.write_text("from sterling.runtime.plugin_api import *\n" + code, encoding="utf-8")
        task = {
            "access": ["rows"],
            "code_path": str(path),
            "code_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "defaults": {"depth": 1, "width": 2},
            "inputs": {},
            "out_dir": str(tmp_path),
            "own": {"grid": 3},
            "plugin": "toy",
            "provider": "",
            "seed": 5,
            "settings": {},
            "version": "1.0",
            **changes,
        }
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for frame in (task, *hears):
                send_frame(ours, frame)
            work(theirs)
            theirs.shutdown(socket.SHUT_WR)
            frames = []
            while (frame := read_frame(ours)) is not None:
                frames.append(frame)
        ask.frames = frames  # type: ignore[attr-defined]
        return frames[-1]

    monkeypatch.setattr(plugin_api, "_wiring", plugin_api._wiring)
    return ask


def test_a_plugin_gets_the_inputs_it_names_and_no_others(ask: Ask) -> None:
    code = "def run(seed, settings, x):\n    return Ok(metrics={'seed': seed, 'x': x, **settings})"

    frame = ask(code, inputs={"x": 7, "y": 8}, settings={"width": 9})

    assert frame["type"] == "result"
    assert frame["result"]["metrics"] == {"seed": 5, "x": 7, "depth": 1, "width": 9}


def test_a_finding_crosses_as_plain_values(ask: Ask) -> None:
    finding, artifact = "Finding('k', 'c', {'rows': (1, 2)}, {'share': 0.5})", "Artifact('a', 'b', 'c')"
    code = f"def run():\n    return Ok([{finding}], [{artifact}])"

    result = ask(code)["result"]

    assert result["findings"] == [
        {"kind": "k", "claim": "c", "evidence": {"rows": [1, 2]}, "values": {"share": 0.5}}
    ]
    assert result["artifacts"] == [{"name": "a", "path": "b", "media": "c"}]


def test_na_crosses_with_code_and_sentence(ask: Ask) -> None:
    assert ask("def run():\n    return Na('toy.none', 'Nothing here.')")["result"] == {
        "status": "na",
        "reason": "toy.none",
        "because": "Nothing here.",
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "function run"),
        ("def run():\n    return None", "Ok or Na"),
        ("def run():\n    return {'status': 'ok'}", "Ok or Na"),
        ("def run(nobody, gives, this):\n    return Ok()", "nobody, gives, this"),
        ("def run():\n    return Ok([Finding('k', 'c', {'x': {1, 2}})])", "plain JSON"),
        ("def run():\n    return Ok([Finding('k', 'c', {'x': float('inf')})])", "plain JSON"),
        ("def run():\n    return Ok([Finding('k', 'c' * 2000000, {'x': 1})])", "out_dir()"),
    ],
)
def test_what_is_no_outcome_is_invalid_and_says_why(ask: Ask, code: str, words: str) -> None:
    frame = ask(code)

    assert frame["type"] == "invalid"
    assert words in frame["message"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def run():\n    raise ValueError('bad cell')", "ValueError: bad cell (toy.py, line 3)"),
        ("raise ImportError('gone')", "ImportError: gone (toy.py, line 2)"),
        ("def run(:", "SyntaxError"),
        ("def run():\n    raise SystemExit(0)", "SystemExit"),
        ("def run():\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import nonesuch_library", "ModuleNotFoundError"),
    ],
)
def test_whatever_is_raised_is_told_with_its_line(ask: Ask, code: str, words: str) -> None:
    frame = ask(code)

    assert frame["type"] == "raised"
    assert words in frame["message"]


def test_a_failed_allocation_is_told_as_memory(ask: Ask) -> None:
    assert ask("def run():\n    raise MemoryError")["type"] == "memory"


def test_code_that_changed_since_it_was_checked_is_not_run(ask: Ask, tmp_path: Path) -> None:
    frame = ask("(out_dir() / 'ran').touch()", code_sha256="0" * 64)

    assert frame["type"] == "altered"
    assert not (tmp_path / "ran").exists()


def test_progress_comes_before_the_result(ask: Ask) -> None:
    ask("def run(progress):\n    progress(1, 2)\n    progress(2, 2)\n    return Ok(metrics={'n': 1})")

    kinds = [(frame["type"], frame.get("done")) for frame in ask.frames]  # type: ignore[attr-defined]
    assert kinds == [("progress", 1), ("progress", 2), ("result", None)]


def test_a_plugin_that_was_asked_to_stop_and_raises_has_stopped(ask: Ask) -> None:
    code = "def run(should_stop):\n    while not should_stop():\n        pass\n    raise RuntimeError('end')"

    assert ask(code, hears=({"type": "stop"},))["type"] == "stopped"


def test_a_plugin_that_finishes_all_the_same_has_finished(ask: Ask) -> None:
    code = "def run(should_stop):\n    return Ok(metrics={'asked': int(should_stop())})"

    assert ask(code, hears=({"type": "stop"},))["result"]["metrics"] == {"asked": 1}


def test_the_provider_is_told_the_step_and_builds_what_is_named(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_provider.py").write_text(
        "def provide(inputs, names):\n"
        "    step = inputs['step']\n"
        "    told = [step[name] for name in ('plugin', 'own', 'access', 'seed')]\n"
        "    return {'table': [inputs['path'], names, *told]}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "def run(table, seed):\n    return Ok([Finding('k', 'c', {'table': table})])"

    evidence = ask(code, provider="toy_provider", inputs={"path": "p"})["result"]["findings"][0]["evidence"]

    assert evidence == {"table": ["p", ["table"], "toy", {"grid": 3}, ["rows"], 5]}


def test_the_end_of_the_channel_before_a_task_is_no_task() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        work(theirs)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_frames_survive_any_cut_of_the_stream(cut: int) -> None:
    words = frame_bytes({"type": "a", "text": "ü"}) + frame_bytes({"type": "b"})
    buffer, found = FrameBuffer(), []
    for start in range(0, len(words), cut):
        found += buffer.feed(words[start : start + cut])

    assert [frame["type"] for frame in found] == ["a", "b"]
    assert buffer.pending == 0


@pytest.mark.parametrize(
    "words",
    [
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x01x",
        b"\x00\x00\x00\x02\xff\xfe",
        b'\x00\x00\x00\x0a{"a": NaN}',
        b"\x00\x00\x00\x00",
        b"\x00\x00\x27\x10" + b"[" * 10_000,
    ],
)
def test_what_is_no_frame_is_refused(words: bytes) -> None:
    with pytest.raises(FrameInvalid):
        FrameBuffer().feed(words)


def test_a_stream_that_ends_inside_a_frame_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame_bytes({"type": "a"})[:-1])
        ours.shutdown(socket.SHUT_WR)

        with pytest.raises(FrameInvalid):
            read_frame(theirs)
