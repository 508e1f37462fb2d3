"""`sterling ledger diff` and `recover`: what they print, under which contract, and how they end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sterling.cli.main import main
from sterling.kernel.contracts import load_contracts
from sterling.testing.forged_ledgers import SIZE, Forge, generate

Run = Callable[..., tuple[int, str, str]]
REASON = ("--accept-loss", "--reason", "the disk died on Monday")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    generate(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def cut(home: Path, size: int) -> None:
    forge = Forge(home)
    forge.forget_after(size)
    forge.database.close()


def test_equal_is_exit_0_and_a_difference_is_exit_1_and_named(home: Path, run: Run) -> None:
    twin = Path(shutil.copytree(home, home.with_name("twin")))

    assert run("ledger", "diff", home, twin)[:2] == (0, run("ledger", "diff", home, twin)[1])
    assert run("ledger", "diff", home, twin)[1].startswith(f"equal: {SIZE} entries")

    Forge(twin).edit(7, "subject", "x")
    exit, out, _ = run("ledger", "diff", home, twin, "--json")
    answer = json.loads(out)
    load_contracts().validate("ledger.diff", answer)
    assert (exit, answer["first_difference"], answer["columns"]) == (1, 7, ["subject"])
    assert run("ledger", "diff", home, twin)[1].startswith("they part at entry 7: subject")


def test_a_beginning_says_where_the_other_goes_on(home: Path, run: Run) -> None:
    twin = Path(shutil.copytree(home, home.with_name("twin")))
    cut(twin, 14)

    assert "beginning of the second, which goes on at entry 14" in run("ledger", "diff", twin, home)[1]
    assert "beginning of the first, which goes on at entry 14" in run("ledger", "diff", home, twin)[1]


@pytest.mark.parametrize("arguments", [["missing", "missing"], ["."], [".", "."]])
def test_what_cannot_be_compared_is_wrong_usage(
    tmp_path: Path, run: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run("ledger", "diff", *arguments)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [REASON[:1], REASON[1:], ("--accept-loss", "--reason", "no"), ("--accept-loss", "--reason", " " * 30)],
)
def test_a_recovery_without_consent_or_reason_is_wrong_usage(
    home: Path, run: Run, arguments: tuple[str, ...]
) -> None:
    cut(home, 17)

    assert run("ledger", "recover", "--home", home, *arguments)[0] == 2
    assert run("verify", home)[0] == 3


def test_a_recovery_is_told_by_every_later_verify(home: Path, run: Run) -> None:
    cut(home, 17)
    assert "ledger recover" in run("verify", home)[1]

    exit, out, _ = run("ledger", "recover", "--home", home, *REASON, "--json")

    answer = json.loads(out)
    load_contracts().validate("ledger.recover", answer)
    assert (exit, answer["lost"], answer["entry"]) == (0, {"from": 17, "to": SIZE - 1}, 17)
    exit, out, _ = run("verify", home)
    assert exit == 0 and "lost entries 17 to 19, admitted at entry 17: the disk died on Monday" in out
    assert json.loads(run("verify", home, "--json")[1])["losses"][0]["entry"] == 17


def test_with_nothing_lost_there_is_nothing_to_recover(home: Path, run: Run) -> None:
    exit, _, err = run("ledger", "recover", "--home", home, *REASON)

    assert exit == 1 and "ledger.precondition" in err
