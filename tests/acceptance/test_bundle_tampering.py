"""Promise 4 for what is carried away: each thing done to a log, exported and asked of three verifiers.

The verifiers share no code: `bundle_verify.py`, `standalone_verify.py`, and
`verify.mjs` under Node.js and in Chromium. They must name the same member, code
and first bad entry each time.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.blobs import Blobs
from sterling.kernel.chain import seal
from sterling.kernel.checkpoint import Checkpoint, origin_of, sign_note
from sterling.testing.forged_bundles import VERIFY_MJS, ask, dump, node, pack, relist, unpack
from sterling.testing.forged_ledgers import (
    COLUMNS,
    SIZE,
    SIZES,
    SPILLED_ENTRY,
    STRANGER,
    Forge,
    copy_home,
    flips,
    generate,
)

Change = Callable[[Forge], None]


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


@pytest.fixture
def pin(forge: Forge) -> str:
    return forge.key.verifier(origin_of(forge.home_id))


def test_javascript_is_asked_too() -> None:
    if node() is None:
        pytest.skip("no Node.js on this machine: two verifiers are compared instead of three")

    assert VERIFY_MJS.is_file()


def test_the_untouched_twin_holds(home: Path, forge: Forge, pin: str) -> None:
    bundle = dump(forge, home)

    (pinned,), (unpinned,) = ask([bundle], pin), ask([bundle], None)

    assert (pinned["verdict"], pinned["exit"], pinned["size"], pinned["blobs"]) == ("ok", 0, SIZE, 2)
    assert (unpinned["verdict"], unpinned["exit"], unpinned["code"]) == (
        "cannot-judge",
        4,
        "integrity.no-anchor",
    )


def edit(index: int, column: str, value: Any) -> Change:
    return lambda forge: forge.edit(index, column, value)


def respell(old: bytes, new: bytes) -> Change:
    """Write an entry in another way and seal the log again, without signing."""

    def change(forge: Forge) -> None:
        bodies = forge.bodies()
        bodies[7] = bodies[7].replace(old, new, 1)
        assert bodies != forge.bodies()
        forge.reseal(bodies)

    return change


def in_turn(*changes: Change) -> Change:
    def change(forge: Forge) -> None:
        for each in changes:
            each(forge)

    return change


def renumber(forge: Forge) -> None:
    forge.delete(7)
    for later in range(8, SIZE):
        forge.edit(later, "index", later - 1)


def insert(forge: Forge) -> None:
    for later in reversed(range(7, SIZE)):
        forge.edit(later, "index", later + 1)
    forge.insert(seal(7, forge.value(6, "hash"), forge.value(6, "body")))


def swap(forge: Forge) -> None:
    forge.edit(6, "index", -5)
    forge.edit(7, "index", 6)
    forge.edit(-5, "index", 7)


def repeat(forge: Forge) -> None:
    for column in COLUMNS:
        forge.edit(8, column, forge.value(7, column))


def another_key_throughout(forge: Forge) -> None:
    bodies = forge.bodies()
    bodies[0] = bodies[0].replace(forge.key.fingerprint.encode(), STRANGER.fingerprint.encode())
    forge.reseal(bodies)
    forge.sign(STRANGER, SIZES)


def without_types(forge: Forge) -> None:
    forge.database.executescript(
        'CREATE TABLE other ("index" TEXT, hash, previous, kind, contract, subject, run, at_us, body);'
        "INSERT INTO other SELECT * FROM entries; DROP TABLE entries; ALTER TABLE other RENAME TO entries;"
    )


def earlier(forge: Forge) -> None:
    bodies = forge.bodies()
    at = json.loads(bodies[7])["at_us"]
    bodies[7] = bodies[7].replace(str(at).encode(), b"5")
    forge.reseal(bodies)


FOOL = respell(b'"tool"', b'"fool"')
CASES: list[tuple[str, Change, str, int | None, int | None]] = [
    ("hash gone", edit(7, "hash", b""), "entry-altered", 7, 7),
    ("hash of zeros", edit(7, "hash", bytes(32)), "entry-altered", 7, 7),
    ("previous", edit(7, "previous", b"\x01" * 32), "entry-altered", 7, 7),
    ("first body", edit(0, "body", b"{}"), "entry-altered", 0, 0),
    ("no body", edit(7, "body", b""), "entry-altered", 7, 7),
    ("deep body", edit(7, "body", b"[" * 100_000), "entry-altered", 7, 7),
    ("bytes", edit(7, "body", b"\xff\xfe"), "entry-altered", 7, 7),
    ("last body", edit(SIZE - 1, "body", b'{"at_us":1,"at_us":2}'), "entry-altered", SIZE - 1, SIZE - 1),
    ("index", edit(7, "index", 700), "chain-broken", 7, 7),
    ("types", without_types, "chain-broken", 0, 0),
    ("deleted", lambda forge: forge.delete(7), "chain-broken", 7, 7),
    ("first deleted", lambda forge: forge.delete(0), "chain-broken", 0, 0),
    ("renumbered", renumber, "chain-broken", 7, 7),
    ("inserted", insert, "chain-broken", 8, 8),
    ("swapped", swap, "chain-broken", 6, 6),
    ("repeated", repeat, "chain-broken", 8, 8),
    ("spaces", respell(b'":', b'": '), "entry-altered", 7, 7),
    ("escapes", respell(b"tool", b"\\u0074ool"), "entry-altered", 7, 7),
    ("surrogate", respell(b"tool", b"\\ud800ool"), "entry-altered", 7, 7),
    ("key twice", respell(b'"v":1}', b'"v":1,"v":1}'), "entry-altered", 7, 7),
    ("1.0", respell(b'"v":1', b'"v":1.0'), "entry-altered", 7, 7),
    ("minus zero", respell(b'"tool"', b"-0"), "entry-altered", 7, 7),
    ("version 2", respell(b'"v":1', b'"v":2'), "entry-altered", 7, 7),
    ("version true", respell(b'"v":1', b'"v":true'), "entry-altered", 7, 7),
    ("other field", respell(b'"kind":', b'"kinds":'), "entry-altered", 7, 7),
    ("list", respell(b"{", b"[{"), "entry-altered", 7, 7),
    ("66 deep", respell(b'"tool"', b"[" * 66 + b"]" * 66), "entry-altered", 7, 7),
    ("2^53", respell(b'"tool"', b"9007199254740992"), "entry-altered", 7, 7),
    ("beyond 2^53", respell(b'"tool"', b"9007199254740993"), "entry-altered", 7, 7),
    ("1e20 as digits", respell(b'"tool"', b"1" + b"0" * 20), "entry-altered", 7, 7),
    ("endless digits", respell(b'"tool"', b"9" * 5000), "entry-altered", 7, 7),
    ("NaN", respell(b'"tool"', b"NaN"), "entry-altered", 7, 7),
    ("too long", respell(b'"tool"', b'"' + b"x" * 70_000 + b'"'), "entry-altered", 7, 7),
    ("time", earlier, "time-unexplained", 7, 7),
    ("a fitting float", respell(b'"tool"', b"1e+21"), "root-mismatch", 4, 8),
    ("cut", lambda forge: forge.delete(*range(13, SIZE)), "tail-missing", 13, 13),
    ("emptied", lambda forge: forge.delete(*range(SIZE)), "tail-missing", 0, 0),
    ("went on", lambda forge: forge.reseal([*forge.bodies(), forge.bodies()[-1]]), "root-mismatch", 20, 20),
    ("sealed again", FOOL, "root-mismatch", 4, 8),
    ("another key", in_turn(FOOL, lambda forge: forge.sign(STRANGER, SIZES[2:])), "key-unknown", 4, 8),
    ("another key throughout", another_key_throughout, "key-unknown", 0, 0),
    ("size 0", lambda forge: forge.put_checkpoint(0, forge.note(4, forge.key)), "checkpoint-order", 0, None),
    ("beyond", lambda forge: forge.put_checkpoint(99, forge.note(4, forge.key)), "checkpoint-order", 20, 98),
    ("other size", lambda forge: forge.put_checkpoint(9, forge.note(4, forge.key)), "checkpoint-order", 4, 8),
    ("no note", lambda forge: forge.put_checkpoint(9, ""), "root-mismatch", 4, 8),
    (
        "another log's",
        lambda forge: forge.put_checkpoint(9, forge.note(9, forge.key, origin="sterling/home-other")),
        "key-unknown",
        4,
        8,
    ),
    (
        "larger than the log",
        lambda forge: forge.put_checkpoint(
            99, sign_note(Checkpoint(origin_of(forge.home_id), 99, bytes(32)), forge.key)
        ),
        "tail-missing",
        20,
        98,
    ),
]


def test_each_thing_done_to_a_log_is_found_in_its_bundle_by_all_three(
    original: Path, tmp_path: Path, pin: str
) -> None:
    bundles = []
    for at, (_, change, *_) in enumerate(CASES):
        copy_home(original / "home", original / "state", tmp_path / str(at))
        forge = Forge(tmp_path / str(at))
        change(forge)
        bundles.append(dump(forge, tmp_path / str(at)))
        forge.database.close()

    for pinned in (pin, None):
        for (name, _, code, low, high), found in zip(CASES, ask(bundles, pinned), strict=True):
            assert (found["verdict"], found["exit"]) == ("broken", 3), name
            assert found["first_bad"][1:] == [low, high, f"integrity.{code}"], name


def test_a_note_is_read_alike_whatever_byte_of_it_changes(home: Path, forge: Forge, pin: str) -> None:
    note, bundles = forge.note(9, forge.key), []
    for flipped in flips(note):
        forge.put_checkpoint(9, flipped.decode("utf-8", "replace"))
        bundles.append(dump(forge, home))

    for found in ask(bundles, pin):
        assert found["exit"] == 3 and found["first_bad"][1:3] == [4, 8]


def test_no_byte_of_a_bundle_can_change_unnoticed(home: Path, forge: Forge, pin: str) -> None:
    bundle = dump(forge, home)
    step = 67
    edited = [
        bundle[:at] + bytes([bundle[at] ^ 1 << at % 8]) + bundle[at + 1 :]
        for at in range(0, len(bundle), step)
    ]

    answers = ask(edited, pin)

    assert len(answers) > 900 and {found["exit"] for found in answers} == {3}


def test_documents_in_blobs_are_read_alike_however_they_are_spelled(
    home: Path, forge: Forge, pin: str
) -> None:
    named = b'{"blob":"' + b"1" * 64 + b'"}'
    documents = {
        named: 3,
        b"[" * 60 + named + b"]" * 60: 3,
        b"[" * 70 + named + b"]" * 70: 0,
        b"[" * 5000 + named + b"]" * 5000: 0,
        b"\xef\xbb\xbf" + named: 0,
        named.decode().encode("utf-16"): 0,
        named + b" ": 0,
        b"[NaN," + named + b"]": 0,
        b"\xff": 0,
        b"": 0,
    }
    bundles = []
    for document in documents:
        address = Blobs(home / "blobs").put(document)
        bodies = forge.bodies()
        body = json.loads(bodies[SPILLED_ENTRY])
        body["payload"] = {"blob": address, "size_bytes": len(document)}
        bodies[SPILLED_ENTRY] = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        forge.reseal(bodies)
        forge.sign(forge.key, SIZES)
        members = unpack(dump(forge, home))
        bundles.append(pack(relist(members, withheld=[])))

    for exit, found in zip(documents.values(), ask(bundles, pin), strict=True):
        assert found["exit"] == exit
        if exit:
            name = "blobs/" + "1" * 64
            assert found["first_bad"] == [name, SPILLED_ENTRY, SPILLED_ENTRY, "integrity.blob-missing"]


# The browser


@pytest.mark.slow
def test_a_browser_gives_the_same_answers(home: Path, forge: Forge, pin: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    bundles = [dump(forge, home)]
    forge.edit(7, "body", b"{}")
    bundles.append(dump(forge, home))
    bundles.append(pack(unpack(bundles[0]) | {"extra": b""}))
    source = "data:text/javascript;base64," + base64.b64encode(VERIFY_MJS.read_bytes()).decode()
    given = json.dumps([base64.b64encode(data).decode() for data in bundles])
    page = tmp_path / "page.html"
    page.write_text(
        f"""<!doctype html><meta charset="utf-8"><pre id="answer"></pre><script type="module">
        import {{ verifyBundle }} from "{source}";
        const found = [];
        for (const text of {given})
          found.push(await verifyBundle(Uint8Array.from(atob(text), (each) => each.charCodeAt(0)), "{pin}"));
        document.getElementById("answer").textContent = "answer:" + btoa(JSON.stringify(found)) + ":";
        </script>"""
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    found = re.search("answer:([A-Za-z0-9+/=]+):", done.stdout)
    assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
    answers = json.loads(base64.b64decode(found[1]))
    told = [(each["exit"], each["code"], (each["first_bad"] or {}).get("low")) for each in answers]
    expected = [(0, "", None), (3, "integrity.entry-altered", 7), (3, "bundle.malformed", None)]
    assert told == expected
    assert [each["code"] for each in ask(bundles, pin)] == [code for _, code, _ in expected]
