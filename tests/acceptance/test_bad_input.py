"""Bad input of every kind to every command that takes a path, a name or words.

Each answer is a code, a sentence and a next step, with the right exit; with
`--json` it is one object and nothing else. Nothing acknowledged is lost. Exit
70 anywhere is a defect of ours.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import all_errors
from sterling.kernel.home import init_home
from sterling.kernel.verify import verify_home

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
HANG_S = 60
CODE = re.compile(r"^[a-z]+\.[a-z0-9-]+: .")
PICTURE = next(iter(sorted((SAMPLES / "recall" / "frames").glob("*.png"))))
NAMES = {
    "spaces": " a  b ",
    "newline": "a\nb;c $(d) `e` 'f' \"g\"",
    "escape": "\x1b[2J\u202e",
    "not utf-8": "bad\udcff",
    "dots": "../../../nothing/here",
    "pattern": "*[?",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it printed."""

    exit: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class World:
    """A home with something in it, a repository, and bad inputs of every kind."""

    folder: Path
    home: Path
    repository: Path

    def call(self, *argv: str) -> Ended:
        """`sterling ARGV` in this process, with strict streams and an end to waiting."""
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(HANG_S)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as end,
            ):
                main(list(argv))
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        out.flush()
        err.flush()
        texts = [stream.buffer.getvalue().decode("utf-8") for stream in (out, err)]  # type: ignore[attr-defined]
        return Ended(int(end.value.code or 0), *texts)

    def ask(self, *argv: str) -> tuple[Ended, dict[str, Any]]:
        """The same with --json; what is printed must be one object under its contract."""
        split = argv.index("--") if "--" in argv else len(argv)
        ended = self.call(*argv[:split], "--json", *argv[split:])
        document: dict[str, Any] = json.loads(ended.out)
        load_contracts().validate("error@1.0" if "error" in document else document["contract"], document)
        return ended, document

    def entries(self) -> list[tuple[int, bytes]]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.home / 'ledger.db'}?mode=ro", uri=True)
        ) as database:
            return database.execute('SELECT "index", hash FROM entries ORDER BY "index"').fetchall()


