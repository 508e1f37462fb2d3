"""Each guard of the verifier, broken on purpose: the attack that it is there for must then look different.

A mutant is one line of one module replaced. The module is read with that line
changed, everything of ours is imported anew around it, and the same look at the
same tampered files is taken by both. A mutant that nobody can tell from the
original is a guard that no attack here needs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sterling.kernel.anchors import anchors_root
from sterling.kernel.canonical import canonical_bytes
from sterling.kernel.checkpoint import Checkpoint, note_checkpoint, origin_of, sign_note
from sterling.testing.forged_ledgers import (
    SIZE,
    SIZES,
    STRANGER,
    Forge,
    anchors_of,
    copy_home,
    generate,
)

Look = Callable[[Path], object]


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, with one line replaced."""

    def __init__(self, name: str, old: str, new: str) -> None:
        path = Path(str(importlib.util.find_spec(name).origin))  # type: ignore[union-attr]
        source = path.read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{name}: expected {old!r} once, found {source.count(old)}"
        self._name, self._code = name, compile(source.replace(old, new), str(path), "exec")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


@contextmanager
def mutated(name: str, old: str, new: str) -> Iterator[None]:
    """Inside, importing anything of ours gives it anew, around a module with one line replaced."""
    finder = _Changed(name, old, new)
    ours = {key: module for key, module in sys.modules.items() if key.partition(".")[0] == "sterling"}
    for key in ours:
        del sys.modules[key]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for key in [key for key in sys.modules if key.partition(".")[0] == "sterling"]:
            del sys.modules[key]
        sys.modules.update(ours)


def seen(look: Look, home: Path) -> object:
    """What a look gives; an error by its name."""
    try:
        return look(home)
    except Exception as problem:  # noqa: BLE001 - a mutant may fail in any way
        return type(problem).__name__


# Looks


def verdict(home: Path) -> object:
    found = importlib.import_module("sterling.kernel.verify").verify_home(home)
    return found.code, found.exit, found.first_bad and (found.first_bad.low, found.first_bad.high)


def required(home: Path) -> object:
    return importlib.import_module("sterling.kernel.verify").verify_home(home, require_anchored=True).exit


def chain_alone(home: Path) -> object:
    chain = importlib.import_module("sterling.kernel.chain")
    rows = Forge(home).database.execute('SELECT "index", previous, hash, body FROM entries')
    return chain.verify([chain.Entry(*row) for row in rows]).hex()


def proofs(home: Path) -> object:
    """Which of many wrong proofs are accepted."""
    merkle = importlib.import_module("sterling.kernel.merkle")
    nodes: dict[tuple[int, int], bytes] = {}
    leaves = [merkle.leaf_hash(bytes([number]) * 32) for number in range(7)]

    def get(*at: int) -> bytes:
        return nodes[at]  # type: ignore[index]

    for index, leaf in enumerate(leaves):
        nodes |= {(level, at): node for level, at, node in merkle.grow(index, leaf, get)}
    accepted = []

    def attempt(name: str, check: Callable[..., None], *arguments: Any) -> None:
        try:
            check(*arguments)
            accepted.append(name)
        except Exception as problem:  # noqa: BLE001 - the way of refusing is part of what is seen
            accepted.append(f"{name}: {type(problem).__name__}")

    roots = [merkle.root(size, get) for size in range(8)]
    for index, size in ((0, 1), (2, 7), (6, 7), (3, 6)):
        proof = merkle.inclusion(index, size, get)
        for name, given in (
            ("true", proof),
            ("longer", [*proof, proof[0] if proof else bytes(32)]),
            ("shorter", proof[:-1]),
        ):
            attempt(
                f"in {index} {size} {name}",
                merkle.verify_inclusion,
                index,
                size,
                leaves[index],
                given,
                roots[size],
            )
        attempt(
            f"in {index} {size} other", merkle.verify_inclusion, index, size, leaves[1], proof, roots[size]
        )
        attempt(
            f"in {index} {size} early",
            merkle.verify_inclusion,
            index,
            index,
            leaves[index],
            proof,
            roots[size],
        )
    proof = merkle.inclusion(0, 7, get)[1:]
    attempt("in an inner node", merkle.verify_inclusion, 0, 7, nodes[1, 0], proof, roots[7])
    for old, new in ((1, 7), (4, 7), (6, 7), (7, 7)):
        proof = merkle.consistency(old, new, get)
        for name, given in (("true", proof), ("longer", [*proof, bytes(32)]), ("shorter", proof[:-1])):
            attempt(
                f"co {old} {new} {name}", merkle.verify_consistency, old, new, roots[old], roots[new], given
            )
        attempt(f"co {old} {new} other", merkle.verify_consistency, old, new, roots[3], roots[new], proof)
        attempt(f"co {old} {new} newer", merkle.verify_consistency, old, new, roots[old], roots[2], proof)
    return accepted


