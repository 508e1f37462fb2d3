"""What a changed contract means for the documents that exist: a verdict, field by field.

`none` is a change of words. `compatible` means that every document the old
schema allows is allowed by the new one, and means the same. Everything else is
`breaking`, also where inclusion cannot be decided; that verdict then says so.

The rules are tables keyed by keyword. They judge inclusion only in keywords that
grow and shrink with what they hold; below `not`, `oneOf`, `if` and the like any
change is undecidable. Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.schema_rules import (
    LIST_KEYWORDS,
    MAP_KEYWORDS,
    SINGLE_KEYWORDS,
    TEXT_KEYWORDS,
    join_pointer,
    schemas_within,
)

__all__ = ["FieldChange", "Verdict", "compare_contracts", "gravest"]

_SHOWN_LETTERS_MAX = 400
_ABSENT = object()


class Verdict(IntEnum):
    """What a change means, in order of gravity."""

    NONE = 0
    COMPATIBLE = 1
    BREAKING = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One changed place; `before` and `after` are canonical JSON, empty for nothing."""

    pointer: str
    change: str
    verdict: Verdict
    before: str = ""
    after: str = ""
    undecidable: bool = False

    def as_json(self) -> dict[str, Json]:
        return asdict(self) | {"verdict": self.verdict.word}


Changes = Iterator[FieldChange]
Rule = Callable[[str, Json, Json], FieldChange]


def gravest(changes: list[FieldChange]) -> Verdict:
    """The verdict of all changes together."""
    return max((change.verdict for change in changes), default=Verdict.NONE)


def compare_contracts(old: Mapping[str, Json] | None, new: Mapping[str, Json] | None) -> list[FieldChange]:
    """Every change from one schema to another, by place; None stands for no contract."""
    if old is None or new is None:
        change, verdict = (
            ("contract-added", Verdict.COMPATIBLE) if old is None else ("contract-removed", Verdict.BREAKING)
        )
        return [] if old is new else [FieldChange("", change, verdict)]
    changes = sorted(_compare(dict(old), dict(new), ""), key=lambda each: (each.pointer, each.change))
    if gravest(changes) is not Verdict.BREAKING and not _same(_rules_of(old), _rules_of(new)):
        changes += _changes_seen_from_inside_a_condition(dict(old), dict(new))
    return changes


def _compare(old: Json, new: Json, pointer: str) -> Changes:
    """Changes between two schemas at one place."""
    if _same(old, new):
        return
    if isinstance(old, bool) or isinstance(new, bool):
        yield from _compare_with_constant(old, new, pointer)
        return
    closed = bool(old.get("x-closed") or new.get("x-closed"))
    for keyword in sorted({*old, *new} - {"properties", "additionalProperties", "const", "enum"}):
        before, after = old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)
        if before is _ABSENT or after is _ABSENT or not _same(before, after):
            yield from _compare_keyword(keyword, before, after, join_pointer(pointer, keyword))
    yield from _compare_values(old, new, pointer, closed=closed)
    yield from _compare_fields(old, new, pointer)


def _compare_with_constant(old: Json, new: Json, pointer: str) -> Changes:
    """One of the two is `true` (anything) or `false` (nothing)."""
    if _allows_anything(old) and _allows_anything(new):
        yield _change(pointer, "text-changed", Verdict.NONE, old, new)
    elif old is False or _allows_anything(new):
        yield _change(pointer, "schema-widened", Verdict.COMPATIBLE, old, new)
    else:
        yield _change(pointer, "schema-narrowed", Verdict.BREAKING, old, new)


def _allows_anything(schema: Json) -> bool:
    return schema is True or _schema_without_text(schema) == {}