def _too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"expected an answer within {HANG_S} s, found a command that waits")


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("bad-input")
    made = World(folder, folder / "home", folder / "repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        init_home(made.home).close()
    _repository(made.repository)
    for kind, make in MADE.items():
        make(folder / f"{kind}.bad")
    return made


@pytest.fixture
def world(furnished: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """The module's world; whatever a test did to it, nothing that was written may be gone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(furnished.folder / "state"))
    monkeypatch.setenv("STERLING_HOME", str(furnished.home))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = furnished.entries()
    yield furnished
    assert furnished.entries()[: len(before)] == before
    assert verify_home(furnished.home).exit == 0


def _repository(path: Path) -> None:
    path.mkdir()
    (path / "test_one.py").write_text("def test_one():\n    assert True\n", encoding="utf-8")
    for words in (
        ("init", "-q", "-b", "main"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-q", "-m", "one"),
    ):
        subprocess.run(["git", "-C", str(path), *words], check=True)


def _pipe_end(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        short = os.path.relpath(path)
        end.bind(short if len(short) < 100 else str(path))


# What lies at a path, and how it is made there. A word for the path alone makes nothing.
MADE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "folder": lambda path: path.mkdir(),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "torn": lambda path: path.write_bytes(PICTURE.read_bytes()[:999]),
    "pipe": lambda path: os.mkfifo(path),
    "link to itself": lambda path: path.symlink_to(path),
    "unreadable": lambda path: path.symlink_to("/proc/self/mem"),  # Reading it fails even for root.
}
PATHS: dict[str, Callable[[Path], str]] = {
    **{kind: (lambda folder, kind=kind: str(folder / f"{kind}.bad")) for kind in MADE},  # type: ignore[misc]
    "missing": lambda folder: str(folder / "missing"),
    "below a file": lambda folder: str(folder / "empty.bad" / "below"),
    "long": lambda folder: str(folder / ("n" * 300)),
    "device": lambda folder: "/dev/zero",
    **{kind: (lambda folder, name=name: str(folder / name)) for kind, name in NAMES.items()},  # type: ignore[misc]
}


@dataclass(frozen=True, slots=True)
class Taker:
    """A command that takes something in place of `{}`; `other` are exits beside 2 that its page gives."""

    argv: tuple[str, ...]
    other: tuple[int, ...] = ()


RUN = ("--", sys.executable, "-c", "pass")
TAKERS = {
    "ingest": Taker(("ingest", "{}")),
    "ingest set": Taker(("ingest", "{}", "--as", "set")),
    "eval": Taker(("eval", "recall", "{}")),
    "predictions": Taker(("eval", "recall", str(SAMPLES / "recall"), "--predictions", "{}")),
    "analyze": Taker(("analyze", "{}", "--out", "report")),
    "analyze plan": Taker(("analyze", "{}", "--dry-run")),
    "ci ingest": Taker(("ci", "ingest", "{}", "--repo", "REPO")),
    "ci baseline show": Taker(("ci", "baseline", "show", "{}")),
    "ci verdict": Taker(("ci", "verdict", "--baseline", "{}", "--repo", "REPO", *RUN)),
    "ci repository": Taker(("ci", "run", "--repo", "{}", *RUN)),
    "signals": Taker(("governor", "simulate", "{}")),
    "jobs": Taker(("governor", "simulate", "SIGNALS", "--jobs", "{}")),
    "verify": Taker(("verify", "{}")),
    "anchor": Taker(("verify", "--anchor", "{}")),
    "pin": Taker(("verify", "--pin", "{}")),
    "task text": Taker(("task", "new", "--from", "{}", "--repo", "REPO"), other=(4,)),
    "task profile": Taker(("task", "new", "words", "--profile", "{}", "--repo", "REPO"), other=(4,)),
    "task repository": Taker(("task", "new", "words", "--repo", "{}"), other=(1, 4)),
    "receipt": Taker(("task", "receipt", "check", "{}"), other=(3,)),
    "home of status": Taker(("status", "--home", "{}")),
    "home of verify": Taker(("verify", "--home", "{}")),
    "home of ask": Taker(("ask", "What?", "--home", "{}")),
    "home of config": Taker(("config", "set", "governor.cpu_limit_bp", "1", "--home", "{}")),
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", TAKERS)
def test_bad_paths_get_a_code_a_sentence_and_a_next_step(world: World, name: str, kind: str) -> None:
    taker = TAKERS[name]
    signals = world.folder / "signals"
    signals.write_text('{"at_us": 0}\n{"at_us": 1000000}\n', encoding="utf-8")
    words = {"{}": PATHS[kind](world.folder), "REPO": str(world.repository), "SIGNALS": str(signals)}
    argv = [words.get(word, word) for word in taker.argv]

    ended = world.call(*argv)
    told, document = world.ask(*argv)

    assert ended.exit in (2, *taker.other), ended
    assert told.exit == ended.exit
    _assert_says_why(ended, document)
    assert not list(Path.cwd().glob("sterling-defect-*"))


def _assert_says_why(ended: Ended, document: dict[str, Any]) -> None:
    """An error on standard error; or, where the bad thing itself was kept, an answer that names the code."""
    assert "Traceback" not in ended.err + ended.out
    assert "\x1b" not in ended.err + ended.out
    if "error" in document:
        error = document["error"]
        lines = ended.err.splitlines()
        assert CODE.match(lines[0]) and lines[0].startswith(f"{error['code']}: "), lines
        assert len(lines) == 2 and lines[1] == f"next: {error['hint']}"
        assert ended.out == ""
        assert "expected" in error["message"] or "Invalid value" in error["message"]
        assert error["code"] in all_errors() and "internal" not in error["code"]
    else:
        known = re.findall(r"\b[a-z]+\.[a-z0-9-]+\b", json.dumps(document))
        assert any(code in ended.out for code in known), (ended, document)
        assert "next: " in ended.out, ended


WORDS = {
    **NAMES,
    "nothing": "",
    "long": "x" * 5000,
    "huge number": "9" * 40,
    "number below zero": "-1",
    "number too large": "999999999",
    "letters": "é✓",
    "a path": "../../etc/passwd",
    "record nobody wrote": "r-" + "a" * 26,
    "run nobody made": "run-" + "a" * 26,
    "task nobody made": "task-" + "a" * 26,
}
WORD_TAKERS = {
    "verify run": Taker(("verify", "run-{}")),
    "entry": Taker(("ledger", "show", "{}"), other=(1,)),
    "proof": Taker(("ledger", "prove", "{}"), other=(1,)),
    "run": Taker(("run", "show", "{}")),
    "answer": Taker(("recall", "trace", "{}"), other=(1,)),
    "decision": Taker(("ci", "explain", "{}")),
    "baseline": Taker(("ci", "baseline", "show", "{}")),
    "revision": Taker(("ci", "run", "--repo", "REPO", "--at", "{}x", *RUN)),
    "base": Taker(("ci", "verdict", "--repo", "REPO", "--base", "{}x", *RUN)),
    "task": Taker(("task", "why", "{}")),
    "receipt": Taker(("task", "receipt", "export", "{}", "--out", "receipt")),
    "phase": Taker(("task", "advance", "task-none", "--to", "{}")),
    "key": Taker(("config", "set", "{}", "1")),
    "value": Taker(("config", "set", "governor.cpu_limit_bp", "{}")),
    "setting": Taker(("status", "--set", "{}")),
    "setting's value": Taker(("verify", "--set", "governor.cpu_limit_bp={}")),
    "moment": Taker(("ask", "What?", "--at", "{}")),
    "from": Taker(("ask", "What?", "--from", "{}")),
    "zone": Taker(("ask", "What?", "--zone", "x{}")),
    "zone of pictures": Taker(("ingest", str(PICTURE), "--zone", "x{}")),
    "limit": Taker(("drain", "--limit", "x{}")),
    "mode": Taker(("analyze", str(SAMPLES / "insight" / "queue_log.csv"), "--mode", "{}")),
    "plugins": Taker(("analyze", str(SAMPLES / "insight" / "queue_log.csv"), "--plugins", "x{}")),
    "seed": Taker(("analyze", str(SAMPLES / "insight" / "queue_log.csv"), "--seed", "x{}")),
    "command": Taker(("{}",)),
    "option": Taker(("status", "--x{}")),
}


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("name", WORD_TAKERS)
def test_bad_words_get_a_code_a_sentence_and_a_next_step(world: World, name: str, kind: str) -> None:
    taker = WORD_TAKERS[name]
    given = [word.replace("{}", WORDS[kind]) for word in taker.argv]
    argv = [str(world.repository) if word == "REPO" else word for word in given]
    if argv == [""]:
        argv = ["no such command"]

    ended = world.call(*argv)
    told, document = world.ask(*argv)

    assert ended.exit in (2, *taker.other), ended
    assert told.exit == ended.exit
    _assert_says_why(ended, document)


@pytest.mark.parametrize("kind", [kind for kind in WORDS if kind not in ("not utf-8", "number below zero")])
def test_any_question_is_answered_refused_or_called_unknown(world: World, kind: str) -> None:
    ended, document = world.ask("ask", WORDS[kind])

    assert document["contract"].startswith("ask.result@")
    assert document["state"] in ("no_evidence", "refused", "indeterminate")
    assert ended.exit == {"indeterminate": 4}.get(document["state"], 1)
    assert document["claims"] == [] and document["sentence"]


def test_a_question_of_a_megabyte_is_no_defect(world: World) -> None:
    ended, document = world.ask("ask", "What is the total? " * 50_000)

    assert ended.exit in (1, 2, 4), document


@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind not in ("dots", "not utf-8")])
def test_good_files_with_hostile_names_are_taken_like_others(world: World, tmp_path: Path, kind: str) -> None:
    picture = tmp_path / f"{NAMES[kind]}.png"
    picture.write_bytes(PICTURE.read_bytes())
    table = tmp_path / f"{NAMES[kind]}.csv"
    table.write_text("kind,size\n" + "a,1\nb,2\n" * 40, encoding="utf-8")
    report = tmp_path / f"{NAMES[kind]}.xml"
    report.write_text(
        '<testsuite name="s" tests="1" failures="0" errors="0" skipped="0">'
        '<testcase classname="test_one" name="test_one" time="0.1"/></testsuite>',
        encoding="utf-8",
    )

    taken, _ = world.ask("ingest", str(picture))
    analysed, _ = world.ask("analyze", str(table), "--dry-run")
    read, _ = world.ask("ci", "ingest", str(report), "--exit-code", "0")

    assert (taken.exit, analysed.exit, read.exit) == (0, 0, 0), (taken, analysed, read)
    assert "\x1b" not in world.call("ingest", str(picture)).out + world.call("analyze", str(table)).out


def test_a_folder_with_one_bad_picture_keeps_the_good_ones_and_says_no(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "good.png").write_bytes(PICTURE.read_bytes())
    (folder / "good too \udcff.png").write_bytes(PICTURE.read_bytes())
    (folder / "torn.png").write_bytes(PICTURE.read_bytes()[:500])
    os.mkfifo(folder / "pipe.png")
    (folder / "worded.png").write_bytes(PICTURE.read_bytes())
    (folder / "worded.json").write_bytes(b"[" * 60_000)

    ends = [world.ask("ingest", str(folder)) for _ in range(2)]

    for ended, document in ends:
        assert ended.exit == 1
        assert sorted(item["item"] for item in document["refused"]) == ["torn.png", "worded.png"]
        assert document["accepted"] + document["repeated"] == 2


def _write(path: Path, data: bytes) -> None:
    for beside in path.parent.glob("ledger.db-*"):
        beside.unlink()
    path.write_bytes(data)


def _drop(table: str) -> Callable[[Path], None]:
    def drop(home: Path) -> None:
        with contextlib.closing(sqlite3.connect(home / "ledger.db")) as database:
            database.execute(f"DROP TABLE {table}")

    return drop


BROKEN: dict[str, tuple[Callable[[Path], object], int]] = {
    "ledger cut": (lambda home: _write(home / "ledger.db", (home / "ledger.db").read_bytes()[:9000]), 3),
    "ledger of noise": (lambda home: _write(home / "ledger.db", bytes(range(256)) * 40), 3),
    "no entries table": (_drop("entries"), 3),
    "no leases table": (_drop("leases"), 3),
    "no ledger": (lambda home: (home / "ledger.db").unlink(), 2),
    "ledger is a folder": (lambda home: ((home / "ledger.db").unlink(), (home / "ledger.db").mkdir()), 2),
    "settings of noise": (lambda home: (home / "sterling.toml").write_bytes(b"\xff[[["), 2),
    "settings out of range": (
        lambda home: (home / "sterling.toml").write_text("[governor]\ncpu_limit_bp = 99999999\n"),
        2,
    ),
    "no settings": (lambda home: (home / "sterling.toml").unlink(), 2),
    "open to others": (lambda home: home.chmod(0o755), 2),
    "somebody else's folder": (lambda home: (shutil.rmtree(home), home.mkdir(), (home / "mine").touch()), 2),
}
HOME_USERS = {
    "ingest": ("ingest", str(PICTURE)),
    "ask": ("ask", "What is the total?"),
    "drain": ("drain", "--force"),
    "runs": ("run", "list"),
    "head": ("ledger", "head"),
    "status": ("status",),
    "analyze": ("analyze", str(SAMPLES / "insight" / "queue_log.csv")),
    "task": ("task", "status"),
    "ci": ("ci", "run", "--repo", "REPO", *RUN),
}


@pytest.mark.parametrize("harm", BROKEN)
@pytest.mark.parametrize("name", HOME_USERS)
def test_a_broken_home_is_refused_by_everything_that_would_write_to_it(
    world: World, tmp_path: Path, name: str, harm: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(world.home, home)
    home.chmod(0o700)
    make, exit = BROKEN[harm]
    make(home)
    argv = [str(world.repository) if word == "REPO" else word for word in HOME_USERS[name]]
    split = argv.index("--") if "--" in argv else len(argv)
    named = (*argv[:split], "--home", str(home), *argv[split:])

    ended = world.call(*named)
    _, document = world.ask(*named)

    assert ended.exit == exit, ended
    _assert_says_why(ended, document)


@pytest.mark.parametrize("harm", [harm for harm, (_, exit) in BROKEN.items() if exit == 3])
def test_verify_names_what_is_broken_in_a_home(world: World, tmp_path: Path, harm: str) -> None:
    home = tmp_path / "home"
    shutil.copytree(world.home, home)
    BROKEN[harm][0](home)

    ended, document = world.ask("verify", "--home", str(home), "--deep")

    assert ended.exit == 3 and document["verdict"] == "broken" and document["code"]


def test_init_where_something_is_or_nothing_can_be_leaves_it_as_it_was(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(path.name for path in tmp_path.rglob("*"))

    for place in ("file", "full", "link", "file/below", "/proc/sterling-home"):
        ended = world.call("init", "--home", str(tmp_path / place))
        told, document = world.ask("ingest", str(PICTURE), "--home", str(tmp_path / place))
        assert (ended.exit, told.exit) == (2, 2), (place, ended, told)
        assert "error" in document

    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options",
    [
        *(("--out", place) for place in ("file", "file/below", "full", "/proc/demo", "/dev/null", "n" * 300)),
        ("--only", "nonsense"),
    ],
    ids=str,
)
def test_a_demo_that_cannot_play_says_so_before_it_makes_anything(
    world: World, tmp_path: Path, options: tuple[str, str]
) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    before = sorted(path.name for path in tmp_path.rglob("*"))

    ended = world.call("demo", *options)
    _, document = world.ask("demo", *options)

    assert ended.exit == 2, ended
    _assert_says_why(ended, document)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_terminal_without_unicode_gets_escapes_and_json_stays_utf_8(world: World) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "sterling", "run", "show", "é✓", "--json"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )

    assert said.returncode == 2 and b"Traceback" not in said.stderr
    assert "é✓" in json.loads(said.stdout.decode("utf-8"))["error"]["message"]
