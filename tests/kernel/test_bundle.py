"""Exporting and importing bundles: what is in one, what stays out, and the commands around it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.cli.main import main
from sterling.kernel import standalone_verify
from sterling.kernel.anchors import anchors_root
from sterling.kernel.batch import Batch
from sterling.kernel.bundle import (
    BundleNotWritten,
    BundleTooLarge,
    NothingSelected,
    RedactionsUnreadable,
    Selection,
    export_bundle,
    read_redactions,
)
from sterling.kernel.bundle_import import ImportAbsent, import_bundle, read_imported
from sterling.kernel.bundle_verify import verify_bundle
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.contracts import load_contracts
from sterling.kernel.hashing import address_of
from sterling.kernel.home import Home, init_home
from sterling.kernel.keys import load_key
from sterling.kernel.records import RecordMissing, Source
from sterling.testing.clock import FakeClock
from sterling.testing.forged_bundles import VERIFY_MJS, ask, lines_of, node, unpack

SESSION = {"source": "images", "machine": "", "zone": "UTC", "rules_hash": "0" * 64}
SECRET = b"card 4111 1111 1111 1111"


def session(home: Home, name: str, *sources: Source, run: str = "") -> str:
    """A record that came from others; its id."""
    batch = Batch(run=run)
    ref = home.records.put(batch, "recall.session", SESSION | {"name": name}, list(sources))
    home.ledger.commit(batch)
    return ref.id


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Three records, each from the one before it, over two runs; and entries of other things."""
    with init_home(tmp_path / "home", clock=FakeClock()) as made:
        unreadable = Source("image", blob=made.blobs.put(b"unreadable pixels"))
        first = session(
            made,
            "first",
            unreadable,
            Source("image", blob=made.blobs.put(b"pixels of " + SECRET)),
            run="run-a",
        )
        filler = Batch(run="run-c")
        filler.append("process.ended", {"command": "tool", "exit": 0})
        made.ledger.commit(filler)
        made.ledger.checkpoint()
        second = session(made, "second", Source("before", record=first), run="run-b")
        session(
            made,
            "third " + SECRET.decode(),
            Source("before", record=second),
            Source("image", blob=made.blobs.put(b"other pixels")),
            run="run-b",
        )
        spilled = Batch(run="run-c")
        spilled.append("process.started", {"command": "x" * 40_000, "pid": 1, "boot": "b"})
        made.ledger.commit(spilled)
        yield made


def pin_of(home: Home) -> str:
    return load_key(home.path / "keys", "ledger").verifier(origin_of(home.id))


def indexes(file: Path) -> list[int]:
    return [line["index"] for line in lines_of(unpack(file.read_bytes()), "entries.jsonl")]


def test_everything_holds_wherever_it_is_carried(home: Home, tmp_path: Path) -> None:
    made = export_bundle(home, Selection(), tmp_path / "all.tar")
    data = made.file.read_bytes()
    pin, size = pin_of(home), home.ledger.size()
    home.close()
    shutil.rmtree(home.path)
    shutil.rmtree(anchors_root())

    (pinned,), (unpinned,) = ask([data], pin), ask([data], None)

    assert (made.sha256, made.withheld, made.key_file) == (hashlib.sha256(data).hexdigest(), (), None)
    assert (pinned["exit"], pinned["entries"], pinned["blobs"]) == (0, size, 4)
    assert (unpinned["exit"], unpinned["verdict"]) == (4, "cannot-judge")
    assert made.file.stat().st_mode & 0o777 == 0o600


def test_the_same_log_and_selection_give_the_same_bytes(home: Home, tmp_path: Path) -> None:
    for at, selection in enumerate([Selection(), Selection("run", "run-b"), Selection("range", "1:4")]):
        one = export_bundle(home, selection, tmp_path / f"{at}-one.tar")
        two = export_bundle(home, selection, tmp_path / f"{at}-two.tar")

        assert one.sha256 == two.sha256 and one.file.read_bytes() == two.file.read_bytes()


