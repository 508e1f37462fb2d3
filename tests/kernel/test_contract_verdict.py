"""The word `compatible`, tested on documents drawn from real contracts and edits of them.

`test_contract_diff.py` tries every document of a small world. Here documents come
from the old schema itself, with the depth and the keywords that contracts have.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.utils import many
from hypothesis_jsonschema import from_schema

from sterling.kernel.contract_diff import Verdict, compare_contracts, gravest
from sterling.kernel.contracts import load_contracts, version_of
from sterling.kernel.schema_rules import schemas_within

Schema = dict[str, Any]
Edit = Callable[[Schema, random.Random], None]


def _more(elements: Any) -> bool:
    """hypothesis-jsonschema 0.23 asks for elements one at a time; Hypothesis of today iterates over them."""
    if not hasattr(elements, "walking"):
        elements.walking = iter(elements.__enter__())
    return next(elements.walking, elements) is not elements


if not hasattr(many, "more"):
    many.more = _more

# Drawing one document of these takes minutes: conditions over conditions.
UNDRAWABLE = {"ask.result@1.0", "insight.report-file@1.0", "recall.answer@1.0"}
CONTRACTS = list(load_contracts())
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
DRAWN = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    suppress_health_check=QUIET,
    phases=[Phase.generate],
    deadline=None,
)
EDITED = 30


def describe(schema: Schema, chance: random.Random) -> None:
    schema["description"] = "Other words."


def add_field(schema: Schema, chance: random.Random) -> None:
    if "properties" in schema:
        schema["properties"]["added"] = chance.choice(
            [{"description": "New.", "type": "integer"}, {"description": "New."}]
        )


def add_required_field(schema: Schema, chance: random.Random) -> None:
    if "properties" in schema:
        add_field(schema, chance)
        schema["required"] = sorted({*schema.get("required", []), "added"})


def remove_field(schema: Schema, chance: random.Random) -> None:
    if schema.get("properties"):
        name = chance.choice(sorted(schema["properties"]))
        del schema["properties"][name]
        schema["required"] = [each for each in schema.get("required", []) if each != name]


def rename_field(schema: Schema, chance: random.Random) -> None:
    if schema.get("properties"):
        name = chance.choice(sorted(schema["properties"]))
        schema["properties"]["renamed"] = schema["properties"].pop(name)
        schema["required"] = [each for each in schema.get("required", []) if each != name]


def require_or_not(schema: Schema, chance: random.Random) -> None:
    names = sorted(schema.get("properties", {}))
    if names:
        schema["required"] = sorted(chance.sample(names, chance.randint(0, len(names))))


def turn_enum(schema: Schema, chance: random.Random) -> None:
    if "enum" in schema:
        rest = [value for value in schema["enum"] if value != "another"]
        schema["enum"] = chance.choice([[*rest, "another"], rest[1:] or ["another"]])
    elif "const" in schema:
        schema["enum"] = [schema.pop("const"), "another"]


def turn_bound(schema: Schema, chance: random.Random) -> None:
    named = [name for name in schema if name.startswith(("min", "max")) and isinstance(schema[name], int)]
    if not named:
        schema[chance.choice(["minItems", "maxLength", "minimum", "maximum"])] = chance.randint(0, 3)
        return
    name = chance.choice(named)
    schema[name] = min(max(0, schema[name] + chance.choice([-2, -1, 1, 2])), (1 << 53) - 1)


def drop_rule(schema: Schema, chance: random.Random) -> None:
    rules = [
        name for name in ("pattern", "format", "minLength", "uniqueItems", "items", "type") if name in schema
    ]
    if rules:
        del schema[chance.choice(rules)]


def turn_type(schema: Schema, chance: random.Random) -> None:
    kinds = schema.get("type")
    if isinstance(kinds, str) and kinds != "null" and "properties" not in schema:
        schema["type"] = chance.choice([[kinds, "null"], "number", ["integer", "string"]])
    elif isinstance(kinds, list):
        schema["type"] = kinds[:1]


def turn_branches(schema: Schema, chance: random.Random) -> None:
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            schema[name] = chance.choice([schema[name][1:] or [True], [*schema[name], {"type": "null"}]])


def turn_others(schema: Schema, chance: random.Random) -> None:
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = chance.choice([True, False])


EDITS: list[Edit] = [
    describe,
    add_field,
    add_required_field,
    remove_field,
    rename_field,
    require_or_not,
    turn_enum,
    turn_bound,
    drop_rule,
    turn_type,
    turn_branches,
    turn_others,
]


def edited(schema: Schema, chance: random.Random) -> Schema:
    """A near relative: one to three edits at places of their own."""
    new = copy.deepcopy(schema)
    for _ in range(chance.randint(1, 3)):
        places = [inner for _, inner in schemas_within(new) if isinstance(inner, dict)]
        chance.choice(EDITS)(chance.choice(places), chance)
    return new


def plain(schema: Schema) -> Schema:
    """What decides about documents, without the name by which references would be sought."""
    return {word: value for word, value in schema.items() if word not in ("$id", "$schema")}


def documents(schema: Schema) -> list[Any]:
    """Documents that a contract allows."""
    allowed = jsonschema_rs.Draft202012Validator(plain(schema), offline=True)
    found: list[Any] = []

    @DRAWN
    @given(from_schema(plain(schema)))
    def collect(document: Any) -> None:
        if allowed.is_valid(document):
            found.append(document)

    collect()
    return found


def lost(drawn: list[Any], new: Schema) -> list[Any]:
    """Those that the new schema refuses."""
    after = jsonschema_rs.Draft202012Validator(plain(new), offline=True)
    return [document for document in drawn if not after.is_valid(document)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "contract",
    [contract for contract in CONTRACTS if contract.id not in UNDRAWABLE],
    ids=lambda contract: contract.id,
)
def test_no_document_of_a_real_contract_is_lost_by_an_edit_called_compatible(contract: Any) -> None:
    chance, drawn = random.Random(contract.id), documents(contract.schema)

    assert drawn
    for _ in range(EDITED):
        new = edited(contract.schema, chance)
        changes = compare_contracts(contract.schema, new)
        if gravest(changes) is not Verdict.BREAKING:
            assert lost(drawn, new) == [], changes


fields = st.sampled_from(
    [
        {"type": "string", "maxLength": 4},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"type": ["integer", "null"], "multipleOf": 2},
        {"enum": ["a", "b", "c"]},
        {"enum": ["a", "b", "c"], "x-closed": True},
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "maxItems": 3},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[a-z]{2}$"}]},
        {"oneOf": [{"type": "integer"}, {"enum": ["a"]}]},
        {"$ref": "#/$defs/point"},
        {"type": "array", "items": {"$ref": "#/$defs/point"}, "minItems": 1, "maxItems": 2},
        {"not": {"type": "string"}, "enum": [1, 2, 3]},
    ]
)


@st.composite
def contracts_and_edits(draw: st.DrawFn) -> tuple[Schema, Schema]:
    properties = draw(st.dictionaries(st.sampled_from("abcde"), fields, min_size=1, max_size=4))
    point = {
        "type": "object",
        "additionalProperties": False,
        "required": ["x"],
        "properties": {"x": {"type": "integer", "maximum": 5}, "y": {"type": "integer", "minimum": 0}},
    }
    old = {
        "type": "object",
        "additionalProperties": False,
        "required": sorted(draw(st.sets(st.sampled_from(sorted(properties))))),
        "properties": copy.deepcopy(properties),
        "$defs": {"point": point},
    }
    return old, edited(old, random.Random(draw(st.integers(0, 1 << 32))))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_document_of_a_generated_contract_is_lost_by_an_edit_called_compatible(
    data: st.DataObject,
) -> None:
    old, new = data.draw(contracts_and_edits())
    changes = compare_contracts(old, new)
    if gravest(changes) is Verdict.BREAKING:
        return
    after = jsonschema_rs.Draft202012Validator(new, offline=True)

    for document in data.draw(st.lists(from_schema(old), min_size=4, max_size=4)):
        assert after.is_valid(document), changes


def versions() -> list[tuple[Schema, Schema, bool]]:
    """Every contract with the version before it, and whether both are of one major."""
    found = []
    ordered = sorted(CONTRACTS, key=lambda contract: (contract.name, version_of(contract.id)))
    for old, new in pairwise(ordered):
        if old.name == new.name:
            same = version_of(old.id)[0] == version_of(new.id)[0]
            found.append(pytest.param(old.schema, new.schema, same, id=f"{old.id} to {new.id}"))
    return found


@pytest.mark.parametrize(("old", "new", "same_major"), versions())
def test_versions_in_the_package_are_what_their_numbers_say(
    old: Schema, new: Schema, same_major: bool
) -> None:
    verdict = gravest(compare_contracts(old, new))

    assert (verdict is not Verdict.BREAKING) == same_major
    if same_major:
        assert lost(documents(old), new) == []


BREAKING: dict[str, Edit] = {
    "field removed": remove_field,
    "field renamed": rename_field,
    "field required": add_required_field,
}


@pytest.mark.parametrize("name", BREAKING)
def test_the_search_finds_what_a_wrong_verdict_would_lose(name: str) -> None:
    old = load_contracts().get("config.changed").schema
    new = copy.deepcopy(old)
    BREAKING[name](new, random.Random(1))

    assert gravest(compare_contracts(old, new)) is Verdict.BREAKING
    assert lost(documents(old), new)
