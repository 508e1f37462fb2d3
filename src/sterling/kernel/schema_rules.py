"""What a contract's schema must look like, and where schemas hide inside a schema.

JSON Schema lets almost anything pass: a misspelt keyword is silently ignored, a
reference may point into the network. A contract may do neither. The rules here
are checked before a schema is used, and every refusal names the place in the
schema by its JSON pointer.

Nothing here opens a file. `contracts.py` reads and compiles, `contract_diff.py`
compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError

__all__ = [
    "DIALECT",
    "ID_PATTERN",
    "KINDS",
    "LIST_KEYWORDS",
    "MAP_KEYWORDS",
    "SINGLE_KEYWORDS",
    "TEXT_KEYWORDS",
    "ContractInvalid",
    "check_schema",
    "join_pointer",
    "schemas_within",
]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID_PATTERN = re.compile(
    r"(?P<name>[a-z][a-z0-9-]*(?:\.[a-z][a-z0-9-]*)*)@(?P<major>[1-9][0-9]*)\.(?P<minor>0|[1-9][0-9]*)"
)
KINDS = ("record", "entry", "command-json", "config", "manifest", "bundle")

# Keywords whose value is one schema, a list of schemas, or named schemas.
SINGLE_KEYWORDS = frozenset(
    (
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
LIST_KEYWORDS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
MAP_KEYWORDS = frozenset(("$defs", "dependentSchemas", "patternProperties", "properties"))

TEXT_KEYWORDS = frozenset(("$comment", "description", "examples", "title"))
_PLAIN_KEYWORDS = frozenset(
    (
        "$ref",
        "const",
        "default",
        "dependentRequired",
        "deprecated",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "readOnly",
        "required",
        "type",
        "uniqueItems",
        "writeOnly",
        "x-closed",
        "x-unit",
    )
)
_ROOT_KEYWORDS = frozenset(("$schema", "$id", "x-owner", "x-kind", "x-sensitive"))
_KNOWN = SINGLE_KEYWORDS | LIST_KEYWORDS | MAP_KEYWORDS | TEXT_KEYWORDS | _PLAIN_KEYWORDS
_OWNER = re.compile(r"[a-z][a-z0-9-]*")
_REFINING = frozenset(("allOf", "dependentSchemas", "else", "if", "not", "then"))
_FLAGS = frozenset(("deprecated", "readOnly", "uniqueItems", "writeOnly", "x-closed"))


class ContractInvalid(SterlingError):
    """A schema file that is not a contract."""

    code = "contracts.invalid"
    hint = "Mend the named schema file, then run `sterling contracts check`."

    def __init__(self, contract: str, pointer: str, expected: str, found: str, *, file: str = "") -> None:
        place = f"{file or contract}#{pointer}"
        super().__init__(
            f"{place}: expected {expected}, found {found}",
            contract=contract,
            file=file,
            pointer=pointer,
            expected=expected,
            found=found,
        )
        self.contract, self.pointer, self.file = contract, pointer, file


def join_pointer(pointer: str, *parts: object) -> str:
    """A JSON pointer (RFC 6901) with more parts."""
    return pointer + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def schemas_within(schema: Json, pointer: str = "") -> Iterator[tuple[str, Json]]:
    """The schema and every schema inside it, outermost first, each with its JSON pointer.

    Values that only look like schemas (in `const`, `enum`, `default`, `examples`)
    are not entered.
    """
    yield pointer, schema
    for _, place, inner in _children(schema, pointer):
        yield from schemas_within(inner, place)


def check_schema(contract: str, schema: Json, *, file: str = "") -> None:
    """Refuse a schema that is not a contract's.

    Errors: ContractInvalid at the first broken rule, with its JSON pointer.
    """
    if not isinstance(schema, dict):
        raise ContractInvalid(contract, "", "a JSON object", type(schema).__name__, file=file)
    place = _Place(contract, file, schema)
    _check_root(place, schema)
    _check_tree(place, schema, "", refines=False)


@dataclass(frozen=True, slots=True)
class _Place:
    contract: str
    file: str
    root: dict[str, Json]

    def refuse(self, pointer: str, expected: str, found: str) -> ContractInvalid:
        return ContractInvalid(self.contract, pointer, expected, found, file=self.file)


def _children(schema: Json, pointer: str) -> Iterator[tuple[str, str, Json]]:
    if not isinstance(schema, dict):
        return
    for keyword in sorted(schema):
        value = schema[keyword]
        place = join_pointer(pointer, keyword)
        if keyword in SINGLE_KEYWORDS:
            yield keyword, place, value
        elif keyword in LIST_KEYWORDS and isinstance(value, list):
            for index, item in enumerate(value):
                yield keyword, join_pointer(place, index), item
        elif keyword in MAP_KEYWORDS and isinstance(value, dict):
            for name in sorted(value):
                yield keyword, join_pointer(place, name), value[name]


def _check_tree(place: _Place, schema: Json, pointer: str, *, refines: bool) -> None:
    """Check a schema and what it holds; `refines` if it only narrows fields described elsewhere."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise place.refuse(pointer, "a schema", type(schema).__name__)
    _check_keywords(place, schema, pointer)
    _check_reference(place, schema, pointer)
    if not refines:
        _check_properties(place, schema, pointer)
    for keyword, inner_pointer, inner in _children(schema, pointer):
        narrows = keyword in _REFINING or (keyword in ("anyOf", "oneOf") and "properties" in schema)
        _check_tree(place, inner, inner_pointer, refines=refines or narrows)