def test_a_record_brings_everything_that_it_came_from(home: Home, tmp_path: Path) -> None:
    puts = list(home.ledger.read(kind="record.put"))
    made = export_bundle(home, Selection("record", puts[-1].payload["id"]), tmp_path / "record.tar")
    members = unpack(made.file.read_bytes())

    assert indexes(made.file) == [0, *(entry.index for entry in puts)]
    assert sum(name.startswith("blobs/") for name in members) == made.blobs == 3
    assert {"contracts/recall.session@1.0.json", "contracts/record.put@1.0.json"} <= members.keys()
    assert [line["size"] for line in lines_of(members, "checkpoints.jsonl")] == [home.ledger.size()]
    assert ask([made.file.read_bytes()], pin_of(home))[0]["exit"] == 0


def test_a_run_brings_the_sources_of_its_records_from_other_runs(home: Home, tmp_path: Path) -> None:
    made = export_bundle(home, Selection("run", "run-b"), tmp_path / "run.tar")
    runs = [entry.index for run in ("run-a", "run-b") for entry in home.ledger.read(run=run)]

    assert indexes(made.file) == [0, *runs]
    assert ask([made.file.read_bytes()], pin_of(home))[0]["exit"] == 0


def test_a_range_leaves_out_its_end_and_shows_when_it_was_first_covered(home: Home, tmp_path: Path) -> None:
    made = export_bundle(home, Selection("range", "1:3"), tmp_path / "range.tar")

    assert indexes(made.file) == [0, 1, 2]
    sizes = [line["size"] for line in lines_of(unpack(made.file.read_bytes()), "checkpoints.jsonl")]
    assert sizes == [3, home.ledger.size()]
    assert ask([made.file.read_bytes()], pin_of(home))[0]["exit"] == 0


@pytest.mark.parametrize(
    "selection",
    [
        Selection("run", "run-none"),
        Selection("run", ""),
        Selection("range", "7"),
        Selection("range", "3:3"),
        Selection("range", "-1:3"),
        Selection("range", "900:1000"),
        Selection("range", "a:b"),
    ],
)
def test_a_selection_of_nothing_writes_nothing(home: Home, tmp_path: Path, selection: Selection) -> None:
    with pytest.raises(NothingSelected):
        export_bundle(home, selection, tmp_path / "none.tar")
    with pytest.raises(RecordMissing):
        export_bundle(home, Selection("record", "r-none"), tmp_path / "none.tar")

    assert not (tmp_path / "none.tar").exists()


def test_a_file_that_is_there_is_never_written_over(home: Home, tmp_path: Path) -> None:
    (tmp_path / "taken.tar").write_bytes(b"somebody's")
    (tmp_path / "link.tar").symlink_to(tmp_path / "elsewhere")

    for name in ("taken.tar", "link.tar", "missing/file.tar"):
        with pytest.raises(BundleNotWritten):
            export_bundle(home, Selection(), tmp_path / name)

    assert (tmp_path / "taken.tar").read_bytes() == b"somebody's" and not (tmp_path / "elsewhere").exists()


