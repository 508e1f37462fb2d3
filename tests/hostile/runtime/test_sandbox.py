"""A plugin that nobody vouches for tries to get out: twelve ways, each refused with its errno.

Without bubblewrap these tests fail; they never skip. The same attempts by a
plugin that somebody vouches for get through, so that they are attempts at all.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.home import init_home
from sterling.runtime import launch as launch_module
from sterling.runtime.engine import Task
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.manifest import load_manifest
from sterling.runtime.outcomes import settle
from sterling.runtime.process_tree import descendants
from sterling.testing.fleet import Fleet

MIB = 1 << 20
LIMITS = {"memory_bytes": 256 * MIB, "wall_ms": 30_000, "cpu_ms": 30_000, "output_bytes": MIB}
SECRET = b"nobody may read this"
AROUND = """\
import ctypes, errno, os, socket, stat, subprocess
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def call(status):
    if status < 0:
        raise OSError(ctypes.get_errno(), 'call')
    return status


def run(at, out_dir):
    try:
        got = attempt(at, out_dir)
    except OSError as problem:
        word = errno.errorcode[problem.errno]
        return Ok([Finding('refused', 'It was refused.', {'errno': word})])
    return Ok([Finding('escaped', 'It got out.', {'got': repr(got)})])


def attempt(at, out_dir):
"""
ATTEMPTS: dict[str, tuple[str, set[str]]] = {
    "network": ("return socket.create_connection(('127.0.0.1', at['port']), 5)", {"EPERM"}),
    "metadata address": ("return socket.create_connection(('169.254.169.254', 80), 5)", {"EPERM"}),
    "memory of the parent": (
        "buffer = ctypes.create_string_buffer(at['length'])\n"
        "pair = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), at['length'])\n"
        "there = (ctypes.c_void_p * 2)(at['address'], at['length'])\n"
        "call(libc.process_vm_readv(at['pid'], pair, 1, there, 1, 0))\n"
        "return buffer.raw",
        {"EPERM"},
    ),
    "another home": ("return Path(at['home'], 'ledger.db').read_bytes()[:16]", {"ENOENT"}),
    "symlink out": (
        "os.symlink(at['secret'], out_dir / 'link')\nreturn (out_dir / 'link').read_bytes()",
        {"ENOENT"},
    ),
    "set-user-id file": (
        "path = out_dir / 'lend'\npath.touch()\nos.chmod(path, 0o4755)\nreturn path.stat().st_mode",
        {"EPERM"},
    ),
    "nested namespace": ("return call(libc.unshare(0x10000000))", {"EPERM"}),
    "ptrace": (
        "return call(libc.ptrace(16, at['pid'], 0, 0)) if at['pid'] else call(libc.ptrace(0, 0, 0, 0))",
        {"EPERM"},
    ),
    "write to /proc": ("return open('/proc/self/oom_score_adj', 'w').write('500')", {"EROFS"}),
    "device": ("return os.mknod(out_dir / 'kmsg', stat.S_IFCHR | 0o600, os.makedev(1, 11))", {"EPERM"}),
    "fork bomb": ("while True:\n    if not os.fork():\n        os.pause()", {"EPERM"}),
    "key folder": ("return os.listdir(Path(at['home'], 'keys'))", {"ENOENT"}),
}
# What any user can do to another program of the same user, where nothing stands in the way.
OPEN_TO_ALL = (
    "network",
    "another home",
    "symlink out",
    "set-user-id file",
    "nested namespace",
    "write to /proc",
    "key folder",
)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "package")


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(2) as one:
        yield one


@pytest.fixture
def at(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What is worth reaching: a listener, a home with its keys, a file, memory of this process."""
    init_home(tmp_path / "home").close()
    (tmp_path / "secret").write_bytes(SECRET)
    held = ctypes.create_string_buffer(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {
            "address": ctypes.addressof(held),
            "home": str(tmp_path / "home"),
            "length": len(SECRET),
            "pid": os.getpid(),
            "port": server.getsockname()[1],
            "secret": str(tmp_path / "secret"),
        }


def plugin(fleet: Fleet, code: str, trust: str = "untrusted", **inputs: Any) -> Task:
    limits = {**LIMITS, **inputs.pop("limits", {})}
    path = fleet.add("toy", code, trust=trust, limits=limits)
    manifest = load_manifest(path, fleet.pack, fleet.folder)
    return Task("toy", manifest, "", inputs, out_dir=fleet.root / "out")


def tried(fleet: Fleet, engine: LocalEngine, name: str, at: dict[str, Any], trust: str) -> dict[str, Any]:
    lines = ATTEMPTS[name][0].splitlines()
    code = AROUND + "".join(f"    {line}\n" for line in lines)
    end = engine.run([plugin(fleet, code, trust, at=at)])[0]
    assert end.end == "returned", end
    assert end.result is not None
    finding: dict[str, Any] = end.result["findings"][0]  # type: ignore[index,call-overload,assignment]
    return finding


def test_there_are_twelve_attempts() -> None:
    assert len(ATTEMPTS) == 12


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_untrusted_plugin_does_not_get_out(
    fleet: Fleet, engine: LocalEngine, at: dict[str, Any], name: str
) -> None:
    finding = tried(fleet, engine, name, at, "untrusted")

    assert finding["kind"] == "refused", finding
    assert finding["evidence"]["errno"] in ATTEMPTS[name][1]


@pytest.mark.parametrize("name", OPEN_TO_ALL)
def test_without_walls_the_same_attempt_gets_out(
    fleet: Fleet, engine: LocalEngine, at: dict[str, Any], name: str
) -> None:
    assert tried(fleet, engine, name, at, "package")["kind"] == "escaped"


def test_a_link_out_of_the_folder_is_no_artifact(
    fleet: Fleet, engine: LocalEngine, at: dict[str, Any]
) -> None:
    code = (
        "import os\ndef run(at, out_dir):\n    os.symlink(at['secret'], out_dir / 'a')\n"
        "    return Ok(artifacts=[Artifact('a', 'a', 'text/plain')])\n"
    )

    assert engine.run([plugin(fleet, code, at=at)])[0].end == "invalid"


@pytest.mark.parametrize(
    "forks", ["os.fork() or time.sleep(60)", "os.posix_spawn('/bin/sleep', ['sleep', '60'], {})"]
)
def test_with_some_processes_allowed_a_fork_bomb_is_ended_by_its_limit(
    fleet: Fleet, engine: LocalEngine, forks: str
) -> None:
    code = f"import os, time\ndef run():\n    while True:\n        {forks}\n        time.sleep(0.002)\n"

    end = engine.run([plugin(fleet, code, limits={"processes": 3})])[0]

    assert (end.end, end.reason) == ("limit", "limit.processes")


def test_memory_that_no_process_maps_is_bounded(fleet: Fleet, engine: LocalEngine) -> None:
    code = (
        "import errno, os\nfrom pathlib import Path\ndef run():\n    piece = b'x' * 900_000\n"
        "    try:\n        for n in range(200):\n            Path(f'/tmp/{n}').write_bytes(piece)\n"
        "    except OSError as problem:\n        word = errno.errorcode[problem.errno]\n"
        "        return Ok([Finding('full', 'Full.', {'errno': word})])\n    return Ok(metrics={'n': 1})\n"
    )

    result = engine.run([plugin(fleet, code)])[0].result

    assert result is not None
    assert result["findings"][0]["evidence"] == {"errno": "ENOSPC"}  # type: ignore[index,call-overload]


def test_it_writes_its_folder_and_reads_what_it_was_given(fleet: Fleet, engine: LocalEngine) -> None:
    given = fleet.root / "given"
    given.write_text("7")
    code = (
        "from pathlib import Path\ndef run(path, out_dir):\n"
        "    Path(out_dir, 'a').write_text(open(path).read())\n"
        "    try:\n        open(path, 'a')\n    except OSError as problem:\n        told = problem.errno\n"
        "    return Ok([Finding('toy', 'Told.', {'errno': told})], [Artifact('a', 'a', 'text/plain')])\n"
    )
    task = plugin(fleet, code, path=str(given))
    task = Task(**{**{name: getattr(task, name) for name in task.__slots__}, "reads": (given,)})

    end = engine.run([task])[0]

    assert end.end == "returned", end
    assert (task.out_dir / "a").read_text() == "7"
    assert end.result is not None
    assert end.result["findings"][0]["evidence"] == {"errno": 30}  # type: ignore[index,call-overload]


def test_what_held_is_recorded_and_nothing_of_ours_is_in_its_environment(
    fleet: Fleet, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_THING", "x")
    code = "import os\ndef run():\n    return Ok([Finding('env', 'Names.', {'names': sorted(os.environ)})])\n"

    end = engine.run([plugin(fleet, code)])[0]

    assert end.result is not None
    names = end.result["findings"][0]["evidence"]["names"]  # type: ignore[index,call-overload]
    assert not {"SECRET_THING", "SSH_AUTH_SOCK", "STERLING_HOME"} & set(names)  # type: ignore[arg-type]
    assert {"sandbox:bubblewrap", "processes:seccomp", "tree:pid-namespace", "wall:guard"} <= set(end.walls)


def test_killed_it_leaves_nobody(fleet: Fleet) -> None:
    code = (
        "import os, time\ndef run(progress):\n    if not os.fork():\n        os.setsid()\n        os.fork()\n"
        "        time.sleep(60)\n    progress(0, 1)\n    time.sleep(60)\n"
    )
    before = set(descendants(os.getpid()))
    with LocalEngine(1) as engine:
        engine.submit(plugin(fleet, code, limits={"processes": 8}))
        while not any(event.kind == "progress" for event in engine.poll(5_000_000)):
            continue
        engine.kill("toy")
        while not any(event.end for event in engine.poll(5_000_000)):
            continue

    assert set(descendants(os.getpid())) <= before


@pytest.mark.parametrize("way", ["absent", "broken", "processor"])
def test_without_a_sandbox_it_never_runs(
    fleet: Fleet, engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    launch_module.prove.cache_clear()
    (tmp_path / "bin").mkdir()
    if way == "broken":
        (tmp_path / "bin" / "bwrap").write_text(
            "#!/bin/sh\necho 'No permissions to create a namespace' >&2\nexit 1\n"
        )
        (tmp_path / "bin" / "bwrap").chmod(0o755)
    if way == "processor":
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
    else:
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    ran = fleet.root / "out" / "ran"
    code = f"open({str(ran)!r}, 'w')\ndef run():\n    return Ok(metrics={{'n': 1}})\n"

    task = plugin(fleet, code)
    end = engine.run([task])[0]
    settled = settle(task.plugin, end.result, end.step_end())

    assert (settled.state, settled.reason, ran.exists()) == ("failed", "sandbox.unavailable", False)
