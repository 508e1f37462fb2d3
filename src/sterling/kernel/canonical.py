"""Canonical bytes: RFC 8785 out, a strict parser in.

Two parties who mean the same must hash the same, so everything that is hashed
goes through `canonical_bytes`, and everything read back goes through
`parse_canonical`, which refuses bytes that are not their own canonical form.
Strings keep their bytes: NFC and NFD stay different.
"""

from __future__ import annotations

import json
import math
from typing import Any

import rfc8785

from sterling.kernel.errors import EXIT_BROKEN, SterlingError

__all__ = [
    "DEPTH_MAX",
    "ENTRY_BYTES_MAX",
    "CanonicalInvalid",
    "DuplicateKey",
    "Json",
    "NotCanonical",
    "TooLarge",
    "canonical_bytes",
    "parse_canonical",
    "parse_strict",
]

Json = Any  # A JSON value: None, bool, int, float, str, list[Json] or dict[str, Json].

ENTRY_BYTES_MAX = 64 * 1024
DEPTH_MAX = 64
_INTEGER_MAX = 2**53 - 1
_POINTLESS_MAX = 1e21  # Below this RFC 8785 writes a whole number without point or exponent.
_ENCODE = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False
).encode


class CanonicalInvalid(SterlingError):
    """A value or text that canonical JSON cannot hold."""

    code = "canonical.invalid"
    hint = "Send plain JSON: UTF-8, finite numbers, integers within 2^53. See `sterling ledger --help`."


class NotCanonical(SterlingError):
    """Stored bytes parse, but are not their own canonical form."""

    code = "canonical.not-canonical"
    hint = "The stored bytes were changed. Run `sterling verify`."
    exit = EXIT_BROKEN


class TooLarge(SterlingError):
    """More bytes than the place allows."""

    code = "canonical.too-large"
    hint = "Put large content in a blob and cite its address. See `sterling ledger --help`."


class DuplicateKey(SterlingError):
    """An object names a key twice."""

    code = "canonical.duplicate-key"
    hint = "Keep one of the two keys. See `sterling ledger --help`."


def canonical_bytes(value: Json, *, floats: bool = False) -> bytes:
    """The RFC 8785 form of a JSON value.

    Errors: CanonicalInvalid for floats (unless `floats`), NaN, infinities,
            integers beyond 2^53-1, lone surrogates, other types, depth over 64.
    Cost:   values without floats and with ASCII keys take the standard library's
            encoder, which writes the same bytes for them (a property test says so).
    """
    is_simple = _check(value, floats=floats, depth=0)
    if is_simple:
        return _ENCODE(value).encode("utf-8")
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as problem:
        raise CanonicalInvalid(f"expected canonical JSON, found {problem}") from problem


def parse_strict(data: bytes, *, limit: int = ENTRY_BYTES_MAX) -> Json:
    """Parse JSON bytes, refusing what RFC 8785 could not have written.

    Errors: TooLarge, DuplicateKey, CanonicalInvalid.
    """
    if len(data) > limit:
        raise TooLarge(f"expected at most {limit} bytes, found {len(data)}", limit=limit, size=len(data))
    if data.startswith(b"\xef\xbb\xbf"):
        raise CanonicalInvalid("expected no byte-order mark, found one")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (
        ValueError,
        RecursionError,
    ) as problem:  # Bad UTF-8, bad JSON, endless digits.
        raise CanonicalInvalid(f"expected JSON in UTF-8, found {problem}") from problem
    _check(value, floats=True, depth=0)
    return value


def parse_canonical(data: bytes, *, limit: int = ENTRY_BYTES_MAX, floats: bool = True) -> Json:
    """Parse bytes that must already be their own canonical form.

    Errors: as `parse_strict`, and NotCanonical when writing the value again
            gives other bytes.
    """
    value = parse_strict(data, limit=limit)
    if canonical_bytes(value, floats=floats) != data:
        raise NotCanonical("expected canonical JSON, found another spelling of the same value")
    return value


def _check(value: Json, *, floats: bool, depth: int) -> bool:
    """Refuse what canonical JSON cannot hold; True when keys are ASCII and there is no float."""
    kind = type(value)
    if kind is str:
        _check_text(value)
        return True
    if kind is int:
        if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
            raise CanonicalInvalid(f"expected an integer within 2^53-1, found {value}")
        return True
    if value is None or kind is bool:
        return True
    if kind is float:
        return _check_float(value, floats=floats)
    if depth > DEPTH_MAX:
        raise CanonicalInvalid(f"expected nesting of at most {DEPTH_MAX}, found more")
    if kind is dict:
        is_simple = True
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalInvalid(f"expected text as key, found {key!r}")
            _check_text(key)
            is_simple &= key.isascii() & _check(item, floats=floats, depth=depth + 1)
        return is_simple
    if kind is list or kind is tuple:
        is_simple = True
        for item in value:
            is_simple &= _check(item, floats=floats, depth=depth + 1)
        return is_simple
    if isinstance(value, str | int):  # An enum member is the text or number it stands for.
        return _check(str(value) if isinstance(value, str) else int(value), floats=floats, depth=depth)
    raise CanonicalInvalid(f"expected a JSON value, found {kind.__name__}")


def _check_float(value: float, *, floats: bool) -> bool:
    if not floats or not math.isfinite(value):
        raise CanonicalInvalid(f"expected no float here, found {value!r}")
    if value.is_integer() and _INTEGER_MAX < abs(value) < _POINTLESS_MAX:
        # It would be written as an integer that is too large to be read back.
        raise CanonicalInvalid(f"expected a whole number within 2^53-1, found {value!r}")
    return False


def _check_text(text: str) -> None:
    if not text.isascii() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        raise CanonicalInvalid("expected well-formed text, found a lone surrogate")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result: dict[str, Json] = {}
    for key, value in pairs:
        if key in result:
            raise DuplicateKey(f"expected each key once, found {key!r} twice", key=key)
        result[key] = value
    return result


def _constant(name: str) -> Json:
    raise CanonicalInvalid(f"expected a finite number, found {name}")
