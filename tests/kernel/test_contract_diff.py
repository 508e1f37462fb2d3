"""The verdict on a changed contract: the table of rules, and a test of the word `compatible`."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sterling.kernel.contract_diff import FieldChange, Verdict, compare_contracts, gravest
from sterling.kernel.schema_rules import schemas_within

Schema = dict[str, Any]


def contract(field: Any = None, **changes: Any) -> Schema:
    base: Schema = {
        "$id": "ci.note@1.0",
        "title": "Note",
        "description": "A note.",
        "type": "object",
        "additionalProperties": False,
        "required": ["a"],
        "properties": {"a": {"description": "A.", "type": "string"}},
    }
    if field is not None:
        base["properties"]["f"] = field
    return {key: value for key, value in (base | changes).items() if value is not None}


def verdict_of(old: Schema | None, new: Schema | None) -> tuple[str, list[FieldChange]]:
    changes = compare_contracts(old, new)
    return gravest(changes).word, changes


FIELD_TABLE: list[tuple[str, Any, Any, str]] = [
    ("title", {"title": "A"}, {"title": "B"}, "none"),
    ("description", {"description": "A"}, {"description": "B"}, "none"),
    ("example", {}, {"examples": [1]}, "none"),
    ("key order", {"type": "integer", "minimum": 0}, {"minimum": 0, "type": "integer"}, "none"),
    ("enum order", {"enum": ["a", "b"]}, {"enum": ["b", "a"]}, "none"),
    ("enum wider", {"enum": ["a"]}, {"enum": ["a", "b"]}, "compatible"),
    (
        "enum wider, closed",
        {"enum": ["a"], "x-closed": True},
        {"enum": ["a", "b"], "x-closed": True},
        "breaking",
    ),
    ("enum narrower", {"enum": ["a", "b"]}, {"enum": ["a"]}, "breaking"),
    ("enum renamed", {"enum": ["a"]}, {"enum": ["b"]}, "breaking"),
    ("enum dropped", {"enum": ["a"]}, {}, "compatible"),
    ("enum added", {}, {"enum": ["a"]}, "breaking"),
    ("const to enum", {"const": "a"}, {"enum": ["a", "b"]}, "compatible"),
    ("const changed", {"const": "a"}, {"const": "b"}, "breaking"),
    ("one is not true", {"enum": [1, True]}, {"enum": [1]}, "breaking"),
    ("one is one point zero", {"const": 1}, {"const": 1.0}, "none"),
    ("minimum lower", {"minimum": 1}, {"minimum": 0}, "compatible"),
    ("minimum higher", {"minimum": 0}, {"minimum": 1}, "breaking"),
    ("minimum added", {}, {"minimum": 0}, "breaking"),
    ("minimum dropped", {"minimum": 0}, {}, "compatible"),
    ("maximum higher", {"maximum": 1}, {"maximum": 2}, "compatible"),
    ("maximum lower", {"maximum": 2}, {"maximum": 1}, "breaking"),
    ("longer text", {"maxLength": 1}, {"maxLength": 2}, "compatible"),
    ("shorter text", {"maxLength": 2}, {"maxLength": 1}, "breaking"),
    ("longest least length", {"minLength": 1}, {"minLength": 2}, "breaking"),
    ("fewer items", {"maxItems": 2}, {"maxItems": 1}, "breaking"),
    ("unique items", {}, {"uniqueItems": True}, "breaking"),
    ("items may repeat", {"uniqueItems": True}, {}, "compatible"),
    ("finer multiple", {"multipleOf": 4}, {"multipleOf": 2}, "compatible"),
    ("coarser multiple", {"multipleOf": 2}, {"multipleOf": 4}, "breaking"),
    ("type narrower", {"type": ["string", "null"]}, {"type": "string"}, "breaking"),
    ("type wider", {"type": "string"}, {"type": ["string", "null"]}, "compatible"),
    ("type other", {"type": "string"}, {"type": "integer"}, "breaking"),
    ("integer to number", {"type": "integer"}, {"type": "number"}, "compatible"),
    ("number to integer", {"type": "number"}, {"type": "integer"}, "breaking"),
    ("type added", {}, {"type": "string"}, "breaking"),
    ("default changed", {"default": 1}, {"default": 2}, "breaking"),
    ("default added", {}, {"default": 1}, "breaking"),
    ("unit changed", {"x-unit": "ms"}, {"x-unit": "us"}, "breaking"),
    ("closed", {"enum": ["a"]}, {"enum": ["a"], "x-closed": True}, "compatible"),
    ("opened", {"enum": ["a"], "x-closed": True}, {"enum": ["a"]}, "breaking"),
    ("format dropped", {"format": "date"}, {}, "compatible"),
    ("format added", {}, {"format": "date"}, "breaking"),
    ("items narrower", {"items": {"type": "integer"}}, {"items": {"type": "string"}}, "breaking"),
    ("items wider", {"items": {"minimum": 3}}, {"items": {"minimum": 2}}, "compatible"),
    ("items added", {}, {"items": {"type": "string"}}, "breaking"),
    ("items added, empty", {}, {"items": {"description": "Any."}}, "none"),
    ("branch wider", {"anyOf": [{"minimum": 3}]}, {"anyOf": [{"minimum": 2}]}, "compatible"),
    ("branch narrower", {"anyOf": [{"minimum": 3}]}, {"anyOf": [{"minimum": 4}]}, "breaking"),
    (
        "map values wider",
        {"additionalProperties": {"minimum": 3}},
        {"additionalProperties": True},
        "compatible",
    ),
    ("map closed", {"additionalProperties": {"minimum": 3}}, {"additionalProperties": False}, "breaking"),
    ("text in oneOf", {"oneOf": [{"title": "A"}]}, {"oneOf": [{"title": "B"}]}, "none"),
]

UNDECIDABLE_TABLE: list[tuple[str, Any, Any]] = [
    ("pattern", {"pattern": "a"}, {"pattern": "a|b"}),
    ("format", {"format": "date"}, {"format": "date-time"}),
    ("oneOf", {"oneOf": [{"minimum": 3}]}, {"oneOf": [{"minimum": 2}]}),
    ("a field named title in oneOf", {"oneOf": [{"properties": {"title": {"minimum": 3}}}]},
     {"oneOf": [{"properties": {"title": {"minimum": 2}}}]}),
    ("not", {"not": {"minimum": 3}}, {"not": {"minimum": 2}}),
    ("if", {"if": {"minimum": 3}}, {"if": {"minimum": 2}}),
    ("anyOf of another length", {"anyOf": [{"minimum": 3}]}, {"anyOf": [{"minimum": 3}, {"minimum": 2}]}),
    ("allOf dropped", {"allOf": [{"minimum": 3}]}, {}),
    ("patterned fields", {"patternProperties": {"a": {"minimum": 3}}}, {"patternProperties": {"a": {}}}),
    ("contains", {"contains": {"minimum": 3}}, {"contains": {"minimum": 2}}),
    ("fractional multiple", {"multipleOf": 0.5}, {"multipleOf": 0.25}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "expected"), FIELD_TABLE, ids=[row[0] for row in FIELD_TABLE])
def test_each_change_of_a_field_has_its_verdict(name: str, old: Any, new: Any, expected: str) -> None:
    verdict, changes = verdict_of(contract(old), contract(new))

    assert verdict == expected
    assert all(change.pointer.startswith("/properties/f") for change in changes)
    assert not any(change.undecidable for change in changes)


@pytest.mark.parametrize(("name", "old", "new"), UNDECIDABLE_TABLE, ids=[row[0] for row in UNDECIDABLE_TABLE])
def test_what_cannot_be_decided_is_breaking_and_says_so(name: str, old: Any, new: Any) -> None:
    verdict, changes = verdict_of(contract(old), contract(new))

    assert verdict == "breaking"
    assert any(change.undecidable for change in changes)


def test_the_same_contract_has_no_changes() -> None:
    assert compare_contracts(contract({"enum": ["a"]}), contract({"enum": ["a"]})) == []


def test_a_new_contract_is_compatible_and_a_removed_one_is_breaking() -> None:
    assert verdict_of(None, contract())[0] == "compatible"
    assert verdict_of(contract(), None)[0] == "breaking"
    assert compare_contracts(None, None) == []


def test_a_new_optional_field_is_compatible() -> None:
    verdict, changes = verdict_of(contract(), contract({"type": "string"}))

    assert verdict == "compatible"
    assert [(change.pointer, change.change) for change in changes] == [("/properties/f", "field-added")]


def test_a_new_required_field_is_breaking() -> None:
    verdict, changes = verdict_of(contract(), contract({"type": "string"}, required=["a", "f"]))

    assert verdict == "breaking"
    assert ("/required", "field-made-required") in [(change.pointer, change.change) for change in changes]


def test_a_removed_or_renamed_field_is_breaking() -> None:
    renamed = contract()
    renamed["properties"]["g"] = {"type": "string"}

    assert verdict_of(contract({"type": "string"}), contract())[0] == "breaking"
    assert verdict_of(contract({"type": "string"}), renamed)[0] == "breaking"


def test_a_field_that_need_not_be_there_any_more_is_compatible() -> None:
    assert verdict_of(contract(), contract(required=[]))[0] == "compatible"


def test_a_new_field_breaks_documents_that_could_hold_any_field() -> None:
    part = {"type": "object", "properties": {}}
    grown = {"type": "object", "properties": {"x": {"type": "string"}}}

    assert verdict_of(contract(part), contract(grown))[0] == "breaking"
    assert verdict_of(contract(part | {"additionalProperties": False}), contract(grown))[0] == "compatible"


def test_a_new_field_that_a_pattern_matched_before_is_undecidable() -> None:
    part = {"additionalProperties": False, "patternProperties": {"^x": {"type": "string"}}}

    verdict, changes = verdict_of(contract(part), contract(part | {"properties": {"xy": {"type": "string"}}}))

    assert verdict == "breaking"
    assert any(change.undecidable for change in changes)


def test_a_definition_is_judged_where_it_stands() -> None:
    field = {"$ref": "#/$defs/d"}
    wide, narrow = {"d": {"minimum": 2}}, {"d": {"minimum": 3}}

    assert (
        verdict_of(contract(field, **{"$defs": narrow}), contract(field, **{"$defs": wide}))[0]
        == "compatible"
    )
    assert (
        verdict_of(contract(field, **{"$defs": wide}), contract(field, **{"$defs": narrow}))[0] == "breaking"
    )


def test_only_words_beside_a_condition_are_still_only_words() -> None:
    watching = contract(unevaluatedProperties=False)

    assert verdict_of(watching, watching | {"title": "Other", "$id": "ci.note@1.1"})[0] == "none"


@pytest.mark.parametrize("condition", ["not", "if", "contains"])
def test_a_wider_definition_behind_a_condition_is_undecidable(condition: str) -> None:
    field = {condition: {"$ref": "#/$defs/d"}}

    old = contract(field, **{"$defs": {"d": {"minimum": 3}}})
    new = contract(field, **{"$defs": {"d": {"minimum": 2}}})
    verdict, changes = verdict_of(old, new)

    assert verdict == "breaking"
    assert any(change.undecidable and change.pointer == f"/properties/f/{condition}" for change in changes)


ROOT_TABLE: list[tuple[Schema, Schema, str]] = [
    ({"x-kind": "record"}, {"x-kind": "entry"}, "breaking"),
    ({"x-sensitive": True}, {}, "breaking"),
    ({}, {"x-sensitive": True}, "compatible"),
    ({"x-owner": "ci"}, {"x-owner": "recall"}, "none"),
    ({"$id": "ci.note@1.0"}, {"$id": "ci.note@1.1"}, "none"),
]


@pytest.mark.parametrize(("old", "new", "expected"), ROOT_TABLE)
def test_what_a_contract_says_of_itself_counts_too(old: Schema, new: Schema, expected: str) -> None:
    assert verdict_of(contract(**old), contract(**new))[0] == expected


def test_before_and_after_are_canonical_and_cut() -> None:
    changes = compare_contracts(contract({"enum": ["a", "b"]}), contract({"enum": ["b"]}))
    long = compare_contracts(contract({"enum": ["x" * 900]}), contract({"enum": ["b"]}))

    assert (changes[0].before, changes[0].after) == ('["a","b"]', '["b"]')
    assert len(long[0].before) == 400


def test_the_page_names_every_change_with_the_verdicts_it_can_have() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "contracts.md"
    said = dict(
        re.findall(r"^\| `([a-z-]+)` \| ([a-z].*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    )
    cases = [(contract(old), contract(new)) for _, old, new, _ in FIELD_TABLE]
    cases += [(contract(old), contract(new)) for _, old, new in UNDECIDABLE_TABLE]
    cases += [(contract(**old), contract(**new)) for old, new, _ in ROOT_TABLE]
    cases += [(None, contract()), (contract(), None), (contract(), contract({})), (contract({}), contract())]
    cases += [(contract(), contract(required=[])), (contract(required=[]), contract())]
    cases += [(contract({"properties": {}}), contract({"properties": {"x": {"type": "string"}}}))]

    seen: dict[str, set[str]] = {}
    for change in (change for case in cases for change in compare_contracts(*case)):
        seen.setdefault(change.change, set()).add(change.verdict.word)

    assert {name: set(re.findall("none|compatible|breaking", words)) for name, words in said.items()} == seen


# The word `compatible`, tested on every document of a small world.

_VALUES: list[Any] = [
    None, True, 0, 1, 2, 3, 1.5, "", "a", "ab", "abc", [], [0], ["a"], [1, 1], [0, "a"], [3, 2, 1],
    {}, {"a": 0}, {"b": "a"}, {"a": "ab", "c": 1},
]  # fmt: skip
_ABSENT = object()
_OBJECTS = [
    {name: value for name, value in zip("abc", values, strict=True) if value is not _ABSENT}
    for values in itertools.product(
        [_ABSENT, *_VALUES], [_ABSENT, None, 0, 2, 3, "a", "abc", [3]], [_ABSENT, 0]
    )
]
_LISTS = [
    [first, second] for first, second in itertools.product(_VALUES, [0, 1, 2, 3, "a", "ab", None, {"a": 0}])
]
_WORLD = [*_VALUES, *_LISTS, *_OBJECTS]


_TYPES = ["array", "boolean", "integer", "null", "number", "object", "string"]
_SMALL = st.integers(0, 3)
_leaf_keywords: dict[str, st.SearchStrategy[Any]] = {
    "type": st.one_of(
        st.sampled_from(_TYPES), st.lists(st.sampled_from(_TYPES), min_size=1, max_size=4, unique=True)
    ),
    "enum": st.lists(
        st.sampled_from([value for value in _VALUES if not isinstance(value, list | dict)]),
        min_size=1, max_size=5, unique_by=repr,
    ),
    "const": st.sampled_from(_VALUES),
    "minimum": _SMALL, "maximum": _SMALL, "exclusiveMinimum": _SMALL, "exclusiveMaximum": _SMALL,
    "minLength": _SMALL, "maxLength": _SMALL, "minItems": _SMALL, "maxItems": _SMALL,
    "minProperties": _SMALL, "maxProperties": _SMALL, "multipleOf": st.sampled_from([1, 2, 3, 0.5]),
    "uniqueItems": st.booleans(), "pattern": st.sampled_from(["^a", "b"]), "title": st.just("T"),
    "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
    "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]), "x-closed": st.booleans(),
}  # fmt: skip


def _leaf() -> st.SearchStrategy[Schema]:
    names = st.lists(st.sampled_from(sorted(_leaf_keywords)), max_size=2, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries({name: _leaf_keywords[name] for name in chosen})
    )


def _nested_keywords(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    fields = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    lists = st.lists(inner, min_size=1, max_size=2)
    return {
        "properties": fields, "additionalProperties": inner | st.booleans(), "items": inner | st.booleans(),
        "prefixItems": lists, "anyOf": lists, "allOf": lists, "oneOf": lists, "not": inner, "contains": inner,
        "if": inner, "then": inner, "else": inner, "unevaluatedProperties": inner | st.booleans(),
        "patternProperties": st.dictionaries(st.just("^a"), inner, min_size=1), "propertyNames": inner,
        "dependentSchemas": st.dictionaries(st.sampled_from("ab"), inner, min_size=1),
        "dependentRequired": st.just({"a": ["b"]}),
    }  # fmt: skip


def _node(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    keywords = _nested_keywords(inner)
    names = st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=3, unique=True)
    nested = names.flatmap(lambda chosen: st.fixed_dictionaries({name: keywords[name] for name in chosen}))
    return st.tuples(_leaf(), nested).map(lambda parts: parts[0] | parts[1])


_schemas = st.recursive(_leaf(), _node, max_leaves=6)
_definitions = st.fixed_dictionaries({"x": _leaf(), "y": _leaf()})
_FRESH = _leaf_keywords | _nested_keywords(_leaf())


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """A schema and a near relative, in which one or two keywords came, went or hold something else."""
    old = draw(_schemas) | {"$defs": draw(_definitions)}
    new = copy.deepcopy(old)
    for _ in range(draw(st.integers(1, 2))):
        places = [inner for _, inner in schemas_within(new) if isinstance(inner, dict)]
        place = draw(st.sampled_from(places))
        present = sorted(set(place) - {"$defs"})
        name = draw(st.sampled_from(present if present and draw(st.booleans()) else sorted(_FRESH)))
        if name in place and draw(st.booleans()):
            del place[name]
        else:
            place[name] = draw(_FRESH[name])
    return old, new


def _compiled(schema: Schema) -> Any:
    try:
        return jsonschema_rs.Draft202012Validator(schema, offline=True)
    except ValueError:
        return None


_NOT_AT_A = {
    "properties": {"a": {"not": {"$ref": "#/$defs/x"}}},
    "$defs": {"x": {"minimum": 2}, "y": {}},
}


@settings(max_examples=1200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_pairs())
@example((_NOT_AT_A, _NOT_AT_A | {"$defs": {"x": {}, "y": {}}}))
@example(({"additionalProperties": True, "unevaluatedProperties": False}, {"unevaluatedProperties": False}))
@example(({"items": True, "unevaluatedItems": False}, {"unevaluatedItems": False}))
def test_compatible_means_that_every_old_document_is_allowed(pair: tuple[Schema, Schema]) -> None:
    old, new = pair
    before, after = _compiled(old), _compiled(new)
    if before is None or after is None:
        return

    changes = compare_contracts(old, new)

    if gravest(changes) is not Verdict.BREAKING:
        for document in _WORLD:
            assert not before.is_valid(document) or after.is_valid(document), (document, changes)


def test_a_verdict_that_called_everything_compatible_would_be_caught() -> None:
    old, new = contract({"enum": ["a"]}, required=[]), contract({"enum": ["b"]}, required=[])
    before, after = _compiled(old), _compiled(new)

    assert before.is_valid({"f": "a"})
    assert not after.is_valid({"f": "a"})