def notes(home: Path) -> object:
    """Which of many odd notes open under the home's key."""
    checkpoint = importlib.import_module("sterling.kernel.checkpoint")
    forge = Forge(home)
    note, verifier = forge.note(9, forge.key), forge.key.verifier(origin_of(forge.home_id))
    text, _, tail = note.rpartition("\n\n")
    other = forge.note(14, forge.key).rpartition("\n\n")[2]
    odd = {
        "true": note,
        "stranger": forge.note(9, STRANGER),
        "swapped": f"{text}\n\n{other}",
        "extended": f"{text}\nmore\n\n{tail}",
        "zero": note.replace("\n9\n", "\n09\n"),
        "loose": note.replace("=\n", "=\n", 1).replace("==\n", "=\n"),
        "many": note + tail * 20,
        "spaced": note.replace("— ", "—  "),
    }
    last = text[-2]
    odd["bits"] = note.replace(text, text[:-2] + chr(ord(last) + 1) + "=")
    opened = {}
    for name, each in odd.items():
        try:
            opened[name] = checkpoint.open_note(each, [verifier]).size
        except Exception as problem:  # noqa: BLE001 - the way of refusing is part of what is seen
            opened[name] = type(problem).__name__
    return opened


# Attacks


def nothing(home: Path, forge: Forge) -> None:
    pass


def renumbered(home: Path, forge: Forge) -> None:
    forge.edit(SIZE - 1, "index", 700)


def hash_edited(home: Path, forge: Forge) -> None:
    forge.edit(SIZE - 1, "hash", bytes(32))


def previous_edited(home: Path, forge: Forge) -> None:
    forge.edit(7, "previous", bytes(32))


def subject_edited(home: Path, forge: Forge) -> None:
    forge.edit(7, "subject", "somebody else")


def time_edited(home: Path, forge: Forge) -> None:
    forge.edit(7, "at_us", 5)


def not_canonical(home: Path, forge: Forge) -> None:
    bodies = forge.bodies()
    bodies[7] = bodies[7].replace(b'":', b'": ', 1)
    forge.reseal(bodies)


def another_version(home: Path, forge: Forge) -> None:
    bodies = forge.bodies()
    bodies[7] = bodies[7].replace(b'"v":1', b'"v":2')
    forge.reseal(bodies)


def unexplained_step(home: Path, forge: Forge) -> None:
    bodies = forge.bodies()
    body = json.loads(bodies[7])
    body |= {"at_us": 5, "kind": "clock.stepped", "payload": {"before_us": 7, "after_us": 5}}
    bodies[7] = canonical_bytes(body)
    forge.reseal(bodies)


def unsigned(forge: Forge) -> None:
    forge.database.execute("DELETE FROM checkpoints")
    shutil.rmtree(anchors_root())


def renamed(home: Path, forge: Forge) -> None:
    unsigned(forge)
    forge.database.execute("UPDATE meta SET value = 'home-other' WHERE name = 'home_id'")


def another_first_key(home: Path, forge: Forge) -> None:
    bodies = forge.bodies()
    bodies[0] = bodies[0].replace(forge.key.fingerprint.encode(), STRANGER.fingerprint.encode())
    forge.reseal(bodies)
    unsigned(forge)


def resealed(home: Path, forge: Forge) -> None:
    bodies = forge.bodies()
    bodies[7] = bodies[7].replace(b'"tool"', b'"fool"')
    forge.reseal(bodies)


def resealed_without_copies(home: Path, forge: Forge) -> None:
    resealed(home, forge)
    shutil.rmtree(anchors_root())


def resealed_with_the_key(home: Path, forge: Forge) -> None:
    resealed(home, forge)
    forge.sign(forge.key, SIZES)


def another_signature(home: Path, forge: Forge) -> None:
    forge.sign(STRANGER, [9])


def another_origin(home: Path, forge: Forge) -> None:
    (anchors_of(home).folder / "pin.json").unlink()
    (home / "keys" / "ledger.pub").unlink()
    forge.put_checkpoint(9, forge.note(9, forge.key, origin="sterling/home-other"))


def another_size(home: Path, forge: Forge) -> None:
    forge.put_checkpoint(9, forge.note(4, forge.key))


def checkpoint_gone(home: Path, forge: Forge) -> None:
    forge.database.execute("DELETE FROM checkpoints WHERE size = 9")


def checkpoint_beyond(home: Path, forge: Forge) -> None:
    shutil.rmtree(anchors_root())
    forge.put_checkpoint(99, sign_note(Checkpoint(origin_of(forge.home_id), 99, bytes(32)), forge.key))


def cut(home: Path, forge: Forge) -> None:
    forge.forget_after(17)