def _check_root(place: _Place, schema: dict[str, Json]) -> None:
    for keyword, expected in (("$schema", DIALECT), ("$id", place.contract), ("type", "object")):
        if schema.get(keyword) != expected:
            raise place.refuse(f"/{keyword}", f'"{expected}"', _show(schema.get(keyword)))
    for keyword in ("title", "description"):
        value = schema.get(keyword)
        if not isinstance(value, str) or not value.strip():
            raise place.refuse(f"/{keyword}", "a text", _show(value))
    owner = schema.get("x-owner")
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        raise place.refuse("/x-owner", "the owner's name", _show(owner))
    if schema.get("x-kind") not in KINDS:
        raise place.refuse("/x-kind", f"one of {', '.join(KINDS)}", _show(schema.get("x-kind")))
    if not isinstance(schema.get("x-sensitive", False), bool):
        raise place.refuse("/x-sensitive", "true or false", _show(schema["x-sensitive"]))
    if schema.get("additionalProperties") is not False:
        raise place.refuse("/additionalProperties", "false", _show(schema.get("additionalProperties")))
    if not isinstance(schema.get("properties"), dict):
        raise place.refuse("/properties", "an object of fields", _show(schema.get("properties")))


def _check_keywords(place: _Place, schema: dict[str, Json], pointer: str) -> None:
    known = _KNOWN | _ROOT_KEYWORDS if pointer == "" else _KNOWN
    for keyword in sorted(schema):
        value = schema[keyword]
        at = join_pointer(pointer, keyword)
        if keyword not in known:
            raise place.refuse(at, "a keyword that is checked", f'"{keyword}"')
        if keyword in MAP_KEYWORDS and not isinstance(value, dict):
            raise place.refuse(at, "an object of schemas", _show(value))
        if keyword in LIST_KEYWORDS and (not isinstance(value, list) or not value):
            raise place.refuse(at, "a list of schemas", _show(value))
        if keyword in _FLAGS and not isinstance(value, bool):
            raise place.refuse(at, "true or false", _show(value))


def _check_properties(place: _Place, schema: dict[str, Json], pointer: str) -> None:
    properties = schema.get("properties")
    if properties is None:
        return
    if schema.get("additionalProperties") is not False:
        found = _show(schema.get("additionalProperties"))
        raise place.refuse(join_pointer(pointer, "additionalProperties"), "false beside properties", found)
    for name in sorted(properties):
        field = properties[name]
        text = field.get("description") if isinstance(field, dict) else None
        if not isinstance(text, str) or not text.strip():
            at = join_pointer(pointer, "properties", name, "description")
            raise place.refuse(at, "one sentence about the field", _show(text))
    required = schema.get("required", [])
    for name in required if isinstance(required, list) else [required]:
        if name not in properties:
            raise place.refuse(join_pointer(pointer, "required"), "names of properties", _show(name))


def _check_reference(place: _Place, schema: dict[str, Json], pointer: str) -> None:
    reference = schema.get("$ref")
    if reference is None:
        return
    definitions = place.root.get("$defs", {})
    at = join_pointer(pointer, "$ref")
    if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
        raise place.refuse(at, "a reference into #/$defs", _show(reference))
    if reference.removeprefix("#/$defs/") not in definitions:
        raise place.refuse(at, "a definition in #/$defs", _show(reference))


def _show(value: Json) -> str:
    if value is None:
        return "nothing"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
