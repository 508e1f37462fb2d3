"""A world in which commands are stopped: a home, things to work on, and every process they start.

A moment is a number of entries that the ledger has gained, never a number of
seconds, so that it is the same moment on a slow machine.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sterling.kernel.home import init_home, open_home
from sterling.kernel.verify import verify_home
from sterling.packs.ci.door import make_sample
from sterling.runtime.runs import RunView, list_runs, read_run

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
LIMIT_S = 120
OWN_BUSINESS = ("--set", "governor.cpu_limit_bp=0", "--set", "governor.ram_limit_bp=0")
TESTS = ("--", sys.executable, "-m", "pytest", "-q")
AGENT = ("--", "{python}", "-m", "sterling.testing.scripted_agent", str(SAMPLES / "autopilot" / "mend.toml"))

Rows = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """A command line, the exit of a whole run, and about how many entries one appends."""

    argv: tuple[str, ...]
    exit: int
    entries: int


CASES = {
    "ingest": Case(("ingest", "{pictures}"), 0, 30),
    "drain": Case(("drain", "--force", *OWN_BUSINESS), 0, 30),
    "ci": Case(
        ("ci", "verdict", "--base", "main", "--at", "broken", "--repo", "{repository}", *TESTS), 1, 14
    ),
    "analyze": Case(("analyze", str(SAMPLES / "insight" / "queue_log.csv"), "--out", "{out}"), 0, 24),
    "task": Case(
        (
            *("task", "run", "A book that comes back early must cost nothing", "--repo", "{repository}"),
            *("--profile", str(SAMPLES / "autopilot" / "profile.toml"), "--uncontained", "a test", *AGENT),
        ),
        0,
        90,
    ),
}


class World:
    """A home of its own, and a mark in the environment by which every process started here is found."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.home, self.case = folder, folder / "home", CASES[name]
        self.mark = f"STERLING_WORLD={folder}"
        self._outs = 0
        init_home(self.home).close()
        if name in ("ingest", "drain"):
            frames = sorted((SAMPLES / "recall" / "frames").glob("*.png"))[:4]
            (folder / "pictures").mkdir()
            for frame in frames:
                (folder / "pictures" / frame.name).write_bytes(frame.read_bytes())
        if name in ("ci", "task"):
            make_sample(folder / "repository")
        if name == "drain":
            assert self.finish(self.start("ingest", str(folder / "pictures"))) == 0

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start `sterling ARGV` on this home, in a session of its own."""
        split = argv.index("--") if "--" in argv else len(argv)
        name, _, value = self.mark.partition("=")
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "sterling", *argv[:split], "--home", str(self.home), *argv[split:]],
                stdout=said,
                stderr=said,
                cwd=self.folder,
                env={**os.environ, name: value},
                start_new_session=True,
            )

    def start_case(self) -> subprocess.Popen[bytes]:
        """Start the command of this world's case; each time it writes to a place of its own."""
        self._outs += 1
        places = {
            "{pictures}": str(self.folder / "pictures"),
            "{repository}": str(self.folder / "repository"),
            "{out}": str(self.folder / f"out-{self._outs}"),
        }
        return self.start(*(places.get(word, word) for word in self.case.argv))

    def finish(self, child: subprocess.Popen[bytes]) -> int:
        """The exit status."""
        return child.wait(timeout=LIMIT_S)

    def stop_after(self, child: subprocess.Popen[bytes], gained: int, number: signal.Signals) -> Rows:
        """Send the signal once the ledger has gained so many entries; give the entries it had by then."""
        wanted = len(self.entries()) + gained
        deadline = time.monotonic() + LIMIT_S
        while child.poll() is None and time.monotonic() < deadline:
            had = self.entries()
            if len(had) >= wanted:
                child.send_signal(number)
                return had
            time.sleep(0.002)
        return self.entries()

    def entries(self) -> Rows:
        """Index and hash of every entry that is in the store."""
        with closing(sqlite3.connect(f"file:{self.home / 'ledger.db'}?mode=ro", uri=True)) as database:
            return database.execute('SELECT "index", hash FROM entries ORDER BY "index"').fetchall()

    def runs(self) -> list[RunView]:
        """Every run of the home with its outcomes, oldest first."""
        with open_home(self.home, read_only=True) as home:
            return [read_run(home, run.id) for run in list_runs(home)]

    def said(self) -> str:
        """What the commands printed, for a failing test."""
        return (self.folder / "said").read_text(encoding="utf-8", errors="replace")[-3000:]

    def strangers(self) -> list[psutil.Process]:
        """Processes started here that are still there."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("STERLING_WORLD") == str(self.folder)
                if ours or process.cwd().startswith(f"{self.folder}/"):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def assert_nobody_left(self) -> None:
        """Every process of this world ends soon after its owner."""
        deadline = time.monotonic() + 20
        while (left := self.strangers()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left == [], [process.cmdline() for process in left]

    def assert_whole(self, acknowledged: Rows) -> None:
        """The home verifies with every byte, and each entry that was there is there still."""
        found = verify_home(self.home, blobs=True)
        assert (found.exit, found.verdict) == (0, "ok"), found.as_json()
        assert self.entries()[: len(acknowledged)] == acknowledged


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The world of the case that the test names by its parameter `name`."""
    made = World(tmp_path, request.getfixturevalue("name"))
    yield made
    for process in made.strangers():
        process.kill()
