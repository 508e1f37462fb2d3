"""`sterling contracts` and `sterling config`: what they print, under which contract, and how they end."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel import contract_lock, contracts, shipped
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import init_home, open_home

Run = Callable[..., tuple[int, str, str]]
REASON = "the report needs another field"


@pytest.fixture
def home_path(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    init_home(path).close()
    return path


@pytest.fixture
def run(home_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str, home: Path = home_path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(home)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def schema(contract: str, **fields: Any) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": contract,
        "title": "Note",
        "description": "A note.",
        "x-owner": "ci",
        "x-kind": "record",
        "type": "object",
        "additionalProperties": False,
        "required": ["text"],
        "properties": {"text": {"description": "What it says.", "enum": ["a", "b"]}, **fields},
    }


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Path]:
    """The commands see a locked tree of one contract, in which a file was then put; gives the lock."""
    lock = tmp_path / "contracts.lock"
    for tree in ("locked", "now"):
        (tmp_path / tree / "schemas").mkdir(parents=True)
        text = json.dumps(schema("ci.note@1.0"))
        (tmp_path / tree / "schemas" / "ci.note@1.0.json").write_text(text)
    contract_lock.write(load_contracts(tmp_path / "locked"), lock)
    monkeypatch.setattr(shipped, "shipped", lambda name: tmp_path / name)

    def put(document: dict[str, Any]) -> Path:
        (tmp_path / "now" / "schemas" / f"{document['$id']}.json").write_text(json.dumps(document))
        found = load_contracts(tmp_path / "now")
        monkeypatch.setattr(contracts, "load_contracts", lambda: found)
        return lock

    return put


def checked(out: str, contract: str) -> dict[str, Any]:
    """One line of JSON that its contract allows."""
    (line,) = out.splitlines()
    document: dict[str, Any] = json.loads(line)
    assert document["contract"] == contract
    assert load_contracts().validate(contract, document) == contract
    return document


COUNT = {"description": "How often.", "type": "integer"}


def test_check_says_yes_for_a_locked_tree(run: Run, change: Callable[[dict[str, Any]], Path]) -> None:
    change(schema("ci.note@1.0"))

    status, out, _ = run("contracts", "check")
    json_status, json_out, _ = run("contracts", "check", "--json")

    assert (status, json_status) == (0, 0)
    assert out.startswith("ok 1 contracts agree with contracts.lock")
    assert checked(json_out, "contracts.check@1.0")["status"] == "locked"


def test_check_says_no_for_a_changed_tree_and_for_a_missing_lock(
    run: Run, change: Callable[[dict[str, Any]], Path]
) -> None:
    lock = change(schema("ci.note@1.0", count=COUNT))

    status, out, _ = run("contracts", "check")
    assert status == 1
    assert "changed" in out

    lock.rename(lock.with_name("elsewhere"))
    status, out, _ = run("contracts", "check", "--json")
    assert status == 1
    assert checked(out, "contracts.check@1.0")["status"] == "missing"


def test_check_refuses_a_schema_that_is_no_contract(
    run: Run, change: Callable[[dict[str, Any]], Path]
) -> None:
    change(schema("ci.note@1.0", count={"type": "integer"}))

    status, out, _ = run("contracts", "check", "--json")

    assert status == 1
    (line,) = out.splitlines()
    error = json.loads(line)
    assert load_contracts().validate("error", error) == "error@1.0"
    assert error["error"]["code"] == "contracts.invalid"
    assert error["error"]["details"]["pointer"] == "/properties/count/description"


def test_diff_names_each_place_and_ends_in_yes_when_nothing_breaks(
    run: Run, change: Callable[[dict[str, Any]], Path]
) -> None:
    change(schema("ci.note@1.0", count=COUNT))
    status, out, _ = run("contracts", "diff", "--json")
    found = checked(out, "contracts.diff@1.0")

    assert status == 0
    assert (found["status"], found["contracts"][0]["fields"][0]["change"]) == ("compatible", "field-added")


def test_diff_ends_in_no_for_what_breaks(run: Run, change: Callable[[dict[str, Any]], Path]) -> None:
    change(schema("ci.note@1.0", text={"description": "What it says.", "enum": ["a"]}))

    status, out, _ = run("contracts", "diff")

    assert status == 1
    assert "ci.note@1.0: breaking (changed)" in out
    assert '["a","b"] -> ["a"]' in out


def test_lock_needs_a_reason(run: Run, change: Callable[[dict[str, Any]], Path]) -> None:
    lock = change(schema("ci.note@1.0", count=COUNT))
    raw = lock.read_bytes()

    status, _, err = run("contracts", "lock")

    assert status == 2
    assert err.startswith("contracts.reason-required: ")
    assert lock.read_bytes() == raw


def test_lock_writes_file_and_entry_and_is_then_unchanged(
    run: Run, change: Callable[[dict[str, Any]], Path], home_path: Path
) -> None:
    change(schema("ci.note@1.0", count=COUNT))
    # The ledger of the home checks its own entries against the shipped contracts.
    status, out, _ = run("contracts", "lock", "--reason", REASON, "--json")
    again_status, again_out, _ = run("contracts", "lock", "--reason", REASON, "--json")

    done = checked(out, "contracts.lock@1.0")
    again = checked(again_out, "contracts.lock@1.0")
    assert (status, done["status"], done["verdict"]) == (0, "locked", "compatible")
    assert (again_status, again["status"], again["entry"]) == (0, "unchanged", -1)
    with open_home(home_path, read_only=True) as home:
        (entry,) = home.ledger.read(kind="contract.locked")
    assert (entry.index, entry.payload["reason"]) == (done["entry"], REASON)
    assert entry.payload["after"] == done["after"]


def test_lock_refuses_what_breaks(run: Run, change: Callable[[dict[str, Any]], Path]) -> None:
    change(schema("ci.note@1.0", text={"description": "What it says.", "enum": ["a"]}))

    status, _, err = run("contracts", "lock", "--reason", REASON)

    assert status == 1
    assert err.startswith("contracts.breaking: ")


def test_config_show_tells_what_differs_and_where_from(run: Run) -> None:
    _, plain, _ = run("config", "show")
    _, out, _ = run("config", "show", "--json", "--set", "governor.grace_ms=10")
    _, all_out, _ = run("config", "show", "--effective", "--json")

    assert plain.startswith("every setting is at its default")
    shown = checked(out, "config.show@1.0")
    assert shown["settings"] == [{"key": "governor.grace_ms", "value": 10, "source": "set"}]
    everything = checked(all_out, "config.show@1.0")["settings"]
    assert {"key": "ocr.languages", "value": ["eng"], "source": "file"} in everything


def test_config_set_changes_file_and_ledger(run: Run, home_path: Path) -> None:
    status, out, _ = run("config", "set", "governor.grace_ms", "10", "--json")
    again, again_out, _ = run("config", "set", "governor.grace_ms", "10", "--json")

    done = checked(out, "config.set@1.0")
    assert (status, done["before"], done["after"]) == (0, 150, 10)
    assert (again, checked(again_out, "config.set@1.0")["entry"]) == (0, -1)
    with open_home(home_path, read_only=True) as home:
        assert home.config.get("governor.grace_ms") == 10
        assert [entry.index for entry in home.ledger.read(kind="config.changed")] == [done["entry"]]
    assert stat.S_IMODE((home_path / "sterling.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("config", "set", "governor.grace", "10"), "config.unknown-key"),
        (("config", "set", "governor.grace_ms", "-5"), "cli.unknown-option"),
        (("config", "set", "governor.grace_ms", "10001"), "config.out-of-range"),
        (("config", "show", "--set", "safety.shared_home=true"), "config.safety-source"),
        (("config", "check", "--set", "governor.grace_ms"), "config.out-of-range"),
    ],
)
def test_bad_settings_end_as_wrong_usage(run: Run, arguments: tuple[str, ...], code: str) -> None:
    status, out, _ = run(*arguments, "--json")

    assert status == 2
    assert json.loads(out)["error"]["code"] == code


def test_config_check_names_the_line(run: Run, home_path: Path) -> None:
    path = home_path / "sterling.toml"
    status, out, _ = run("config", "check", "--json")
    assert (status, checked(out, "config.check@1.0")["status"]) == (0, "ok")

    path.write_text("# mine\n[governor]\ngrace_ms = 'soon'\n")
    status, _, err = run("config", "check")
    assert status == 2
    assert 'line 3: governor.grace_ms: expected 0 to 10000 ms, found "soon"' in err


def test_config_keys_need_no_home(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("config", "keys", "--json", home=tmp_path / "none")

    keys = checked(out, "config.keys@1.0")["keys"]
    assert status == 0
    assert [row["key"] for row in keys] == sorted(row["key"] for row in keys)


def test_config_without_a_home_says_so(run: Run, tmp_path: Path) -> None:
    status, _, err = run("config", "show", home=tmp_path / "none")

    assert status == 2
    assert err.startswith("home.missing: ")


def test_hostile_text_in_a_setting_is_shown_and_not_obeyed(run: Run, home_path: Path) -> None:
    (home_path / "sterling.toml").write_text('ask.zone = "a\\u001b[31mb"\n')

    status, _, err = run("config", "show")

    assert status == 2
    assert "\x1b" not in err
