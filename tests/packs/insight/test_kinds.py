"""The closed table of kinds, the closed table of reasons, and the words they speak."""

from __future__ import annotations

import string
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterling.kernel.errors import all_errors
from sterling.packs.insight import errors as insight_errors
from sterling.packs.insight.codes import REASONS, Reason, sentence
from sterling.packs.insight.kinds import KINDS, claim_of, next_step_of, share_text

PACK = Path(insight_errors.__file__).parent


def test_every_kind_is_declared_by_a_plugin_and_no_plugin_declares_another() -> None:
    declared = {
        kind
        for path in PACK.rglob("plugins/**/*.toml")
        for kind in tomllib.loads(path.read_text())["insight"]["kinds"]
    }

    assert declared == set(KINDS)


def test_every_reason_is_used_and_says_how_it_ends() -> None:
    code = "\n".join(
        path.read_text() for path in PACK.rglob("*.py") if path.name not in ("codes.py", "errors.py")
    )
    for reason, text in REASONS.items():
        is_error = str(reason) in all_errors() and text.ends == "refused"
        assert is_error or f"Reason.{reason.name}" in code or f'"{reason}"' in code, reason
        assert text.next_step.endswith(".") and text.template.endswith(".")
    assert set(REASONS) == set(Reason)


def test_a_blank_in_a_sentence_must_be_filled() -> None:
    with pytest.raises(KeyError):
        sentence(Reason.TOO_FEW_ROWS, found=1)
    with pytest.raises(KeyError):
        claim_of("rows-repeated", {"count": 1}, {})


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_said_of_one_and_of_many(kind: str) -> None:
    blanks = {name for _, name, _, _ in string.Formatter().parse(KINDS[kind].many) if name}
    figures = {"count", "of", "rows", "filled", "distinct", "levels", "share"}
    names = dict.fromkeys(blanks - figures, "x")

    for count in (1, 12):
        row = {"count": count, "of": 4000, "rows": 4000, "filled": 12, "distinct": 3}
        claim = claim_of(kind, row, names)
        assert claim.endswith((".", "!")) and "{" not in claim
        assert next_step_of(kind, row, names).endswith(".")


def test_names_from_the_table_stand_in_quotes_and_figures_have_separators() -> None:
    claim = claim_of("cells-missing", {"count": 1234, "of": 5000}, {"column": "a b", "type": "int"})

    assert claim == "1,234 of 5,000 cells of “a b” are missing (24.68 %)."


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_shares_are_exact_to_the_second_place(count: int, of: int) -> None:
    shown = Fraction(share_text(count, of))

    assert abs(shown - Fraction(100 * count, of)) <= Fraction(1, 200)


def test_a_share_of_nothing_is_zero() -> None:
    assert share_text(0, 0) == "0.00"
