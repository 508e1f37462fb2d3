"""The verifier that shares no code: alone in a folder, without our package, without `cryptography`.

That it agrees with `verify.py` on every tampered file is tested in tests/acceptance.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel.anchors import anchors_root
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.standalone_verify import Key, Note, Tree, canonical
from sterling.testing.forged_ledgers import SIZE, Forge, copy_home, generate

SOURCE = Path(standalone_verify.__file__)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    copy_home(original / "home", original / "state", tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The file by itself, as somebody would carry it to another machine."""
    (tmp_path / "carried").mkdir()
    return Path(shutil.copy(SOURCE, tmp_path / "carried" / "check.py"))


def run(file: Path, *arguments: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": "" if path is None else str(path)}
    command = [sys.executable, str(file), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=file.parent, check=False
    )


def test_it_imports_the_standard_library_and_cryptography_alone() -> None:
    tree = ast.parse(SOURCE.read_text())
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots = {str(name).partition(".")[0] for name in named}

    assert roots - set(sys.stdlib_module_names) == {"cryptography"}


def test_carried_away_it_says_that_a_home_holds(home: Path, alone: Path) -> None:
    done = run(alone, home, "--blobs")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"ok {SIZE} entries, head ") and f"anchored to {SIZE}" in done.stdout


def test_its_json_names_the_first_bad_entry(home: Path, alone: Path) -> None:
    Forge(home).edit(7, "subject", "x")

    done = run(alone, home, "--json")

    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit"] == 3
    assert (answer["first_bad"]["low"], answer["code"]) == (7, "integrity.entry-altered")


def test_text_out_of_the_log_cannot_move_the_cursor(home: Path, alone: Path) -> None:
    Forge(home).put_checkpoint(9, "\x1b[2J\n\n— x\x1b[2J y\n")

    done = run(alone, home)

    assert done.returncode == 3 and "\x1b" not in done.stdout + done.stderr


@pytest.fixture
def without_cryptography(tmp_path: Path) -> Path:
    (tmp_path / "stub" / "cryptography").mkdir(parents=True)
    (tmp_path / "stub" / "cryptography" / "__init__.py").write_text("raise ImportError('not installed')\n")
    return tmp_path / "stub"


def test_without_cryptography_the_best_answer_is_four(
    home: Path, alone: Path, without_cryptography: Path
) -> None:
    done = run(alone, home, "--json", path=without_cryptography)

    answer = json.loads(done.stdout)
    assert (done.returncode, answer["verdict"], answer["size"]) == (4, "cannot-judge", SIZE)
    assert "cryptography" in answer["message"]


def test_without_cryptography_what_is_broken_is_still_broken(
    home: Path, alone: Path, without_cryptography: Path
) -> None:
    forge = Forge(home)
    forge.reseal([*forge.bodies()[:7], *forge.bodies()[8:]])

    done = run(alone, home, path=without_cryptography)

    assert done.returncode == 3 and "integrity.root-mismatch" in done.stdout


def test_a_pin_and_a_checkpoint_can_be_brought_as_files(home: Path, alone: Path, tmp_path: Path) -> None:
    forge = Forge(home)
    (tmp_path / "pin").write_text(forge.key.verifier(origin_of(forge.home_id)) + "\n")
    (tmp_path / "note").write_text(forge.note(14, forge.key))
    shutil.rmtree(anchors_root())

    assert run(alone, home).returncode == 4
    done = run(alone, home, "--pin", tmp_path / "pin", "--anchor", tmp_path / "note")
    assert done.returncode == 0 and "anchored to 14" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["missing"], ["."], ["check.py"], [".", "--pin", "nonsense"], [".", "--anchor", "missing"]]
)
def test_what_cannot_be_checked_is_wrong_usage(alone: Path, arguments: Sequence[str]) -> None:
    done = run(alone, *arguments)

    assert done.returncode == 2 and done.stdout == "" and "nothing to check" in done.stderr


def test_a_deleted_home_that_an_anchor_remembers_is_broken(home: Path, alone: Path) -> None:
    shutil.rmtree(home)

    done = run(alone, home)

    assert done.returncode == 3 and "integrity.ledger-missing" in done.stdout


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), 2**53, -(2**53), "\ud800", {"\ud800": 1}, [[[float("nan")]]]],
)
def test_its_canonical_form_refuses_what_has_none(value: object) -> None:
    with pytest.raises(ValueError):
        canonical(value).encode("utf-8")


def test_its_tree_of_nothing_has_the_published_root() -> None:
    assert Tree().root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_it_reads_the_published_verifier_string() -> None:
    key = Key.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")

    assert (key.name, key.id.hex()) == ("PeterNeumann", "c74f20a3")


@pytest.mark.parametrize("text", [None, b"bytes", "", "\n\n", "a\n1\nAAAA\n\n— a AAAA\n", "x" * 20_000])
def test_a_text_that_is_no_note_is_refused(text: object) -> None:
    with pytest.raises(ValueError):
        Note(text)
