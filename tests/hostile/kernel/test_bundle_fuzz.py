"""Bundles with anything anywhere in them: three verifiers, one answer, and never a crash.

A value somewhere in a JSON member is exchanged, dropped or added, the manifest is
made to fit, and where an entry's body was changed so is its hash.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel.bundle import Selection, export_bundle
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.chain import seal
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import open_home
from sterling.testing.forged_bundles import ask, pack, relist, unpack
from sterling.testing.forged_ledgers import generate

CASES = 600
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 1.5, 1e21, 1e300, 2**53 - 1, -(2**53) + 1, "", "x", "0", "0" * 64),
    *([], {}, [[]], {"blob": "0" * 64}, {"blobs": ["0" * 64, 5]}, "\u0000", "ä", "\U0001f600", "\ufeff", "é"),
    *(
        "a\nb",
        "__proto__",
        {"__proto__": 1},
        {"constructor": 1},
        "r-" + "a" * 26,
        "sterling/home-x",
        "\u2028",
    ),
)
SPELLINGS: tuple[tuple[bytes, bytes], ...] = (
    *((b":", b": "), (b"1", b"1.0"), (b"1", b"1e0"), (b"0", b"-0"), (b"0", b"00"), (b'"', b"'")),
    *((b"a", b"\\u0061"), (b"{", b"\xef\xbb\xbf{"), (b"t", b"\xff"), (b"}", b',"v":1}'), (b"}", b"},")),
    *((b"1", b"1E400"), (b"{", b"{" * 70), (b"/", b"\\/"), (b'"h', b'"\\ud83d'), (b"\n", b"\r\n")),
    *((b"1", b"9007199254740993"), (b"\n", b"\n\n"), (b"1", b"NaN")),
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
        with open_home(folder / "home") as home:
            made = [
                export_bundle(home, selection, folder / f"{at}.tar").file
                for at, selection in enumerate((Selection(), Selection("range", "1:12")))
            ]
    return [unpack(Path(file).read_bytes()) for file in made]


def exchanged(value: Any, dice: random.Random) -> Any:
    """A copy with one place in it changed."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(sorted(value))
        changed = {name: each for name, each in value.items() if name != key}
        chance = dice.random()
        if chance < 0.1:
            return changed
        if chance < 0.2:
            return value | {str(dice.choice(ODD)): dice.choice(ODD)}
        return changed | {key: exchanged(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        at = dice.randrange(len(value))
        return [*value[:at], exchanged(value[at], dice), *value[at + 1 :]]
    return dice.choice(ODD)


def with_other_body(line: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """The line with another body, sealed so that its hash fits."""
    body = canonical_bytes(exchanged(json.loads(line["body"]), dice), floats=True)
    if dice.random() < 0.4:
        body = body.replace(*dice.choice(SPELLINGS), 1)
    text = body.decode("utf-8", "replace")
    sealed = seal(line["index"], bytes.fromhex(line["previous"]), text.encode("utf-8"))
    return line | {"body": text, "hash": sealed.hash.hex()}


def mutated(members: dict[str, bytes], dice: random.Random) -> dict[str, bytes]:
    name = dice.choice(["manifest.json", "keys.json", "checkpoints.jsonl", "entries.jsonl", "entries.jsonl"])
    rows = members[name].split(b"\n")
    at = dice.randrange(max(1, len(rows) - 1))
    if dice.random() < 0.15:
        rows[at] = (rows[at] + b"\n" * (len(rows) > 1)).replace(*dice.choice(SPELLINGS), 1)
    else:
        line = json.loads(rows[at])
        is_body = name == "entries.jsonl" and dice.random() < 0.6
        line = with_other_body(line, dice) if is_body else exchanged(line, dice)
        rows[at] = canonical_bytes(line, floats=True)
    changed = members | {name: b"\n".join(rows)}
    return changed if name == "manifest.json" else relist(changed)


def test_whatever_stands_in_a_bundle_all_three_say_the_same(bundles: list[dict[str, bytes]]) -> None:
    dice = random.Random(16)
    made = []
    while len(made) < CASES:
        try:
            made.append(pack(mutated(dice.choice(bundles), dice)))
        except SterlingError:
            continue  # A value that canonical JSON cannot hold.

    answers = ask(made, None)

    codes = {found["code"] for found in answers}
    assert {found["exit"] for found in answers} == {3, 4}
    assert len(codes) >= 8, sorted(codes)
