"""Run every bench and write `docs/performance.md` from what they print.

Usage: python bench/run_all.py [--quick]. Benches run one after another, each in
a process of its own; a bench that fails is named and the exit is 1.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
_COLUMNS = ("bench", "case", "ours", "rival", "against", "unit", "ratio", "must", "accepted", "history")
NOT_BENCHES = {"recall_screens.py", "report.py", "run_all.py"}


def main() -> int:
    quick = [flag for flag in sys.argv[1:] if flag == "--quick"]
    rows: list[dict[str, object]] = []
    failed = []
    for script in sorted(HERE.glob("*.py")):
        if script.name in NOT_BENCHES:
            continue
        print(f"bench: {script.name}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, str(script), "--json", *quick],
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
            check=False,
        )
        if done.returncode != 0:
            failed.append(script.name)
        rows += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    PAGE.write_text(page(rows, quick=bool(quick)), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def page(rows: list[dict[str, object]], *, quick: bool) -> str:
    """The table of figures, each beside its rival or floor from the same run."""
    cores = os.cpu_count()
    today = datetime.date.today().isoformat()
    lines = [
        "# Performance",
        "",
        f"Measured {today} on {cores} cores, {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, with `make bench`{' (quick)' if quick else ''}. The machine is shared "
        "and noisy: read the ratios. Ours and the rival ran in the same run.",
        "",
        "| bench | case | ours | rival or floor | figure | unit | ratio | must | accepted | history |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append("| " + " | ".join(str(row[name]) for name in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
