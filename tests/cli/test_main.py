"""The one entry point: help without weight, errors with a code and a next step, exits as documented."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import sterling
from sterling.cli import plain
from sterling.cli.commands import root
from sterling.cli.table import COMMANDS
from sterling.kernel.contracts import load_contracts
from sterling.kernel.errors import all_errors


def sterling_command(*argv: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    extra = ["--home", str(home)] if home else []
    return subprocess.run(
        [sys.executable, "-m", "sterling", *argv, *extra], capture_output=True, text=True, check=False
    )


def test_help_and_version_import_nothing_heavy() -> None:
    program = (
        "import sys\nfrom sterling.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('LOADED', sorted(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = done.stdout[done.stdout.index("LOADED") :]
    for heavy in ("click", "pydantic", "duckdb", "numpy", "rich", "pyarrow", "cryptography", "sqlite3"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_every_command_loads_has_help_and_asks_for_nothing_heavy(row: object) -> None:
    name = row.name  # type: ignore[attr-defined]
    program = (
        "import sys\nfrom sterling.cli.main import main\n"
        f"try: main([{name!r}, '--help'])\nexcept SystemExit as ended: print('EXIT', ended.code)\n"
        "print('LOADED', sorted(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "EXIT 0" in done.stdout and "Usage: " in done.stdout
    loaded = done.stdout[done.stdout.index("LOADED") :]
    for heavy in ("pydantic", "duckdb", "numpy", "pyarrow", "tesserocr", "PIL"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_every_contract_of_the_table_exists(row: object) -> None:
    known = set(load_contracts().names())

    assert set(row.contracts) <= known  # type: ignore[attr-defined]


def test_an_unknown_command_names_the_nearest_and_exits_2() -> None:
    done = sterling_command("verfy")

    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("cli.unknown-command: ") and "verify" in done.stderr
    assert done.stderr.splitlines()[1].startswith("next: ")


def test_an_unknown_option_names_the_nearest_and_exits_2() -> None:
    done = sterling_command("verify", "--blob")

    assert done.returncode == 2
    assert done.stderr.startswith("cli.unknown-option: ") and "--blobs" in done.stderr


def test_an_error_under_json_is_one_object_on_standard_output(tmp_path: Path) -> None:
    done = sterling_command("status", "--json", home=tmp_path / "nothing")

    assert done.returncode == 2
    error = json.loads(done.stdout)
    assert list(error) == ["error"] and error["error"]["code"] == "home.missing"
    load_contracts().validate("error@1.0", error)


def test_global_options_work_before_and_after_the_noun(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    made = sterling_command("--home", home, "--json", "init")
    assert made.returncode == 0 and json.loads(made.stdout)["contract"] == "home.made@2.0"

    before = sterling_command("--home", home, "--json", "ledger", "head")
    after = sterling_command("ledger", "head", "--home", home, "--json")

    assert json.loads(before.stdout) == json.loads(after.stdout)


def test_init_twice_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sterling_command("init", home=home)
    before = (home / "ledger.db").read_bytes()

    again = sterling_command("init", home=home)

    assert again.returncode == 2 and again.stderr.startswith("home.taken")
    assert (home / "ledger.db").read_bytes() == before


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sterling_command("init", home=home)

    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m sterling ledger show --home {home} | head -0; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "0" and "Traceback" not in done.stderr


def test_a_defect_of_ours_is_exit_70_with_a_report(tmp_path: Path) -> None:
    program = (
        "import sterling.cli.init as init, sterling.cli.main as main, sterling.kernel.home as home\n"
        "def broken(*a, **k): raise RuntimeError('planted')\n"
        "home.init_home = broken\n"
        f"main.main(['init', '--home', {str(tmp_path / 'home')!r}])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )

    assert done.returncode == 70
    assert done.stderr.startswith("internal.defect: RuntimeError: planted")
    report = next(tmp_path.glob("sterling-defect-*.txt"))
    assert "planted" in report.read_text(encoding="utf-8")


def all_modules() -> list[str]:
    return [
        module.name
        for module in pkgutil.walk_packages(sterling.__path__, "sterling.")
        if ".plugins" not in module.name and module.name not in ("sterling.__main__",)
    ]


def test_every_code_has_a_hint_whose_command_exists() -> None:
    for name in all_modules():
        importlib.import_module(name)
    context = click.Context(root)
    bad = []
    for code, error in all_errors().items():
        if not error.__module__.startswith("sterling."):
            continue  # Declared by a test.
        named = re.findall(r"sterling ((?:[a-z][a-z-]*(?: |$|(?=`)))+)", error.hint)
        if not error.hint:
            bad.append(f"{code}: no hint")
        for words in named:
            command: click.Command | None = root
            for word in words.split():
                if not isinstance(command, click.Group):
                    break
                command = command.get_command(context, word)
                if command is None:
                    bad.append(f"{code}: `sterling {words.strip()}`")
                    break

    assert bad == []


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b]0;title\x07",
        "\x1b[2J",
        "\x1b]52;c;aGk=\x07",
        "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\",
        "a\rb",
        "\u202eevil\u2066",
        "\U000e0041tag",
        "\x9b31m",
        "\u2028line",
    ],
)
def test_hostile_text_is_shown_and_never_obeyed(hostile: str) -> None:
    shown = plain.text(hostile)

    assert all(letter.isprintable() for letter in shown)
    assert "\\" in shown


def test_plain_text_stays_as_it_is_and_long_text_is_cut_with_a_count() -> None:
    assert plain.text("Zürich, 日本 ✓ 12.50") == "Zürich, 日本 ✓ 12.50"
    assert plain.text("x" * 30, width=10) == "xxxxxxxxxx… (+20)"
