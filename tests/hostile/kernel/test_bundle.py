"""Bundles under attack: members dropped, swapped, edited and added; parts forged; keys changed.

Every bundle is given to all verifiers, which must agree. The mutants at the end
take one check away each, and the attack that it stops must then go through.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import bundle_verify, key_history, merkle
from sterling.kernel.bundle import BLOCK_BYTES, Selection, export_bundle
from sterling.kernel.bundle_verify import check_bundle
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.chain import seal
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, origin_of, sign_note
from sterling.kernel.home import open_home
from sterling.kernel.key_history import KeyHistory, revocation_payload, rotation_payload
from sterling.kernel.signing import Signer, Verifier, fingerprint_of, parse_verifier
from sterling.testing.forged_bundles import ask, dump, lines_of, pack, relist, unpack, with_lines
from sterling.testing.forged_ledgers import SIZE, SIZES, STRANGER, Forge, copy_home, generate

Members = dict[str, bytes]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
        with open_home(folder / "home") as home:
            export_bundle(home, Selection(), folder / "all.tar")
            export_bundle(home, Selection("range", "2:12"), folder / "part.tar")
    return folder


@pytest.fixture
def forge(original: Path, tmp_path: Path) -> Iterator[Forge]:
    copy_home(original / "home", original / "state", tmp_path / "home")
    made = Forge(tmp_path / "home")
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def whole(original: Path) -> Members:
    return unpack((original / "all.tar").read_bytes())


@pytest.fixture(scope="module")
def part(original: Path) -> Members:
    return unpack((original / "part.tar").read_bytes())


@pytest.fixture(scope="module")
def key(original: Path) -> Signer:
    return Forge(original / "home").key


@pytest.fixture(scope="module")
def pin(whole: Members) -> str:
    return str(json.loads(whole["keys.json"])["ledger"])


def blob_of(members: Members) -> str:
    return next(name for name in members if name.startswith("blobs/"))


# One member dropped, swapped, edited or added


@pytest.mark.parametrize("which", ["whole", "part"])
def test_a_member_dropped_edited_or_swapped_is_named(
    which: str, pin: str, request: pytest.FixtureRequest
) -> None:
    members: Members = request.getfixturevalue(which)
    bundles, named = [], []
    for name, data in members.items():
        others = [other for other in members if other not in (name, "manifest.json")]
        changes = [{name: data + b"x"}, {name: data[:-1]}, {name: members[others[0]]}]
        bundles += [pack({other: members[other] for other in members if other != name})]
        bundles += [pack(members | change) for change in changes]
        named += [name] * 4

    for name, found in zip(named, ask(bundles, pin), strict=True):
        assert (found["exit"], found["first_bad"][0]) == (3, name)
        assert found["first_bad"][3] == "bundle.malformed"


@pytest.mark.parametrize(
    "name", ["blobs/" + "0" * 64, "contracts/error@1.0.json", "copies/" + "0" * 64, "aa"]
)
def test_a_member_added_is_named(whole: Members, pin: str, name: str) -> None:
    added = pack(whole | {name: b"x"})
    (found,) = ask([added], pin)

    assert (found["exit"], found["first_bad"][0]) == (3, name)


def test_a_member_added_with_a_manifest_that_fits_is_named(whole: Members, pin: str) -> None:
    address = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # sha256sum of "x"
    names = [f"blobs/{address}", "contracts/error@1.0.json", "blobs/" + "0" * 64]

    for name, found in zip(
        names, ask([pack(relist(whole | {name: b"x"})) for name in names], pin), strict=True
    ):
        assert (found["exit"], found["first_bad"][0]) == (3, name)


def test_a_blob_dropped_with_a_manifest_that_fits_is_missing_at_its_entry(whole: Members, pin: str) -> None:
    name = blob_of(whole)
    left = {other: data for other, data in whole.items() if other != name}
    (found,) = ask([pack(relist(left))], pin)

    assert found["first_bad"] == [name, 2, 2, "integrity.blob-missing"]


def test_a_blob_that_is_listed_as_withheld_is_shown_and_not_missed(whole: Members, pin: str) -> None:
    name = blob_of(whole)
    left = {other: data for other, data in whole.items() if other != name}
    withheld = [{"id": name.partition("/")[2], "reason": "said to be private"}]
    (found,) = ask([pack(relist(left, withheld=withheld))], pin)

    assert found["exit"] == 0 and found["withheld"] == withheld


@pytest.mark.parametrize("name", ["entries.jsonl", "checkpoints.jsonl", "keys.json"])
def test_a_needed_member_dropped_with_a_manifest_that_fits_is_named(
    whole: Members, pin: str, name: str
) -> None:
    left = {other: data for other, data in whole.items() if other != name}
    (found,) = ask([pack(relist(left))], pin)

    assert found["first_bad"] == [name, None, None, "bundle.malformed"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "sterling/bundle/2"},
        {"origin": "sterling/home-other"},
        {"origin": "../home"},
        {"selection": {"by": "some", "value": ""}},
        {"selection": {"by": "all", "value": 1}},
        {"selection": "all"},
        {"withheld": [{"id": "x"}]},
        {"withheld": [{"id": "x", "reason": 5}]},
        {"withheld": {}},
        {"extra": 1},
    ],
)
def test_a_manifest_that_says_something_else_is_refused(whole: Members, pin: str, change: Any) -> None:
    (found,) = ask([pack(relist(whole, **change))], pin)

    assert found["exit"] == 3 and found["first_bad"][0] in ("manifest.json", "keys.json")


def test_a_manifest_in_another_spelling_is_refused(whole: Members, pin: str) -> None:
    manifest = whole["manifest.json"]
    twins = [
        manifest + b"\n",
        manifest.replace(b":", b": ", 1),
        b"\xef\xbb\xbf" + manifest,
        b"{}",
        b"[]",
        b"",
    ]

    for found in ask([pack(whole | {"manifest.json": twin}) for twin in twins], pin):
        assert found["first_bad"] == ["manifest.json", None, None, "bundle.malformed"]


# Entries and proofs rewritten, with a manifest that fits


def entry_lines(members: Members) -> list[Any]:
    return lines_of(members, "entries.jsonl")


def test_a_part_whose_proof_is_another_entry_s_is_found(part: Members, pin: str) -> None:
    lines = entry_lines(part)
    lines[3]["proof"], lines[4]["proof"] = lines[4]["proof"], lines[3]["proof"]
    (found,) = ask([pack(with_lines(part, "entries.jsonl", lines))], pin)

    at = lines[3]["index"]
    assert found["first_bad"] == ["entries.jsonl", at, at, "integrity.proof-invalid"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda proof: proof[:-1],
        lambda proof: [*proof, "0" * 64],
        lambda proof: ["0" * 64, *proof[1:]],
        lambda proof: proof[::-1],
        lambda _: [],
        lambda _: "none",
        lambda proof: [proof[0].upper(), *proof[1:]],
        lambda proof: [5, *proof[1:]],
    ],
)
def test_a_proof_too_long_too_short_or_wrong_is_refused(
    part: Members, pin: str, spoil: Callable[[Any], Any]
) -> None:
    lines = entry_lines(part)
    lines[2]["proof"] = spoil(lines[2]["proof"])
    (found,) = ask([pack(with_lines(part, "entries.jsonl", lines))], pin)

    at = lines[2]["index"]
    assert found["first_bad"] == ["entries.jsonl", at, at, "integrity.proof-invalid"]


def test_an_entry_of_a_part_that_never_was_has_no_proof(part: Members, pin: str) -> None:
    lines = entry_lines(part)
    body = lines[-1]["body"].replace('"tool"', '"fool"')
    sealed = seal(lines[-1]["index"], bytes.fromhex(lines[-1]["previous"]), body.encode())
    lines[-1] |= {"body": body, "hash": sealed.hash.hex()}
    (found,) = ask([pack(with_lines(part, "entries.jsonl", lines))], pin)

    assert found["first_bad"][1:] == [11, 11, "integrity.proof-invalid"]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda lines: lines[1:], "bundle.malformed"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "bundle.malformed"),
        (lambda lines: [*lines, lines[-1]], "bundle.malformed"),
        (lambda lines: [*lines[:-1], lines[-1] | {"index": 400}], "integrity.entry-altered"),
        (lambda lines: [*lines[:-1], lines[-1] | {"index": 1.5}], "bundle.malformed"),
        (lambda lines: [*lines[:-1], lines[-1] | {"note": ""}], "bundle.malformed"),
        (lambda lines: [*lines[:-1], lines[-1] | {"body": 7}], "bundle.malformed"),
        (lambda lines: [*lines[:-1], lines[-1] | {"previous": "0" * 64}], "integrity.entry-altered"),
        (lambda lines: [*lines[:-1], lines[-1] | {"withheld": "why"}], "bundle.malformed"),
        (lambda lines: [[], *lines], "bundle.malformed"),
    ],
)
def test_lines_of_another_shape_or_order_are_refused(
    part: Members, pin: str, spoil: Callable[[Any], Any], code: str
) -> None:
    lines = spoil(entry_lines(part))
    data = b"".join(canonical_bytes(line, floats=True) + b"\n" for line in lines)
    (found,) = ask([pack(relist(part | {"entries.jsonl": data}))], pin)

    assert (found["exit"], found["first_bad"][0], found["first_bad"][3]) == (3, "entries.jsonl", code)


def test_a_body_taken_out_without_being_listed_is_refused(part: Members, pin: str) -> None:
    lines = entry_lines(part)
    lines[-1]["withheld"] = "quietly"
    del lines[-1]["body"]
    quiet = with_lines(part, "entries.jsonl", lines)
    said = relist(quiet, withheld=[{"id": "entry:11", "reason": "private"}])

    first, second = ask([pack(quiet), pack(said)], pin)

    assert first["first_bad"][3] == "bundle.malformed"
    assert second["exit"] == 0 and second["withheld"] == [{"id": "entry:11", "reason": "private"}]


def test_a_withheld_body_cannot_hide_another_hash(whole: Members, pin: str) -> None:
    lines = entry_lines(whole)
    lines[5] = {"hash": "1" * 64, "index": 5, "previous": lines[5]["previous"], "withheld": "private"}
    said = relist(
        with_lines(whole, "entries.jsonl", lines), withheld=[{"id": "entry:5", "reason": "private"}]
    )
    (found,) = ask([pack(said)], pin)

    assert found["first_bad"][1:] == [6, 6, "integrity.chain-broken"]


def test_a_whole_log_cut_short_with_its_checkpoints_is_smaller_and_says_so(whole: Members, pin: str) -> None:
    cut = with_lines(whole, "entries.jsonl", entry_lines(whole)[:14])
    both = with_lines(cut, "checkpoints.jsonl", lines_of(cut, "checkpoints.jsonl")[:-1])
    lean = {name: data for name, data in both.items() if "started" not in name}

    first, second = ask([pack(cut), pack(relist(lean))], pin)

    assert first["first_bad"] == ["entries.jsonl", 14, 19, "integrity.tail-missing"]
    assert (second["exit"], second["size"], second["entries"]) == (0, 14, 14)


def test_a_consistency_proof_is_checked(part: Members, pin: str, key: Signer) -> None:
    lines = lines_of(part, "checkpoints.jsonl")
    assert [line["size"] for line in lines] == [14, 20]
    edits = [
        [lines[0] | {"consistency": lines[0]["consistency"][:-1]}, lines[1]],
        [lines[0] | {"consistency": [*lines[0]["consistency"], "0" * 64]}, lines[1]],
        [lines[0] | {"consistency": []}, lines[1]],
        [lines[0] | {"note": sign_note(Checkpoint(key_origin(part), 14, bytes(32)), key)}, lines[1]],
    ]

    for found in ask([pack(with_lines(part, "checkpoints.jsonl", each)) for each in edits], pin):
        assert found["first_bad"] == ["checkpoints.jsonl", 0, 13, "integrity.root-mismatch"]


def key_origin(members: Members) -> str:
    return str(json.loads(members["manifest.json"])["origin"])


def by_a_stranger(members: Members) -> Members:
    """The bundle as somebody would make it who has only a key of his own."""
    origin, lines = key_origin(members), lines_of(members, "checkpoints.jsonl")
    for line in lines:
        line["note"] = sign_note(note_checkpoint(line["note"]), STRANGER)
    keys = canonical_bytes({"ledger": STRANGER.verifier(origin)})
    return with_lines(members | {"keys.json": keys}, "checkpoints.jsonl", lines)


def test_a_stranger_s_signatures_are_of_an_unknown_key(part: Members, pin: str) -> None:
    forged = by_a_stranger(part)
    own = relist(forged | {"keys.json": part["keys.json"]})

    pinned, kept = ask([pack(forged), pack(own)], pin)
    (unpinned,) = ask([pack(forged)], None)

    assert pinned["first_bad"] == ["keys.json", 0, None, "integrity.key-unknown"]
    assert kept["first_bad"][3] == "integrity.key-unknown"
    assert unpinned["first_bad"] == ["entries.jsonl", 0, 0, "integrity.key-unknown"]


# Keys that change


NEW = Signer("ledger", b"\x09" * 32)


def rotation(forge: Forge, at: int, old: Signer, new: Signer, **changes: Any) -> bytes:
    """The body of an entry that changes the key, at an index."""
    payload = rotation_payload(forge.home_id, old, new, at, "a test of changing keys")
    return with_payload(forge, "key.rotated", payload | changes)


def text_of(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def with_payload(forge: Forge, kind: str, payload: Any) -> bytes:
    body = json.loads(forge.bodies()[9]) | {"kind": kind, "payload": payload}
    body["subject"] = f"key/{payload['purpose']}"
    return canonical_bytes(body)


def rotated(forge: Forge, body: bytes, then: Signer = NEW) -> bytes:
    bodies = forge.bodies()
    bodies[9] = body
    forge.reseal(bodies)
    forge.sign(forge.key, [1, 4, 9])
    forge.sign(then, [14, 20])
    return dump(forge, Path("nowhere"))


def test_a_change_of_keys_is_followed(forge: Forge, pin: str) -> None:
    followed = rotated(forge, rotation(forge, 9, forge.key, NEW))
    (found,) = ask([followed], pin)

    assert (found["exit"], found["size"]) == (0, SIZE)


def test_after_a_change_the_old_key_signs_nothing_more(forge: Forge, pin: str) -> None:
    (found,) = ask([rotated(forge, rotation(forge, 9, forge.key, NEW), then=forge.key)], pin)

    assert found["first_bad"] == ["checkpoints.jsonl", 9, 13, "integrity.key-unknown"]


def test_a_change_of_keys_that_both_did_not_sign_is_refused(forge: Forge, pin: str) -> None:
    good = json.loads(rotation(forge, 9, forge.key, NEW))["payload"]
    bodies = [
        rotation(forge, 9, forge.key, NEW, by_old=good["by_new"]),
        rotation(forge, 9, forge.key, NEW, by_new=good["by_old"]),
        rotation(forge, 9, forge.key, NEW, by_old=""),
        rotation(forge, 9, forge.key, NEW, by_old=None),
        rotation(forge, 9, forge.key, NEW, from_index=4),
        rotation(forge, 9, forge.key, NEW, from_index=-1),
        rotation(forge, 10, forge.key, NEW),
        rotation(forge, 9, forge.key, NEW, by_new="zz"),
        rotation(forge, 9, STRANGER, NEW),
    ]

    for found in ask([rotated(forge, body) for body in bodies], pin):
        assert found["first_bad"] == ["entries.jsonl", 9, 9, "integrity.key-unknown"]


def test_a_change_of_another_purpose_is_followed_too_and_gives_checkpoints_to_no_other_key(
    forge: Forge, pin: str
) -> None:
    old, new = Signer("attest", b"\x0a" * 32), Signer("attest", b"\x0b" * 32)
    good = rotation(forge, 9, old, new)
    bad = rotation(forge, 9, old, new, by_old=text_of(bytes(64)))

    first, second, third = ask(
        [rotated(forge, good, then=forge.key), rotated(forge, good, then=NEW), rotated(forge, bad)], pin
    )

    assert first["exit"] == 0
    assert second["first_bad"] == ["checkpoints.jsonl", 9, 13, "integrity.key-unknown"]
    assert third["first_bad"] == ["entries.jsonl", 9, 9, "integrity.key-unknown"]


def test_the_key_in_force_revokes_any_other_and_never_itself(forge: Forge, pin: str) -> None:
    def by(signer: Signer, lost: Signer, **changes: Any) -> bytes:
        payload = revocation_payload(forge.home_id, "ledger", lost.public_key, 9, "a test", signer)
        return rotated(forge, with_payload(forge, "key.revoked", payload | changes), then=forge.key)

    good = by(forge.key, STRANGER)
    forged = [by(forge.key, forge.key), by(STRANGER, STRANGER), by(forge.key, STRANGER, key="01" * 32)]
    first, *others = ask([good, *forged], pin)

    assert first["exit"] == 0
    for found in others:
        assert found["first_bad"] == ["entries.jsonl", 9, 9, "integrity.key-unknown"]


# Each check is needed: without it the attack that it stops goes through.


Attack = Callable[[Members, Members, Forge], bytes]


def edited_body(_: Members, part: Members, __: Forge) -> bytes:
    lines = entry_lines(part)
    lines[-1]["body"] = lines[-1]["body"].replace('"tool"', '"fool"')
    return pack(with_lines(part, "entries.jsonl", lines))


def forged_entry(_: Members, part: Members, __: Forge) -> bytes:
    lines = entry_lines(part)
    body = lines[-1]["body"].replace('"tool"', '"fool"')
    sealed = seal(11, bytes.fromhex(lines[-1]["previous"]), body.encode())
    lines[-1] |= {"body": body, "hash": sealed.hash.hex()}
    return pack(with_lines(part, "entries.jsonl", lines))


def sealed_again(_: Members, __: Members, forge: Forge) -> bytes:
    bodies = forge.bodies()
    bodies[7] = bodies[7].replace(b'"tool"', b'"fool"')
    forge.reseal(bodies)
    return dump(forge, Path("nowhere"))


def signed_by_a_stranger(_: Members, __: Members, forge: Forge) -> bytes:
    sealed_again({}, {}, forge)
    forge.sign(STRANGER, SIZES)
    return dump(forge, Path("nowhere"))


def another_home(_: Members, __: Members, forge: Forge) -> bytes:
    bodies = forge.bodies()
    bodies[0] = bodies[0].replace(forge.key.fingerprint.encode(), STRANGER.fingerprint.encode())
    forge.reseal(bodies)
    forge.sign(STRANGER, SIZES)
    made = unpack(dump(forge, Path("nowhere")))
    keys = canonical_bytes({"ledger": STRANGER.verifier(origin_of(forge.home_id))})
    return pack(relist(made | {"keys.json": keys}))


def other_contract(whole: Members, _: Members, __: Forge) -> bytes:
    name = next(name for name in whole if name.startswith("contracts/"))
    return pack(whole | {name: whole[name] + b" "})


def dropped_blob(whole: Members, _: Members, __: Forge) -> bytes:
    return pack(relist({name: data for name, data in whole.items() if name != blob_of(whole)}))


def stolen_rotation(_: Members, __: Members, forge: Forge) -> bytes:
    return rotated(forge, rotation(forge, 9, forge.key, STRANGER, by_old=text_of(bytes(64))), then=STRANGER)


def grown_log(_: Members, __: Members, forge: Forge) -> bytes:
    forge.reseal([*forge.bodies(), forge.bodies()[-1]])
    return dump(forge, Path("nowhere"))


def hidden_tail(whole: Members, _: Members, __: Forge) -> bytes:
    return pack(whole) + b"x" * BLOCK_BYTES


def unsigned(self: Any, size: int, note: str) -> Checkpoint:
    return note_checkpoint(note)


def own_key(self: Any) -> None:
    verifier = parse_verifier(self._json("keys.json", self._read("keys.json"))["ledger"])
    self._keys = KeyHistory(self._home_id, {"ledger": verifier.public_key})
    self._fingerprint = fingerprint_of(verifier.public_key)


def trusting_end(data: Any) -> Any:
    return {
        each.name: (each.offset_data, each.size)
        for each in tarfile.open(fileobj=io.BytesIO(data)).getmembers()
    }


def nothing(*_: Any) -> None:
    return None


def covered(self: Any, lines: Any, newest: Any) -> None:
    self.size = lines[-1]["size"]


MUTANTS: list[tuple[str, Callable[..., Any], Attack]] = [
    ("_check_hash", nothing, edited_body),
    ("_check_proof", nothing, forged_entry),
    ("_leads", lambda *_: True, sealed_again),
    ("_check_note", unsigned, signed_by_a_stranger),
    ("_check_key", own_key, another_home),
    ("_check_members", nothing, other_contract),
    ("_check_closure", nothing, dropped_blob),
    ("_check_signed", nothing, stolen_rotation),
    ("_check_checkpoints", covered, grown_log),
    ("read_members", trusting_end, hidden_tail),
]


@pytest.mark.parametrize(("name", "mutant", "attack"), MUTANTS, ids=[name for name, *_ in MUTANTS])
def test_each_check_is_needed(
    whole: Members,
    part: Members,
    forge: Forge,
    pin: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    mutant: Callable[..., Any],
    attack: Attack,
) -> None:
    bundle = attack(whole, part, forge)
    owners: dict[str, Any] = {"read_members": bundle_verify, "_check_signed": key_history}
    owner = owners.get(name, bundle_verify._Check)
    trusted: Verifier = parse_verifier(pin)
    assert check_bundle(bundle, trusted).exit == 3

    monkeypatch.setattr(owner, name, mutant)

    assert check_bundle(bundle, trusted).exit == 0


def test_the_tree_of_a_part_is_the_log_s_tree(part: Members) -> None:
    newest = note_checkpoint(lines_of(part, "checkpoints.jsonl")[-1]["note"])
    for line in entry_lines(part):
        leaf = merkle.leaf_hash(bytes.fromhex(line["hash"]))
        proof = [bytes.fromhex(each) for each in line["proof"]]
        merkle.verify_inclusion(line["index"], newest.size, leaf, proof, newest.root)
