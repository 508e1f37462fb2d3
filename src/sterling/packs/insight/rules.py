"""Column rules: how a raw cell becomes a value, and how a value is written back.

Each rule is SQL in both directions. Where writing a value back does not give
the raw cell again, the cell is an exception and kept as it was, so raw cells
can always be rebuilt from values, rules and exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.packs.insight.engine import identifier, literal
from sterling.packs.insight.shapes import (
    MISSING_MAYBE,
    MISSING_SURE,
    Shape,
    bare_sql,
    clean_sql,
    matches_sql,
)
from sterling.packs.insight.types import ColumnType, Reading

__all__ = [
    "ColumnRule",
    "cell_sql",
    "raw_text_sql",
    "sql_type",
    "value_sql",
    "why_sql",
    "written_sql",
]

_NUMBER = (Shape.INT, Shape.DECIMAL)
_REAL = (Shape.INT, Shape.DECIMAL, Shape.EXPONENT, Shape.CODE_EXPONENT)
_GROUPED = (
    Shape.INT,
    Shape.DECIMAL,
    Shape.COMMA_THREE,
    Shape.COMMA_THOUSANDS,
    Shape.COMMA_DECIMAL,
    Shape.DOT_THOUSANDS,
)
_TRUE, _FALSE = ("true", "yes", "y", "t"), ("false", "no", "n", "f")
_WORDS = (ColumnType.TEXT, ColumnType.ID, ColumnType.CATEGORY)


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """How one column is read. `written` is the format in which values are written back."""

    name: str
    stored: str
    type: ColumnType
    reading: Reading
    scale: int = 0
    precision: int = 0
    trimmed: bool = False
    format: str = ""
    unit: str = ""
    written: str = ""
    zone: str = ""
    true_word: str = "true"
    false_word: str = "false"
    folds: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Json]:
        """The rule as it stands in the mapping record."""
        return {
            "reading": str(self.reading),
            "stored": self.stored,
            "scale": self.scale,
            "precision": self.precision,
            "trimmed": self.trimmed,
            "format": self.format,
            "unit": self.unit,
            "written": self.written,
            "zone": self.zone,
            "true_word": self.true_word,
            "false_word": self.false_word,
            "folds": [list(fold) for fold in self.folds],
        }

    @classmethod
    def parse(cls, name: str, kind: str, document: Mapping[str, Json]) -> ColumnRule:
        """The rule that a mapping record holds."""
        plain = {key: value for key, value in document.items() if key not in ("reading", "folds")}
        folds = tuple((str(old), str(new)) for old, new in document["folds"])
        reading = Reading(document["reading"])
        return cls(name=name, type=ColumnType(kind), reading=reading, folds=folds, **plain)


def sql_type(rule: ColumnRule) -> str:
    """The engine's type of the normalized column."""
    return {
        ColumnType.BOOL: "BOOLEAN",
        ColumnType.INT: "BIGINT",
        ColumnType.DECIMAL: f"DECIMAL({rule.precision},{rule.scale})",
        ColumnType.FLOAT: "DOUBLE",
        ColumnType.DATE: "DATE",
        ColumnType.TIMESTAMP: "TIMESTAMP",
    }.get(rule.type, "VARCHAR")


def raw_text_sql(rule: ColumnRule) -> str:
    """SQL for the raw cell as text, as exceptions hold it."""
    cell = identifier(rule.name)
    return cell if rule.stored == "VARCHAR" else f"CAST({cell} AS VARCHAR)"


def cell_sql(rule: ColumnRule) -> str:
    """SQL that makes a raw cell ready for `value_sql`: clean, without its unit.

    It belongs into a query of its own below the one that reads values, so that
    it is computed once a cell, however often a value's rule looks at it.
    """
    if rule.reading == Reading.AS_STORED:
        return identifier(rule.name)
    clean = clean_sql(f"coalesce({identifier(rule.name)}, '')")
    return bare_sql(clean, literal(rule.unit)) if rule.unit else clean


