"""Batches and answers as bytes, so that one process can write for another.

A batch is plain values: dataclasses of texts, numbers and lists. Each dataclass
is written as its name and its fields, and only names of the list below are read
back, so a file in the queue can say nothing else.
"""

from __future__ import annotations

import json
from dataclasses import fields
from enum import StrEnum
from types import UnionType
from typing import Any, get_args

from sterling.kernel import batch as batches
from sterling.kernel.append import Receipt
from sterling.kernel.batch import Actor, Batch, Draft
from sterling.kernel.canonical import TooLarge
from sterling.kernel.errors import SterlingError, all_errors
from sterling.kernel.lease_table import LeaseRow

__all__ = [
    "REQUEST_BYTES_MAX",
    "Answer",
    "WireInvalid",
    "decode",
    "decode_answers",
    "decode_error",
    "encode",
    "encode_answers",
]

REQUEST_BYTES_MAX = 8 * 1024 * 1024
Answer = Receipt | SterlingError


class WireInvalid(SterlingError):
    """Bytes that another process left are no batches."""

    code = "ledger.request-invalid"
    hint = "Stop the program that writes into the home's `run` folder, then run `sterling verify`."


def _named(union: Any) -> list[type]:
    """The classes of a union, or the one class."""
    return list(get_args(union)) if isinstance(union, UnionType) else [union]


_KINDS = [Actor, Batch, Draft, Receipt, LeaseRow, *_named(batches.Precondition), *_named(batches.Operation)]
_KINDS = [Actor, Batch, Draft, Receipt, LeaseRow, *_named(batches.Precondition), *_named(batches.Operation)]
_CLASSES = {each.__name__: each for each in _KINDS}
_FIELDS = {each: tuple(field.name for field in fields(each)) for each in _KINDS}
_SCALARS = frozenset((str, int, bool, float, type(None)))
_SEQUENCES: dict[str, Any] = {"tuple": tuple, "set": set}
_ENUMS = {
    name: each for name, each in vars(batches).items() if isinstance(each, type) and issubclass(each, StrEnum)
}


def encode(value: Any) -> bytes:
    """Bytes of a list of batches. Errors: TooLarge."""
    data = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    if len(data) > REQUEST_BYTES_MAX:
        raise TooLarge(f"expected a batch of at most {REQUEST_BYTES_MAX} bytes, found {len(data)}")
    return data


def decode(data: bytes) -> Any:
    """What `encode` was given. Errors: WireInvalid."""
    try:
        return _value(json.loads(data.decode("utf-8", "surrogatepass")))
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        raise WireInvalid(f"expected batches, found other bytes: {problem}") from problem


def encode_answers(answers: dict[str, Answer]) -> bytes:
    """The answers to batches, by submission id."""
    said = {
        submission: answer.as_json() if isinstance(answer, SterlingError) else _plain(answer)
        for submission, answer in answers.items()
    }
    return json.dumps(said).encode("ascii")


def decode_answers(data: bytes) -> dict[str, Answer]:
    """What `encode_answers` was given; an error keeps its class, words and details."""
    answers: dict[str, Answer] = {}
    for submission, said in json.loads(data).items():
        answers[submission] = (
            decode_error(said) if isinstance(said, dict) and "code" in said else _value(said)
        )
    return answers


def decode_error(said: dict[str, Any]) -> SterlingError:
    """The error of this code and message; a hint and details that it was not given are its class's own."""
    kind = all_errors().get(said["code"], WireInvalid)
    problem = kind.__new__(kind)
    SterlingError.__init__(problem, said["message"], hint=said.get("hint"), **said.get("details", {}))
    return problem


def _plain(value: Any) -> Any:
    """JSON of a value: a dataclass is its name and its fields, other than plain types say what they are."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    names = _FIELDS.get(kind)
    if names is not None:
        said: dict[str, Any] = {"is": kind.__name__}
        for name in names:
            each = getattr(value, name)
            # A payload is JSON already and may hold any key, so it is carried as it is.
            said[name] = each if name == "payload" or type(each) in _SCALARS else _plain(each)
        return said
    if kind is list:
        return [_plain(item) for item in value]
    if kind is bytes:
        return {"is": "bytes", "of": value.hex()}
    if kind is dict:
        return {"is": "dict", "of": {name: _plain(item) for name, item in value.items()}}
    if kind.__name__ in _ENUMS:
        return {"is": kind.__name__, "of": value.value}
    assert kind in (tuple, set), f"{kind} is not known to the wire"
    return {"is": kind.__name__, "of": [_plain(item) for item in value]}


def _value(plain: Any) -> Any:
    if type(plain) in _SCALARS:
        return plain
    if type(plain) is list:
        return [_value(item) for item in plain]
    name = plain.pop("is")
    kind = _CLASSES.get(name)
    if kind is not None:
        for key, item in plain.items():
            if key != "payload" and type(item) not in _SCALARS:
                plain[key] = _value(item)
        return kind(**plain)
    items = plain["of"]
    if name == "bytes":
        return bytes.fromhex(items)
    if name == "dict":
        return {key: _value(item) for key, item in items.items()}
    if name in _ENUMS:
        return _ENUMS[name](items)
    return _SEQUENCES[name](_value(item) for item in items)
