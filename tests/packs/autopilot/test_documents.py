"""The tables of docs/reference/phases.md are what the code holds, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

from sterling.packs.autopilot.artifacts.kinds import KINDS, NOT_DEMANDED
from sterling.packs.autopilot.artifacts.levels import level_needed
from sterling.packs.autopilot.codes import CODES
from sterling.packs.autopilot.journal import COUNTERS
from sterling.packs.autopilot.process.machine import PAIRS, PHASES, Direction, Phase, Role
from sterling.packs.autopilot.process.retries import RETRY_LIMITS
from sterling.packs.autopilot.profile import COMMANDS, REQUIRED, ProfileLimits, parse_profile

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "reference" / "phases.md").read_text(encoding="utf-8")
CONCEPT = (DOCS / "concepts" / "autopilot.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_the_page_holds_all_81_pairs_as_the_code_decides_them() -> None:
    rows = table("The 81 pairs")

    assert [row[0] for row in rows] == list(PHASES)
    for row in rows:
        for to, cell in zip(PHASES, row[1:], strict=True):
            rule = PAIRS[Phase(row[0]), to]
            closed = rule.direction is Direction.BACK and Role.AGENT not in rule.who
            assert cell == ("back (no agents)" if closed else str(rule.direction)), (row[0], to)


def test_the_page_holds_every_artifact() -> None:
    expected = [
        [
            kind.phase,
            kind.name,
            kind.file,
            kind.author,
            kind.contract or "raw bytes",
            "yes" if kind.binds_tree else "no",
        ]
        for kind in KINDS
    ]

    assert table("What each phase leaves behind") == expected


def test_the_page_holds_levels_and_retries() -> None:
    expected = [[phase, str(level_needed(phase, "low")), str(RETRY_LIMITS[phase])] for phase in PHASES]

    assert table("Limits") == expected


def test_the_page_says_what_is_not_demanded() -> None:
    assert table("Not demanded in this build") == [list(row) for row in NOT_DEMANDED]


def test_the_page_holds_every_reason_code() -> None:
    assert table("Reason codes") == [[code, CODES[code]] for code in sorted(CODES)]


def test_the_profile_on_the_concept_page_is_one() -> None:
    shown = re.search(r"```toml\n(.*?)```", CONCEPT, re.DOTALL)

    assert shown is not None
    profile = parse_profile(shown[1].encode(), source="the page")
    assert set(profile.commands) <= set(COMMANDS) and set(REQUIRED) <= set(profile.commands)


def test_the_concept_page_names_every_limit_and_counter() -> None:
    for name in [*ProfileLimits.__slots__, *COUNTERS]:
        assert f"`{name}`" in CONCEPT, name