def value_sql(rule: ColumnRule, cell: str) -> str:
    """SQL for the normalized value of a ready cell; NULL when it has none."""
    if rule.reading == Reading.AS_STORED:
        return _as_stored(rule, cell)
    return f"CAST({_VALUES[rule.reading](rule, cell)} AS {sql_type(rule)})"


def written_sql(rule: ColumnRule, value: str) -> str:
    """SQL that writes a value back as the raw cell usually looked."""
    text = _written(rule, value)
    if rule.stored != "VARCHAR" or rule.type in _WORDS:
        body = text
    elif rule.unit:
        body = f"{literal(rule.unit)} || {text}" if rule.unit != "%" else f"{text} || '%'"
    else:
        body = text
    empty = "''" if rule.stored == "VARCHAR" and rule.written != "null" else "NULL"
    return f"CASE WHEN {value} IS NULL THEN {empty} ELSE {body} END"


def why_sql(raw: str, value: str) -> str:
    """SQL that says why a cell is an exception: spelled, blank, missing-word or unparsed."""
    clean = clean_sql(f"coalesce({raw}, '')")
    words = ", ".join(literal(word) for word in (*MISSING_SURE, *MISSING_MAYBE))
    return (
        f"CASE WHEN {value} IS NOT NULL THEN 'spelled' WHEN {clean} = '' THEN 'blank'"
        f" WHEN lower({clean}) IN ({words}) THEN 'missing-word' ELSE 'unparsed' END"
    )


def _as_stored(rule: ColumnRule, cell: str) -> str:
    if rule.type == ColumnType.FLOAT:
        return f"CASE WHEN isnan({cell}) THEN NULL ELSE {cell} END"
    return f"CAST({cell} AS {sql_type(rule)})"


def _int(rule: ColumnRule, bare: str) -> str:
    return f"CASE WHEN {matches_sql(bare, Shape.INT)} THEN TRY_CAST({bare} AS BIGINT) END"


def _decimal(rule: ColumnRule, bare: str) -> str:
    return f"CASE WHEN {matches_sql(bare, *_NUMBER)} THEN TRY_CAST({bare} AS {sql_type(rule)}) END"


def _float(rule: ColumnRule, bare: str) -> str:
    number = f"TRY_CAST({bare} AS DOUBLE)"
    return (
        f"CASE WHEN {matches_sql(bare, Shape.INFINITE)} THEN {number}"
        f" WHEN {matches_sql(bare, *_REAL)} AND isfinite({number}) THEN {number} END"
    )


def _grouped(thousands: str, decimal: str) -> Callable[[ColumnRule, str], str]:
    def sql(rule: ColumnRule, bare: str) -> str:
        plain = f"replace(replace({bare}, '{thousands}', ''), '{decimal}', '.')"
        places = f"length(split_part({plain}, '.', 2)) <= {rule.scale}"
        return (
            f"CASE WHEN {matches_sql(bare, *_GROUPED)} AND {places}"
            f" THEN TRY_CAST({plain} AS {sql_type(rule)}) END"
        )

    return sql


def _formatted(rule: ColumnRule, clean: str) -> str:
    shapes = (Shape.ISO_DATE, Shape.DATE_LIKE, Shape.MONTH_NAME)
    return f"CASE WHEN {matches_sql(clean, *shapes)} THEN try_strptime({clean}, {literal(rule.format)}) END"


def _iso(rule: ColumnRule, clean: str) -> str:
    return f"CASE WHEN {matches_sql(clean, Shape.ISO_TIME)} THEN TRY_CAST({clean} AS TIMESTAMP) END"


