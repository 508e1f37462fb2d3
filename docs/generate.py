"""Write the reference pages that are made from code: commands, codes, contracts.

Usage: python docs/generate.py [--check]. With --check nothing is written, and
the exit is 1 when a page is not what the code says.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import sterling
from sterling.cli.table import COMMANDS
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import all_errors

REFERENCE = Path(__file__).resolve().parent / "reference"
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
    return {"commands.md": commands(), "codes.md": codes(), "contract-list.md": contract_list()}


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
