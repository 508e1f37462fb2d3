"""What an accepted transition costs: each check of the order, the gate over its artifacts, one durable batch.

A task goes from SPEC to PLAN and back, again and again; only the way forward is
timed. Beside it, in the same run: three syncs of the same bytes plus 2.5 times a
bare SQLite transaction on a RAM disk (the bound), a file-based enforcer of equal,
weak durability (JSON lines that are read whole, a WAL lease that is not synced),
and the same task behind a long history. The look at the work tree is timed alone,
beside `git status`, because it is git's work and not the ledger's.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from report import line, parse_arguments

from sterling.kernel.batch import Batch
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.home import Home, init_home
from sterling.packs.autopilot.authority.asks import Answer, Ask
from sterling.packs.autopilot.authority.loop import Authority, Who
from sterling.packs.autopilot.authority.worktree import WorkTree
from sterling.packs.autopilot.orders import TaskOrder
from sterling.packs.autopilot.ports import TestCase, TestVerdict
from sterling.packs.autopilot.process.machine import Role
from sterling.packs.autopilot.tasks import create_task, open_authority
from sterling.testing.scripted_agent import load_script

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
CONTENT = {
    step["submit"]: canonical_bytes(step["content"]).decode("utf-8")
    for step in load_script(SAMPLES / "autopilot" / "mend.toml")
    if "submit" in step
}
PERSON, AGENT = Who(Role.PERSON, "bench"), Who(Role.AGENT, "bench", "implementer")


class FixedTree(WorkTree):
    """A work tree that is not looked at again, so that only the ledger's part is timed."""

    known = ""

    def snapshot(self) -> str:
        return self.known


class Track:
    """One task that goes to and fro between SPEC and PLAN."""

    def __init__(self, home: Home, stack: ExitStack) -> None:
        order = TaskOrder("Mend it", SAMPLES / "ci" / "base", SAMPLES / "autopilot" / "profile.toml")
        view = create_task(home, order)
        self.authority: Authority
        self.authority, _ = stack.enter_context(open_authority(home, view, _no_tests))
        work = FixedTree(self.authority.site.work.folder)
        work.known = str(view.facts["base_tree"])
        self.authority.site.work = work
        self.asked = self.accepted = 0
        self.ask("request_advance", PERSON, to="STRATEGIZE")
        for kind in ("strategy", "worthiness"):
            self.ask("submit_artifact", PERSON, kind=kind, content=CONTENT[kind])
        self.ask("request_advance", PERSON, to="SPEC")

    def ask(self, verb: str, who: Who, **arguments: Any) -> Answer:
        self.asked += 1
        seen = self.authority.site.view.newest
        answer = self.authority.answer(Ask(f"ask-{self.asked}", verb, "", seen, arguments=arguments), who)
        assert answer.ok, answer
        return answer

    def prepare(self) -> None:
        self.ask("submit_artifact", AGENT, kind="spec", content=CONTENT["spec"])

    def forward(self) -> None:
        self.ask("request_advance", AGENT, to="PLAN")
        self.accepted += 1

    def back(self) -> None:
        self.ask("request_backtrack", PERSON, to="SPEC", words="Once more.")


class FileEnforcer:
    """What a small script would do: read the whole log, take a lease, append a line. Nothing is synced."""

    def __init__(self, folder: Path, history: int) -> None:
        self.log = folder / "log.jsonl"
        row = {
            "task": "other",
            "from": "SPEC",
            "to": "PLAN",
            "tree": "0" * 40,
            "artifacts": ["r-" + "a" * 26] * 3,
        }
        with self.log.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row | {"n": n}) + "\n" for n in range(history))
        self.lease = sqlite3.connect(folder / "lease.db", isolation_level=None)
        self.lease.execute("PRAGMA journal_mode = WAL")
        self.lease.execute("PRAGMA synchronous = NORMAL")
        self.lease.execute("CREATE TABLE lease (name TEXT PRIMARY KEY, token INTEGER)")
        self.lease.execute("INSERT INTO lease VALUES ('task', 0)")

    def forward(self) -> None:
        phase = "SPEC"
        with self.log.open(encoding="utf-8") as file:
            for text in file:
                row = json.loads(text)
                if row["task"] == "mine":
                    phase = row["to"]
        self.lease.execute("UPDATE lease SET token = token + 1 WHERE name = 'task'")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"task": "mine", "from": phase, "to": "PLAN"}) + "\n")


