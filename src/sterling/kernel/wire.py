"""Batches and answers as bytes, so that one process can write for another.

A batch is plain values: dataclasses of texts, numbers and lists. Each dataclass
is written as its name and its fields, and only names of the list below are read
back, so a file in the queue can say nothing else.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
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
_CLASSES = {each.__name__: each for each in _KINDS}


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
        answers[submission] = _error(said) if isinstance(said, dict) and "code" in said else _value(said)
    return answers


def _error(said: dict[str, Any]) -> SterlingError:
    kind = all_errors().get(said["code"], WireInvalid)
    problem = kind.__new__(kind)
    SterlingError.__init__(problem, said["message"], hint=said["hint"], **said["details"])
    return problem


def _plain(value: Any) -> Any:
    """JSON of a value. A dataclass is `{"is": name, ...}`, a set or tuple a list, bytes hex."""
    if is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        assert name in _CLASSES, f"{name} is not known to the wire"
        # A payload is JSON already and may hold any key, so it is carried as it is.
        return {"is": name} | {
            each.name: getattr(value, each.name)
            if each.name == "payload"
            else _plain(getattr(value, each.name))
            for each in fields(value)
        }
    if isinstance(value, bytes):
        return {"is": "bytes", "hex": value.hex()}
    if isinstance(value, tuple):
        return {"is": "tuple", "of": [_plain(item) for item in value]}
    if isinstance(value, set):
        return {"is": "set", "of": [_plain(item) for item in sorted(value)]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {"is": "dict", "of": {name: _plain(item) for name, item in value.items()}}
    return value


def _value(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_value(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    name = plain["is"]
    if name == "bytes":
        return bytes.fromhex(plain["hex"])
    if name == "tuple":
        return tuple(_value(item) for item in plain["of"])
    if name == "set":
        return {_value(item) for item in plain["of"]}
    if name == "dict":
        return {key: _value(item) for key, item in plain["of"].items()}
    kind = _CLASSES[name]
    given = {key: item if key == "payload" else _value(item) for key, item in plain.items() if key != "is"}
    return kind(**given)
