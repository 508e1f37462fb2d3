"""What type a column has, decided from the shapes of all its cells.

Pure: a tally in, a `Decision` out. A column is of a type when at least 98 % of
its filled cells are; the others are kept as exceptions. In doubt a column stays
text, which loses nothing, and a question says what would settle it:

- leading zeros, whole numbers beyond 2^53 and names like `order_id`: an id;
- `1e3` beside whole numbers, `1,234` alone, `03/04/2024`, times with and
  without a zone: a question.

Decimals are kept exactly, as decimals. Only columns with exponents or
infinities become floating point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sterling.packs.insight.shapes import Shape, number_shapes
from sterling.packs.insight.tally import DATE_FORMATS, ColumnTally

__all__ = ["ColumnType", "Decision", "Question", "Reading", "decide", "decide_stored", "is_id_name"]


class ColumnType(StrEnum):
    """The types a normalized column can have."""

    BOOL = "bool"
    INT = "int"
    DECIMAL = "decimal"
    FLOAT = "float"
    DATE = "date"
    TIMESTAMP = "timestamp"
    CATEGORY = "category"
    TEXT = "text"
    ID = "id"


class Reading(StrEnum):
    """The rules by which raw cells become values; each has its SQL both ways in `normalize.py`."""

    BOOL_WORDS = "bool-words"
    INT_PLAIN = "int-plain"
    DECIMAL_PLAIN = "decimal-plain"
    FLOAT_PLAIN = "float-plain"
    COMMA_DECIMAL = "comma-decimal"
    COMMA_THOUSANDS = "comma-thousands"
    DOT_THOUSANDS = "dot-thousands"
    DATE_FORMAT = "date-format"
    TIME_FORMAT = "time-format"
    TIME_ISO = "time-iso"
    TIME_ISO_ZONED = "time-iso-zoned"
    TEXT_CLEAN = "text-clean"
    CATEGORY_FOLD = "category-fold"
    AS_STORED = "as-stored"


@dataclass(frozen=True, slots=True)
class Question:
    """What a person could tell us that the cells do not. Until then the column stays as it is."""

    column: str
    topic: str
    text: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """A column's type, the rule that reads its cells, and what is still open."""

    type: ColumnType
    reading: Reading
    scale: int = 0
    precision: int = 0
    trimmed: bool = False  # Decimals are written without trailing zeros.
    format: str = ""
    unit: str = ""
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Case:
    """One column on its way to a decision."""

    name: str
    tally: ColumnTally
    filled: int
    words: int
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def mostly(self, cells: int) -> bool:
        """Whether these are at least 98 % of the cells that could be a number or a time."""
        return cells > 0 and cells * 100 >= (self.filled - self.words) * 98

    def ask(self, topic: str, text: str, *options: str) -> None:
        self.questions.append(Question(self.name, topic, text, options))


_DIGITS_MAX = 38
_DIGITS_FAST = 18  # Decimals up to this are whole numbers of 64 bits inside the engine.
_ID_WORDS = frozenset(
    {"id", "ids", "uuid", "guid", "key", "zip", "zipcode", "postcode", "postal", "plz", "phone", "telephone"}
    | {"tel", "mobile", "iban", "isbn", "issn", "ean", "gtin", "sku", "vin", "imei", "ssn", "serial"}
)
_CATEGORY_LEVELS_MAX = 10_000
_CATEGORY_LENGTH_MAX = 200
_ID_ROWS_MIN = 20
_NUMBERS = number_shapes()


