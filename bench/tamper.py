"""What somebody can do to a log, and which tool's own verifier says so.

The same attacks on a Sterling home, on signed traces of `deposition` and on
signed bundles of `proofline`, each written with the tool's own interface, each
verified by the tool's own command with the signer's key known beforehand. The
rivals run in their own environment (`make .bench/ready`). A table goes to
standard error; one JSON object a rival and attack to standard output: 1 caught,
0.5 not vouched for, 0 missed, and -1 where the attack has no meaning.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel.anchors import anchors_root
from sterling.kernel.batch import Batch
from sterling.kernel.checkpoint import origin_of
from sterling.kernel.home import init_home, open_home
from sterling.kernel.verify import verify_home
from sterling.testing.forged_ledgers import STRANGER, Forge

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".bench" / "bin" / "python"
RIVALS = {"deposition": "deposition_log.py", "proofline": "proofline_log.py"}

# The attack, whether an honest verifier must speak up, and what it is.
ROWS = {
    "nothing": (False, "nothing (must stay quiet)"),
    "carried": (False, "nothing, but carried to a machine that knows the key alone (must stay quiet)"),
    "edit": (True, "an entry is edited"),
    "reseal": (True, "an entry is edited and every hash after it made anew"),
    "reseal-stranger": (True, "... and signed with another key"),
    "reseal-unsigned": (True, "... and every signature taken away"),
    "reseal-key": (True, "... and signed with the stolen key"),
    "delete": (True, "an entry is taken out of the middle"),
    "repeat": (True, "an entry is repeated"),
    "swap": (True, "two entries are exchanged"),
    "cut": (True, "the last quarter is cut off cleanly"),
    "cut-alone": (True, "... on a machine that knows the key alone"),
    "roll-back": (True, "an older copy of everything is put back"),
    "remove": (True, "the whole log is taken away"),
    "exchange": (True, "another log of the same owner is put in its place"),
    "respell": (True, "an entry is spelt otherwise, with the same meaning"),
    "blob": (True, "the bytes of a large payload are changed"),
}
WORDS = {1.0: "caught", 0.5: "not vouched for", 0.0: "MISSED", -1.0: "not applicable"}
QUIET = {**WORDS, 1.0: "quiet", 0.0: "FALSE ALARM"}


def main() -> None:
    arguments = parse_arguments("the tamper table, beside deposition and proofline")
    entries = 200 if arguments.quick else 2_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        marks, problems = {"sterling": ours(folder, entries)}, dict[str, str]()
        for rival, script in RIVALS.items():
            (folder / rival).mkdir()
            marks[rival], problems[rival] = theirs(script, folder / rival, entries)
    table(marks)
    for rival in RIVALS:
        for name, (must_speak, words) in ROWS.items():
            against = marks[rival][name]
            said = WORDS if must_speak else QUIET
            line(
                bench="tamper",
                case=f"{words}: {said[marks['sterling'][name]]}; {rival}: {said[against]}",
                ours=marks["sterling"][name],
                against=against,
                rival=problems[rival] or f"{rival}, signed, key known",
                unit="1 caught or quiet, 0.5 not vouched for, 0 missed or false alarm",
                must="= 1 where the key alone is not all that is known",
                accepted=entries,
                history=entries,
                runs=1,
            )


def mark(name: str, verdict: str) -> float:
    must_speak = ROWS[name][0]
    if verdict == "":
        return -1.0
    if verdict == "cannot-judge":
        return 0.5
    # An empty place is no answer of a verifier: nothing there says that something should be.
    return float((verdict == "broken") == must_speak)


def theirs(script: str, folder: Path, entries: int) -> tuple[dict[str, float], str]:
    """A rival's marks by attack, and why there are none."""
    command = [str(PYTHON), str(HERE / "rivals" / script), str(folder), str(entries)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    except (OSError, subprocess.CalledProcessError) as problem:
        why = (getattr(problem, "stderr", "") or str(problem)).strip().splitlines()[-1]
        return dict.fromkeys(ROWS, -1.0), f"{script} cannot run here: {why}"
    told = [json.loads(each) for each in done.stdout.splitlines()]
    return {each["attack"]: mark(each["attack"], each["verdict"]) for each in told}, ""


def table(marks: dict[str, dict[str, float]]) -> None:
    print(f"{'what is done':<82}" + "".join(f"{tool:<17}" for tool in marks), file=sys.stderr)
    for name, (must_speak, words) in ROWS.items():
        said = WORDS if must_speak else QUIET
        cells = "".join(f"{said[marks[tool][name]]:<17}" for tool in marks)
        print(f"{words:<82}{cells}", file=sys.stderr)


# Ours


def ours(folder: Path, entries: int) -> dict[str, float]:
    home = folder / "home"
    init_home(home).close()
    fill(home, entries // 2)
    shutil.copytree(home, folder / "older")
    fill(home, entries)
    init_home(folder / "other").close()
    fill(folder / "other", entries)
    shutil.copytree(home, folder / "whole")
    shutil.copytree(anchors_root(), folder / "anchors")
    marks = {}
    for name in ROWS:
        for place, kept in ((home, folder / "whole"), (anchors_root(), folder / "anchors")):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(kept, place)
        forge = Forge(home)
        pin = forge.key.verifier(origin_of(forge.home_id))
        ATTACKS[name](forge, folder)
        forge.database.close()
        marks[name] = mark(name, verify_home(home, pin=pin, blobs=True).verdict)
    return marks


def fill(path: Path, size: int) -> None:
    with open_home(path) as home:
        while home.ledger.size() < size:
            batch, at = Batch(run="run-1"), home.ledger.size()
            for number in range(at, min(size, at + 20)):
                command = "x" * 200_000 if number == 3 else "tool"
                batch.append("process.ended", {"command": command, "exit": number % 200})
            home.ledger.commit(batch)


def nothing(forge: Forge, folder: Path) -> None:
    pass


def carried(forge: Forge, folder: Path) -> None:
    shutil.rmtree(anchors_root())


def edit(forge: Forge, folder: Path) -> None:
    forge.edit(5, "body", forge.value(5, "body").replace(b'"tool"', b'"fool"'))


def reseal(forge: Forge, folder: Path) -> None:
    bodies = forge.bodies()
    bodies[5] = bodies[5].replace(b'"tool"', b'"fool"')
    forge.reseal(bodies)


def sizes(forge: Forge) -> list[int]:
    return [row[0] for row in forge.database.execute("SELECT size FROM checkpoints ORDER BY size")]


def reseal_with_another_key(forge: Forge, folder: Path) -> None:
    reseal(forge, folder)
    forge.sign(STRANGER, sizes(forge))


def reseal_without_signature(forge: Forge, folder: Path) -> None:
    reseal(forge, folder)
    forge.database.execute("DELETE FROM checkpoints")


def reseal_with_the_key(forge: Forge, folder: Path) -> None:
    reseal(forge, folder)
    forge.sign(forge.key, sizes(forge))


def delete(forge: Forge, folder: Path) -> None:
    forge.delete(5)


def repeat(forge: Forge, folder: Path) -> None:
    bodies = forge.bodies()
    forge.reseal([*bodies[:6], *bodies[5:]])


def swap(forge: Forge, folder: Path) -> None:
    forge.edit(5, "index", -1)
    forge.edit(6, "index", 5)
    forge.edit(-1, "index", 6)


def cut(forge: Forge, folder: Path) -> None:
    forge.forget_after(len(forge.bodies()) * 3 // 4)


def cut_alone(forge: Forge, folder: Path) -> None:
    cut(forge, folder)
    shutil.rmtree(anchors_root())


def roll_back(forge: Forge, folder: Path) -> None:
    shutil.rmtree(folder / "home")
    shutil.copytree(folder / "older", folder / "home")


def remove(forge: Forge, folder: Path) -> None:
    shutil.rmtree(folder / "home")


def exchange(forge: Forge, folder: Path) -> None:
    shutil.rmtree(folder / "home")
    shutil.copytree(folder / "other", folder / "home")


def respell(forge: Forge, folder: Path) -> None:
    forge.edit(5, "body", forge.value(5, "body").replace(b'":', b'": ', 1))


def alter_large(forge: Forge, folder: Path) -> None:
    address = json.loads(forge.value(3, "body"))["payload"]["blob"]
    file = folder / "home" / "blobs" / address[:2] / address[2:]
    file.chmod(0o600)
    file.write_bytes(b"y" + file.read_bytes()[1:])


ATTACKS: dict[str, Callable[[Forge, Path], None]] = {
    "nothing": nothing, "carried": carried, "edit": edit, "reseal": reseal,
    "reseal-stranger": reseal_with_another_key, "reseal-unsigned": reseal_without_signature,
    "reseal-key": reseal_with_the_key, "delete": delete, "repeat": repeat, "swap": swap, "cut": cut,
    "cut-alone": cut_alone, "roll-back": roll_back, "remove": remove, "exchange": exchange,
    "respell": respell, "blob": alter_large,
}  # fmt: skip

if __name__ == "__main__":
    main()
