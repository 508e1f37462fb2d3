"""While the contract lock is broken every command refuses but those that show what is wrong or mend it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from sterling.cli.commands import root as commands
from sterling.cli.main import main
from sterling.cli.table import COMMANDS, MENDING
from sterling.kernel import contracts, shipped
from sterling.kernel.contract_lock import write
from sterling.kernel.contracts import load_contracts, reload_contracts, schema_files
from sterling.kernel.home import init_home, open_home
from sterling.kernel.shipped import package_root
from sterling.runtime import plugin_lock

NAME = "kernel/schemas/error@1.0.json"
VALUES = {"integer": "1", "float": "1", "integer range": "1", "boolean": "true"}


def leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from leaves(below, (*words, name))
        if not command.invoke_without_command:
            return
    yield words, command


LEAVES = list(leaves(commands, ()))


def arguments(command: click.Command) -> list[str]:
    """The least that the command asks for."""
    given = []
    for parameter in command.params:
        if not parameter.required:
            continue
        if isinstance(parameter, click.Option) and parameter.is_flag:
            given.append(parameter.opts[0])
            continue
        kind = parameter.type
        value = next(iter(kind.choices)) if isinstance(kind, click.Choice) else VALUES.get(kind.name, "x")
        if isinstance(kind, click.Path):
            value = "." if kind.dir_okay else "file"
        given += [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]
    return given


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schema of this installation; its lock agrees until the file is edited."""
    root = tmp_path / "package"
    for path in schema_files(package_root()):
        place = root / Path(path).relative_to(package_root())
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    write(load_contracts(root), tmp_path / "contracts.lock")
    shutil.copy(plugin_lock.lock_path(), tmp_path / "plugins.lock")
    for module in (contracts, shipped):
        monkeypatch.setattr(module, "package_root", lambda: root)
    for part in (shipped, plugin_lock):
        monkeypatch.setattr(part, "shipped", lambda name: tmp_path / name)
    return root / NAME


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_home(tmp_path / "home").close()
    return tmp_path / "home"


def edit(schema: Path, change: dict[str, Any] | None = None) -> None:
    document = json.loads(schema.read_bytes()) | (change or {"title": "Another title"})
    schema.write_text(json.dumps(document), encoding="utf-8")
    reload_contracts()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"])
    out = capsys.readouterr().out
    return int(ended.value.code or 0), json.loads(out) if out.startswith("{") else {}


@pytest.mark.parametrize(("words", "command"), LEAVES, ids=[" ".join(words) for words, _ in LEAVES])
def test_every_other_command_refuses_and_leaves_the_home_alone(
    words: tuple[str, ...],
    command: click.Command,
    schema: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    edit(schema)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with open_home(home, read_only=True) as opened:
        head = opened.ledger.head()

    status, answer = call(capsys, *words, *arguments(command), "--home", str(home))

    error = answer.get("error", {})
    if words[0] in MENDING:
        assert error.get("code") != "contracts.lock-mismatch"
        return
    assert (status, error["code"]) == (1, "contracts.lock-mismatch")
    assert (error["details"]["file"], error["details"]["pointer"]) == (NAME, "/title")
    assert (error["details"]["before"], error["details"]["after"]) == ('"Error"', '"Another title"')
    assert "sterling contracts repair" in error["hint"]
    with open_home(home, read_only=True) as opened:
        assert opened.ledger.head() == head


def test_the_list_of_commands_is_whole() -> None:
    assert {words[0] for words, _ in LEAVES} == {row.name for row in COMMANDS}


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_help_is_given_all_the_same(row: Any, schema: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(schema)

    with pytest.raises(SystemExit) as ended:
        main([row.name, "--help"])

    assert (ended.value.code, "Usage:" in capsys.readouterr().out) == (0, True)


def test_a_missing_lock_refuses_too(
    schema: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "contracts.lock").rename(tmp_path / "gone")

    status, answer = call(capsys, "run", "list", "--home", str(home))

    assert (status, answer["error"]["code"]) == (1, "contracts.lock-missing")


@pytest.mark.parametrize("action", ["--restore", "--accept"])
def test_repairing_makes_everything_start_again(
    action: str, schema: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(schema)
    words = ("contracts", "repair", action, "--home", str(home))
    reason = ("--reason", "the title was edited by hand")

    checked, dry = call(capsys, *words, "--check")
    status, answer = call(capsys, *words, *reason)
    again, nothing = call(capsys, *words, *reason)

    for document in (dry, answer, nothing):
        assert load_contracts().validate("contracts.repair@1.0", document) == "contracts.repair@1.0"
    assert [(checked, dry["status"]), (status, answer["status"]), (again, nothing["status"])] == [
        (1, "repairable"),
        (0, "repaired"),
        (0, "nothing-to-do"),
    ]
    assert (answer["before"]["status"], answer["after"]["status"]) == ("contracts.lock-mismatch", "ok")
    assert answer["before"]["fields"][0]["fields"][0]["pointer"] == "/title"
    assert call(capsys, "run", "list", "--home", str(home))[0] == 0
    with open_home(home, read_only=True) as opened:
        (told,) = opened.ledger.read(kind="contract.repaired")
    assert {name: told.payload[name] for name in ("before", "after", "kept", "reason")} == {
        name: answer[name] for name in ("before", "after", "kept", "reason")
    }


def test_a_repair_pins_the_plugins_of_a_changed_contract_anew(
    schema: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = schema.parent.parent.parent / "packs/insight/schemas/insight.finding@1.0.json"
    edit(finding)
    before = json.loads(plugin_lock.lock_path().read_bytes())

    status, answer = call(
        capsys, "contracts", "repair", "--accept", "--reason", "a better title of it", "--home", str(home)
    )

    after = json.loads(plugin_lock.lock_path().read_bytes())
    sha256 = load_contracts().get("insight.finding").sha256
    mended = {name for name, row in before["plugins"].items() if "insight.finding@1.0" in row["contracts"]}
    assert status == 0 and {change["plugin"] for change in answer["plugins"]} == mended != set()
    assert {after["plugins"][name]["contracts"]["insight.finding@1.0"] for name in mended} == {sha256}
    rest = {name: {**row, "contracts": {}} for name, row in after["plugins"].items()}
    assert rest == {name: {**row, "contracts": {}} for name, row in before["plugins"].items()}


def test_locking_a_changed_contract_names_the_plugins_that_pin_another(
    schema: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(schema.parent.parent.parent / "packs/insight/schemas/insight.finding@1.0.json")

    status, answer = call(
        capsys, "contracts", "lock", "--reason", "a better title of it", "--home", str(home)
    )

    assert status == 0 and "insight/column_profile" in answer["stale_plugins"]


@pytest.mark.parametrize("flags", [(), ("--restore", "--accept")])
def test_a_repair_must_be_one_of_two(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = call(capsys, "contracts", "repair", *flags, "--reason", "no direction was given")

    assert (status, answer["error"]["code"]) == (2, "cli.bad-value")
