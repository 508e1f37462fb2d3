"""The whole scan for unfinished work against `git grep` of the same words.

Both read every tracked file of this repository. The rival prints lines that hold
a word; ours also parses what is suspect. Ours is timed inside a process that
runs already, and as a whole command beside an interpreter that does nothing.
Interleaved, so that a noisy machine hits both.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments

from sterling.runtime.unfinished import scan_repository

ROOT = Path(__file__).resolve().parent.parent
WORDS = "TODO FIXME XXX HACK NOT_IMPLEMENTED NotImplementedError pass assert.False skip xfail except suppress"
GREP = ["git", "-C", str(ROOT), "grep", "-nwE", WORDS.replace(" ", "|")]
COMMAND = [sys.executable, "-m", "sterling", "scan", "unfinished", "--repo", str(ROOT), "--json"]


def main() -> None:
    arguments = parse_arguments("a scan of this repository against git grep")
    rounds = 5 if arguments.quick else 15
    today = datetime.datetime.now(datetime.UTC).date()
    inside, grep, command = [], [], []
    files = 0
    for _ in range(rounds):
        grep.append(timed(lambda: ran(GREP)))
        inside.append(timed(lambda: scan_repository(ROOT, today)))
        command.append(timed(lambda: ran(COMMAND)))
        files = scan_repository(ROOT, today).files
    for case, ours in (("in a process", inside), ("whole command", command)):
        line(
            bench="runtime_scan",
            case=case,
            ours=min(ours) * 1000,
            against=min(grep) * 1000,
            rival="git grep of the same words",
            unit="ms",
            must="<= 3" if case == "in a process" else "none: an interpreter starts",
            accepted=files,
            history=files,
            runs=rounds,
        )


def ran(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stderr


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
