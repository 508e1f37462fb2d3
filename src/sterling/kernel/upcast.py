"""Reading documents of older major versions.

A breaking change is a new major version of a contract, and with it comes a pure
function from a document of the old major to one of the new. The function stands
in the module of the contract's owner and registers itself there; a document goes
through as many as it takes to reach the newest major. Stored bytes stay as they
are: whoever checks a hash checks them, before anything here runs.

What no function covers, or what the newest contract refuses afterwards, is
unreadable and never passed on half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sterling.kernel.canonical import Json
from sterling.kernel.contracts import Contracts, RecordInvalid, version_of
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError

__all__ = ["UPCASTERS", "RecordUnreadable", "Upcast", "to_newest", "upcaster"]

Upcast = Callable[[Json], Json]

_REGISTRY: dict[tuple[str, int], Upcast] = {}
UPCASTERS: Mapping[tuple[str, int], Upcast] = MappingProxyType(_REGISTRY)


class RecordUnreadable(SterlingError):
    """A stored document that this program cannot bring to a version that it reads."""

    code = "record.unreadable"
    hint = "Read it with the Sterling that wrote it, or a newer one; `sterling verify` checks its bytes."
    exit = EXIT_CANNOT_JUDGE


def upcaster(name: str, major: int) -> Callable[[Upcast], Upcast]:
    """Register the step of a contract from this major to the next; a step has one function."""

    def register(function: Upcast) -> Upcast:
        assert (name, major) not in _REGISTRY, f"{name} has an upcaster from major {major} already"
        _REGISTRY[name, major] = function
        return function

    return register


def to_newest(contracts: Contracts, contract: str, document: Json) -> tuple[str, Json]:
    """The document in the newest major version of its contract, and the full id it then has.

    Within the newest major a document stays as it is, under its own minor.

    Errors: RecordUnreadable for a contract or a step that this program does not know.
    """
    name = contract.partition("@")[0]
    if not contracts.has(contract):
        raise RecordUnreadable(f"expected a known contract, found {contract}", contract=contract)
    newest = contracts.get(name)
    old, new = version_of(contract)[0], version_of(newest.id)[0]
    if old == new:
        return contract, document
    for major in range(old, new):
        step = UPCASTERS.get((name, major))
        if step is None:
            raise RecordUnreadable(
                f"expected a way from {name} {major} to {major + 1}, found none", contract=contract
            )
        document = step(document)
    try:
        newest.validate(document)
    except RecordInvalid as problem:
        raise RecordUnreadable(f"{contract} brought to {problem.message}", contract=contract) from problem
    return newest.id, document
