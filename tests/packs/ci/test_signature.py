"""Signatures: the same failure elsewhere has the same one, another failure has another."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterling.packs.ci.signature import Failure, cause_of, normalise, read_failure, signature_of

LONG = """self = <test_a.TestK object at 0x7fccd06408d0>

    def test_err(self):
>       helper("k")

tests/test_a.py:9: 
_ _ _ _ _ _ _ _ _

x = 'k'

    def helper(x):
>       return {}[x]
E       KeyError: 'k'

tests/test_a.py:6: KeyError"""  # noqa: W291 - as pytest prints it

SYNTAX = """/usr/lib/python3/site-packages/_pytest/python.py:528: in importtestmodule
    mod = import_path(
E     File "/tmp/x/tests/test_syntax.py", line 1
E       def test_x(:
E                  ^
E   SyntaxError: invalid syntax"""


def test_class_message_and_innermost_frame_are_read_from_a_long_traceback() -> None:
    assert read_failure(LONG) == Failure("KeyError", "'k'", "tests/test_a.py", "helper")


def test_short_and_long_tracebacks_of_one_failure_have_one_signature() -> None:
    short = (
        "tests/test_a.py:9: in test_err\n    helper()\ntests/test_a.py:6: in helper\n    x\nE   KeyError: 'k'"
    )

    assert signature_of(read_failure(short)) == signature_of(read_failure(LONG))


def test_a_plain_traceback_is_read_too() -> None:
    text = (
        'Traceback (most recent call last):\n  File "pkg/a.py", line 3, in go\n    boom()\n'
        '  File "/usr/lib/python3/x.py", line 1, in boom\n    raise\nValueError: bad 7'
    )

    assert read_failure(text) == Failure("ValueError", "bad 7", "pkg/a.py", "go")


def test_a_syntax_error_names_the_file_and_the_line_of_source() -> None:
    failure = read_failure(SYNTAX)

    assert (failure.exception, failure.file, failure.source) == (
        "SyntaxError",
        "test_syntax.py",
        "def test_x(:",
    )
    assert cause_of(failure) == "SyntaxError in test_syntax.py: def test_x(:"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("No module named 'a.b'", "missing-module a.b"),
        ("cannot import name 'f' from 'pkg.mod' (/x/pkg/mod.py)", "missing-name f in pkg.mod"),
        ("division by zero", "ZeroDivisionError in t.py::f"),
    ],
)
def test_causes_name_what_is_missing(message: str, cause: str) -> None:
    assert cause_of(Failure("ZeroDivisionError", message, "t.py", "f")) == cause


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m #x1B[1mbold", "red bold"),
        ("see /tmp/pytest-of-ann/pytest-3/x0/data.csv now", "see <path>/data.csv now"),
        ("wrote /tmp/tmpab12cd3f", "wrote <path>"),
        ("at 2026-01-02T03:04:05.123Z", "at <time>"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id <uuid>"),
        ("<X object at 0x7fff12>", "<X object at <address>>"),
        ("localhost:8080 refused", "localhost:<port> refused"),
        ("pid 4312 gone", "pid <pid> gone"),
        ("line 12, in f", "line <line>, in f"),
        ("took 3.52s of 10 seconds", "took <duration> of <duration>"),
        ("assert 1 == -2.5", "assert <number> == <number>"),
        ("<Response [404]>", "<Response [404]>"),
        ("HTTP 503, exit code 3, signal 11", "HTTP 503, exit code 3, signal 11"),
        ("KeyError: '404'", "KeyError: '404'"),
        ("test_2 of v2.3.4 in py311", "test_2 of v2.3.4 in py311"),
    ],
)
def test_what_changes_from_run_to_run_is_forgotten_and_the_rest_is_kept(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)

    assert normalise(once) == once


@given(
    st.lists(
        st.sampled_from(["\x1b[", "[0m", "1m", "/tmp/", "a", "12", ":", ".", " ", "0x", "line ", "s", "-"])
    )
)
@settings(max_examples=300, deadline=None)
def test_normalising_pieces_that_combine_is_idempotent_too(pieces: list[str]) -> None:
    once = normalise("".join(pieces))

    assert normalise(once) == once


def test_a_message_of_megabytes_is_signed_by_both_of_its_ends() -> None:
    long = "x" * 5_000_000

    signatures = {signature_of(read_failure(first + long + last)) for first in "ab" for last in "cd"}

    assert len(signatures) == 4


_FRAMES = [("shop/cart.py", "total"), ("shop/tax.py", "rate"), ("lib/io/read.py", "load")]
_MESSAGES = [
    ("KeyError", "'{word}'"),
    ("ModuleNotFoundError", "No module named '{word}'"),
    ("ConnectionError", "GET http://localhost:{port}/{word} failed after {n}.5s"),
    ("AssertionError", "assert {n} == 3\n +  where {n} = len(<{word} object at 0x{hex}>)"),
    ("OSError", "[Errno 2] No such file: '/tmp/tmp{hex}ab/{word}.csv'"),
    ("ValueError", "row {n} of {word} at 2026-03-0{d}T10:1{d}:00 is bad"),
]


def _text(rng: random.Random, frame: tuple[str, str], message: tuple[str, str], word: str) -> str:
    filled = message[1].format(
        word=word,
        port=rng.randint(1024, 65535),
        n=rng.randint(4, 99),
        hex=f"{rng.getrandbits(20):05x}",
        d=rng.randint(1, 9),
    )
    lines = "\n".join(f"E       {line}" for line in f"{message[0]}: {filled}".split("\n"))
    return f"    def {frame[1]}():\n>       go()\n{lines}\n\n{frame[0]}:{rng.randint(1, 900)}: {message[0]}"


def test_two_hundred_mutated_pairs_agree_and_two_hundred_look_alikes_do_not() -> None:
    rng = random.Random(11)
    same = other = 0
    for _ in range(200):
        frame, message = rng.choice(_FRAMES), rng.choice(_MESSAGES)
        word, different = rng.sample(["alpha", "beta", "gamma", "delta_2"], 2)
        first = signature_of(read_failure(_text(rng, frame, message, word)))
        same += first == signature_of(read_failure(_text(rng, frame, message, word)))
        other += first != signature_of(read_failure(_text(rng, frame, message, different)))

    assert same >= 190
    assert other >= 190
