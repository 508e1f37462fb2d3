from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sterling.cli.scan import command
from sterling.runtime import unfinished
from sterling.runtime.unfinished import (
    Report,
    UnfinishedListUnreadable,
    UnfinishedNoRepository,
    line_sha256,
    scan_repository,
)
from sterling.runtime.unfinished_python import RULES

ROOT = Path(__file__).resolve().parents[2]
TODAY = datetime.date(2026, 1, 15)
STUB = "def stub():\n    pass\n"


class Repository:
    """A git repository with files, tracked when they are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q")

    def git(self, *words: str) -> None:
        subprocess.run(["git", "-C", str(self.folder), *words], check=True, capture_output=True)

    def write(self, name: str, words: str | bytes, *, track: bool = True) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(words.encode() if isinstance(words, str) else words)
        if track:
            self.git("add", "-f", "--", name)
        return path

    def excuse(self, *rows: dict[str, object], track: bool = True) -> None:
        lines = []
        for row in rows:
            whole = {**ROW, **row}
            lines += ["[[excused]]"]
            for key, value in whole.items():
                if value is not None:
                    lines.append(f"{key} = {value if key == 'expires' else json.dumps(value)}")
        self.write("unfinished.toml", "\n".join(lines) + "\n", track=track)

    def scan(self, folder: str = ".") -> Report:
        return scan_repository(self.folder / folder, TODAY)

    def places(self) -> list[tuple[str, int, str]]:
        return [(one.path, one.line, one.rule) for one in self.scan().findings]


ROW: dict[str, object] = {
    "path": "a.py",
    "rule": "pass",
    "line_sha256": line_sha256(b"pass"),
    "owner": "somebody",
    "reason": "It stays.",
    "issue": "7",
    "expires": "2026-01-15",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "repository"
    folder.mkdir()
    return Repository(folder)


def test_our_own_repository_has_nothing_unfinished_that_is_not_excused() -> None:
    today = datetime.datetime.now(datetime.UTC).date()

    assert scan_repository(ROOT, today).findings == ()


def test_only_tracked_files_count_as_they_lie_on_the_disk(repository: Repository) -> None:
    repository.write("a.py", "x = 1\n").write_text(STUB)
    repository.write("loose.py", STUB, track=False)
    repository.write("gone.py", STUB).unlink()

    assert repository.places() == [("a.py", 2, "pass")]


def test_the_order_is_path_bytes_then_line_and_nothing_else(repository: Repository) -> None:
    for name in ("é.txt", "b/c.txt", "b.txt", "Z.txt", "a\nb.txt", "10.txt", "9.txt"):
        repository.write(name, "TODO one\n\nTODO two\n")
    repository.write(b"\xff.txt".decode("utf-8", "surrogateescape"), "TODO\n")

    names = [one.shown for one in repository.scan().findings][::2]

    assert names == ["10.txt", "9.txt", "Z.txt", "a\nb.txt", "b.txt", "b/c.txt", "é.txt", "\\xff.txt"]


def test_the_bytes_are_the_same_from_any_folder_and_in_any_order_of_files(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("deep/er/a.py", STUB)
    repository.write("b.txt", "FIXME\n")
    first = run("--json", "--repo", repository.folder)
    kept = unfinished._git
    monkeypatch.setattr(
        unfinished, "_git", lambda folder, *words: b"\0".join(reversed(kept(folder, *words).split(b"\0")))
    )
    monkeypatch.chdir(repository.folder / "deep" / "er")

    again = run("--format", "json")

    assert first.exit_code == again.exit_code == 1
    assert first.stdout == again.stdout


@pytest.mark.parametrize(
    ("name", "words", "found"),
    [
        ("a.md", "Say `TODO` or ``x ` FIXME``.\n", []),
        ("a.md", "`one` TODO `two`\n", [1]),
        ("a.txt", "`TODO`\n", [1]),
        ("Makefile", "x:\n\t# HACK\n", [2]),
        ("a.txt", "TODOS XTODO _TODO todo\n", []),
        ("script", "#!/usr/bin/env python3\nx = 'TODO'\n", []),
        ("script", "#!/bin/sh\nx='TODO'\n", [2]),
        ("a.bin", b"\0 TODO\n", []),
        ("a.txt", b"\xff\xfe TODO\n", [1]),
        ("late.txt", b"x" * 9000 + b"\0 \nTODO\n", [2]),
        ("old.py", b"x = 1\r# TODO\r", [1]),
    ],
)
def test_text_is_searched_and_quotes_and_binaries_are_not(
    repository: Repository, name: str, words: str | bytes, found: list[int]
) -> None:
    repository.write(name, words)

    assert [line for _, line, _ in repository.places()] == found


def test_links_and_what_became_a_folder_are_not_read(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text(STUB)
    (repository.folder / "link.py").symlink_to(tmp_path / "outside.py")
    repository.git("add", "link.py")
    was = repository.write("was.py", STUB)
    was.unlink()
    was.symlink_to(tmp_path / "outside.py")
    folder = repository.write("folder.py", STUB)
    folder.unlink()
    folder.mkdir()

    assert repository.places() == []


def test_one_row_excuses_one_finding_and_a_second_like_it_stands(repository: Repository) -> None:
    repository.write("a.py", STUB)
    repository.excuse({})
    assert repository.scan() == Report((), files=2, excused=1)

    repository.excuse({}, {})
    assert repository.places() == [("unfinished.toml", 9, "row-unmatched")]

    repository.excuse({})
    repository.write("a.py", STUB + STUB.replace("stub", "other"))

    assert repository.places() == [("a.py", 4, "pass")]
    repository.excuse({}, {"owner": "another"})
    assert repository.places() == []


def test_a_row_survives_moves_of_its_line_and_not_changes_of_it(repository: Repository) -> None:
    repository.excuse({})
    repository.write("a.py", "x = 1\n\n\nif x:\n    def stub():\n        pass\n")
    assert repository.places() == []

    repository.write("a.py", "def stub():\n    pass  # for now\n")

    assert repository.places() == [("a.py", 2, "pass"), ("unfinished.toml", 1, "row-unmatched")]


@pytest.mark.parametrize(
    ("row", "rule", "code"),
    [
        ({"expires": "2026-01-14"}, "row-expired", "scan.expired"),
        ({"expires": None}, "row-incomplete", "scan.unmatched"),
        ({"expires": '"2027-01-01"'}, "row-incomplete", "scan.unmatched"),
        ({"expires": "2027-01-01T00:00:00"}, "row-incomplete", "scan.unmatched"),
        ({"owner": None}, "row-incomplete", "scan.unmatched"),
        ({"owner": "  "}, "row-incomplete", "scan.unmatched"),
        ({"owner": 3}, "row-incomplete", "scan.unmatched"),
        ({"reason": ""}, "row-incomplete", "scan.unmatched"),
        ({"issue": None}, "row-incomplete", "scan.unmatched"),
        ({"path": "b.py"}, "row-unmatched", "scan.unmatched"),
        ({"rule": "skip"}, "row-unmatched", "scan.unmatched"),
        ({"line_sha256": "0" * 64}, "row-unmatched", "scan.unmatched"),
    ],
)
def test_a_row_that_does_not_hold_excuses_nothing_and_is_a_finding(
    repository: Repository, row: dict[str, object], rule: str, code: str
) -> None:
    repository.write("a.py", STUB)
    repository.excuse(row)

    findings = repository.scan().findings

    assert [(one.path, one.rule, str(one.code)) for one in findings] == [
        ("a.py", "pass", "scan.found"),
        ("unfinished.toml", rule, code),
    ]


def test_a_list_that_git_does_not_track_excuses_nothing(repository: Repository) -> None:
    repository.write("a.py", STUB)
    repository.excuse({}, track=False)

    assert repository.places() == [("a.py", 2, "pass")]


@pytest.mark.parametrize(
    "words", ["[[excused", "excused = 3\n", "excused = [3]\n", "other = 1\n", b"\xff\xfe"]
)
def test_a_list_that_cannot_be_read_is_an_error(repository: Repository, words: str | bytes) -> None:
    repository.write("unfinished.toml", words)

    with pytest.raises(UnfinishedListUnreadable):
        repository.scan()


def test_outside_a_repository_and_without_git_nothing_can_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnfinishedNoRepository) as caught:
        scan_repository(tmp_path, TODAY)
    assert caught.value.exit == 4

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnfinishedNoRepository, match="expected git"):
        scan_repository(ROOT, TODAY)


def test_the_table_for_people_is_markdown_that_no_file_can_break(repository: Repository) -> None:
    repository.write("a|b.txt", "TODO | `x` <b> \x1b[31m\n")

    result = run("--repo", repository.folder)

    assert result.exit_code == 1
    assert result.stdout.splitlines()[2] == r"| a\|b.txt:1 | marker | TODO \| \`x\` \<b> \\x1b[31m |"


def test_the_page_lists_the_rules_as_they_are() -> None:
    page = (ROOT / "docs" / "reference" / "unfinished.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]

    assert rows == [f"| `{rule}` | {words} |" for rule, words in RULES.items()]


def run(*words: object) -> Result:
    return CliRunner().invoke(command, ["unfinished", *(str(word) for word in words)])
