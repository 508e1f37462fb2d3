"""The tables of the recall pages are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sterling.packs.recall.evaluate.score import MEASURES
from sterling.packs.recall.reasons import REASONS
from sterling.packs.recall.search.support import RELATIONS

ROOT = Path(__file__).resolve().parents[3]
CONCEPT = (ROOT / "docs" / "concepts" / "recall.md").read_text(encoding="utf-8")
SET_PAGE = (ROOT / "docs" / "reference" / "recall-set.md").read_text(encoding="utf-8")


def rows(text: str, head: str) -> list[list[str]]:
    """The rows of the table whose first heading is `head`."""
    after = text[text.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in after if line.startswith("|")]


def test_every_reason_stands_in_the_page_with_its_sentence_and_next_step() -> None:
    assert rows(CONCEPT, "code") == [
        [f"`{code}`", why.sentence, f"`{why.next}`"] for code, why in REASONS.items()
    ]


def test_the_table_of_support_is_the_table_of_the_code() -> None:
    found = {cells[0].partition(":")[0]: int(cells[1]) for cells in rows(CONCEPT, "the word stands")}

    assert found == RELATIONS


def test_the_table_of_states_names_every_state_of_the_contract() -> None:
    from sterling.kernel.contracts import load_contracts

    states = load_contracts().get("recall.answer").schema["properties"]["state"]["enum"]

    assert [cells[0].strip("`") for cells in rows(CONCEPT, "state")] == states


def test_the_page_of_the_set_format_names_every_measure() -> None:
    named = re.findall(r"`(\w+)`", " ".join(cells[0] for cells in rows(SET_PAGE, "measure")))

    assert set(named) == set(MEASURES)


@pytest.mark.parametrize("phrase", ["a fortnight", "last quarter"])
def test_phrases_that_are_not_understood_are_not_promised(phrase: str) -> None:
    assert phrase not in CONCEPT