def main() -> None:
    arguments = parse_arguments("an accepted transition against its floor and a file-based enforcer")
    runs = 40 if arguments.quick else 200
    histories = (0, 1_000, 20_000) if arguments.quick else (0, 1_000, 20_000, 1_000_000)
    with (
        tempfile.TemporaryDirectory(dir=".") as disk,
        tempfile.TemporaryDirectory(dir=_memory(disk)) as memory,
    ):
        os.environ["XDG_STATE_HOME"] = str(Path(memory).resolve() / "state")
        on_this_disk(Path(disk).resolve(), Path(memory), runs)
        beside_files(Path(memory), histories, runs)
        look_at_the_tree(Path(memory) / "look", max(5, runs // 10))


def on_this_disk(disk: Path, memory: Path, runs: int) -> None:
    """Ours on this disk against three syncs of its bytes and 2.5 bare transactions on a RAM disk."""
    bare = sqlite3.connect(memory / "bare.db", isolation_level=None)
    bare.execute("CREATE TABLE entries (n INTEGER PRIMARY KEY, body BLOB)")
    with ExitStack() as stack:
        home = stack.enter_context(init_home(disk / "home"))
        track = Track(home, stack)
        size = _bytes_of_a_transition(home, track)
        descriptor = os.open(disk / "raw", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        ours, syncs, plain = [], [], []
        for _ in range(runs):
            track.prepare()
            ours.append(timed(track.forward))
            track.back()
            syncs.append(timed(lambda: _append(descriptor, bytes(size))))
            plain.append(timed(lambda: _insert(bare, size)))
        os.close(descriptor)
    floor = 3 * statistics.median(syncs) + 2.5 * statistics.median(plain)
    line(bench="autopilot_transition", case="accepted transition on this disk", ours=statistics.median(ours),
         against=floor, rival="3 syncs of the same bytes + 2.5 bare SQLite transactions in memory", unit="ms",
         must="<= 1.0", accepted=track.accepted, history=home.ledger.size(), runs=runs)  # fmt: skip


def beside_files(memory: Path, histories: tuple[int, ...], runs: int) -> None:
    """Ours and the file-based enforcer in memory, behind ever longer histories; then last against first."""
    medians: list[float] = []
    for history in histories:
        folder = memory / f"history-{history}"
        folder.mkdir()
        with ExitStack() as stack:
            home = stack.enter_context(init_home(folder / "home"))
            _fill(home, history)
            track, files = Track(home, stack), FileEnforcer(folder, history)
            ours, theirs = [], []
            for _ in range(runs):
                track.prepare()
                ours.append(timed(track.forward))
                track.back()
                if len(theirs) < max(5, 2_000_000 // max(1, history)):
                    theirs.append(timed(files.forward))
            medians.append(statistics.median(ours))
        line(bench="autopilot_transition", case=f"in memory behind {history} entries", ours=medians[-1],
             against=statistics.median(theirs), rival="file-based enforcer, nothing synced", unit="ms",
             must="< 1.0" if history >= 20_000 else "printed", accepted=track.accepted, history=history,
             runs=runs)  # fmt: skip
    line(bench="autopilot_transition", case=f"behind {histories[-1]} entries against none", ours=medians[-1],
         against=medians[0], rival="the same task behind an empty history", unit="ms", must="<= 1.2",
         accepted=runs * len(histories), history=histories[-1], runs=runs)  # fmt: skip


def look_at_the_tree(folder: Path, runs: int) -> None:
    """A snapshot of the work tree against `git status` of the same tree."""
    folder.mkdir()
    work = WorkTree(folder / "work")
    base = work.create(SAMPLES / "ci" / "base")
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(timed(lambda: work.snapshot()))
        theirs.append(timed(lambda: _git_status(work.tree)))
    assert work.snapshot() == base.tree
    line(bench="autopilot_transition", case="the look at the work tree", ours=statistics.median(ours),
         against=statistics.median(theirs), rival="git status of the same tree", unit="ms", must="printed",
         accepted=runs, history=0, runs=runs)  # fmt: skip


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def _append(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)
    os.fsync(descriptor)


def _insert(connection: sqlite3.Connection, size: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO entries (body) VALUES (?)", (bytes(size),))
    connection.execute("COMMIT")


def _bytes_of_a_transition(home: Home, track: Track) -> int:
    """How much one accepted transition adds: its record's entry and its line."""
    before = home.ledger.size()
    track.prepare()
    middle = home.ledger.size()
    track.forward()
    size = sum(len(entry.body) for entry in home.ledger.read(after=middle - 1))
    track.back()
    assert middle > before
    return size


def _fill(home: Home, count: int) -> None:
    for start in range(0, count, 500):
        batch = Batch()
        for number in range(start, min(count, start + 500)):
            task = f"task-of-others-{number % 997}"
            batch.append("task.line", {"task": task, "what": "bench", "records": ["r-x"]}, subject=task)
        home.ledger.commit(batch)


def _git_status(tree: Path) -> None:
    subprocess.run(["git", "status", "--porcelain"], cwd=tree, capture_output=True, check=True)


def _memory(otherwise: str) -> str:
    return "/dev/shm" if Path("/dev/shm").is_dir() else otherwise


def _no_tests(home: Home, case: TestCase) -> TestVerdict:
    raise AssertionError("no test is run here")


if __name__ == "__main__":
    main()