def _iso_zoned(rule: ColumnRule, clean: str) -> str:
    """UTC: the engine drops a written offset, so it is taken off here."""
    zone = "' ?([+-])([0-9]{2}):?([0-9]{2})?$'"
    part = f"coalesce(TRY_CAST(regexp_extract({clean}, {zone}, %d) AS BIGINT), 0)"
    minutes = f"({part % 2} * 60 + {part % 3})"
    sign = f"CASE WHEN regexp_extract({clean}, {zone}, 1) = '-' THEN -1 ELSE 1 END"
    local = f"TRY_CAST(regexp_replace({clean}, ' ?(Z|z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$', '') AS TIMESTAMP)"
    return (
        f"CASE WHEN {matches_sql(clean, Shape.ISO_TIME_ZONED)}"
        f" THEN {local} - to_minutes({sign} * {minutes}) END"
    )


def _bool(rule: ColumnRule, clean: str) -> str:
    yes, no = (", ".join(literal(word) for word in words) for words in (_TRUE, _FALSE))
    return f"CASE WHEN lower({clean}) IN ({yes}) THEN true WHEN lower({clean}) IN ({no}) THEN false END"


def _clean(rule: ColumnRule, clean: str) -> str:
    missing = ", ".join(literal(word) for word in ("", *MISSING_SURE))
    return f"CASE WHEN lower({clean}) IN ({missing}) THEN NULL ELSE {clean} END"


def _fold(rule: ColumnRule, clean: str) -> str:
    if not rule.folds:
        return _clean(rule, clean)
    cases = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in rule.folds)
    return f"CASE ({_clean(rule, clean)}) {cases} ELSE {_clean(rule, clean)} END"


_VALUES: dict[Reading, Callable[[ColumnRule, str], str]] = {
    Reading.BOOL_WORDS: _bool,
    Reading.INT_PLAIN: _int,
    Reading.DECIMAL_PLAIN: _decimal,
    Reading.FLOAT_PLAIN: _float,
    Reading.COMMA_DECIMAL: _grouped(".", ","),
    Reading.COMMA_THOUSANDS: _grouped(",", "."),
    Reading.DOT_THOUSANDS: _grouped(".", ","),
    Reading.DATE_FORMAT: _formatted,
    Reading.TIME_FORMAT: _formatted,
    Reading.TIME_ISO: _iso,
    Reading.TIME_ISO_ZONED: _iso_zoned,
    Reading.TEXT_CLEAN: _clean,
    Reading.CATEGORY_FOLD: _fold,
}


def _written(rule: ColumnRule, value: str) -> str:
    if rule.type == ColumnType.BOOL and rule.stored == "VARCHAR":
        return f"CASE WHEN {value} THEN {literal(rule.true_word)} ELSE {literal(rule.false_word)} END"
    if rule.reading == Reading.TIME_ISO_ZONED:
        local = f"{value} + to_minutes({_zone_minutes(rule.zone)})"
        return f"strftime({local}, {literal(rule.written)}) || {literal(rule.zone)}"
    if rule.reading in (Reading.DATE_FORMAT, Reading.TIME_FORMAT, Reading.TIME_ISO):
        return f"strftime({value}, {literal(rule.written)})"
    text = f"CAST({value} AS VARCHAR)"
    if rule.type == ColumnType.DECIMAL and rule.trimmed:
        text = f"rtrim(rtrim({text}, '0'), '.')"
    if rule.reading in (Reading.COMMA_DECIMAL, Reading.DOT_THOUSANDS):
        text = f"replace({text}, '.', ',')"
    if rule.type == ColumnType.INT and rule.reading == Reading.COMMA_THOUSANDS:
        return f"format('{{:,}}', {value})"
    if rule.type == ColumnType.INT and rule.reading == Reading.DOT_THOUSANDS:
        return f"replace(format('{{:,}}', {value}), ',', '.')"
    return text


def _zone_minutes(zone: str) -> int:
    """Minutes east of UTC that `Z`, `+02:00`, `-0330` or `+02` name."""
    figures = zone.strip().lstrip("+-").replace(":", "")
    if not figures.isdigit():
        return 0
    minutes = int(figures[:2]) * 60 + int(figures[2:] or "0")
    return -minutes if zone.strip().startswith("-") else minutes
