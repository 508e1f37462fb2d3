"""Plays the tamper table on traces written by `deposition`, in its strongest form: signed, key pinned.

Usage: python deposition_log.py FOLDER ENTRIES. Two runs of half the entries each;
every attack works on a copy; its own command line verifies every trace that is
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

import deposition
from deposition import chain, cli, signing


def main() -> None:
    root, entries = Path(sys.argv[1]), int(sys.argv[2])
    keys = root / "keys"
    signing.generate_key().write(keys / "key.pem")
    signing.generate_key().write(keys / "stranger.pem")
    log, other = root / "log", root / "other"
    first = write(log, keys, entries // 2, "first")
    shutil.copytree(log, root / "older")
    second = write(log, keys, entries - entries // 2, "second")
    write(other, keys, entries // 2, "other")
    for number, (name, attack) in enumerate(ATTACKS.items()):
        place = Path(shutil.copytree(log, root / f"attacked{number}"))
        trace = place / second.name
        done = attack(trace, root, first) if attack is not None else False
        verdict, message = verify(place, keys) if done is not False else ("", "")
        print(json.dumps({"attack": name, "verdict": verdict, "message": message}), flush=True)


def write(folder: Path, keys: Path, count: int, name: str) -> Path:
    recorder = deposition.init("bench", directory=folder, instrument=False, signing_key=str(keys / "key.pem"))
    run = recorder.start_run(name)
    for number in range(count - 2):
        large = {"note": "x" * 200_000} if number == 3 else {}
        run.emit("tool_call", {"tool": "tool", "result": number, **large})
    path = Path(run.path)
    recorder.finish_run(run)
    recorder.shutdown()
    return path


def verify(folder: Path, keys: Path) -> tuple[str, str]:
    """What `depo verify --require-signature --pubkey` says of every trace that is there."""
    traces = [str(path) for path in sorted(folder.glob("*.jsonl"))]
    if not traces:
        return "nothing to verify", ""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(["verify", *traces, "--require-signature", "--pubkey", str(keys / "key.pem.pub")])
    wrong = [line.strip() for line in said.getvalue().splitlines() if "BROKEN" in line or "!!" in line]
    return ("ok" if status == 0 else "broken"), " ".join(wrong)[:200]


# Attacks


def lines_of(trace: Path) -> list[str]:
    return trace.read_text(encoding="utf-8").splitlines(keepends=True)


def put(trace: Path, lines: list[str]) -> None:
    trace.write_text("".join(lines), encoding="utf-8")


def sealed_again(trace: Path, events: list[dict[str, object]]) -> None:
    previous, lines = chain.GENESIS_HASH, []
    for number, event in enumerate(events):
        again = chain.seal({**event, "seq": number}, previous)
        previous = again["hash"]
        lines.append(json.dumps(again) + "\n")
    put(trace, lines)


def edited_events(trace: Path) -> list[dict[str, object]]:
    events = [json.loads(line) for line in lines_of(trace)]
    events[5]["body"] = {**events[5]["body"], "result": 999_999}
    return events


def signed(trace: Path, key: Path) -> None:
    last = json.loads(lines_of(trace)[-1])
    sidecar = signing.sign_head(
        signing.load_key(str(key)),
        run_id=last["run_id"], head_hash=last["hash"], seq=last["seq"], events=last["seq"] + 1,
    )  # fmt: skip
    signing.write_sidecar(sidecar, trace)


def nothing(trace: Path, root: Path, first: Path) -> None:
    pass


def edit(trace: Path, root: Path, first: Path) -> None:
    lines = lines_of(trace)
    lines[5] = lines[5].replace('"tool"', '"fool"', 1)
    put(trace, lines)


def reseal(trace: Path, root: Path, first: Path) -> None:
    sealed_again(trace, edited_events(trace))


def reseal_with_another_key(trace: Path, root: Path, first: Path) -> None:
    reseal(trace, root, first)
    signed(trace, root / "keys" / "stranger.pem")


def reseal_without_signature(trace: Path, root: Path, first: Path) -> None:
    reseal(trace, root, first)
    signing.sidecar_path(trace).unlink()


def reseal_with_the_key(trace: Path, root: Path, first: Path) -> None:
    reseal(trace, root, first)
    signed(trace, root / "keys" / "key.pem")


def delete(trace: Path, root: Path, first: Path) -> None:
    lines = lines_of(trace)
    put(trace, lines[:5] + lines[6:])


def repeat(trace: Path, root: Path, first: Path) -> None:
    lines = lines_of(trace)
    put(trace, lines[:6] + lines[5:])


def swap(trace: Path, root: Path, first: Path) -> None:
    lines = lines_of(trace)
    lines[5], lines[6] = lines[6], lines[5]
    put(trace, lines)


def cut(trace: Path, root: Path, first: Path) -> None:
    lines = lines_of(trace)
    put(trace, lines[: len(lines) * 3 // 4])


def roll_back(trace: Path, root: Path, first: Path) -> None:
    place = trace.parent
    shutil.rmtree(place)
    shutil.copytree(root / "older", place)


def remove(trace: Path, root: Path, first: Path) -> None:
    for path in trace.parent.iterdir():
        if path.is_file():
            path.unlink()


def exchange(trace: Path, root: Path, first: Path) -> None:
    """Another run by the same key under this run's name."""
    other = next((root / "other").glob("*.jsonl"))
    shutil.copy(other, trace)
    shutil.copy(signing.sidecar_path(other), signing.sidecar_path(trace))


def respell(trace: Path, root: Path, first: Path) -> None:
    lines = lines_of(trace)
    lines[5] = lines[5].replace('":', '": ', 1)
    put(trace, lines)


def alter_large(trace: Path, root: Path, first: Path) -> bool:
    """The bytes of a payload that was too large for the trace."""
    large = [path for path in trace.parent.rglob("*") if path.is_file() and path.stat().st_size == 200_000]
    for path in large:
        path.write_bytes(b"y" + path.read_bytes()[1:])
    return bool(large)


Attack = Callable[[Path, Path, Path], object]
ATTACKS: dict[str, Attack | None] = {
    "nothing": nothing, "carried": nothing, "edit": edit, "reseal": reseal,
    "reseal-stranger": reseal_with_another_key, "reseal-unsigned": reseal_without_signature,
    "reseal-key": reseal_with_the_key, "delete": delete, "repeat": repeat, "swap": swap, "cut": cut,
    "roll-back": roll_back, "remove": remove, "exchange": exchange, "respell": respell,
    "blob": alter_large, "cut-alone": cut,
}  # fmt: skip

if __name__ == "__main__":
    main()