def test_an_export_that_fails_leaves_no_file(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sterling.kernel.bundle.MEMBERS_MAX", 2)
    with pytest.raises(BundleTooLarge):
        export_bundle(home, Selection(), tmp_path / "large.tar")

    def fails(_: bytes) -> bytes:
        raise OSError(28, "No space left on device")

    with pytest.raises(BundleNotWritten):
        export_bundle(home, Selection(), tmp_path / "full.tar", redactor=fails)
    assert not list(tmp_path.glob("*.tar*"))


@pytest.mark.parametrize("harm", ["altered", "absent"])
def test_a_blob_that_cannot_be_given_is_listed_with_its_reason(home: Home, tmp_path: Path, harm: str) -> None:
    address = next(home.blobs.addresses())
    home.blobs.path(address).unlink()
    if harm == "altered":
        home.blobs.path(address).write_bytes(b"other bytes")

    made = export_bundle(home, Selection(), tmp_path / "all.tar")

    assert made.withheld == ({"id": address, "reason": f"blob.{harm}"},)
    assert ask([made.file.read_bytes()], pin_of(home))[0]["withheld"] == [dict(made.withheld[0])]


def test_what_is_written_meanwhile_stays_out(home: Home, tmp_path: Path) -> None:
    def meanwhile(data: bytes) -> bytes:
        batch = Batch()
        batch.append("process.ended", {"command": "tool", "exit": 0})
        home.ledger.commit(batch)
        home.ledger.checkpoint()
        return data

    for selection in (Selection(), Selection("run", "run-b")):
        size = home.ledger.size()
        made = export_bundle(home, selection, tmp_path / f"{size}.tar", redactor=meanwhile)
        (found,) = ask([made.file.read_bytes()], pin_of(home))

        assert (found["exit"], found["size"]) == (0, size) and home.ledger.size() > size


# Copies that may leave


def redact(data: bytes) -> bytes | None:
    """A recognizer of card numbers that cannot read what holds no text."""
    if data == b"unreadable pixels":
        return None
    return re.sub(rb"\b(?:\d{4} ){3}\d{4}\b", b"<card>", data)


def test_a_redacted_bundle_holds_no_secret_and_still_proves_the_originals(home: Home, tmp_path: Path) -> None:
    before = {address: home.blobs.get(address) for address in home.blobs.addresses()}
    made = export_bundle(home, Selection(), tmp_path / "clean.tar", redactor=redact)
    data = made.file.read_bytes()
    (found,) = ask([data], pin_of(home))
    reasons = {each["id"]: each["reason"] for each in made.withheld}

    assert SECRET not in data and b"1111 1111" not in data and b"other pixels" not in data
    assert (found["exit"], found["entries"], found["size"]) == (0, home.ledger.size(), home.ledger.size())
    assert reasons[address_of(b"pixels of " + SECRET)] == "redacted"
    assert reasons[address_of(b"unreadable pixels")] == "left-out"
    assert reasons[address_of(b"other pixels")] == "named-by-withheld"
    assert sorted(reason for id, reason in reasons.items() if id.startswith("entry:")) == ["redacted"]
    assert {address: home.blobs.get(address) for address in home.blobs.addresses()} == before


def test_which_copy_is_of_what_only_the_key_beside_the_bundle_says(home: Home, tmp_path: Path) -> None:
    made = export_bundle(home, Selection(), tmp_path / "clean.tar", redactor=redact)
    members = unpack(made.file.read_bytes())
    assert made.key_file is not None and made.key_file.stat().st_mode & 0o777 == 0o600
    key = bytes.fromhex(made.key_file.read_text())
    copies = read_redactions(members["copies.bin"], key, made.origin)
    copy = copies[address_of(b"pixels of " + SECRET)]

    assert members[f"copies/{copy}"] == b"pixels of card <card>"
    assert copy not in members["entries.jsonl"].decode()
    for wrong_key, origin in ((bytes(32), made.origin), (key, "sterling/home-other"), (b"", made.origin)):
        with pytest.raises(RedactionsUnreadable):
            read_redactions(members["copies.bin"], wrong_key, origin)
    again = export_bundle(home, Selection(), tmp_path / "again.tar", redactor=redact)
    assert again.key_file is not None and again.key_file.read_text() != made.key_file.read_text()


def test_a_redactor_that_changes_nothing_withholds_nothing(home: Home, tmp_path: Path) -> None:
    made = export_bundle(home, Selection(), tmp_path / "same.tar", redactor=lambda data: data)

    assert made.withheld == () and made.blobs == 4


# Taking one in


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "receiver", clock=FakeClock()) as made:
        yield made


def test_an_import_keeps_blobs_and_bundle_and_writes_one_entry(
    home: Home, receiver: Home, tmp_path: Path
) -> None:
    exported = export_bundle(home, Selection(), tmp_path / "all.tar")
    size = receiver.ledger.size()

    made = import_bundle(receiver, exported.file, pin=pin_of(home))

    (entry,) = receiver.ledger.read(after=size - 1)
    assert (made.entry, entry.kind, entry.subject) == (
        entry.index,
        "bundle.imported",
        f"import:{origin_of(home.id)}",
    )
    assert (entry.payload["verdict"], entry.payload["pin"]) == ("ok", pin_of(home))
    assert made.address == entry.payload["blob"] == exported.sha256
    assert set(receiver.blobs.addresses()) == {exported.sha256, *home.blobs.addresses()}


