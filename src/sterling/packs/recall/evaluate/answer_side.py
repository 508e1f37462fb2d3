"""The answering side of an evaluation: a process that sees frames and question texts, and nothing else.

`python -m sterling.packs.recall.evaluate.answer_side FOLDER OUT BEFORE` takes in
the public part of a set, reads it, asks every question and writes one prediction
a line. It runs with a scratch home of its own, so nothing of it reaches the
home of the person who asked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home, init_home
from sterling.packs.recall.ask.answer import Answer, answer
from sterling.packs.recall.ingest.ingest import ingest
from sterling.packs.recall.ingest.items import lines_of
from sterling.packs.recall.moments import civil, moment_us
from sterling.packs.recall.search.index import open_index
from sterling.packs.recall.stage2 import read_all

__all__ = ["main", "predict"]

ANSWER_WORDS_MAX = 40


def main(arguments: list[str]) -> int:
    """Answer a set. Prints progress as JSON lines on standard error, an error as its last line."""
    folder, out, before = Path(arguments[0]), Path(arguments[1]), arguments[2] == "before"
    try:
        with init_home(folder / "home") as home:
            predict(home, folder / "set", out, read=not before)
    except SterlingError as problem:
        print(json.dumps({"error": problem.as_json(), "exit": problem.exit}), file=sys.stderr, flush=True)
        return 1
    return 0


def predict(home: Home, folder: Path, out: Path, *, read: bool) -> None:
    """Ingest, read when told to, and ask every question of the folder."""
    ingest(folder, home, kind="set", on_item=lambda done, total: _say("take", done, total))
    if read:
        read_all(home, on_read=lambda done, total: _say("read", done, total))
    names, newest_us, zone = _names(home)
    questions = [line for _, line in lines_of(folder / "questions.jsonl")]
    with out.open("w", encoding="utf-8") as file:
        for number, line in enumerate(questions, start=1):
            own_zone = str(line.get("zone", zone))
            now_us = moment_us(str(line["now"]), own_zone) if "now" in line else newest_us
            found = answer(home, str(line["question"]), now_us=now_us, zone=own_zone)
            prediction = _prediction(str(line["id"]), found, names)
            file.write(json.dumps(prediction, ensure_ascii=False, sort_keys=True) + "\n")
            _say("ask", number, len(questions))


def _names(home: Home) -> tuple[dict[str, str], int, str]:
    """The set's own frame id of every look, the newest moment and the zone."""
    names: dict[str, str] = {}
    newest, zone = 0, "UTC"
    with open_index(home) as index:
        for tick, item, at_us in index.connection.execute(
            "SELECT record, item, at_us FROM ticks ORDER BY entry"
        ):
            names[str(tick)] = str(home.records.get(str(item)).document["name"])
            newest = max(newest, int(at_us))
        row = index.connection.execute("SELECT zone FROM sessions ORDER BY record LIMIT 1").fetchone()
        zone = str(row[0]) if row else zone
    return names, newest, zone


def _prediction(question: str, found: Answer, names: dict[str, str]) -> dict[str, Json]:
    document = found.document
    claims = document["claims"]
    words = "; ".join(str(claim["text"]) for claim in claims).split()
    citations = []
    for claim in claims:
        for citation in claim["citations"]:
            citations.append(
                {
                    "frame": names[citation["tick"]],
                    "ts": civil(citation["at_us"], str(document["zone"])).isoformat(),
                    "box": citation["boxes"][0],
                }
            )
    return {
        "id": question,
        "answer": " ".join(words[:ANSWER_WORDS_MAX]) if claims else None,
        "state": document["state"],
        "citations": citations,
    }


def _say(phase: str, done: int, total: int) -> None:
    print(json.dumps({"phase": phase, "done": done, "total": total}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