def _compare_keyword(keyword: str, old: Json, new: Json, pointer: str) -> Changes:
    if keyword in TEXT_KEYWORDS or keyword in _WORDS:
        yield _change(pointer, "text-changed", Verdict.NONE, old, new)
    elif keyword in _RULES:
        yield _RULES[keyword](pointer, old, new)
    elif keyword == "required":
        yield from _compare_required(pointer, old, new)
    elif keyword == "$defs":
        for name in sorted({*_table(old), *_table(new)}):
            # A definition alone allows nothing; whoever starts or stops naming it changes its `$ref`.
            if name in _table(old) and name in _table(new):
                yield from _compare(old[name], new[name], join_pointer(pointer, name))
    elif keyword in ("items", "propertyNames"):
        before, after = (True if value is _ABSENT else value for value in (old, new))
        yield from _compare(before, after, pointer)
    elif keyword in ("allOf", "anyOf", "prefixItems") and _pairs(old, new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _compare(before, after, join_pointer(pointer, index))
    elif not _same(_without_text(keyword, old), _without_text(keyword, new)):
        yield _undecidable(pointer, old, new)
    else:
        yield _change(pointer, "text-changed", Verdict.NONE, old, new)


def _compare_required(pointer: str, old: Json, new: Json) -> Changes:
    before, after = set(_list(old)), set(_list(new))
    for name in sorted(after - before):
        yield _change(pointer, "field-made-required", Verdict.BREAKING, _ABSENT, name)
    for name in sorted(before - after):
        yield _change(pointer, "field-made-optional", Verdict.COMPATIBLE, name, _ABSENT)


def _compare_fields(old: dict[str, Json], new: dict[str, Json], pointer: str) -> Changes:
    before, after = old.get("properties", {}), new.get("properties", {})
    others_before, others_after = old.get("additionalProperties", True), new.get("additionalProperties", True)
    place = join_pointer(pointer, "properties")
    for name in sorted({*before, *after}):
        at = join_pointer(place, name)
        if name not in after:
            yield _change(at, "field-removed", Verdict.BREAKING, before[name], _ABSENT)
        elif name in before:
            yield from _compare(before[name], after[name], at)
        elif old.get("patternProperties"):
            yield _undecidable(at, _ABSENT, after[name])
        else:
            yield from _added_field(others_before, after[name], at)
    yield from _compare(others_before, others_after, join_pointer(pointer, "additionalProperties"))


def _added_field(others_before: Json, field: Json, pointer: str) -> Changes:
    """An old document may hold the new field already if it could hold any other field."""
    inside = list(_compare(others_before, field, pointer))
    if others_before is False or gravest(inside) is not Verdict.BREAKING:
        yield _change(pointer, "field-added", Verdict.COMPATIBLE, _ABSENT, field)
    else:
        yield _change(pointer, "field-narrowed", Verdict.BREAKING, others_before, field)


def _compare_values(old: dict[str, Json], new: dict[str, Json], pointer: str, *, closed: bool) -> Changes:
    """`enum` and `const` are one rule: the set of values allowed, or any value."""
    before, after = _values(old), _values(new)
    if before == after:
        return
    keyword = "const" if "const" in old or "const" in new else "enum"
    place = join_pointer(pointer, keyword)
    shown = [old.get("enum", old.get("const", _ABSENT)), new.get("enum", new.get("const", _ABSENT))]
    if before is None or (after is not None and not before <= after):
        yield _change(place, "enum-narrowed", Verdict.BREAKING, *shown)
    else:
        # A reader that switches on every value meets one that it does not know.
        verdict = Verdict.BREAKING if closed else Verdict.COMPATIBLE
        yield _change(place, "enum-widened", verdict, *shown)


def _changes_seen_from_inside_a_condition(old: dict[str, Json], new: dict[str, Json]) -> Changes:
    """Under `not`, `oneOf` and the like a wider definition can make the whole narrower.

    They compare equal when only the definition behind their `$ref` changed, and
    `unevaluated...` sees every keyword beside it, so a compatible verdict stands
    only where there is no such place.
    """
    for schema in (old, new):
        for pointer, inner in schemas_within(schema):
            for keyword in sorted(_CONDITIONS & set(inner if isinstance(inner, dict) else ())):
                watches_siblings = keyword.startswith("unevaluated")
                if watches_siblings or b'"$ref"' in _bytes(inner[keyword]):
                    yield _undecidable(join_pointer(pointer, keyword), inner[keyword], inner[keyword])
                    return


# Rules for keywords whose values are judged alone.


def _fixed(change: str) -> Rule:
    """Any change breaks: the same bytes would mean something else."""
    return lambda pointer, old, new: _change(pointer, change, Verdict.BREAKING, old, new)


def _bound(*, upper: bool) -> Rule:
    def judge(pointer: str, old: Json, new: Json) -> FieldChange:
        widened = new is _ABSENT or (old is not _ABSENT and (new >= old if upper else new <= old))
        return _widening(pointer, "bound", widened, old, new)

    return judge


def _flag_rule(name: str) -> Rule:
    def judge(pointer: str, old: Json, new: Json) -> FieldChange:
        return _widening(pointer, name, new is _ABSENT or new is False, old, new)

    return judge


def _assertion(pointer: str, old: Json, new: Json) -> FieldChange:
    """Pattern, format, reference: dropped is wider, new is narrower, another cannot be compared."""
    if new is _ABSENT:
        return _change(pointer, "rule-dropped", Verdict.COMPATIBLE, old, new)
    if old is _ABSENT:
        return _change(pointer, "rule-added", Verdict.BREAKING, old, new)
    return _undecidable(pointer, old, new)


def _types(pointer: str, old: Json, new: Json) -> FieldChange:
    before, after = _type_set(old), _type_set(new)
    return _widening(pointer, "type", before <= after, old, new)


def _multiple(pointer: str, old: Json, new: Json) -> FieldChange:
    if old is _ABSENT or new is _ABSENT:
        return _widening(pointer, "multiple", new is _ABSENT, old, new)
    if isinstance(old, int) and isinstance(new, int) and new > 0:
        return _widening(pointer, "multiple", old % new == 0, old, new)
    return _undecidable(pointer, old, new)


def _sensitive(pointer: str, old: Json, new: Json) -> FieldChange:
    """Documents held apart must not come to lie open; the other way only hides more."""
    verdict = Verdict.COMPATIBLE if new is True else Verdict.BREAKING
    return _change(pointer, "sensitivity-changed", verdict, old, new)


def _closed(pointer: str, old: Json, new: Json) -> FieldChange:
    """Opening an enum takes a promise from its readers; closing one only gives a promise."""
    verdict = Verdict.COMPATIBLE if new is True else Verdict.BREAKING
    return _change(pointer, "closing-changed", verdict, old, new)


_UPPER, _LOWER = _bound(upper=True), _bound(upper=False)
_RULES: dict[str, Rule] = {
    "$ref": lambda pointer, old, new: _undecidable(pointer, old, new),
    "default": _fixed("default-changed"),
    "exclusiveMaximum": _UPPER,
    "exclusiveMinimum": _LOWER,
    "format": _assertion,
    "maxItems": _UPPER,
    "maxLength": _UPPER,
    "maxProperties": _UPPER,
    "maximum": _UPPER,
    "minItems": _LOWER,
    "minLength": _LOWER,
    "minProperties": _LOWER,
    "minimum": _LOWER,
    "multipleOf": _multiple,
    "pattern": _assertion,
    "type": _types,
    "uniqueItems": _flag_rule("uniqueness"),
    "x-closed": _closed,
    "x-kind": _fixed("kind-changed"),
    "x-sensitive": _sensitive,
    "x-unit": _fixed("unit-changed"),
}
# Said beside a schema; they allow and refuse nothing. The id's version is compared by who calls.
_WORDS = frozenset({"$id", "$schema", "deprecated", "readOnly", "writeOnly", "x-owner"})
_CONDITIONS = frozenset(
    {"contains", "dependentSchemas", "else", "if", "not", "oneOf", "then", "unevaluatedItems"}
    | {"unevaluatedProperties"}
)
_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


def _type_set(value: Json) -> frozenset[str]:
    if value is _ABSENT:
        return _TYPES
    names = frozenset(_list(value))
    return names | {"integer"} if "number" in names else names


def _values(schema: dict[str, Json]) -> frozenset[bytes] | None:
    """The values that `enum` and `const` leave, or None for any."""
    allowed = None if "enum" not in schema else frozenset(_bytes(value) for value in schema["enum"])
    if "const" in schema:
        only = frozenset({_bytes(schema["const"])})
        return only if allowed is None else only & allowed
    return allowed


def _pairs(old: Json, new: Json) -> bool:
    return isinstance(old, list) and isinstance(new, list) and len(old) == len(new)


def _table(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    if value is _ABSENT:
        return []
    return value if isinstance(value, list) else [value]


def _without_text(keyword: str, value: Json) -> Json:
    """A keyword's value without the words that allow and refuse nothing."""
    if keyword in SINGLE_KEYWORDS:
        return _schema_without_text(value)
    if keyword in LIST_KEYWORDS and isinstance(value, list):
        return [_schema_without_text(item) for item in value]
    if keyword in MAP_KEYWORDS and isinstance(value, dict):
        return {name: _schema_without_text(item) for name, item in value.items()}
    return value


def _schema_without_text(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    return {word: _without_text(word, value) for word, value in schema.items() if word not in TEXT_KEYWORDS}


def _rules_of(schema: Mapping[str, Json]) -> Json:
    """A contract without its words: what is left decides which documents it allows."""
    return _schema_without_text({name: value for name, value in schema.items() if name not in _WORDS})


def _same(old: Json, new: Json) -> bool:
    if old is _ABSENT or new is _ABSENT:
        return old is new
    return _bytes(old) == _bytes(new)


def _bytes(value: Json) -> bytes:
    return canonical_bytes(value, floats=True)


def _show(value: Json) -> str:
    if value is _ABSENT:
        return ""
    text = _bytes(value).decode("utf-8")
    return text if len(text) <= _SHOWN_LETTERS_MAX else text[: _SHOWN_LETTERS_MAX - 3] + "..."


def _change(pointer: str, change: str, verdict: Verdict, old: Json, new: Json) -> FieldChange:
    return FieldChange(pointer, change, verdict, _show(old), _show(new))


def _widening(pointer: str, what: str, widened: bool, old: Json, new: Json) -> FieldChange:
    if widened:
        return _change(pointer, f"{what}-widened", Verdict.COMPATIBLE, old, new)
    return _change(pointer, f"{what}-narrowed", Verdict.BREAKING, old, new)


def _undecidable(pointer: str, old: Json, new: Json) -> FieldChange:
    return FieldChange(pointer, "undecidable", Verdict.BREAKING, _show(old), _show(new), undecidable=True)
