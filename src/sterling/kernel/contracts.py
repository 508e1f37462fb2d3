"""The registry of contracts: every document shape that Sterling writes or reads.

A contract is one file, `schemas/<area.name>@<major.minor>.json`, beside the code
that owns it. The registry finds the files without importing anything, hashes
them, and parses or compiles one only when it is first used: opening a home costs
one read a file. A document is checked as it is; nothing is coerced, filled in or
dropped. Nothing is ever fetched: schemas refer to their own definitions only.

The lock that pins these files is `contract_lock.py`; the rules for a schema
file are `schema_rules.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sterling.kernel.canonical import Json, parse_strict
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of
from sterling.kernel.schema_rules import (
    ID_PATTERN,
    ContractInvalid,
    check_schema,
    join_pointer,
    schemas_within,
)
from sterling.kernel.shipped import package_root

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

__all__ = [
    "Contract",
    "ContractInvalid",
    "ContractUnknown",
    "Contracts",
    "RecordInvalid",
    "load_contracts",
    "reload_contracts",
    "schema_files",
    "version_of",
]

_SCHEMA_BYTES_MAX = 1024 * 1024
_ERRORS_LOOKED_AT = 20


class ContractUnknown(SterlingError):
    """No schema file has this id."""

    code = "contracts.unknown"
    hint = "List the contracts: `sterling contracts check`."
    exit = EXIT_USAGE


class RecordInvalid(SterlingError):
    """A document that its contract does not allow."""

    code = "record.invalid"
    hint = "Compare the document with its schema: `sterling contracts check`."
    exit = EXIT_USAGE

    def __init__(self, contract: str, pointer: str, rule: str, found: str, message: str) -> None:
        super().__init__(
            f"{contract} at {pointer or '/'}: expected {message}, found {found}",
            contract=contract,
            pointer=pointer,
            rule=rule,
            found=found,
        )
        self.contract, self.pointer, self.rule, self.found = contract, pointer, rule, found


class Contract:
    """One version of one contract. Its schema is parsed and compiled when first asked for."""

    __slots__ = ("_has_numbers", "_schema", "_validator", "id", "name", "path", "raw", "sha256", "version")

    def __init__(self, contract: str, raw: bytes, path: str) -> None:
        self.id = contract
        self.name, self.version = contract.split("@")
        self.path = path  # Relative to the package folder, with forward slashes.
        self.raw = raw
        self.sha256 = address_of(raw)
        self._schema: dict[str, Json] | None = None
        self._validator: Draft202012Validator | None = None
        self._has_numbers: bool | None = None

    @property
    def schema(self) -> dict[str, Json]:
        """The parsed schema. Errors: ContractInvalid."""
        if self._schema is None:
            try:
                schema = parse_strict(self.raw, limit=_SCHEMA_BYTES_MAX)
            except SterlingError as problem:
                raise ContractInvalid(self.id, "", "JSON", problem.message, file=self.path) from problem
            check_schema(self.id, schema, file=self.path)
            self._schema = schema
        return self._schema

    @property
    def owner(self) -> str:
        return str(self.schema["x-owner"])

    @property
    def kind(self) -> str:
        return str(self.schema["x-kind"])

    @property
    def sensitive(self) -> bool:
        return bool(self.schema.get("x-sensitive", False))

    @property
    def has_numbers(self) -> bool:
        """Whether some field may hold a float; the schema is walked once."""
        if self._has_numbers is None:
            self._has_numbers = any(
                "number" in ([kinds] if isinstance(kinds := inner.get("type"), str) else kinds or [])
                for _, inner in schemas_within(self.schema)
                if isinstance(inner, dict)
            )
        return self._has_numbers

    def validator(self) -> Draft202012Validator:
        """The compiled schema: formats asserted, nothing fetched. Errors: ContractInvalid."""
        if self._validator is None:
            import jsonschema_rs  # Costs 30 ms to load; a command that validates nothing does not pay.

            try:
                self._validator = jsonschema_rs.Draft202012Validator(
                    self.schema,
                    validate_formats=True,
                    ignore_unknown_formats=False,
                    offline=True,
                    pattern_options=jsonschema_rs.RegexOptions(),
                )
            except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as problem:
                pointer = join_pointer("", *getattr(problem, "instance_path", []))
                found = str(getattr(problem, "message", problem))
                raise ContractInvalid(
                    self.id, pointer, "valid JSON Schema", found, file=self.path
                ) from problem
        return self._validator

    def validate(self, document: Json) -> None:
        """Errors: RecordInvalid at the first place, in document order, that the contract refuses."""
        validator = self.validator()
        try:
            if validator.is_valid(document):
                return
            errors = [
                error
                for error, _ in zip(validator.iter_errors(document), range(_ERRORS_LOOKED_AT), strict=False)
            ]
        except ValueError as problem:
            raise RecordInvalid(self.id, "", "json", str(problem), "a JSON value") from problem
        first = min(errors, key=lambda error: (_sortable(error.instance_path), _sortable(error.schema_path)))
        raise self._refusal(first)

    def _refusal(self, error: ValidationError) -> RecordInvalid:
        pointer = join_pointer("", *error.instance_path)
        rule, expectation = error.kind.name, _expectation(error)
        found = _describe(error.instance, named=not self.sensitive)
        if rule == "required":
            found = "nothing"
        elif rule in ("additionalProperties", "unevaluatedProperties"):
            unexpected = sorted(getattr(error.kind, "unexpected", []))
            found = ", ".join(f'"{name}"' for name in unexpected)
            pointer = join_pointer(pointer, *unexpected[:1])
        return RecordInvalid(self.id, pointer, rule, found, expectation)


class Contracts:
    """Every contract of one package, by id."""

    def __init__(self, contracts: dict[str, Contract]) -> None:
        self._by_id = dict(sorted(contracts.items()))
        self._newest: dict[str, Contract] = {}
        for contract in sorted(contracts.values(), key=lambda each: version_of(each.id)):
            self._newest[contract.name] = contract

    def __iter__(self) -> Iterator[Contract]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def names(self) -> list[str]:
        """Names without versions, sorted."""
        return sorted(self._newest)

    def ids(self) -> list[str]:
        """Names with versions, sorted."""
        return list(self._by_id)

    def has(self, contract: str) -> bool:
        """Whether this name or full id is known."""
        return contract in self._by_id or contract in self._newest

    def get(self, contract: str) -> Contract:
        """A contract by full id, or the newest version by name. Errors: ContractUnknown."""
        found = self._by_id.get(contract) or self._newest.get(contract)
        if found is None:
            raise self._unknown(contract)
        return found

    def validate(self, contract: str, document: Json) -> str:
        """Check a document; returns the full id that it was checked against.

        Errors: ContractUnknown, ContractInvalid, RecordInvalid.
        """
        found = self.get(contract)
        found.validate(document)
        return found.id

    def check(self) -> None:
        """Parse and compile every contract. Errors: ContractInvalid at the first bad one."""
        for contract in self:
            contract.validator()

    def _unknown(self, contract: str) -> ContractUnknown:
        import difflib

        near = difflib.get_close_matches(contract, [*self._by_id, *self._newest], n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return ContractUnknown(f"expected a known contract, found {contract}{meant}", contract=contract)


def version_of(contract: str) -> tuple[int, int]:
    """The (major, minor) of a full id."""
    match = ID_PATTERN.fullmatch(contract)
    assert match is not None, f"{contract!r} is not a full contract id"
    return int(match["major"]), int(match["minor"])


def load_contracts(root: Path | None = None) -> Contracts:
    """Every contract below a folder (the package's by default), cached.

    Cost: one read and one SHA-256 a file; nothing is parsed.
    Errors: ContractInvalid for a file whose name is no contract id, or an id given twice.
    """
    return _load(package_root() if root is None else root.resolve())


def reload_contracts(root: Path | None = None) -> Contracts:
    """The same, read again from the disk. Errors: as `load_contracts`."""
    _load.cache_clear()
    return load_contracts(root)


def schema_files(root: Path) -> Iterator[str]:
    """Every schema file below a folder, in order."""
    return _schema_files(str(root), lambda name: not name.startswith((".", "__")))


@lru_cache(maxsize=8)
def _load(root: Path) -> Contracts:
    found: dict[str, Contract] = {}
    for path in schema_files(root):
        relative = os.path.relpath(path, root).replace(os.sep, "/")
        contract = os.path.basename(path).removesuffix(".json")
        if not ID_PATTERN.fullmatch(contract):
            raise ContractInvalid(
                contract, "", "a file name area.name@major.minor.json", contract, file=relative
            )
        if contract in found:
            raise ContractInvalid(contract, "/$id", "one file an id", found[contract].path, file=relative)
        with open(path, "rb") as file:
            found[contract] = Contract(contract, file.read(), relative)
    return Contracts(found)


def _schema_files(folder: str, enters: Callable[[str], bool]) -> Iterator[str]:
    is_schemas = os.path.basename(folder) == "schemas"
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.is_dir(follow_symlinks=False):
                if enters(entry.name):
                    yield from _schema_files(entry.path, enters)
            elif is_schemas and entry.name.endswith(".json"):
                yield entry.path


def _sortable(path: list[str | int]) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in path]


def _expectation(error: ValidationError) -> str:
    """What the rule wanted, in words; the document's own content is left to `found`."""
    kind = error.kind
    rule, value = kind.name, kind.as_dict()
    if rule == "required":
        return f'the field "{value["property"]}"'
    if rule in ("additionalProperties", "unevaluatedProperties"):
        return "no other fields"
    if rule == "type":
        return "type " + " or ".join(str(name) for name in _listed(value.get("types")))
    if rule == "enum":
        return "one of " + ", ".join(str(option) for option in _listed(value.get("options")))[:300]
    detail = next(iter(value.values()), "") if rule not in ("anyOf", "oneOf", "not", "contains") else ""
    return f"{rule} {detail}".strip()[:300]


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _describe(value: Json, *, named: bool) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if not named:
        return f"a {type(value).__name__}"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."
