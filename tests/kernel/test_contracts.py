"""Contracts: what counts as one, and what a document may say under it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.contracts import (
    ContractInvalid,
    Contracts,
    ContractUnknown,
    RecordInvalid,
    load_contracts,
)


def schema(contract: str = "ci.note@1.0", **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": contract,
        "title": "Note",
        "description": "A note.",
        "x-owner": "ci",
        "x-kind": "record",
        "type": "object",
        "additionalProperties": False,
        "required": ["text"],
        "properties": {
            "text": {"description": "What it says.", "type": "string", "maxLength": 5},
            "count": {"description": "How often.", "type": "integer", "minimum": 0},
            "when": {"description": "The day.", "type": "string", "format": "date"},
        },
    }
    return {key: value for key, value in (base | changes).items() if value is not None}


def put(root: Path, document: Any, *, contract: str = "ci.note@1.0", folder: str = "packs/ci") -> Path:
    path = root / folder / "schemas" / f"{contract}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return path


def one(tmp_path: Path, document: Any, *, contract: str = "ci.note@1.0") -> Contracts:
    put(tmp_path, document, contract=contract)
    return load_contracts(tmp_path)


def test_a_good_document_passes_and_names_the_full_id(tmp_path: Path) -> None:
    contracts = one(tmp_path, schema())

    assert contracts.validate("ci.note", {"text": "hello"}) == "ci.note@1.0"
    assert contracts.validate("ci.note@1.0", {"text": "hello", "when": "2026-01-31"}) == "ci.note@1.0"


@pytest.mark.parametrize(
    ("document", "pointer", "rule", "found"),
    [
        ({}, "", "required", "nothing"),
        ({"text": 3}, "/text", "type", "3"),
        ({"text": None}, "/text", "type", "null"),
        ({"text": "a", "count": True}, "/count", "type", "true"),
        ({"text": "a", "count": -1}, "/count", "minimum", "-1"),
        ({"text": "a", "count": 1.5}, "/count", "type", "1.5"),
        ({"text": "abcdef"}, "/text", "maxLength", '"abcdef"'),
        ({"text": "a", "when": "2026-02-30"}, "/when", "format", '"2026-02-30"'),
        ({"text": "a", "extra/x": 1}, "/extra~1x", "additionalProperties", '"extra/x"'),
        ([], "", "type", "a list of 0"),
        (None, "", "type", "null"),
    ],
)
def test_a_bad_document_is_refused_with_place_rule_and_value(
    tmp_path: Path, document: Any, pointer: str, rule: str, found: str
) -> None:
    contracts = one(tmp_path, schema())

    with pytest.raises(RecordInvalid) as caught:
        contracts.validate("ci.note", document)

    assert (caught.value.pointer, caught.value.rule, caught.value.found) == (pointer, rule, found)
    assert caught.value.exit == 2


def test_a_value_that_is_no_json_is_refused(tmp_path: Path) -> None:
    contracts = one(tmp_path, schema())

    with pytest.raises(RecordInvalid) as caught:
        contracts.validate("ci.note", {"text": b"bytes"})

    assert caught.value.rule == "json"


def test_a_document_is_never_coerced_or_filled_in(tmp_path: Path) -> None:
    fields = {"text": {"description": "What it says.", "type": "string", "default": "none"}}
    contracts = one(tmp_path, schema(properties=fields, required=None))
    document: dict[str, Any] = {}

    contracts.validate("ci.note", document)

    assert document == {}


def test_a_refusal_under_a_sensitive_contract_keeps_the_value_to_itself(tmp_path: Path) -> None:
    contracts = one(tmp_path, schema(**{"x-sensitive": True}))

    with pytest.raises(RecordInvalid) as caught:
        contracts.validate("ci.note", {"text": "the secret words"})

    assert "secret" not in caught.value.message
    assert "secret" not in json.dumps(caught.value.as_json())


def test_the_newest_version_is_used_by_name_and_old_ones_stay(tmp_path: Path) -> None:
    for version in ("1.0", "1.9", "1.10", "2.0"):
        put(tmp_path, schema(f"ci.note@{version}"), contract=f"ci.note@{version}")
    contracts = load_contracts(tmp_path)

    assert contracts.get("ci.note").id == "ci.note@2.0"
    assert contracts.get("ci.note@1.9").version == "1.9"
    assert contracts.ids() == ["ci.note@1.0", "ci.note@1.10", "ci.note@1.9", "ci.note@2.0"]
    assert contracts.names() == ["ci.note"]


def test_an_unknown_contract_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    contracts = one(tmp_path, schema())

    with pytest.raises(ContractUnknown, match=r"did you mean ci\.note"):
        contracts.validate("ci.notes", {})
    with pytest.raises(ContractUnknown):
        contracts.get("ci.note@9.9")


PROPERTY = {"description": "A field.", "type": "string"}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
        ({"$id": "ci.note@1.1"}, "/$id"),
        ({"$id": None}, "/$id"),
        ({"title": None}, "/title"),
        ({"title": " "}, "/title"),
        ({"description": None}, "/description"),
        ({"x-owner": None}, "/x-owner"),
        ({"x-owner": "The CI"}, "/x-owner"),
        ({"x-kind": None}, "/x-kind"),
        ({"x-kind": "thing"}, "/x-kind"),
        ({"x-sensitive": "yes"}, "/x-sensitive"),
        ({"type": "array"}, "/type"),
        ({"additionalProperties": None}, "/additionalProperties"),
        ({"additionalProperties": True}, "/additionalProperties"),
        ({"properties": None}, "/properties"),
        ({"properties": {"text": {"type": "string"}}}, "/properties/text/description"),
        ({"properties": {"text": True}}, "/properties/text/description"),
        ({"properties": {"other": PROPERTY}}, "/required"),
        ({"properties": {"text": PROPERTY | {"maxlength": 3}}}, "/properties/text/maxlength"),
        ({"properties": {"text": PROPERTY | {"format": "colour"}}}, "/properties/text/format"),
        ({"properties": {"text": PROPERTY | {"x-closed": "yes"}}}, "/properties/text/x-closed"),
        ({"properties": {"text": {**PROPERTY, "$ref": "https://example.org/a"}}}, "/properties/text/$ref"),
        ({"properties": {"text": {**PROPERTY, "$ref": "file:///etc/passwd"}}}, "/properties/text/$ref"),
        ({"properties": {"text": {**PROPERTY, "$ref": "#/$defs/none"}}}, "/properties/text/$ref"),
        (
            {"properties": {"text": {**PROPERTY, "$ref": "file:///a"}}, "$defs": {"file:///a": {}}},
            "/properties/text/$ref",
        ),
        ({"properties": {"text": {**PROPERTY, "$id": "https://example.org/b"}}}, "/properties/text/$id"),
        (
            {
                "properties": {
                    "text": {"description": "A part.", "type": "object", "properties": {"a": PROPERTY}}
                }
            },
            "/properties/text/additionalProperties",
        ),
        ({"allOf": []}, "/allOf"),
        ({"oneOf": ["a"]}, "/oneOf/0"),
        ({"$defs": []}, "/$defs"),
        ({"properties": {"text": PROPERTY | {"type": "words"}}}, "/properties/text/type"),
        ({"properties": {"text": PROPERTY | {"minimum": "three"}}}, "/properties/text/minimum"),
        ({"properties": {"text": PROPERTY | {"pattern": "("}}}, "/properties/text/pattern"),
        # A pattern that could backtrack for ever is not a pattern here.
        ({"properties": {"text": PROPERTY | {"pattern": "(?=a)b"}}}, "/properties/text/pattern"),
    ],
)
def test_a_schema_that_is_no_contract_is_refused_at_its_place(
    tmp_path: Path, changes: dict[str, Any], pointer: str
) -> None:
    contracts = one(tmp_path, schema(**changes))

    with pytest.raises(ContractInvalid) as caught:
        contracts.validate("ci.note", {"text": "a"})

    assert caught.value.pointer == pointer
    assert "packs/ci/schemas/ci.note@1.0.json" in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'\xef\xbb\xbf{"a":1}', b"\xff\xfe", b'{"$id":1,"$id":2}', b"[" * 100_000],
    ids=["empty", "torn", "list", "null", "byte-order mark", "wrong encoding", "key twice", "deep"],
)
def test_a_file_that_cannot_be_parsed_is_refused_when_used_and_only_then(tmp_path: Path, raw: bytes) -> None:
    put(tmp_path, schema("ci.other@1.0"), contract="ci.other@1.0")
    contracts = one(tmp_path, raw)

    assert contracts.validate("ci.other", {"text": "a"}) == "ci.other@1.0"
    with pytest.raises(ContractInvalid):
        contracts.validate("ci.note", {"text": "a"})
    with pytest.raises(ContractInvalid):
        contracts.check()


@pytest.mark.parametrize(
    "name", ["note", "ci.note@1", "ci.note@1.0.0", "CI.note@1.0", "ci.note@01.0", "ci.@1.0"]
)
def test_a_file_whose_name_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path, schema(), contract=name)

    with pytest.raises(ContractInvalid, match="file name"):
        load_contracts(tmp_path)


def test_one_id_in_two_folders_is_refused_naming_both(tmp_path: Path) -> None:
    put(tmp_path, schema(), folder="packs/ci")
    put(tmp_path, schema(), folder="runtime")

    with pytest.raises(ContractInvalid) as caught:
        load_contracts(tmp_path)

    assert "packs/ci/schemas" in caught.value.message
    assert "runtime/schemas" in caught.value.message


def test_conditions_may_narrow_fields_without_describing_them_again(tmp_path: Path) -> None:
    narrowing = {"oneOf": [{"required": ["count"]}, {"properties": {"text": {"const": "none"}}}]}
    contracts = one(tmp_path, schema(**narrowing))

    contracts.validate("ci.note", {"text": "a", "count": 1})
    with pytest.raises(RecordInvalid) as caught:
        contracts.validate("ci.note", {"text": "a"})

    assert caught.value.rule == "oneOf"


def test_whether_floats_may_stand_in_a_document_comes_from_the_schema(tmp_path: Path) -> None:
    inner = {"description": "Values.", "type": "array", "items": {"type": ["number", "null"]}}
    named = {"description": "A field that is called type.", "const": "number"}
    put(tmp_path, schema("ci.a@1.0", properties={"text": PROPERTY, "values": inner}), contract="ci.a@1.0")
    put(tmp_path, schema("ci.b@1.0", properties={"text": PROPERTY, "type": named}), contract="ci.b@1.0")
    contracts = load_contracts(tmp_path)

    assert contracts.get("ci.a").has_numbers
    assert not contracts.get("ci.b").has_numbers


def test_loading_reads_files_without_parsing_or_importing(tmp_path: Path) -> None:
    put(tmp_path, b"not json", contract="ci.broken@1.0")
    (tmp_path / "packs" / "ci" / "__init__.py").write_text("raise RuntimeError('imported')")

    contracts = load_contracts(tmp_path)

    assert contracts.ids() == ["ci.broken@1.0"]
    assert load_contracts(tmp_path) is contracts


def test_the_registry_loads_without_the_validator_or_anything_heavy() -> None:
    code = (
        "import sys; from sterling.kernel.contracts import load_contracts; load_contracts();"
        "print(sorted(set(sys.modules) & {'jsonschema_rs', 'pydantic', 'numpy', 'click', 'tomlkit'}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_shipped_schema_is_a_contract() -> None:
    load_contracts().check()


def test_the_order_of_several_faults_does_not_depend_on_the_document(tmp_path: Path) -> None:
    contracts = one(tmp_path, schema())
    faults = []
    for document in ({"text": 1, "count": "x"}, {"count": "x", "text": 1}):
        with pytest.raises(RecordInvalid) as caught:
            contracts.validate("ci.note", document)
        faults.append(caught.value.pointer)

    assert faults == ["/count", "/count"]