def test_a_foreign_entry_is_named_by_origin_and_id(home: Home, receiver: Home, tmp_path: Path) -> None:
    import_bundle(receiver, export_bundle(home, Selection(), tmp_path / "all.tar").file, pin=pin_of(home))
    record = next(home.ledger.read(kind="record.put"))
    origin = origin_of(home.id)

    for id in (str(record.index), record.payload["id"]):
        assert read_imported(receiver, f"import:{origin}:{id}") == record
    for wrong in (
        f"import:{origin}:900",
        "import:sterling/home-other:1",
        f"import:{origin}:r-none",
        "import:",
    ):
        with pytest.raises(ImportAbsent):
            read_imported(receiver, wrong)
    assert not receiver.records.has(record.payload["id"])


def test_what_was_imported_can_be_exported_with_its_bundle(
    home: Home, receiver: Home, tmp_path: Path
) -> None:
    import_bundle(receiver, export_bundle(home, Selection(), tmp_path / "all.tar").file, pin=pin_of(home))
    made = export_bundle(receiver, Selection(), tmp_path / "onward.tar")
    (found,) = ask([made.file.read_bytes()], pin_of(receiver))

    assert (found["exit"], found["blobs"]) == (0, 5)


# Commands


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
        assert self.run(*arguments, "--json") == exit, self.out + self.err
        answer = json.loads(self.out)
        if "error" not in answer:
            load_contracts().validate(answer["contract"], answer)
        return answer


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Home) -> Console:
    monkeypatch.setenv("STERLING_HOME", str(home.path))
    monkeypatch.setattr("sterling.kernel.contract_lock.check", lambda *_: None)
    home.ledger.close()
    return Console(capsys)


def test_the_commands_export_verify_and_import(console: Console, home: Home, tmp_path: Path) -> None:
    file, pin = tmp_path / "all.tar", pin_of(home)
    made = console.json(0, "ledger", "export", "--all", "-o", file)
    manifest = json.loads(unpack(file.read_bytes())["manifest.json"])
    load_contracts().validate("bundle.manifest@1.0", manifest)

    assert console.json(0, "verify", file, "--pin", pin)["entries"] == made["entries"]
    assert console.json(4, "verify", file)["code"] == "integrity.no-anchor"
    assert console.run("verify", file, "--pin", pin) == 0 and console.out.startswith("ok ")
    assert console.json(3, "ledger", "import", file)["error"]["code"] == "bundle.unverified"
    assert console.json(0, "ledger", "import", file, "--unpinned")["verdict"] == "cannot-judge"
    assert console.json(0, "ledger", "import", file, "--pin", pin)["verdict"] == "ok"


def test_a_foreign_entry_can_be_shown(console: Console, home: Home, tmp_path: Path) -> None:
    file, record = tmp_path / "all.tar", next(home.ledger.read(kind="record.put"))
    assert console.run("ledger", "export", "--all", "-o", file) == 0
    assert console.run("ledger", "import", file, "--unpinned") == 0

    shown = console.json(0, "ledger", "show", f"import:{origin_of(home.id)}:{record.payload['id']}")

    assert [entry["hash"] for entry in shown["entries"]] == [record.hash.hex()]
    assert console.run("ledger", "show", "import:sterling/home-other:1") == 2


