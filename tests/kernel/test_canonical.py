"""Canonical bytes against RFC 8785's own vectors, and everything the parser must refuse."""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.kernel import standalone_verify
from sterling.kernel.canonical import (
    CanonicalInvalid,
    DuplicateKey,
    Json,
    NotCanonical,
    TooLarge,
    canonical_bytes,
    parse_canonical,
    parse_strict,
)
from sterling.kernel.verify_log import read_canonical

# RFC 8785, appendix B: the bits of a double and how ECMAScript writes it.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


def looks_like_a_large_integer(number: float) -> bool:
    """Such a float is written without a point, and no integer beyond 2^53 is read back."""
    return number.is_integer() and 2**53 <= abs(number) < 1e21


values: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: not looks_like_a_large_integer(number)
    )
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("bits", "text"), sorted(NUMBERS.items()))
def test_numbers_are_written_as_the_standard_lists_them(bits: str, text: str) -> None:
    number = struct.unpack(">d", bytes.fromhex(bits))[0]

    assert standalone_verify.number_text(number) == text
    if looks_like_a_large_integer(number):
        with pytest.raises(CanonicalInvalid):  # It could be written, but no strict parser would read it back.
            canonical_bytes([number], floats=True)
    else:
        assert canonical_bytes([number], floats=True) == f"[{text}]".encode()


def test_the_standards_own_document_gives_its_bytes() -> None:
    document = json.loads(
        '{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        '"string": "\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/",'
        '"literals": [null, true, false]}'
    )

    assert (
        canonical_bytes(document, floats=True)
        == (
            '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
            '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
        ).encode()
    )


def drawn(chance: random.Random, depth: int = 0) -> Json:
    """Any value that can be stored, the odd ones often."""
    kind = chance.randrange(6 if depth < 5 else 4)
    if kind == 0:
        return chance.choice([None, True, False, 0, -1, 2**53 - 1, 1 - 2**53, 5e-324, 1e21, 1e-7, 0.1, -0.0])
    if kind == 1:
        return chance.randrange(-(10 ** chance.randrange(1, 16)), 10 ** chance.randrange(1, 16))
    if kind == 2:
        number = struct.unpack(">d", chance.randbytes(8))[0]
        return number if math.isfinite(number) and not looks_like_a_large_integer(number) else 1.5
    if kind == 3:
        return text_of(chance)
    if kind == 4:
        return [drawn(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {text_of(chance): drawn(chance, depth + 1) for _ in range(chance.randrange(5))}


def text_of(chance: random.Random) -> str:
    top = chance.choice([0x20, 0x80, 0x2100, 0xD800, 0x110000])
    points = (chance.randrange(top) for _ in range(chance.randrange(9)))
    return "".join(chr(point) for point in points if not 0xD800 <= point <= 0xDFFF)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node as the other implementation")
def test_ten_thousand_values_are_the_same_bytes_in_javascript() -> None:
    chance = random.Random(20)
    values = [drawn(chance) for _ in range(10_000)]
    lines = "".join(json.dumps(value) + "\n" for value in values)  # Escaped, and in the order drawn.

    script = Path(__file__).with_name("canonical.mjs")
    done = subprocess.run(["node", script], input=lines.encode(), capture_output=True, check=True)

    theirs = done.stdout.removesuffix(b"\n").split(b"\n")
    assert len(theirs) == len(values) and len(set(theirs)) > 5_000
    for value, expected in zip(values, theirs, strict=True):
        assert canonical_bytes(value, floats=True) == expected
        assert standalone_verify.canonical(value).encode() == expected
        assert len(expected) > 64 * 1024 or parse_canonical(expected) == read_canonical(expected)


def test_keys_are_ordered_by_utf_16_units_and_not_by_code_points() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]

    written = json.loads(canonical_bytes(dict.fromkeys(keys, 0)))

    assert list(written) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@settings(max_examples=400, deadline=None)
@given(values)
def test_every_writer_of_ours_gives_the_same_bytes_as_the_library(value: Json) -> None:
    expected = rfc8785.dumps(value)

    assert canonical_bytes(value, floats=True) == expected
    assert standalone_verify.canonical(value).encode() == expected
    assert parse_canonical(expected) == read_canonical(expected) == value


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.integers(-5, 5) | st.text(max_size=4), max_size=4), st.data())
def test_the_fast_reader_accepts_exactly_what_the_strict_one_accepts(
    value: Json, data: st.DataObject
) -> None:
    text = json.dumps(
        value,
        ensure_ascii=data.draw(st.booleans()),
        sort_keys=data.draw(st.booleans()),
        separators=data.draw(st.sampled_from([(",", ":"), (", ", ": ")])),
    )
    raw = text.encode("utf-8", "surrogatepass")

    assert outcome(read_canonical, raw) == outcome(parse_canonical, raw)


def outcome(read: object, raw: bytes) -> object:
    try:
        return read(raw)  # type: ignore[operator]
    except (CanonicalInvalid, NotCanonical, DuplicateKey) as problem:
        return problem.code


@pytest.mark.parametrize(
    "other",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u00e9"}',
        b'{"a":"\\ud83d\\ude00"}',
        b'{"\\u0061":1}',
        b'{"a":"\\u000A"}',
    ],
)
@pytest.mark.parametrize("read", [parse_canonical, read_canonical])
def test_another_spelling_of_the_same_value_is_refused(read: object, other: bytes) -> None:
    assert parse_strict(other) is not None

    assert outcome(read, other) == "canonical.not-canonical"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "canonical.invalid"),
        (b"\xef\xbb\xbf{}", "canonical.invalid"),
        (b"\xff\xfe", "canonical.invalid"),
        (b'{"a":1', "canonical.invalid"),
        (b'{"a":1}{"a":1}', "canonical.invalid"),
        (b'{"a":NaN}', "canonical.invalid"),
        (b'{"a":Infinity}', "canonical.invalid"),
        (b'{"a":1e999}', "canonical.invalid"),
        (b'{"a":9007199254740992}', "canonical.invalid"),
        (b'{"a":-9007199254740993}', "canonical.invalid"),
        (b'{"a":"\\ud800"}', "canonical.invalid"),
        (b'{"\\udfff":1}', "canonical.invalid"),
        (b'{"a":"\x00"}', "canonical.invalid"),
        (b"[" * 70 + b"]" * 70, "canonical.invalid"),
        (b'{"a":1,"a":1}', "canonical.duplicate-key"),
        (b'{"a":1,"\\u0061":2}', "canonical.duplicate-key"),
    ],
)
@pytest.mark.parametrize("read", [parse_canonical, read_canonical])
def test_what_canonical_json_cannot_hold_is_refused_by_name(read: object, raw: bytes, code: str) -> None:
    assert outcome(read, raw) == code


def test_strings_keep_their_bytes_however_they_are_composed() -> None:
    composed, decomposed = canonical_bytes("é"), canonical_bytes("e\u0301")

    assert composed != decomposed
    assert parse_canonical(composed) == "é" and parse_canonical(decomposed) == "e\u0301"


@pytest.mark.parametrize(
    "value", [1.5, {"a": [0.1]}, [float("nan")], {1: 2}, {"a": b"x"}, object(), "\ud800"]
)
def test_a_value_outside_canonical_json_is_refused(value: Json) -> None:
    with pytest.raises(CanonicalInvalid):
        canonical_bytes(value)


def test_more_bytes_than_the_place_allows_are_refused() -> None:
    with pytest.raises(TooLarge) as caught:
        parse_canonical(b'"' + b"a" * 64 * 1024 + b'"')

    assert caught.value.details["limit"] == 64 * 1024