def node_edited(home: Path, forge: Forge) -> None:
    forge.database.execute("UPDATE nodes SET hash = zeroblob(32) WHERE level = 0 AND position = 7")


def node_beyond(home: Path, forge: Forge) -> None:
    forge.database.execute("INSERT INTO nodes VALUES (9, 9, zeroblob(32))")


def strange_copy(home: Path, forge: Forge) -> None:
    line = json.dumps({"note": forge.note(9, STRANGER)})
    with (anchors_of(home).folder / "history.jsonl").open("a") as history:
        history.write(line + "\n")


def begun_anew(home: Path, forge: Forge) -> None:
    body = json.loads(forge.bodies()[-1])
    body |= {"kind": "anchor.restored", "payload": {"home_id": forge.home_id}}
    verifier = forge.key.verifier(origin_of(forge.home_id))
    forge.reseal([*forge.bodies(), canonical_bytes(body)])
    forge.sign(forge.key, [SIZE + 1])
    anchors = anchors_of(home)
    shutil.rmtree(anchors_root())
    anchors.restore_pin(verifier, home)
    anchors.append(forge.note(SIZE + 1, forge.key))


def admitted(home: Path, forge: Forge, *, kept: int = 17, spoil: str = "") -> None:
    """A cut log that admits its cut, as a recovery would; `spoil` leaves one thing wrong."""
    lost_root = note_checkpoint(forge.note(SIZE, forge.key)).root.hex()
    body = json.loads(forge.bodies()[kept - 1])
    anchored = {"size": SIZE, "root": "0" * 64 if spoil == "root" else lost_root}
    body |= {"kind": "process.ended" if spoil == "kind" else "ledger.recovered"}
    body |= {"payload": {"lost": {"from": kept, "to": SIZE - 1}, "anchored": anchored, "reason": "x" * 10}}
    forge.forget_after(kept)
    forge.reseal([*forge.bodies(), canonical_bytes(body)])
    note = forge.note(kept + 1, forge.key)
    forge.put_checkpoint(kept + 1, note)
    mark = (kept, "0" * 64 if spoil == "hash" else forge.value(kept, "hash").hex())
    given = anchors_of(home).history()[-2] if spoil == "note" else note
    anchors_of(home).append(given, recovered=mark)


def admitted_under_another_hash(home: Path, forge: Forge) -> None:
    admitted(home, forge, spoil="hash")


def admitted_of_another_kind(home: Path, forge: Forge) -> None:
    admitted(home, forge, spoil="kind")


def admitted_of_another_root(home: Path, forge: Forge) -> None:
    admitted(home, forge, spoil="root")


def admitted_under_an_old_note(home: Path, forge: Forge) -> None:
    admitted(home, forge, spoil="note")


def admitted_and_cut_again(home: Path, forge: Forge) -> None:
    """After an honest recovery the log goes on, and is cut back to it."""
    admitted(home, forge)
    forge.reseal([*forge.bodies(), forge.bodies()[3]])
    note = forge.note(19, forge.key)
    forge.put_checkpoint(19, note)
    anchors_of(home).append(note)
    forge.forget_after(18)


