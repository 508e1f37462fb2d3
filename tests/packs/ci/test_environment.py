"""The environment: an allow-list, an honest fingerprint, and imports that stay in the copy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sterling.packs.ci.environment import (
    Environment,
    VariableMissing,
    ask_interpreter,
    child_variables,
    interpreter_of,
    led_to_copy,
    lock_hash,
    measure_environment,
)


def measure(tmp_path: Path, argv: tuple[str, ...], named: tuple[str, ...] = ()) -> Environment:
    variables = child_variables(named, home=tmp_path, temporary=tmp_path)
    return measure_environment(argv, variables=variables, named=named, lock="", scratch=tmp_path / "ask")


def test_only_listed_variables_reach_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("WANTED", "yes")

    variables = child_variables(["WANTED"], home=tmp_path / "h", temporary=tmp_path / "t")

    assert set(variables) == {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "PYTHONHASHSEED", "WANTED"}
    assert (variables["TZ"], variables["HOME"]) == ("UTC", str(tmp_path / "h"))


def test_a_variable_that_is_not_set_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(VariableMissing) as caught:
        child_variables(["NOT_SET_ANYWHERE"], home=tmp_path, temporary=tmp_path)

    assert caught.value.exit == 2


def test_values_enter_by_hash_and_secrets_by_presence_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "fast")
    monkeypatch.setenv("API_TOKEN", "hunter2")

    found = measure(tmp_path, ("nothing",), ("API_TOKEN", "MODE"))
    monkeypatch.setenv("API_TOKEN", "other")
    same = measure(tmp_path, ("nothing",), ("API_TOKEN", "MODE"))
    monkeypatch.setenv("MODE", "slow")
    other = measure(tmp_path, ("nothing",), ("API_TOKEN", "MODE"))

    assert found.variables["API_TOKEN"] == "(present)"
    assert found.variables["MODE"].startswith("sha256:")
    assert "hunter2" not in str(found.as_json())
    assert found.fingerprint == same.fingerprint != other.fingerprint


def test_the_interpreter_answers_for_itself(tmp_path: Path) -> None:
    found = measure(tmp_path, (sys.executable, "-m", "pytest"))

    assert found.version == ".".join(str(part) for part in sys.version_info[:3])
    assert found.has_plugin("pytest_jsonreport")
    assert "pytest" in found.as_json()["distributions"]


def test_one_upgraded_package_changes_the_fingerprint(tmp_path: Path) -> None:
    found = measure(tmp_path, (sys.executable,))
    packages = {**found.answer["distributions"], "pytest": "0.0.1"}

    upgraded = replace(found, answer={**found.answer, "distributions": packages})

    assert upgraded.fingerprint != found.fingerprint


def test_a_module_of_the_project_cannot_answer_for_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "platform.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)

    assert measure(tmp_path, (sys.executable,)).version


@pytest.mark.parametrize(
    "script", ["exit 3", "echo '{not json'", "echo '[1]'", "sleep 0", "printf '\\377\\376'"]
)
def test_an_interpreter_that_does_not_answer_is_unknown(tmp_path: Path, script: str) -> None:
    program = tmp_path / "python3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)

    answer = ask_interpreter(str(program), variables={"PATH": "/usr/bin:/bin"}, scratch=tmp_path / "ask")

    assert answer == {}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!{python}\n", "{python}"),
        ("#!/usr/bin/env python3\n", "{folder}/python3"),
        ("#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\n", "{python}"),
        ("#!/bin/sh\necho\n", ""),
        ("\x7fELF", ""),
        ("", ""),
    ],
)
def test_a_script_names_its_interpreter(tmp_path: Path, first: str, expected: str) -> None:
    python = tmp_path / "python3"
    python.write_text("")
    python.chmod(0o755)
    script = tmp_path / "pytest"
    script.write_text(first.format(python=python))
    script.chmod(0o755)

    found = interpreter_of(["pytest", "-q"], path=str(tmp_path))

    assert found == expected.format(python=python, folder=tmp_path)


def test_a_program_that_does_not_exist_has_no_interpreter(tmp_path: Path) -> None:
    assert interpreter_of(["nope"], path=str(tmp_path)) == ""
    assert interpreter_of([str(tmp_path / "nope")], path="") == ""


def test_an_installed_checkout_is_led_to_the_copy(tmp_path: Path) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    for folder in (root / "src", copy / "src", root / ".venv/lib/site-packages"):
        folder.mkdir(parents=True)

    led = led_to_copy(
        [str(root / "src"), str(root / ".venv/lib/site-packages"), "/usr/lib/python3", str(root)],
        root=root,
        copy=copy,
    )

    assert led == (str(copy / "src"), str(copy))


def test_the_lock_hash_sees_every_lock_file_and_nothing_else(tmp_path: Path) -> None:
    assert lock_hash(tmp_path) == ""
    (tmp_path / "uv.lock").write_text("a")
    first = lock_hash(tmp_path)
    (tmp_path / "other.txt").write_text("x")

    assert lock_hash(tmp_path) == first != ""
    (tmp_path / "requirements.txt").write_text("b")
    assert lock_hash(tmp_path) != first