def is_id_name(name: str) -> bool:
    """Whether the last word of a column's name says that it names things."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.findall(r"[a-z]+", spaced.lower())
    return bool(words) and words[-1] in _ID_WORDS


def decide(name: str, tally: ColumnTally) -> Decision:
    """The type of a column that was read as text."""
    missing = tally.cells(Shape.BLANK, Shape.MISSING)
    case = _Case(name, tally, tally.rows - missing, tally.cells(Shape.MAYBE_MISSING))
    if case.filled == case.words:
        case.notes.append("every cell is empty" if not case.words else "every cell means nothing or is empty")
        return _text(case)
    found = _number(case) or _day(case) or _bool(case)
    return _closed(case, found) if found is not None else _word(case)


def decide_stored(name: str, stored: str, tally: ColumnTally | None) -> Decision:
    """The type of a Parquet column: what the file says, but names of things stay names."""
    if stored == "VARCHAR":
        assert tally is not None, "text columns are tallied"
        missing = tally.cells(Shape.BLANK, Shape.MISSING)
        case = _Case(name, tally, tally.rows - missing, tally.cells(Shape.MAYBE_MISSING))
        return _word(case) if case.filled > case.words else _text(case)
    kinds = {
        "BOOLEAN": ColumnType.BOOL,
        "BIGINT": ColumnType.INT,
        "DOUBLE": ColumnType.FLOAT,
        "DATE": ColumnType.DATE,
        "TIMESTAMP": ColumnType.TIMESTAMP,
        "TIMESTAMP WITH TIME ZONE": ColumnType.TIMESTAMP,
    }
    if stored == "BIGINT" and is_id_name(name):
        return Decision(ColumnType.ID, Reading.AS_STORED)
    if stored in kinds:
        return Decision(kinds[stored], Reading.AS_STORED)
    digits = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", stored)
    assert digits is not None, f"the Parquet reader stores no {stored}"
    return Decision(ColumnType.DECIMAL, Reading.AS_STORED, scale=int(digits[2]), precision=int(digits[1]))


def _closed(case: _Case, found: Decision) -> Decision:
    """The decision with what was asked and noted on the way."""
    return Decision(
        found.type,
        found.reading,
        found.scale,
        found.precision,
        found.trimmed,
        found.format,
        found.unit,
        tuple(case.questions),
        tuple(case.notes),
    )


def _text(case: _Case, kind: ColumnType = ColumnType.TEXT) -> Decision:
    return _closed(case, Decision(kind, Reading.TEXT_CLEAN))


def _number(case: _Case) -> Decision | None:
    tally = case.tally
    if not case.mostly(tally.cells(*_NUMBERS)):
        return None
    unit, uniform = _unit(case)
    if not uniform:
        case.notes.append("cells carry different units, so they stay text")
        return None
    if tally.cells(Shape.ZERO_LED):
        case.notes.append("leading zeros are part of the value, so it names things")
        return Decision(ColumnType.ID, Reading.TEXT_CLEAN)
    commas = tally.cells(Shape.COMMA_THREE, Shape.COMMA_THOUSANDS, Shape.COMMA_DECIMAL, Shape.DOT_THOUSANDS)
    if commas:
        return _grouped(case, unit)
    if tally.cells(Shape.CODE_EXPONENT, Shape.EXPONENT, Shape.INFINITE):
        return _float(case, unit)
    if not tally.cells(Shape.DECIMAL):
        return _whole(case, unit)
    return _decimal(case, Reading.DECIMAL_PLAIN, unit, (Shape.DECIMAL,))


def _unit(case: _Case) -> tuple[str, bool]:
    """The unit that all numbers carry, and whether they agree on it."""
    units = case.tally.units
    if not units:
        return "", True
    (unit, cells), *others = sorted(units.items(), key=lambda item: (-item[1], item[0]))
    return unit, not others and case.mostly(cells)


def _whole(case: _Case, unit: str) -> Decision:
    if case.tally.largest("big", Shape.INT):
        case.notes.append("whole numbers beyond 2^53 stay text, so no digit is lost")
        return Decision(ColumnType.ID, Reading.TEXT_CLEAN)
    if is_id_name(case.name):
        return Decision(ColumnType.ID, Reading.TEXT_CLEAN)
    return Decision(ColumnType.INT, Reading.INT_PLAIN, unit=unit)


def _float(case: _Case, unit: str) -> Decision | None:
    tally = case.tally
    if tally.cells(Shape.CODE_EXPONENT) and not tally.cells(Shape.DECIMAL, Shape.EXPONENT):
        case.ask(
            "exponent-or-code",
            f"Cells of “{case.name}” such as 1e3 may be numbers or codes. Which?",
            "numbers",
            "codes",
        )
        return None
    if tally.largest("overflow", Shape.EXPONENT, Shape.CODE_EXPONENT):
        case.notes.append("numbers too large for floating point stay text")
        return None
    return Decision(ColumnType.FLOAT, Reading.FLOAT_PLAIN, unit=unit)


def _decimal(case: _Case, reading: Reading, unit: str, places: tuple[Shape, ...]) -> Decision | None:
    """An exact decimal, with as many places as its cells of the shapes `places` have."""
    tally = case.tally
    scale = tally.largest("scale_max", *places)
    digits = max(tally.largest("digits_max", *_NUMBERS), tally.largest("whole_max", *_NUMBERS) + scale, 1)
    if digits > _DIGITS_MAX:
        case.notes.append(f"numbers of more than {_DIGITS_MAX} digits stay text, so no digit is lost")
        return None
    if not scale and digits > _DIGITS_FAST:
        case.notes.append(f"grouped numbers of more than {_DIGITS_FAST} digits stay text")
        return None
    if not scale:
        return Decision(ColumnType.INT, reading, unit=unit)
    scales = [tally.shapes[shape].scale_min for shape in places if shape in tally.shapes]
    trimmed = bool(tally.cells(Shape.INT)) or min(scales) < scale
    precision = _DIGITS_FAST if digits <= _DIGITS_FAST else _DIGITS_MAX
    return Decision(ColumnType.DECIMAL, reading, scale=scale, precision=precision, trimmed=trimmed, unit=unit)


def _grouped(case: _Case, unit: str) -> Decision | None:
    """Numbers with commas, or with dots between thousands."""
    tally = case.tally
    three, thousands = tally.cells(Shape.COMMA_THREE), tally.cells(Shape.COMMA_THOUSANDS)
    comma, dots = tally.cells(Shape.COMMA_DECIMAL), tally.cells(Shape.DOT_THOUSANDS)
    points = tally.cells(Shape.DECIMAL)
    if tally.cells(Shape.CODE_EXPONENT, Shape.EXPONENT, Shape.INFINITE):
        case.notes.append("numbers are written in several ways, so they stay text")
        return None
    if (thousands or (three and points)) and not comma and not dots:
        return _decimal(case, Reading.COMMA_THOUSANDS, unit, (Shape.DECIMAL, Shape.COMMA_THOUSANDS))
    if comma and not thousands and not points:
        places = (Shape.COMMA_DECIMAL, Shape.COMMA_THREE, Shape.DOT_THOUSANDS)
        return _decimal(case, Reading.COMMA_DECIMAL, unit, places)
    if dots and not three and not thousands and not comma and _three_places(tally):
        return _decimal(case, Reading.DOT_THOUSANDS, unit, (Shape.DOT_THOUSANDS,))
    case.ask(
        "decimal-mark",
        f"In “{case.name}” a comma or dot may separate thousands or decimals (1,234). Which?",
        "thousands",
        "decimals",
    )
    return None


def _three_places(tally: ColumnTally) -> bool:
    """Whether every plain decimal has three places, so that its dot may separate thousands."""
    plain = tally.shapes.get(Shape.DECIMAL)
    return plain is None or plain.scale_min == plain.scale_max == 3


def _day(case: _Case) -> Decision | None:
    tally = case.tally
    formats = tally.formats
    iso = formats.get("iso-time", 0)
    if case.mostly(iso):
        zoned = tally.zones
        if zoned and zoned != tally.cells(Shape.ISO_TIME, Shape.ISO_TIME_ZONED):
            case.ask(
                "time-zone",
                f"Some times of “{case.name}” name a zone and some do not. Which zone have the others?",
                "UTC",
                "local",
            )
            return None
        if not zoned:
            case.notes.append("times name no zone and are taken as they stand")
        return Decision(ColumnType.TIMESTAMP, Reading.TIME_ISO_ZONED if zoned else Reading.TIME_ISO)
    fitting = {format_: cells for format_, cells in formats.items() if case.mostly(cells)}
    fitting.pop("iso-time", None)
    if not fitting:
        return None
    chosen = _format(case, fitting)
    if chosen is None:
        return None
    timed = "%H" in chosen
    return Decision(
        ColumnType.TIMESTAMP if timed else ColumnType.DATE,
        Reading.TIME_FORMAT if timed else Reading.DATE_FORMAT,
        format=chosen,
    )


def _format(case: _Case, fitting: Mapping[str, int]) -> str | None:
    """The one format that reads the column, or None with a question when two do."""
    order = {format_: place for place, format_ in enumerate(DATE_FORMATS.values())}
    ranked = sorted(fitting.items(), key=lambda item: (-item[1], order.get(item[0].split(" %H")[0], 99)))
    best, cells = ranked[0]
    rivals = [format_ for format_, others in ranked[1:] if _is_swap(best, format_) and cells - others < 3]
    if rivals:
        case.ask(
            "day-or-month",
            f"Days of “{case.name}” such as 03/04/2024 can be read day first or month first. Which?",
            "day first",
            "month first",
        )
        return None
    return best


def _is_swap(one: str, other: str) -> bool:
    """Whether two formats differ in the order of day and month alone."""
    swapped = one.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")
    return swapped == other


def _bool(case: _Case) -> Decision | None:
    if not case.mostly(case.tally.cells(Shape.BOOL)):
        return None
    return Decision(ColumnType.BOOL, Reading.BOOL_WORDS)


def _word(case: _Case) -> Decision:
    tally = case.tally
    words = tally.shapes.get(Shape.WORD)
    if case.mostly(tally.cells(Shape.UUID)) or is_id_name(case.name):
        return _text(case, ColumnType.ID)
    named = sum(shape.spaced for shape in tally.shapes.values()) == 0
    digited = sum(shape.digited for shape in tally.shapes.values())
    if (
        named
        and case.filled >= _ID_ROWS_MIN
        and words is not None
        and digited * 100 >= case.filled * 95
        and tally.distinct * 100 >= case.filled * 95
        and not case.questions
    ):
        return _text(case, ColumnType.ID)
    for word, cells in tally.words[:3]:
        case.ask(
            "missing-or-value",
            f"{cells:,} cells of “{case.name}” say “{word}”. Is that a value, or is it missing?",
            "value",
            "missing",
        )
    longest = max((shape.length_max for shape in tally.shapes.values()), default=0)
    repeats = tally.distinct * 2 <= case.filled
    if repeats and tally.distinct <= _CATEGORY_LEVELS_MAX and longest <= _CATEGORY_LENGTH_MAX:
        return _closed(case, Decision(ColumnType.CATEGORY, Reading.CATEGORY_FOLD))
    return _text(case)