_LONGER = (
    "    if last != 0:\n"
    '        raise ProofInvalid(f"expected a longer proof, found {len(siblings)} nodes on the way")\n'
)
LOG, CHAIN = "sterling.kernel.verify_log", "sterling.kernel.chain"
MERKLE, NOTE, VERIFY = "sterling.kernel.merkle", "sterling.kernel.checkpoint", "sterling.kernel.verify"
Attack = Callable[[Path, Forge], None]
MUTANTS: list[tuple[str, str, str, Attack, Look]] = [
    (LOG, "if type(stored) is not int or stored != index:", "if type(stored) is not int:",
     renumbered, verdict),
    (LOG, "if previous != progress.head:", "if False:", previous_edited, verdict),
    (LOG, "if sealed.hash != digest:", "if False:", hash_edited, verdict),
    (LOG, "if twins != (kind, contract, subject, run) or", "if", subject_edited, verdict),
    (LOG, ' or body["at_us"] != at_us:', ":", time_edited, verdict),
    (LOG, "body.get(\"v\") != 1:", "False:", another_version, verdict),
    (LOG, '.encode("utf-8") == data:', '.encode("utf-8"):', not_canonical, verdict),
    (LOG, 'or body["payload"] != {"before_us": before_us, "after_us": at_us}', "or False",
     unexplained_step, verdict),
    (LOG, 'if payload.get("home_id") != self._home_id:', "if False:", renamed, verdict),
    (LOG, 'payload.get("key") != fingerprint_of(verifier.public_key)', "False",
     another_first_key, verdict),
    (LOG, "!= (position, node):", "is None:", node_edited, verdict),
    (LOG, "            checkpoint = self._open(note)\n        except KeyUnknown",
     "            checkpoint = note_checkpoint(note)\n        except KeyUnknown", another_signature, verdict),
    (LOG, "if checkpoint.size != size:", "if False:", another_size, verdict),
    (LOG, "if checkpoint.origin != origin_of(self._home_id):", "if False:", another_origin, verdict),
    (LOG, "if checkpoint.root != self._tree.root():\n                raise", "if 0:\n                raise",
     resealed_with_the_key, verdict),
    (LOG, "if checkpoint.root != self._tree.root():\n            message", "if False:\n            message",
     resealed_without_copies, verdict),
    (LOG, "if stored_in_log and note is None:", "if False:", checkpoint_gone, verdict),
    (LOG, "        if beyond:\n", "        if False:\n", cut, verdict),
    (LOG, "        if self._strangers:\n", "        if False:\n", strange_copy, verdict),
    (LOG, "        if waiting is not None:\n", "        if False:\n", checkpoint_beyond, verdict),
    (LOG, "        if extra_nodes:\n", "        if False:\n", node_beyond, verdict),
    (LOG, "digest.hex() == expected_hash and ", "", admitted_under_another_hash, verdict),
    (LOG, ' and kind == "ledger.recovered":\n        try', ":\n        try",
     admitted_of_another_kind, verdict),
    (LOG, " or checkpoint.root.hex() == root", " or True", admitted_of_another_root, verdict),
    (LOG, " or admits.size <= mark.entry:", ":", admitted_under_an_old_note, verdict),
    (LOG, "if at < mark.position and first", "if first", admitted_and_cut_again, verdict),
    (VERIFY, "if size <= restored), default=0)", "), default=0)", begun_anew, required),
    (CHAIN, "if entry.index != expected:", "if False:", renumbered, chain_alone),
    (CHAIN, "if entry.previous != head:", "if False:", previous_edited, chain_alone),
    (CHAIN, "if sealed.hash != entry.hash:", "if False:", hash_edited, chain_alone),
    (CHAIN, "u64(index), previous, body)", "previous, body)", nothing, chain_alone),
    (MERKLE, 'b"\\x00" + entry_hash', "entry_hash", nothing, verdict),
    (MERKLE, 'b"\\x01" + left + right', "left + right", nothing, verdict),
    (MERKLE, "is_left = position & 1 == 1 or", "is_left = position & 1 == 1 and", nothing, proofs),
    (MERKLE, "while is_left and position and", "while False and", nothing, proofs),
    (MERKLE, _LONGER, "", nothing, proofs),
    (MERKLE, "    _check_equal(first, old_root, f\"root of size {old}\")\n", "", nothing, proofs),
    (MERKLE, "    _check_equal(second, new_root, f\"root of size {new}\")\n", "", nothing, proofs),
    (MERKLE, "not 0 <= index < size:", "False:", nothing, proofs),
    (NOTE, "    if not signed:\n", "    if False:\n", nothing, notes),
    (NOTE, 'verify_signature(public_key, signature, message.encode("utf-8"))', "pass", nothing, notes),
    (NOTE, " or base64_text(data) != text:", ":", nothing, notes),
    (NOTE, "if len(lines) > _SIGNATURES_MAX:", "if False:", nothing, notes),
    (NOTE, "if len(lines) != 4 or lines[3]:", "if False:", nothing, notes),
    (NOTE, '_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")', '_SIZE = re.compile(r"[0-9]{1,19}")', nothing, notes),
]  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        generate(folder / "home")
    return folder


@pytest.mark.parametrize(
    "mutant", MUTANTS, ids=lambda mutant: f"{mutant[0].rpartition('.')[2]}:{mutant[3].__name__}"
)
def test_a_broken_guard_is_seen(
    original: Path, tmp_path: Path, mutant: tuple[str, str, str, Attack, Look]
) -> None:
    module, old, new, attack, look = mutant
    copy_home(original / "home", original / "state", tmp_path / "home")
    forge = Forge(tmp_path / "home")
    attack(tmp_path / "home", forge)
    forge.database.close()
    true = seen(look, tmp_path / "home")

    with mutated(module, old, new):
        found = seen(look, tmp_path / "home")

    assert found != true, f"{module}: nobody notices {new!r} in place of {old!r}; both give {true}"


def test_an_attack_on_the_log_is_broken_or_unvouched_to_begin_with(original: Path, tmp_path: Path) -> None:
    """So that a mutant is told by its leniency and not by noise."""
    for number, attack in enumerate({mutant[3]: None for mutant in MUTANTS if mutant[4] is verdict}):
        place = tmp_path / str(number)
        copy_home(original / "home", original / "state", place)
        forge = Forge(place)
        attack(place, forge)
        forge.database.close()
        assert attack is nothing or verdict(place)[1] == 3, attack.__name__  # type: ignore[index]
        shutil.rmtree(anchors_root(), ignore_errors=True)
