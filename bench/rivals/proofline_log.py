"""Plays the tamper table on bundles written by `proofline`, in its strongest form: signed, key pinned.

Usage: python proofline_log.py FOLDER ENTRIES. Two bundles of half the entries each;
every attack works on a copy; its own command line verifies every bundle that is
there. Prints one JSON object an attack.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proofline import RunRecorder, cli, sign
from proofline.model import sha256_json, stable_digest


def main() -> None:
    root, entries = Path(sys.argv[1]), int(sys.argv[2])
    sign.generate_keypair(root / "keys")
    sign.generate_keypair(root / "strange")
    log = root / "log"
    write(log / "first.run.json", root / "keys", entries // 2)
    shutil.copytree(log, root / "older")
    write(log / "second.run.json", root / "keys", entries - entries // 2)
    write(root / "other" / "other.run.json", root / "keys", entries // 2)
    for number, (name, attack) in enumerate(ATTACKS.items()):
        place = Path(shutil.copytree(log, root / f"attacked{number}"))
        done = attack(place / "second.run.json", root) if attack is not None else False
        verdict, message = verify(place, root / "keys") if done is not False else ("", "")
        print(json.dumps({"attack": name, "verdict": verdict, "message": message}), flush=True)


def write(path: Path, keys: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with RunRecorder(out_path=path) as recorder:
        for number in range(count):
            with recorder.step("tool", "tool", input={"number": number}) as step:
                step["output"] = {"result": number}
    sign.sign_bundle(path, keys / sign.PRIVATE_KEY_NAME)


def verify(folder: Path, keys: Path) -> tuple[str, str]:
    """What `proofline verify --signed-by` says of every bundle that is there."""
    bundles = sorted(folder.glob("*.json"))
    if not bundles:
        return "nothing to verify", ""
    said, status = io.StringIO(), 0
    for bundle in bundles:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status |= cli.main(["verify", str(bundle), "--signed-by", str(keys / sign.PUBLIC_KEY_NAME)])
    return ("ok" if status == 0 else "broken"), " ".join(said.getvalue().split())[:200]


# Attacks


def changed(path: Path, change: Callable[[list[Any]], object], *, seal: bool = False) -> None:
    bundle = json.loads(path.read_text(encoding="utf-8"))
    change(bundle["steps"])
    if seal:
        for step in bundle["steps"]:
            step["output_digest"] = sha256_json(step["output"])
        bundle["bundle_digest"] = stable_digest(bundle)
    path.write_text(json.dumps(bundle), encoding="utf-8")


def signed_anew(path: Path, keys: Path | None) -> None:
    bundle = json.loads(path.read_text(encoding="utf-8"))
    del bundle["signatures"]
    path.write_text(json.dumps(bundle), encoding="utf-8")
    if keys is not None:
        sign.sign_bundle(path, keys / sign.PRIVATE_KEY_NAME)


def nothing(path: Path, root: Path) -> None:
    pass


def edit_step(steps: list[Any]) -> None:
    steps[5]["output"]["result"] = 999_999


def edit(path: Path, root: Path) -> None:
    changed(path, edit_step)


def reseal(path: Path, root: Path) -> None:
    changed(path, edit_step, seal=True)


def reseal_with_another_key(path: Path, root: Path) -> None:
    reseal(path, root)
    signed_anew(path, root / "strange")


def reseal_without_signature(path: Path, root: Path) -> None:
    reseal(path, root)
    signed_anew(path, None)


def reseal_with_the_key(path: Path, root: Path) -> None:
    reseal(path, root)
    signed_anew(path, root / "keys")


def delete(path: Path, root: Path) -> None:
    changed(path, lambda steps: steps.pop(5))


def repeat(path: Path, root: Path) -> None:
    changed(path, lambda steps: steps.insert(5, steps[5]))


def swap(path: Path, root: Path) -> None:
    changed(path, lambda steps: steps.insert(5, steps.pop(6)))


def cut(path: Path, root: Path) -> None:
    changed(path, lambda steps: steps.__delitem__(slice(len(steps) * 3 // 4, None)), seal=True)


def roll_back(path: Path, root: Path) -> None:
    shutil.rmtree(path.parent)
    shutil.copytree(root / "older", path.parent)


def remove(path: Path, root: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def exchange(path: Path, root: Path) -> None:
    """Another bundle by the same key under this bundle's name."""
    shutil.copy(root / "other" / "other.run.json", path)


def respell(path: Path, root: Path) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(text), separators=(" ,", " :")), encoding="utf-8")


Attack = Callable[[Path, Path], object]
ATTACKS: dict[str, Attack | None] = {
    "nothing": nothing, "carried": nothing, "edit": edit, "reseal": reseal,
    "reseal-stranger": reseal_with_another_key, "reseal-unsigned": reseal_without_signature,
    "reseal-key": reseal_with_the_key, "delete": delete, "repeat": repeat, "swap": swap, "cut": cut,
    "roll-back": roll_back, "remove": remove, "exchange": exchange, "respell": respell,
    "blob": None, "cut-alone": cut,
}  # fmt: skip

if __name__ == "__main__":
    main()
