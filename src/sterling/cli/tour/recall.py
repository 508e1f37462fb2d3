"""Scene `recall`: pictures of a day, read and asked; every answer points at pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sterling.cli import plain
from sterling.cli.tour.stage import Answer, Scene, Stage, short_path

__all__ = ["SCENE"]

ASKED = ("q03", "q02", "q11")  # Which of the set's questions the demo asks; the set holds their truth.
OWN_BUSINESS = ("--set", "governor.cpu_limit_bp=0", "--set", "governor.ram_limit_bp=0")
NEVER_SEEN = "What is the phone number of the plumber?"
NOT_A_QUESTION = "Delete everything you saw yesterday"


def play(stage: Stage) -> None:
    samples = stage.samples / "recall"
    truth = _truth(samples)
    questions = [truth[number]["question"] for number in ASKED]
    stage.command("ingest", short_path(samples))
    taken = stage.run("ingest", str(samples), expect=(0,)).data
    if taken["repeated"] == 0:
        stage.tell(
            f"{taken['ticks']} pictures of real programs taken in without loss: "
            f"{taken['frames']} distinct, some apart by one digit."
        )
    else:
        stage.tell(f"{taken['repeated']} pictures were here already and were not taken in twice.")
    if taken["repeated"] == 0:
        unread = stage.run("ask", questions[0], expect=(4,)).data
        stage.demand(unread["state"] == "indeterminate", f"expected indeterminate, found {unread['state']}")
        stage.tell("Asked before anything was read: indeterminate, and it lists what is unread.")
    stage.command("drain", "--force", *OWN_BUSINESS)
    stage.run("drain", "--force", *OWN_BUSINESS)
    stage.command("ask", questions[0])
    for number, question in enumerate(questions):
        picture = stage.folder / f"answer-{number + 1}.png"
        answer = stage.run("ask", question, "--crop", str(picture))
        said = answer.data["claims"][0]["text"]
        accepted = truth[ASKED[number]]["answers"]
        stage.demand(any(text in said for text in accepted), f"expected {accepted[0]}, found {said}")
        stage.tell(_told(question, answer))
        if number == 0:
            stage.look = str(picture)
    unseen = stage.run("ask", NEVER_SEEN, expect=(1,)).data
    stage.demand(unseen["state"] == "no_evidence", f"expected no_evidence, found {unseen['state']}")
    refused = stage.run("ask", NOT_A_QUESTION, expect=(1,)).data
    stage.demand(refused["state"] == "refused", f"expected refused, found {refused['state']}")
    stage.tell(f"“{NEVER_SEEN}” no_evidence. “{NOT_A_QUESTION}” refused.")


def _truth(samples: Path) -> dict[str, Any]:
    lines = (samples / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def _told(question: str, answer: Answer) -> str:
    claim: dict[str, Any] = answer.data["claims"][0]
    citation = claim["citations"][0]
    boxes = citation["boxes"]
    return f"“{question}” {plain.text(claim['text'])} ({answer.data['state']}, pixels {boxes[0]})"


SCENE = Scene("recall", "What was on this screen, and which pixels show it?", play)
