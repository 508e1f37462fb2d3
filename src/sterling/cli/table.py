"""Every command, as static data: name, module, one line of help, JSON contract, example.

Help and completion read this table alone, so they never import a command.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMMANDS", "EXIT_LINES", "MENDING", "Row", "help_text"]

# What still runs while the contract lock is broken: it shows what is wrong, or mends it.
MENDING = frozenset(("contracts", "doctor", "status", "verify"))


class Row(NamedTuple):
    """One command: `sterling NAME`. `contracts` are the `--json` shapes of it and its subcommands."""

    name: str
    module: str
    summary: str
    contracts: tuple[str, ...]
    example: str


COMMANDS: tuple[Row, ...] = (
    Row(
        "demo",
        "demo",
        "The main job of every pack on real samples, then proof.",
        ("demo.story",),
        "sterling demo",
    ),
    Row(
        "init", "init", "Make a home: ledger, keys, settings, first anchor.", ("home.made",), "sterling init"
    ),
    Row(
        "migrate",
        "migrate",
        "Move a home to this version, with a verified copy.",
        ("home.migration",),
        "sterling migrate",
    ),
    Row("status", "status", "What is running, what waits and why.", ("view.status",), "sterling status"),
    Row(
        "verify",
        "verify",
        "Recompute every hash; a run's evidence too.",
        ("verify.result", "verify.bundle"),
        "sterling verify",
    ),
    Row(
        "ledger",
        "ledger",
        "Head, entries, proofs, bundles; compare, recover.",
        (
            "ledger.head",
            "ledger.show",
            "ledger.checkpoint",
            "ledger.prove",
            "ledger.diff",
            "ledger.recover",
            "ledger.export",
            "ledger.import",
        ),
        "sterling ledger head",
    ),
    Row(
        "keys",
        "keys",
        "Who signs: list, rotate, revoke, persons' keys.",
        ("keys.list", "keys.rotated", "keys.revoked", "keys.made"),
        "sterling keys list",
    ),
    Row(
        "archive",
        "archive",
        "Move blobs to an archive, and back.",
        ("archive.moved",),
        "sterling archive --before 2026-01-01 --to FOLDER --reason TEXT",
    ),
    Row(
        "doctor",
        "doctor",
        "Try everything a home must do; name faults.",
        ("doctor.result", "doctor.counters"),
        "sterling doctor",
    ),
    Row("run", "run", "Runs of every pack, one shape.", ("run.list", "view.run"), "sterling run list"),
    Row(
        "ingest",
        "ingest",
        "Store screen pictures without loss.",
        ("ingest.result",),
        "sterling ingest FOLDER",
    ),
    Row(
        "ask",
        "ask",
        "Ask what was on the screen; answers cite pixels.",
        ("ask.result",),
        'sterling ask "QUESTION"',
    ),
    Row("recall", "recall", "Look into what was recorded.", (), "sterling recall --help"),
    Row(
        "eval",
        "eval",
        "Score answers against a set with known truth.",
        ("eval.recall",),
        "sterling eval recall SET",
    ),
    Row(
        "drain",
        "drain",
        "Run waiting work once, within the mode table.",
        ("drain.result",),
        "sterling drain --force",
    ),
    Row(
        "up",
        "up",
        "Start the conductor, which drains when idle.",
        ("conductor.result",),
        "sterling up",
    ),
    Row(
        "down",
        "down",
        "End the conductor and all that it runs.",
        ("conductor.result",),
        "sterling down",
    ),
    Row(
        "analyze",
        "analyze",
        "What a table really says, every figure re-executable.",
        ("analyze.result",),
        "sterling analyze DATA",
    ),
    Row(
        "ci",
        "ci",
        "What a test run proves, against a baseline.",
        ("ci.verdict", "ci.ran", "ci.ingested", "ci.baseline-shown", "ci.explained"),
        "sterling ci verdict --base main -- python -m pytest",
    ),
    Row(
        "task",
        "task",
        "Coding agents through nine gated phases.",
        ("task.answer",),
        'sterling task new "TEXT"',
    ),
    Row(
        "governor",
        "governor",
        "May heavy work run now, and why.",
        (
            "governor.explain",
            "governor.simulate",
            "governor.explain-at",
            "governor.forecast",
            "governor.gate",
            "governor.switch",
        ),
        "sterling governor explain",
    ),
    Row(
        "plugins",
        "plugins",
        "List, check, lock and begin plugins.",
        ("plugins.list", "plugins.check", "plugins.lock", "plugins.new"),
        "sterling plugins list",
    ),
    Row(
        "scan",
        "scan",
        "Find unfinished work in what git tracks.",
        ("scan.unfinished",),
        "sterling scan unfinished",
    ),
    Row(
        "contracts",
        "contracts",
        "Check, compare, lock and repair data contracts.",
        ("contracts.check", "contracts.diff", "contracts.lock", "contracts.repair"),
        "sterling contracts check",
    ),
    Row(
        "outbox",
        "outbox",
        "Changes outside Sterling: waiting, done, dead.",
        ("outbox.list", "outbox.show", "outbox.retry", "outbox.abandon"),
        "sterling outbox list",
    ),
    Row(
        "config",
        "config",
        "Show, check and change settings.",
        ("config.show", "config.check", "config.keys", "config.set"),
        "sterling config show",
    ),
)

EXIT_LINES = (
    "0 yes, ok    1 the answer is no    2 wrong usage or unreadable input",
    "3 integrity broken    4 cannot judge    70 a defect of Sterling",
)


def help_text(version: str) -> str:
    """What `sterling --help` prints."""
    lines = [
        f"sterling {version}: a local-first runtime in which nothing counts without evidence.",
        "",
        "Usage: sterling COMMAND [ARGUMENTS] [--home DIR] [--json] [-q] [-v]",
        "",
        "Commands:",
        *(f"  {row.name:<10} {row.summary}" for row in COMMANDS),
        "",
        "Exit status:",
        *(f"  {line}" for line in EXIT_LINES),
        "",
        "Start with `sterling demo`. `sterling COMMAND --help` says the rest.",
    ]
    return "\n".join(lines)
