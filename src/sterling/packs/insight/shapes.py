"""The shapes that a cell of text can have, as patterns the query engine understands.

One `CASE` gives each distinct cell exactly one shape; the first that matches
wins, so a plain column of whole numbers costs three patterns a cell. Which
shapes make which type is decided in `types.py`, not here.
"""

from __future__ import annotations

from enum import StrEnum

from sterling.packs.insight.engine import literal

__all__ = [
    "MISSING_MAYBE",
    "MISSING_SURE",
    "Shape",
    "bare_sql",
    "clean_sql",
    "date_shapes",
    "matches_sql",
    "number_shapes",
    "shape_sql",
    "unit_sql",
]

# Words that always mean "no value", and words that may be a value in a column of words
# (NA is Namibia, None is a grade of damage). Compared without case.
MISSING_SURE = ("null", "\\n", "n/a", "#n/a", "<na>")
MISSING_MAYBE = ("na", "nan", "none", "nil", "-", "--", ".", "?")


class Shape(StrEnum):
    """What a cell looks like, apart from what its column is."""

    BLANK = "blank"
    MISSING = "missing"
    MAYBE_MISSING = "maybe-missing"
    INT = "int"
    ZERO_LED = "zero-led"
    DECIMAL = "decimal"
    CODE_EXPONENT = "code-exponent"
    EXPONENT = "exponent"
    INFINITE = "infinite"
    COMMA_THREE = "comma-three"
    COMMA_THOUSANDS = "comma-thousands"
    COMMA_DECIMAL = "comma-decimal"
    DOT_THOUSANDS = "dot-thousands"
    ISO_DATE = "iso-date"
    ISO_TIME = "iso-time"
    ISO_TIME_ZONED = "iso-time-zoned"
    DATE_LIKE = "date-like"
    MONTH_NAME = "month-name"
    BOOL = "bool"
    UUID = "uuid"
    WORD = "word"


_ISO_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_CLOCK = r"( [0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)?"
_PATTERNS: tuple[tuple[Shape, str], ...] = (
    (Shape.INT, r"[+-]?(0|[1-9][0-9]*)"),
    (Shape.ZERO_LED, r"[+-]?0[0-9]+(\.[0-9]*)?"),
    (Shape.DECIMAL, r"[+-]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.)"),
    (Shape.CODE_EXPONENT, r"[0-9]+[eE][0-9]+"),
    (Shape.EXPONENT, r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][+-]?[0-9]+"),
    (Shape.INFINITE, r"(?i)[+-]?inf(inity)?"),
    (Shape.COMMA_THREE, r"[+-]?[1-9][0-9]{0,2},[0-9]{3}"),
    (Shape.COMMA_THOUSANDS, r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]+)?"),
    (Shape.COMMA_DECIMAL, r"[+-]?[0-9]+,[0-9]+"),
    (Shape.DOT_THOUSANDS, r"[+-]?[1-9][0-9]{0,2}((\.[0-9]{3})+,[0-9]+|(\.[0-9]{3}){2,})"),
    (Shape.ISO_DATE, r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    (Shape.ISO_TIME, _ISO_TIME),
    (Shape.ISO_TIME_ZONED, _ISO_TIME + r" ?(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)"),
    (
        Shape.DATE_LIKE,
        r"([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})" + _CLOCK,
    ),
    (
        Shape.MONTH_NAME,
        r"([0-9]{1,2}[- ][A-Za-z]{3,9}[- ][0-9]{4}|[A-Za-z]{3,9} [0-9]{1,2}, [0-9]{4})" + _CLOCK,
    ),
    (Shape.BOOL, r"(?i)true|false|yes|no|y|n|t|f"),
    (Shape.UUID, r"(?i)[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"),
)
_UNITS = "$€£¥%"


def number_shapes() -> frozenset[Shape]:
    """Shapes that some way of writing numbers has."""
    return frozenset(
        {
            Shape.INT,
            Shape.ZERO_LED,
            Shape.DECIMAL,
            Shape.CODE_EXPONENT,
            Shape.EXPONENT,
            Shape.INFINITE,
            Shape.COMMA_THREE,
            Shape.COMMA_THOUSANDS,
            Shape.COMMA_DECIMAL,
            Shape.DOT_THOUSANDS,
        }
    )


def date_shapes() -> frozenset[Shape]:
    """Shapes that some way of writing days or times has."""
    return frozenset(
        {Shape.ISO_DATE, Shape.ISO_TIME, Shape.ISO_TIME_ZONED, Shape.DATE_LIKE, Shape.MONTH_NAME}
    )


def matches_sql(cell: str, *shapes: Shape) -> str:
    """SQL for: the cell has one of these shapes."""
    patterns = "|".join(f"({pattern})" for shape, pattern in _PATTERNS if shape in shapes)
    return f"regexp_full_match({cell}, {literal(patterns)})"


def clean_sql(cell: str) -> str:
    """SQL for a cell in NFC, its runs of white space one space, none at the edges."""
    spaced = f"regexp_replace(nfc_normalize({cell}), '[\\s\\p{{Z}}]+', ' ', 'g')"
    return f"trim({spaced}, ' ')"


def unit_sql(cell: str) -> str:
    """SQL for the currency or per cent sign of a clean cell, or the empty text."""
    return (
        f"CASE WHEN NOT regexp_matches({cell}, '[{_UNITS}]') THEN ''"
        f" WHEN regexp_full_match({cell}, '[+-]?[$€£¥] ?[0-9.][^{_UNITS}]*')"
        f" THEN regexp_extract({cell}, '[$€£¥]')"
        f" WHEN regexp_full_match({cell}, '[^{_UNITS}]*[0-9.] ?[{_UNITS}]')"
        f" THEN regexp_extract({cell}, '[{_UNITS}]') ELSE '' END"
    )


def bare_sql(cell: str, unit: str) -> str:
    """SQL for the clean cell without its unit."""
    removed = f"regexp_replace({cell}, ' ?[{_UNITS}] ?', '')"
    return f"CASE WHEN {unit} = '' THEN {cell} ELSE {removed} END"


def shape_sql(bare: str) -> str:
    """SQL for the shape of a bare cell."""
    sure = ", ".join(literal(word) for word in MISSING_SURE)
    maybe = ", ".join(literal(word) for word in MISSING_MAYBE)
    cases = [
        f"WHEN {bare} = '' THEN {literal(Shape.BLANK)}",
        f"WHEN lower({bare}) IN ({sure}) THEN {literal(Shape.MISSING)}",
        f"WHEN lower({bare}) IN ({maybe}) THEN {literal(Shape.MAYBE_MISSING)}",
        *(
            f"WHEN regexp_full_match({bare}, {literal(pattern)}) THEN {literal(shape)}"
            for shape, pattern in _PATTERNS
        ),
    ]
    return f"CASE {' '.join(cases)} ELSE {literal(Shape.WORD)} END"
