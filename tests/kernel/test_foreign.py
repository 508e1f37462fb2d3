"""Other tools' hash-chained lines: four rules, each file edited at every line; profiles without a chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel import foreign
from sterling.kernel.contracts import load_contracts
from sterling.kernel.foreign import Profile, ProfileInvalid, check_chain, parse_profile
from sterling.kernel.home import init_home, open_home

LINES = 12


def sha(text: str, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, text.encode()).hexdigest()


def event(at: int) -> dict[str, Any]:
    return {"seq": at, "time_ns": 1_700_000_000_123_456_789 + at, "who": "Zoë", "share": 0.5 + at, "ok": True}


def audit_log() -> list[dict[str, Any]]:
    """Sorted compact JSON of everything but the hash; the previous hash stands inside; a note is left out."""
    lines, head = [], "0" * 64
    for at in range(LINES):
        line = event(at) | {"prev": head}
        head = sha(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True))
        lines.append(line | {"hash": head, "note": "free text"})
    return lines


def journal() -> list[dict[str, Any]]:
    """Two fields behind the hash before them, joined by bars; no line keeps that hash."""
    lines, head = [], "genesis"
    for at in range(LINES):
        line = event(at)
        head = "sha512:" + sha(f"{head}|{line['seq']}|{line['who']}", "sha512")
        lines.append(line | {"digest": head})
    return lines


def spaced() -> list[dict[str, Any]]:
    """JSON as the line has it, with spaces, and the hash before it behind the content."""
    lines, head = [], ""
    for at in range(LINES):
        line = event(at)
        before = head
        head = sha(json.dumps(line, ensure_ascii=False) + head)
        lines.append(line | {"before": before, "hash": head})
    return lines


def strict() -> list[dict[str, Any]]:
    """RFC 8785 with SHA3."""
    lines, head = [], ""
    for at in range(LINES):
        line = {"b": at, "a": "ä", "prev": head}
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        head = sha(text, "sha3_256")
        lines.append(line | {"hash": head})
    return lines


AUDIT = f"""
name = "audit-log"
form = "json-sorted"
hash = "hash"
previous = "prev"
genesis = "{"0" * 64}"
omit = ["hash", "note"]
ascii = true
"""
JOURNAL = """
name = "journal"
form = "fields"
hash = "digest"
genesis = "genesis"
input = "previous+content"
order = ["seq", "who"]
joint = "|"
algorithm = "sha512"
prefix = "sha512:"
"""
SPACED = """
name = "spaced"
form = "json-as-written"
hash = "hash"
previous = "before"
input = "content+previous"
omit = ["hash", "before"]
spaces = true
"""
STRICT = """
name = "strict"
form = "jcs"
hash = "hash"
previous = "prev"
algorithm = "sha3_256"
omit = ["hash"]
"""
RULES: dict[str, tuple[str, Callable[[], list[dict[str, Any]]], list[str]]] = {
    "audit": (AUDIT, audit_log, ["note"]),
    "journal": (JOURNAL, journal, ["ok", "share", "time_ns"]),
    "spaced": (SPACED, spaced, []),
    "strict": (STRICT, strict, []),
}


def text_of(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


@pytest.fixture(params=sorted(RULES))
def rule(request: pytest.FixtureRequest) -> tuple[Profile, list[dict[str, Any]], list[str]]:
    profile, lines, uncovered = RULES[request.param]
    return parse_profile(profile.encode()), lines(), uncovered


Rule = tuple[Profile, list[dict[str, Any]], list[str]]


def test_an_honest_file_holds_and_what_its_hash_leaves_out_is_listed(rule: Rule) -> None:
    profile, lines, uncovered = rule
    found = check_chain(text_of(lines), profile)

    assert (found.verdict, found.lines, found.bad_line) == ("holds", LINES, None)
    assert found.head == lines[-1][profile.hash] and list(found.uncovered) == uncovered


def test_a_covered_field_edited_at_any_line_is_found_at_that_line(rule: Rule) -> None:
    profile, lines, uncovered = rule
    covered = [name for name in lines[0] if name not in (*uncovered, profile.previous)]
    for at in range(LINES):
        for name in covered:
            edited = [dict(line) for line in lines]
            edited[at][name] = "forged"

            found = check_chain(text_of(edited), profile)

            assert (found.verdict, found.bad_line, found.lines) == ("broken", at + 1, at), name


def test_a_link_edited_at_any_line_is_found_at_that_line(rule: Rule) -> None:
    profile, lines, _ = rule
    for at in range(LINES if profile.previous else 0):
        edited = [dict(line) for line in lines]
        edited[at][profile.previous] = "f" * 64

        assert check_chain(text_of(edited), profile).bad_line == at + 1


def test_a_line_deleted_repeated_or_moved_is_found(rule: Rule) -> None:
    profile, lines, _ = rule
    for at in range(LINES - 1):
        changes = {
            "deleted": lines[:at] + lines[at + 1 :],
            "repeated": [*lines[: at + 1], *lines[at:]],
            "moved": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        }
        for name, changed in changes.items():
            found = check_chain(text_of(changed), profile)

            assert found.verdict == "broken" and found.bad_line == at + (2 if name == "repeated" else 1)


def test_a_field_that_no_hash_covers_can_be_edited_and_is_listed_for_that() -> None:
    profile, lines, _ = (parse_profile(AUDIT.encode()), audit_log(), None)
    lines[3]["note"] = "another text"

    found = check_chain(text_of(lines), profile)

    assert found.verdict == "holds" and found.uncovered == ("note",)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda data: b"", 1),
        (lambda data: b"\n" + data, 1),
        (lambda data: data + b"\n", LINES + 1),
        (lambda data: data[:-20], LINES),
        (lambda data: data.replace(b"\n", b"\n[1]\n", 1), 2),
        (lambda data: b"\xff" + data, 1),
        (lambda data: data.replace(b'{"seq": 2', b'{"seq": 9, "seq": 2', 1), 3),
        (lambda data: b"[" * 100_000 + data, 1),
        (lambda data: data.replace(b'"hash"', b'"gash"'), 1),
    ],
)
def test_torn_strange_and_hostile_lines_are_broken_where_they_are(
    spoil: Callable[[bytes], bytes], line: int
) -> None:
    found = check_chain(spoil(text_of(audit_log())), parse_profile(AUDIT.encode()))

    assert (found.verdict, found.bad_line) == ("broken", line) and found.reason


def test_a_last_line_without_a_newline_counts() -> None:
    found = check_chain(text_of(audit_log())[:-1], parse_profile(AUDIT.encode()))

    assert (found.verdict, found.lines) == ("holds", LINES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name = 5",
        "not toml",
        "\xff",
        'name = "x"\nform = "jcs"',
        AUDIT + 'color = "red"',
        AUDIT.replace("json-sorted", "yaml"),
        AUDIT + 'algorithm = "md5"',
        AUDIT + 'input = "hash"',
        AUDIT + 'order = ["seq"]',
        AUDIT.replace('omit = ["hash", "note"]', 'omit = ["note"]'),
        AUDIT.replace('omit = ["hash", "note"]', 'omit = ["hash", "prev"]'),
        AUDIT.replace('omit = ["hash", "note"]', "omit = [5]"),
        AUDIT.replace('previous = "prev"', ""),
        JOURNAL.replace('order = ["seq", "who"]', ""),
        JOURNAL.replace('input = "previous+content"', ""),
        AUDIT.replace("ascii = true", "ascii = 1"),
    ],
)
def test_a_profile_that_states_no_chain_is_refused(text: str) -> None:
    with pytest.raises(ProfileInvalid):
        parse_profile(text.encode("latin-1"))


def test_the_wrong_rule_breaks_at_the_first_line() -> None:
    right = parse_profile(AUDIT.encode())
    for wrong in (replace(right, ascii=False), replace(right, spaces=True), replace(right, genesis="")):
        assert check_chain(text_of(audit_log()), wrong).bad_line == 1


def test_the_command_keeps_the_file_and_the_verdict_also_when_it_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sterling.kernel.contract_lock.check", lambda *_: None)
    init_home(tmp_path / "home").close()
    lines = audit_log()
    (tmp_path / "good.jsonl").write_bytes(text_of(lines))
    lines[4]["who"] = "nobody"
    (tmp_path / "bad.jsonl").write_bytes(text_of(lines))
    (tmp_path / "rule.toml").write_text(AUDIT)

    def run(name: str) -> tuple[int, Any]:
        rule = ["--format", "jsonl-chain", "--profile", str(tmp_path / "rule.toml"), "--json"]
        with pytest.raises(SystemExit) as ended:
            main(["--home", str(tmp_path / "home"), "ledger", "import", str(tmp_path / name), *rule])
        answer = json.loads(capsys.readouterr().out)
        load_contracts().validate(answer["contract"], answer)
        return int(ended.value.code or 0), answer

    good, bad, again = run("good.jsonl"), run("bad.jsonl"), run("bad.jsonl")

    assert (good[0], good[1]["verdict"], good[1]["uncovered"]) == (0, "holds", ["note"])
    assert (bad[0], bad[1]["verdict"], bad[1]["first_bad"]["line"]) == (3, "broken", 5)
    assert again == bad
    with open_home(tmp_path / "home", read_only=True) as home:
        records = list(home.records.read("foreign.chain"))
        assert [record.id for record in records] == [good[1]["record"], bad[1]["record"]]
        assert records[1].document["first_bad"]["line"] == 5
        assert [source.role for source in records[1].sources] == ["chain", "profile"]
        assert home.blobs.get(bad[1]["blob"]) == (tmp_path / "bad.jsonl").read_bytes()


def test_comparing_the_hash_is_what_finds_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = audit_log()
    stored = iter([line["hash"] for line in lines])
    lines[4]["who"] = "nobody"
    profile = parse_profile(AUDIT.encode())
    assert check_chain(text_of(lines), profile).bad_line == 5

    monkeypatch.setattr(foreign, "_digest", lambda *_: next(stored))

    assert check_chain(text_of(lines), profile).verdict == "holds"
