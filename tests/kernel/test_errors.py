"""Errors: one class a code, what a program is told, and what never leaves."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import sterling.kernel
from sterling.kernel.errors import SterlingError, all_errors, scrub


def kernel_errors() -> list[type[SterlingError]]:
    for module in pkgutil.iter_modules(sterling.kernel.__path__):
        importlib.import_module(f"sterling.kernel.{module.name}")
    return [error for error in all_errors().values() if error.__module__.startswith("sterling.kernel.")]


def test_a_code_belongs_to_one_class() -> None:
    class Planted(SterlingError):
        code = "planted.only-once"
        hint = "`sterling status`"

    with pytest.raises(AssertionError, match=r"planted\.only-once belongs to Planted already"):
        type("Second", (SterlingError,), {"code": "planted.only-once"})
    assert all_errors()["planted.only-once"] is Planted


@pytest.mark.parametrize("code", ["", "nodot", "Upper.case", "area.", ".what", "area.what happened", "a.b.c"])
def test_a_code_is_area_and_what_happened(code: str) -> None:
    with pytest.raises(AssertionError):
        type("Odd", (SterlingError,), {"code": code})


def test_every_kernel_error_has_a_hint_that_names_a_command_and_a_known_exit() -> None:
    errors = kernel_errors()

    assert len(errors) > 40
    assert [
        error.code for error in errors if "sterling" not in error.hint and "--home" not in error.hint
    ] == []
    assert {error.exit for error in errors} <= {1, 2, 3, 4}
    assert {error.exit for error in errors if error.code.startswith("integrity.")} == {3, 4}


def test_every_kernel_error_can_be_raised_and_says_what_it_is() -> None:
    for error in kernel_errors():
        problem = error.__new__(error)
        SterlingError.__init__(problem, "expected one thing, found another", where="here")
        with pytest.raises(error) as caught:
            raise problem

        assert caught.value.as_json()["code"] == error.code
        assert error.__doc__


def test_details_become_json_scalars_without_secrets() -> None:
    given = {
        "index": 3,
        "nothing": None,
        "yes": True,
        "hash": b"\x01\x02",
        "names": ["a", 2],
        "inner": {"password": "hunter2", "api_token": "t0ken"},
        "private_key": "k3y",
        "long": "x" * 5000,
    }

    clean = scrub(given)

    assert clean["index"] == 3 and clean["nothing"] is None and clean["yes"] is True
    assert clean["hash"] == "0102" and clean["names"] == ["a", "2"]
    assert len(clean["long"]) == 2000
    assert not {"hunter2", "t0ken", "k3y"} & set(str(clean).replace("'", " ").split())


def test_a_hint_can_be_given_where_the_error_is_raised() -> None:
    problem = SterlingError("expected, found", hint="`sterling verify`", index=1)

    assert problem.as_json() == {
        "code": "",
        "message": "expected, found",
        "hint": "`sterling verify`",
        "details": {"index": 1},
    }
