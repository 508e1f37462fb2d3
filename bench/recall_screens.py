"""Seeded screens with known words: what the recall benches and tests look at.

`write_set(folder, seed, screens)` draws screens of six plain kinds (mail, record,
table, terminal, page, cards) with random names and figures and writes them as a
recall set: pictures, frames and questions with answers, boxes and near misses.
Nothing here is taken from a real program or from a shipped sample.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

FONTS = Path("/usr/share/fonts/truetype/dejavu")
LIGHT, DARK = ((255, 255, 255), (24, 24, 24)), ((28, 30, 34), (224, 224, 224))


def _names(text: str, between: str = " ") -> list[str]:
    return [name for name in text.split(between) if name]


FIRST = _names(
    "Anna Boris Clara David Elena Felix Greta Henrik Irina Jonas Karla Leon Mira Nils Olga Paul Rosa Stefan "
)
LAST = _names(
    "Abbott Brandt Castell Dorn Ebersole Fiala Grunwald Hollis Ibsen Jensen Keller Lund Moretti Novak Quist "
)
TOWNS = _names("Oslo Madrid Lisbon Vienna Prague Dublin Tallinn Bergen Porto Graz Malaga Turin Gdansk Leeds ")
GOODS = _names(
    "desk lamp|steel shelf|garden hose|paper tray|copper wire|floor mat|door handle|ceiling fan|water filter|"
    "ladder hook|storage crate|window blind|tool chest|pipe clamp",
    "|",
)
SERVICES = _names("billing search mailer gateway catalog worker cache login export archive ")


@dataclass
class Drawn:
    """A screen being drawn: its picture, its title, and where every text went."""

    image: Image.Image
    title: str
    app: str
    pen: ImageDraw.ImageDraw
    ink: tuple[int, int, int]
    words: list[tuple[str, tuple[int, int, int, int]]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)

    def text(
        self, at: tuple[int, int], words: str, size: int = 14, *, bold: bool = False, mono: bool = False
    ) -> None:
        """Write words and remember their box."""
        name = ("DejaVuSansMono" if mono else "DejaVuSans") + ("-Bold" if bold else "")
        font = ImageFont.truetype(str(FONTS / f"{name}.ttf"), size)
        self.pen.text(at, words, font=font, fill=self.ink)
        left, top, right, bottom = self.pen.textbbox(at, words, font=font)
        self.words.append((words, (round(left), round(top), round(right), round(bottom))))

    def ask(self, kind: str, question: str, answer: str | None) -> None:
        """Remember a question; its box is that of the text that holds the answer."""
        boxes = [box for words, box in self.words if answer is not None and answer in words]
        self.questions.append(
            {
                "type": kind,
                "question": question,
                "answers": [] if answer is None else [answer],
                "box": boxes[:1],
            }
        )


def blank(title: str, app: str, size: tuple[int, int] = (1280, 800), *, dark: bool = False) -> Drawn:
    """An empty screen."""
    ground, ink = DARK if dark else LIGHT
    image = Image.new("RGB", size, ground)
    return Drawn(image, title, app, ImageDraw.Draw(image), ink)


def person(dice: random.Random) -> str:
    return f"{dice.choice(FIRST)} {dice.choice(LAST)}"


def mail(dice: random.Random) -> Drawn:
    """A message with a few facts in sentences."""
    sender, good, number = person(dice), dice.choice(GOODS), dice.randint(10_000, 99_999)
    drawn = blank(f"Inbox - {sender}", "mail", dark=dice.random() < 0.4)
    amount, day = f"{dice.randint(100, 9999)}.{dice.randint(10, 99)}", dice.randint(1, 28)
    due = f"{day} {dice.choice(['March', 'April', 'May', 'June'])} 2026"
    phone = f"+49 30 555 {dice.randint(1000, 9999)}"
    drawn.text((40, 30), f"Delivery {number}: {good}", 20, bold=True)
    drawn.text((40, 74), f"From: {sender}")
    drawn.text((40, 98), f"Date: {dice.randint(1, 28)} February 2026")
    for place, line in enumerate(
        (
            "Dear colleagues,",
            f"the {good} order was delivered to the store in {dice.choice(TOWNS)} this morning.",
            f"The delivery fee is EUR {amount} and has to be settled by {due}.",
            f"You can reach me at {phone} until Friday.",
            f"Best wishes, {sender}",
        )
    ):
        drawn.text((40, 150 + 28 * place), line, 15)
    drawn.ask("lookup", f"What is the delivery fee for the {good}?", amount)
    drawn.ask("lookup", f"By when does delivery {number} have to be settled?", due)
    drawn.ask("lookup", f"What is the phone number of {sender}?", phone)
    drawn.ask("unanswerable", f"What is the storage fee for the {good}?", None)
    drawn.ask("unanswerable", f"What is the delivery fee for delivery {number + 7}?", None)
    return drawn


def record(dice: random.Random) -> Drawn:
    """Labels on the left, values on the right, under a heading."""
    number, owner = dice.randint(1000, 9999), person(dice)
    drawn = blank(f"Ticket {number}", "browser", dark=dice.random() < 0.3)
    drawn.text((40, 24), f"Ticket {number}", 26, bold=True)
    rows = {
        "Owner": owner,
        "Priority": dice.choice(["High", "Low", "Medium"]),
        "Opened": f"{dice.randint(1, 28)} January 2026",
        "Site": dice.choice(TOWNS),
        "Reference": f"{dice.choice('ABCDEFGH')}K-{dice.randint(10, 99)}-{dice.randint(1000, 9999)}",
        "Estimate": f"{dice.randint(2, 40)} hours",
    }
    for place, (label, value) in enumerate(rows.items()):
        drawn.text((40, 90 + 34 * place), label, 15)
        drawn.text((260, 90 + 34 * place), value, 15)
    drawn.text((40, 330), "Notes", 18, bold=True)
    drawn.text((40, 364), f"The spare key is kept in locker {dice.randint(100, 999)} beside the ramp.", 15)
    for label in ("Priority", "Owner", "Site", "Reference", "Estimate"):
        word = "Who" if label == "Owner" else "What"
        drawn.ask("lookup", f"{word} is the {label.lower()} of ticket {number}?", rows[label])
    drawn.ask("unanswerable", f"What is the severity of ticket {number}?", None)
    drawn.ask("unanswerable", f"What is the priority of ticket {number + 13}?", None)
    return drawn


def table(dice: random.Random) -> Drawn:
    """Rows and columns without rules."""
    drawn = blank("Stock list", "sheet", dark=dice.random() < 0.3)
    where = dice.choice(TOWNS)
    drawn.title = f"Stock {where}"
    drawn.text((40, 24), f"Stock in {where}", 22, bold=True)
    names = dice.sample(GOODS, 6)
    columns = (40, 320, 480, 660, 840)
    for x, head in zip(columns, ("Item", "Pieces", "Unit price", "Shelf", "Supplier"), strict=True):
        drawn.text((x, 80), head, 14, bold=True)
    rows = []
    for place, name in enumerate(names):
        row = (
            name.capitalize(),
            str(dice.randint(2, 900)),
            f"{dice.randint(1, 200)}.{dice.randint(10, 99)}",
            f"{dice.choice('ABCD')}{dice.randint(10, 99)}",
            dice.choice(LAST) + " Ltd",
        )
        rows.append(row)
        for x, cell in zip(columns, row, strict=True):
            drawn.text((x, 112 + 28 * place), cell)
    first, second, third = dice.sample(range(6), 3)
    drawn.ask("lookup", f"What is the unit price of the {names[first]} in {where}?", rows[first][2])
    drawn.ask("lookup", f"How many pieces of the {names[second]} are in {where}?", rows[second][1])
    drawn.ask("lookup", f"Which supplier delivers the {names[third]} in {where}?", rows[third][4])
    missing = next(name for name in GOODS if name not in names)
    drawn.ask("unanswerable", f"What is the unit price of the {missing} in {where}?", None)
    drawn.ask("unanswerable", f"What is the weight of the {names[first]} in {where}?", None)
    return drawn


def terminal(dice: random.Random) -> Drawn:
    """A shell session."""
    service, port = dice.choice(SERVICES), dice.randint(2000, 9999)
    drawn = blank(f"{service} - terminal", "terminal", dark=True)
    passed, failed, commit = dice.randint(50, 900), dice.randint(1, 9), f"{dice.randrange(16**7):07x}"
    seconds = f"{dice.randint(2, 90)}.{dice.randint(10, 99)}s"
    lines = (
        f"dev@box:~/{service}$ git log --oneline -1",
        f"{commit} Bound the retry queue of {service}",
        f"dev@box:~/{service}$ make test",
        f"{failed} failed, {passed} passed in {seconds}",
        f"dev@box:~/{service}$ ./{service} --listen 127.0.0.1:{port}",
        f"{service}: listening on http://127.0.0.1:{port}",
    )
    for place, line in enumerate(lines):
        drawn.text((16, 16 + 24 * place), line, 15, mono=True)
    drawn.ask("lookup", f"How many {service} tests passed?", str(passed))
    drawn.ask("lookup", f"Which port does {service} listen on?", str(port))
    drawn.ask("lookup", f"Which commit bounds the retry queue of {service}?", commit)
    drawn.ask("unanswerable", f"How many {service} tests were skipped?", None)
    return drawn


def page(dice: random.Random) -> Drawn:
    """Paragraphs of prose."""
    town, lead = dice.choice(TOWNS), person(dice)
    drawn = blank(f"Annual report {town}", "reader")
    visitors, grant = f"{dice.randint(10, 99)},{dice.randint(100, 999)}", f"{dice.randint(100, 900)},000"
    drawn.text((60, 40), f"The museum of {town}", 24, bold=True)
    for place, line in enumerate(
        (
            f"In the past year {visitors} visitors came to the museum of {town}, more than before. The",
            f"new wing was designed by {lead} and opened on {dice.randint(1, 28)} September 2025. A grant of",
            f"EUR {grant} paid for half of the building; the rest was collected by the friends of the house.",
            "",
            f"It opens at {dice.randint(8, 11)}:30 on weekdays. Under {dice.randint(6, 14)} enter free.",
        )
    ):
        drawn.text((60, 100 + 26 * place), line, 16)
    drawn.ask("lookup", f"How many visitors came to the museum of {town}?", visitors)
    drawn.ask("lookup", f"Who designed the new wing of the museum of {town}?", lead)
    drawn.ask("lookup", f"How much was the grant for the museum of {town}?", grant)
    drawn.ask("unanswerable", f"Who directs the library of {town}?", None)
    drawn.ask("unanswerable", f"How much does the audio guide of the museum of {town} cost?", None)
    return drawn


def cards(dice: random.Random) -> Drawn:
    """Figures under small labels."""
    service = dice.choice(SERVICES)
    drawn = blank(f"{service} overview", "browser", dark=dice.random() < 0.6)
    drawn.text((40, 20), f"Service {service}", 22, bold=True)
    rows = {
        "Open sessions": f"{dice.randint(1, 9)},{dice.randint(100, 999)}",
        "Failure share": f"{dice.randint(0, 9)}.{dice.randint(10, 99)} %",
        "Median answer": f"{dice.randint(10, 900)} ms",
        "Queue length": str(dice.randint(10, 4000)),
    }
    for place, (label, value) in enumerate(rows.items()):
        drawn.text((40 + 300 * place, 90), label, 14)
        drawn.text((40 + 300 * place, 114), value, 24, bold=True)
    for label in ("Median answer", "Queue length", "Failure share"):
        drawn.ask("lookup", f"What is the {label.lower()} of the {service} service?", rows[label])
    drawn.ask("unanswerable", f"What is the disk usage of the {service} service?", None)
    return drawn


KINDS: tuple[Callable[[random.Random], Drawn], ...] = (mail, record, table, terminal, page, cards)


def draw_screens(seed: int, count: int) -> list[Drawn]:
    """`count` screens, kind after kind, no two with one title, so that each question has one screen."""
    dice = random.Random(seed)
    drawn: list[Drawn] = []
    titles: set[str] = set()
    while len(drawn) < count:
        screen = KINDS[len(drawn) % len(KINDS)](dice)
        if screen.title not in titles:
            titles.add(screen.title)
            drawn.append(screen)
    return drawn


def write_set(folder: Path, seed: int, count: int) -> Path:
    """Write a recall set of these screens, five minutes apart; returns the folder."""
    folder.mkdir(parents=True)
    frames, questions = [], []
    start = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
    for number, drawn in enumerate(draw_screens(seed, count)):
        name = f"f{number:04}"
        drawn.image.save(folder / f"{name}.png")
        width, height = drawn.image.size
        at = (start + timedelta(minutes=5 * number)).isoformat()
        frames.append(
            {
                "id": name,
                "file": f"{name}.png",
                "ts": at,
                "app": drawn.app,
                "title": drawn.title,
                "w": width,
                "h": height,
            }
        )
        for place, asked in enumerate(drawn.questions):
            boxes = {name: [list(box) for box in asked["box"]]} if asked["box"] else {}
            questions.append(
                {
                    "id": f"{name}-{place}",
                    "type": asked["type"],
                    "question": asked["question"],
                    "answers": asked["answers"],
                    "frames": [name] if asked["answers"] else [],
                    "boxes": boxes,
                }
            )
    for path, lines in ((folder / "frames.jsonl", frames), (folder / "questions.jsonl", questions)):
        path.write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
        )
    about = {"name": f"generated-{seed}", "licence": "CC0-1.0", "zone": "UTC"}
    (folder / "set.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def main() -> None:
    """`python bench/recall_screens.py FOLDER [--seed N] [--count N]` writes a set."""
    parser = argparse.ArgumentParser(description="write a generated recall set")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=24)
    arguments, _ = parser.parse_known_args()
    if arguments.folder is not None:
        print(write_set(arguments.folder, arguments.seed, arguments.count))


if __name__ == "__main__":
    main()
