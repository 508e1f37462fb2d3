"""`sterling verify` and `sterling ledger`: exits, words, and JSON by contract."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sterling import app
from sterling.cli.main import main
from sterling.kernel import merkle
from sterling.kernel.anchors import anchors_root
from sterling.kernel.chain import seal
from sterling.kernel.checkpoint import open_note, origin_of
from sterling.kernel.contracts import load_contracts
from sterling.kernel.home import open_home
from sterling.kernel.verify import verify_home
from sterling.testing.forged_ledgers import BLOB_ENTRY, SIZE, Forge, copy_home, generate, next_batch


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


@pytest.fixture
def home(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_home(original / "home", original / "state", tmp_path / "home")
    monkeypatch.setenv("STERLING_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "sterling.kernel.contract_lock.check", lambda *_: None
    )  # A lock has tests of its own.
    return tmp_path / "home"


class Console:
    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.out = self.err = ""

    def run(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        self.out, self.err = self._capture.readouterr()
        return int(ended.value.code or 0)

    def json(self, exit: int, *arguments: object) -> Any:
        """The JSON of a command, checked against the contract that it names."""
        assert self.run(*arguments, "--json") == exit, self.err
        answer = json.loads(self.out)
        if "error" not in answer:
            load_contracts().validate(answer["contract"], answer)
        return answer


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


def test_a_whole_home_is_one_line_that_begins_with_ok(home: Path, console: Console) -> None:
    assert console.run("verify") == 0

    head = verify_home(home).head
    assert console.out == f"ok {SIZE} entries, head {head}, anchored to {SIZE}\n" and console.err == ""


def test_the_json_of_every_verdict_keeps_its_contract(home: Path, console: Console) -> None:
    whole = console.json(0, "verify", "--blobs", "--deep")
    shutil.rmtree(anchors_root())
    unvouched = console.json(4, "verify", home)
    Forge(home).edit(7, "subject", "x")
    broken = console.json(3, "verify", home / "ledger.db")

    assert (whole["verdict"], whole["blobs"]["checked"], whole["first_bad"]) == ("ok", 2, None)
    assert (unvouched["verdict"], unvouched["anchored_to"]) == ("cannot-judge", None)
    assert broken["first_bad"]["low"] == broken["first_bad"]["high"] == 7
    assert "sterling" in broken["hint"]


def test_a_broken_home_is_told_with_place_code_and_next_step(home: Path, console: Console) -> None:
    Forge(home).edit(7, "subject", "x\x1b[2J")

    assert console.run("verify") == 3

    assert console.out.startswith("broken at entry 7: integrity.entry-altered\n")
    assert "\nnext: Stop writing." in console.out and "\x1b" not in console.out


def test_an_interval_and_an_open_end_are_told_as_such(home: Path, console: Console) -> None:
    forge = Forge(home)
    forge.reseal([*forge.bodies()[:7], *forge.bodies()[8:], forge.bodies()[7]])
    assert console.run("verify") == 3 and console.out.startswith("broken between entries 4 and 8:")

    (home / "ledger.db").write_bytes(b"")
    assert console.run("verify") == 3 and console.out.startswith(
        "broken from entry 0 on: integrity.ledger-missing"
    )


def test_a_stray_blob_is_told_as_beside_the_entries(home: Path, console: Console) -> None:
    (home / "blobs" / "ab").mkdir(exist_ok=True)
    (home / "blobs" / "ab" / "cd").write_bytes(b"")

    assert console.run("verify", "--blobs") == 3 and console.out.startswith("broken beside the entries:")


def test_a_checkpoint_kept_elsewhere_vouches_on_another_machine(
    home: Path, tmp_path: Path, console: Console
) -> None:
    note, verifier = tmp_path / "note", console.json(0, "ledger", "head")["verifier"]
    assert console.run("ledger", "checkpoint") == 0
    note.write_text(console.out)
    (tmp_path / "pin").write_text(verifier + "\n")
    shutil.rmtree(anchors_root())

    assert console.run("verify") == 4
    for pin in (verifier, tmp_path / "pin"):
        assert console.run("verify", "--anchor", note, "--pin", pin) == 0


def test_require_anchored_refuses_a_tail_that_nobody_vouches_for(home: Path, console: Console) -> None:
    with open_home(home) as opened:
        opened.ledger.commit(next_batch(opened))

        assert console.run("verify") == 0 and f"anchored to {SIZE} (1 newer)" in console.out
        assert console.run("verify", "--require-anchored") == 4


def test_full_reads_every_byte_and_every_meaning(home: Path, console: Console) -> None:
    assert console.json(0, "verify", "--full")["blobs"]["checked"] == 2
    forge = Forge(home)
    forge.database.execute("UPDATE records SET entry = 7")

    assert console.run("verify") == 0
    assert console.json(3, "verify", "--full")["code"] == "integrity.projection-altered"


def test_copies_that_began_anew_are_told_in_plain_words_for_ever(home: Path, console: Console) -> None:
    shutil.rmtree(anchors_root())
    assert console.run("verify") == 4
    assert console.run("ledger", "checkpoint") == 0

    for _ in range(2):
        assert console.run("verify") == 0
        assert f"the copies outside were gone and began anew at entry {SIZE}" in console.out
        assert console.run("ledger", "checkpoint") == 0
    assert console.json(0, "verify")["restored_at"] == [SIZE]
    assert console.json(4, "verify", "--require-anchored")["restored_at"] == [SIZE]
    assert f"entries 0 to {SIZE - 1}" in console.json(4, "verify", "--require-anchored")["message"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["verify", "missing-place"], "ledger.not-a-ledger"),
        (["verify", "/dev/null"], "ledger.not-a-ledger"),
        (["verify", "--pin", "nonsense"], "keys.verifier-invalid"),
        (["verify", "--pin", "x" * 5000], "keys.verifier-invalid"),
        (["verify", "--anchor", "missing"], "cli.bad-value"),
        (["verify", "--anchor", "/dev/null"], "cli.bad-value"),
        (["ledger", "show", "--limit", "0"], "cli.bad-value"),
        (["ledger", "nonsense"], "cli.unknown-command"),
    ],
)
def test_wrong_usage_is_exit_two_with_a_code(
    home: Path, console: Console, arguments: list[str], code: str
) -> None:
    assert console.json(2, *arguments)["error"]["code"] == code


def test_a_run_is_verified_with_its_whole_home_and_its_claims(
    home: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def recheck(opened: object, run: str) -> app.RunRecheck:
        asked.append(run)
        return app.RunRecheck(3, ("finding f-1 does not follow",) if run == "run-bad" else ())

    monkeypatch.setattr(app, "recheck_run", recheck)

    good = console.json(0, "verify", "run-good")
    bad = console.json(3, "verify", "run-bad")

    assert asked == ["run-good", "run-bad"]
    assert good["run"] == {"id": "run-good", "checked": 3, "problems": []} and good["blobs"]["checked"] == 2
    assert (bad["verdict"], bad["code"], bad["first_bad"]) == ("broken", "integrity.claim-unfounded", None)
    assert console.run("verify", "run-bad") == 3 and "finding f-1 does not follow" in console.out


def test_the_claims_of_a_run_in_a_broken_home_are_not_asked_for(
    home: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "recheck_run", lambda *_: pytest.fail("asked for claims over a broken log"))
    Forge(home).edit(7, "subject", "x")

    assert console.json(3, "verify", "run-good")["run"] is None


def test_head_names_size_root_and_the_key_to_pin(home: Path, console: Console) -> None:
    answer = console.json(0, "ledger", "head")

    forge = Forge(home)
    assert answer["size"] == SIZE and answer["head"] == verify_home(home).head
    assert answer["verifier"] == forge.key.verifier(origin_of(forge.home_id))
    (home / "keys" / "ledger.pub").unlink()
    assert console.json(0, "ledger", "head")["verifier"] is None
    assert console.run("ledger", "head") == 0 and f"size     {SIZE}\n" in console.out


def test_show_gives_one_entry_or_the_newest_that_match(home: Path, console: Console) -> None:
    one = console.json(0, "ledger", "show", 7)
    newest = console.json(0, "ledger", "show", "--limit", 3)
    of_kind = console.json(0, "ledger", "show", "--kind", "record.put")
    of_run = console.json(0, "ledger", "show", "--run", "run-1", "--limit", 2)
    by_record = console.json(0, "ledger", "show", of_kind["entries"][0]["payload"]["id"])

    assert [entry["index"] for entry in one["entries"]] == [7]
    assert [entry["index"] for entry in newest["entries"]] == [SIZE - 3, SIZE - 2, SIZE - 1]
    assert of_kind["entries"] == by_record["entries"] and of_kind["entries"][0]["index"] == BLOB_ENTRY
    assert [entry["index"] for entry in of_run["entries"]] == [8, 9]
    assert console.json(0, "ledger", "show", "--subject", "nobody")["entries"] == []


def test_show_in_words_is_a_table_or_one_whole_entry(home: Path, console: Console) -> None:
    assert console.run("ledger", "show", "--kind", "record.put") == 0
    assert "record.put recall.session" in console.out
    assert console.run("ledger", "show", 7) == 0
    assert json.loads(console.out)["index"] == 7 and console.out.isascii()
    assert console.run("ledger", "show", "--kind", "nothing") == 0 and "no entry matches" in console.out


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("99", "ledger.entry-absent"),
        ("9" * 18, "ledger.entry-absent"),
        ("9" * 40, "record.absent"),
        ("r-x", "record.absent"),
    ],
)
def test_an_entry_that_is_not_there_is_named(home: Path, console: Console, target: str, code: str) -> None:
    for verb in ("show", "prove"):
        assert console.json(1, "ledger", verb, target)["error"]["code"] == code


def test_a_proof_can_be_checked_by_hand(home: Path, console: Console) -> None:
    verifier = console.json(0, "ledger", "head")["verifier"]
    for target in (0, 7, SIZE - 1):
        answer = console.json(0, "ledger", "prove", target)

        entry, signed = answer["entry"], open_note(answer["checkpoint"], [verifier])
        sealed = seal(entry["index"], bytes.fromhex(entry["previous"]), entry["body"].encode())
        assert sealed.hash.hex() == entry["hash"] and signed.size == answer["size"]
        path = [bytes.fromhex(node) for node in answer["proof"]]
        merkle.verify_inclusion(entry["index"], signed.size, merkle.leaf_hash(sealed.hash), path, signed.root)
    assert console.run("ledger", "prove", 7) == 0 and "is under the root" in console.out


def test_an_entry_that_no_checkpoint_covers_cannot_be_proved_yet(home: Path, console: Console) -> None:
    with open_home(home) as opened:
        opened.ledger.commit(next_batch(opened))

        assert console.json(4, "ledger", "prove", SIZE)["error"]["code"] == "ledger.not-checkpointed"


def test_a_checkpoint_is_printed_as_a_note_that_opens(home: Path, console: Console) -> None:
    verifier = console.json(0, "ledger", "head")["verifier"]

    assert console.run("ledger", "checkpoint") == 0
    printed = console.out
    answer = console.json(0, "ledger", "checkpoint")

    assert open_note(printed, [verifier]).size == SIZE and answer["note"] == printed


def test_a_missing_home_is_named(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sterling.kernel.contract_lock.check", lambda *_: None)

    for verb in ("head", "show", "checkpoint"):
        assert console.json(2, "ledger", verb, "--home", tmp_path / "none")["error"]["code"] == "home.missing"
