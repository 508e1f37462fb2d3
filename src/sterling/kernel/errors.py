"""The one way Sterling says what went wrong.

An error has a stable dotted code, a message that states what was expected and
what was found, a next step, details for programs, and an exit status. Each code
belongs to one class; declaring it twice fails at import.

Messages never hold secrets: details pass `scrub` before they leave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "EXIT_BROKEN",
    "EXIT_CANNOT_JUDGE",
    "EXIT_DEFECT",
    "EXIT_NO",
    "EXIT_OK",
    "EXIT_USAGE",
    "SterlingError",
    "all_errors",
    "scrub",
]

EXIT_OK, EXIT_NO, EXIT_USAGE, EXIT_BROKEN, EXIT_CANNOT_JUDGE, EXIT_DEFECT = 0, 1, 2, 3, 4, 70

_CODE = re.compile(r"^[a-z]+\.[a-z0-9-]+$")
_SECRET_NAME = re.compile(r"(secret|token|password|passphrase|private|key_bytes)", re.IGNORECASE)
_REGISTRY: dict[str, type[SterlingError]] = {}


class SterlingError(Exception):
    """Base of every error that the world, not our code, causes.

    A subclass sets `code` (dotted, unique), `hint` (one next step, naming a
    command that exists) and, where it differs from 1, `exit`.
    """

    code: ClassVar[str] = ""
    hint: str = ""
    exit: ClassVar[int] = EXIT_NO

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code")
        if code is None:
            return
        assert _CODE.match(code), f"{cls.__name__}: {code!r} is not area.what-happened"
        assert code not in _REGISTRY, f"{code} belongs to {_REGISTRY[code].__name__} already"
        _REGISTRY[code] = cls

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details
        if hint is not None:
            self.hint = hint

    def as_json(self) -> dict[str, Any]:
        """The `{code, message, hint, details}` object that `--json` prints under `error`."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": scrub(self.details),
        }


def all_errors() -> Mapping[str, type[SterlingError]]:
    """Every code declared by the modules imported so far, with its class."""
    return dict(sorted(_REGISTRY.items()))


def scrub(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details without secrets: JSON scalars only, secret-looking names masked, long text cut."""
    clean: dict[str, Any] = {}
    for name, value in details.items():
        if _SECRET_NAME.search(name):
            clean[name] = "(withheld)"
        elif value is None or isinstance(value, bool | int):
            clean[name] = value
        elif isinstance(value, bytes):
            clean[name] = value.hex()[:200]
        elif isinstance(value, list | tuple):
            clean[name] = [str(item)[:200] for item in value[:50]]
        elif isinstance(value, dict):
            clean[name] = scrub(value)
        else:
            clean[name] = str(value)[:2000]
    return clean
