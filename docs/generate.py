"""Write the reference pages that are made from code: commands, codes, contracts, counters, doctor.

Usage: python docs/generate.py [--check]. With --check nothing is written, and
the exit is 1 when a page is not what the code says.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import sterling
from sterling import app
from sterling.cli.table import COMMANDS
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import all_errors

REFERENCE = Path(__file__).resolve().parent / "reference"
_ABOUT_COUNTERS = """\
# Counters and spans

Made from the tables in the code. Counters are folded from the ledger (`sterling doctor --counters`);
nothing increments by hand, so the same entries give the same figures to anybody. No event is `0`. A
source that could not be read makes its counters `na`.

When a command ends and a run has ended since the last time, what is new is written to `telemetry/` in the
home, as OTLP JSON, one object a line: `traces.jsonl`, `counters.jsonl`, and `metrics.jsonl` (what
telemetry says of itself). Counters are written when the ledger has grown by a tenth (up to 50,000
entries; then on demand), with the index of the newest entry that they cover; `sterling verify --deep` and
`sterling doctor` fold again up to that index and compare exactly. `sterling doctor --telemetry` writes
all that is due now.

Telemetry is a copy, never evidence: a span is made from an entry that is durable already and names it
(`sterling.entry.index`, `sterling.entry.hash`), and a failure of telemetry is said and stops nothing.
Lines hold ids, sizes and codes; text that does not look like one is left out. What does not fit the queue
or the disk is dropped, counted by cause, and written as `telemetry.dropped` at most once a minute. A last
line that a crash tore off is moved to `*.torn`. A file of 64 MiB becomes a numbered one. A pass that was
killed writes some spans again, under the same ids.

## Counters

| counter | counts | from | by |
| --- | --- | --- | --- |"""
_ABOUT_SPANS = """\

## Spans

Attributes carry the prefix `sterling.`. Spans of one run share its trace and lie below the run's span.

| span | is | made from | attributes |
| --- | --- | --- | --- |"""
_ABOUT_DOCTOR = """\
# The doctor's rows

Made from the table of probes. `sterling doctor` does what a home must be able to do instead of asking
whether it is configured. A row is `ok`, `failed` with code, cause and next step, or `na` with the reason.
A row is not tried without the rows it needs, and its failure is the fault of a failed row that it blames:
both are `na`, because of the root, so one fault is one failed row.

The doctor works without a home and on one that is locked, read-only, full or broken. It writes no entry
and mends nothing. Leases and blobs are tried in a scratch home inside `run/`, on the same disk, gone
afterwards. A role that a live process holds is `na`: it is at work. Programs that only some packs need
are `na` with the command that installs them when they are absent, and `failed` when they are there and do
not run.

Exit status: 0 nothing failed, 3 integrity is broken, else 1 a row failed, else 4 there was nothing to
judge (no home, no anchor).

| row | ok means | needs | blames |
| --- | --- | --- | --- |"""
SKIPPED = ("sterling.testing", "sterling.__main__", "sterling.kernel.standalone_verify")


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"docs.reference-stale: {', '.join(stale)}\nnext: make docs", file=sys.stderr)
        return 1
    return 0


def pages() -> dict[str, str]:
    """Every generated page by file name."""
    return {
        "commands.md": commands(),
        "codes.md": codes(),
        "contract-list.md": contract_list(),
        "counters.md": counters(),
        "doctor.md": doctor(),
    }


def commands() -> str:
    rows = [
        "# Commands",
        "",
        "Made from the command table. `sterling COMMAND --help` says the options.",
        "",
        "| command | what it gives | `--json` contracts | example |",
        "| --- | --- | --- | --- |",
    ]
    for row in COMMANDS:
        contracts = ", ".join(f"`{name}`" for name in row.contracts) or "see its subcommands"
        rows.append(f"| `{row.name}` | {row.summary} | {contracts} | `{row.example}` |")
    return "\n".join(rows) + "\n"


def codes() -> str:
    for module in pkgutil.walk_packages(sterling.__path__, "sterling."):
        if not module.name.startswith(SKIPPED) and ".plugins" not in module.name:
            importlib.import_module(module.name)
    rows = [
        "# Error codes",
        "",
        "Made from the error classes. Each code belongs to one class; the exit is the command's.",
        "",
        "| code | means | exit | next step |",
        "| --- | --- | --- | --- |",
    ]
    for code, error in all_errors().items():
        sentence = " ".join((error.__doc__ or "").strip().split("\n\n")[0].split())
        rows.append(f"| `{code}` | {_cell(sentence)} | {error.exit} | {_cell(error.hint)} |")
    return "\n".join(rows) + "\n"


def contract_list() -> str:
    rows = [
        "# Contracts",
        "",
        "Made from the schema files. How contracts, verdicts and locks work is in [contracts](contracts.md).",
        "",
        "| contract | kind | owner | what it is |",
        "| --- | --- | --- | --- |",
    ]
    known = sorted(load_contracts(), key=lambda contract: contract.id)
    for contract in known:
        title = str(contract.schema["title"])
        rows.append(f"| `{contract.id}` | {contract.kind} | {contract.owner} | {_cell(title)} |")
    return "\n".join(rows) + "\n"


def counters() -> str:
    rows = [_ABOUT_COUNTERS]
    for counter in sorted(app.counter_rules(), key=lambda rule: rule.name):
        labels = ", ".join(f"`{label}`" for label in counter.labels)
        if counter.distinct:
            labels = f"once a `{counter.distinct}`"
        source = counter.contract or counter.kind
        rows.append(f"| `{counter.name}` | {_cell(counter.sentence)} | `{source}` | {labels} |")
    rows.append(_ABOUT_SPANS)
    for span in app.span_rules():
        attributes = ", ".join(f"`{name}`" for name in span.attributes)
        source = span.contract or span.kind
        rows.append(f"| `{span.name}` | {_cell(span.sentence)} | `{source}` | {attributes} |")
    return "\n".join(rows) + "\n"


def doctor() -> str:
    rows = [_ABOUT_DOCTOR]
    for probe in app.doctor_probes():
        needs, blames = (", ".join(f"`{name}`" for name in names) for names in (probe.needs, probe.blames))
        rows.append(f"| `{probe.id}` | {_cell(probe.sentence)} | {needs} | {blames} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