def test_a_broken_bundle_is_exit_three_with_its_member_named(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "all.tar"
    assert console.run("ledger", "export", "--range", "0:2", "-o", file) == 0
    data = bytearray(file.read_bytes())
    data[data.index(b'{"body"')] ^= 1
    file.write_bytes(data)

    assert console.json(3, "verify", file)["first_bad"]["member"] == "entries.jsonl"
    assert console.run("verify", file) == 3 and "entries.jsonl" in console.out
    assert console.json(3, "ledger", "import", file)["error"]["code"] == "bundle.malformed"
    (tmp_path / "empty.tar").touch()
    assert console.json(3, "verify", tmp_path / "empty.tar")["code"] == "bundle.malformed"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ledger", "export", "-o", "x.tar"],
        ["ledger", "export", "--all", "--run", "run-a", "-o", "x.tar"],
        ["ledger", "export", "--all"],
        ["ledger", "import", "missing.tar"],
        ["ledger", "import", "README.md", "--format", "jsonl-chain"],
        ["ledger", "import", "README.md", "--format", "other"],
        ["verify", "README.md"],
    ],
)
def test_wrong_usage_is_exit_two(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("no bundle\n")

    assert console.run(*arguments) == 2


def test_options_for_homes_do_not_go_with_a_bundle(console: Console, tmp_path: Path) -> None:
    file = tmp_path / "all.tar"
    assert console.run("ledger", "export", "--all", "-o", file) == 0

    for option in ("--deep", "--require-anchored"):
        assert console.run("verify", file, option) == 2


def test_a_record_is_proved_with_everything_it_came_from(console: Console, home: Home) -> None:
    puts = list(home.ledger.read(kind="record.put"))
    proof = console.json(0, "ledger", "prove", puts[-1].payload["id"])
    root = bytes.fromhex(proof["root"])

    assert [source["index"] for source in proof["sources"]] == [entry.index for entry in puts[:-1]]
    for source in proof["sources"]:
        leaf = hashlib.sha256(b"\x00" + bytes.fromhex(source["hash"])).digest()
        nodes = [bytes.fromhex(each) for each in source["proof"]]
        assert standalone_verify.proved_root(source["index"], proof["size"], leaf, nodes) == root
    assert console.json(0, "ledger", "prove", "0")["sources"] == []


# The other two, as programs


def test_the_stand_alone_programs_have_the_same_exits(home: Home, tmp_path: Path) -> None:
    file, pin = tmp_path / "all.tar", pin_of(home)
    export_bundle(home, Selection(), file)
    (tmp_path / "bad.tar").write_bytes(file.read_bytes()[:-1])
    script = shutil.copy(standalone_verify.__file__, tmp_path / "check.py")
    programs = [[sys.executable, str(script)]]
    if node() is not None:
        programs.append([str(node()), shutil.copy(VERIFY_MJS, tmp_path / "verify.mjs")])

    def exit_of(program: list[str], *arguments: object) -> int:
        environment = {**os.environ, "PYTHONPATH": ""}
        command = [*program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, env=environment, check=False).returncode

    for program in programs:
        assert exit_of(program, file, "--pin", pin) == verify_bundle(file, pin).exit == 0
        assert exit_of(program, file) == verify_bundle(file).exit == 4
        assert exit_of(program, tmp_path / "bad.tar", "--pin", pin) == 3
        assert exit_of(program, file, "--pin", "nonsense") == 2
        assert exit_of(program, tmp_path / "missing.tar") == 2


def test_javascript_without_ed25519_never_says_that_a_bundle_holds(home: Home, tmp_path: Path) -> None:
    if node() is None:
        pytest.skip("no Node.js on this machine")
    file = tmp_path / "all.tar"
    export_bundle(home, Selection(), file)
    code = f"""
        import {{ readFile }} from "node:fs/promises";
        const real = crypto.subtle.importKey.bind(crypto.subtle);
        crypto.subtle.importKey = (form, key, name, ...rest) => name === "Ed25519"
          ? Promise.reject(new DOMException("Unrecognized name", "NotSupportedError"))
          : real(form, key, name, ...rest);
        const {{ verifyBundle }} = await import({json.dumps(VERIFY_MJS.as_uri())});
        const bytes = new Uint8Array(await readFile({json.dumps(str(file))}));
        const found = await verifyBundle(bytes, {json.dumps(pin_of(home))});
        console.log(JSON.stringify(found));
    """
    done = subprocess.run(
        [str(node()), "--input-type=module", "-e", code], capture_output=True, text=True, check=True
    )

    found = json.loads(done.stdout)
    assert (found["exit"], found["verdict"]) == (4, "cannot-judge")
    assert "signature not checked" in found["message"]


def test_python_without_cryptography_never_says_that_a_bundle_holds(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_bundle(home, Selection(), tmp_path / "all.tar")
    monkeypatch.setattr(standalone_verify, "CAN_CHECK_SIGNATURES", False)

    assert standalone_verify.verify_bundle(tmp_path / "all.tar", pin_of(home))["exit"] == 4
