"""Run every bench and write `docs/performance.md` from what they print.

Usage: python bench/run_all.py [--quick [--full NAME ...]]. Benches run one after
another, each in a process of its own; `--full` names those that are not quick. A
bench that fails is named and the exit is 1.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
_COLUMNS = (
    "bench",
    "case",
    "ours",
    "rival",
    "against",
    "unit",
    "ratio",
    "must",
    "accepted",
    "history",
    "run",
)
NOT_BENCHES = {"recall_screens.py", "report.py", "run_all.py"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every bench and write docs/performance.md.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", nargs="*", default=[], metavar="NAME")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    failed = []
    for script in sorted(HERE.glob("*.py")):
        if script.name in NOT_BENCHES:
            continue
        print(f"bench: {script.name}", file=sys.stderr, flush=True)
        quick = ["--quick"] if given.quick and script.stem not in given.full else []
        done = subprocess.run(
            [sys.executable, str(script), "--json", *quick],
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
            check=False,
        )
        if done.returncode != 0:
            failed.append(script.name)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        rows += [row | {"run": "quick" if quick else "full"} for row in found]
    PAGE.write_text(page(rows), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def page(rows: list[dict[str, object]]) -> str:
    """The table of figures, each beside its rival or floor from the same run."""
    cores = os.cpu_count()
    today = datetime.date.today().isoformat()
    lines = [
        "# Performance",
        "",
        f"Measured {today} on {cores} cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, with `bench/run_all.py`. The machine is shared and noisy: read "
        "the ratios. Ours and the rival ran in the same run. `run` says whether a row comes from the short "
        "form of its bench (under a minute) or from the full one.",
        "",
        "| bench | case | ours | rival or floor | figure | unit | ratio | must | accepted | history | run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append("| " + " | ".join(str(row[name]) for name in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
