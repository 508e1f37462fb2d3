"""Tampering with what lies beside the log: the blobs it names and the copies outside.

As in `test_tampering.py`, every case runs both verifiers and starts from a whole home.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel.anchors import anchors_root
from sterling.kernel.canonical import parse_canonical
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.home import open_home
from sterling.kernel.verify import Verification, verify_home
from sterling.testing.forged_ledgers import (
    BLOB_ENTRY,
    SIZE,
    SPILLED_ENTRY,
    STRANGER,
    Forge,
    anchors_of,
    copy_home,
    generate,
)


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
def forge(home: Path) -> Iterator[Forge]:
    made = Forge(home)
    yield made
    made.database.close()


def both(
    home: Path, *, blobs: bool = False, notes: tuple[str, ...] = (), pin: str | None = None
) -> Verification:
    """What both verifiers say; they must say the same."""
    ours = verify_home(home, blobs=blobs, notes=notes, pin=pin)
    theirs = standalone_verify.verify(home, pin, notes, blobs=blobs)
    same = ("verdict", "exit", "code", "home_id", "size", "head", "anchored_to", "unanchored", "checkpoints")
    told = ours.as_json()
    assert {name: told[name] for name in same} == {name: theirs[name] for name in same}
    for name in ("low", "high", "code"):
        assert (told["first_bad"] or {}).get(name) == (theirs["first_bad"] or {}).get(name)
    return ours


def broken(home: Path, code: str, low: int | None, high: int | None, *, blobs: bool = False) -> Verification:
    found = both(home, blobs=blobs)
    assert found.first_bad is not None, f"expected {code}, found {found.verdict}: {found.code}"
    assert (found.code, found.first_bad.low, found.first_bad.high) == (f"integrity.{code}", low, high)
    assert (found.verdict, found.exit) == ("broken", 3)
    return found


# Blobs


def blob_of(home: Path, index: int) -> Path:
    with open_home(home, read_only=True) as opened:
        entry = opened.ledger.entry(index)
    assert entry is not None
    body = parse_canonical(entry.body)["payload"]
    address = str(body["sources"][0]["blob"] if "sources" in body else body["blob"])
    return home / "blobs" / address[:2] / address[2:]


def altered(file: Path) -> str:
    raw = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    return "blob-altered"


def cut(file: Path) -> str:
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1])
    return "blob-altered"


def gone(file: Path) -> str:
    file.unlink()
    return "blob-missing"


def linked(file: Path) -> str:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")
    return "blob-altered"


@pytest.mark.parametrize("index", [BLOB_ENTRY, SPILLED_ENTRY])
@pytest.mark.parametrize("change", [altered, cut, gone, linked])
def test_changed_and_missing_bytes_are_named_by_the_entry_that_names_them(
    home: Path, index: int, change: Callable[[Path], str]
) -> None:
    code = change(blob_of(home, index))

    broken(home, code, index, index, blobs=True)
    assert both(home).exit == 0  # The log itself still holds; only --blobs looks at bytes.


def test_a_stray_file_that_is_not_what_its_name_says_is_found(home: Path) -> None:
    (home / "blobs" / "ab").mkdir(exist_ok=True)
    (home / "blobs" / "ab" / ("c" * 62)).write_bytes(b"nobody names me")

    broken(home, "blob-altered", None, None, blobs=True)


def test_a_tampered_log_wins_over_tampered_bytes(home: Path, forge: Forge) -> None:
    gone(blob_of(home, BLOB_ENTRY))
    forge.edit(7, "subject", "x")

    broken(home, "entry-altered", 7, 7, blobs=True)


# Nothing outside


def test_without_anchors_nobody_can_judge(home: Path) -> None:
    shutil.rmtree(anchors_root())

    found = both(home)

    assert (found.verdict, found.exit, found.code) == ("cannot-judge", 4, "integrity.no-anchor")
    assert found.anchored_to is None and found.unanchored == SIZE and found.first_bad is None


def test_broken_wins_over_cannot_judge(home: Path, forge: Forge) -> None:
    shutil.rmtree(anchors_root())
    forge.edit(7, "subject", "x")

    broken(home, "entry-altered", 7, 7)


@pytest.mark.parametrize("file", ["history.jsonl", "latest", "pin.json"])
@pytest.mark.parametrize("content", [b"garbage\n", b"{}\n", b"\xff\n"])
def test_an_anchor_that_cannot_be_read_vouches_for_nothing(home: Path, file: str, content: bytes) -> None:
    (anchors_of(home).folder / file).write_bytes(content)

    assert both(home).exit == 4


def test_a_copy_brought_along_vouches_where_the_folder_is_gone(home: Path, forge: Forge) -> None:
    note, pin = forge.note(14, forge.key), forge.key.verifier(origin_of(forge.home_id))
    shutil.rmtree(anchors_root())

    found = both(home, notes=(note,), pin=pin)
    assert (found.exit, found.anchored_to, found.unanchored) == (0, 14, SIZE - 14)

    forge.reseal([*forge.bodies()[:7], *forge.bodies()[8:]])
    assert both(home, notes=(note,), pin=pin).code == "integrity.root-mismatch"


def test_a_copy_of_another_log_or_key_brought_along_breaks(home: Path, forge: Forge) -> None:
    other = forge.note(9, forge.key, origin="sterling/home-other")

    assert both(home, notes=(forge.note(9, STRANGER),)).code == "integrity.key-unknown"
    assert both(home, notes=(other,)).code == "integrity.key-unknown"
    assert both(home, notes=("no note",)).exit == 4
    assert both(home, pin=STRANGER.verifier(origin_of(forge.home_id))).code == "integrity.key-unknown"
