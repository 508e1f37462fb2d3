"""Screens drawn by the bench's seeded renderer, and homes that hold them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from sterling.kernel.home import Home, init_home, open_home
from sterling.packs.recall.ingest.ingest import ingest
from sterling.packs.recall.pixels.tiles import Picture
from sterling.packs.recall.stage2 import read_all

ROOT = Path(__file__).resolve().parents[3]


def _load_screens() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recall_screens", ROOT / "bench" / "recall_screens.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["recall_screens"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def screens() -> ModuleType:
    """The renderer: `blank`, `draw_screens`, `write_set`."""
    return _load_screens()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


@pytest.fixture(scope="session")
def picture_of() -> Callable[[Image.Image], Picture]:
    return lambda image: Picture(image.width, image.height, image.convert("RGB").tobytes())


@pytest.fixture(scope="session")
def drawn_day(tmp_path_factory: pytest.TempPathFactory, screens: ModuleType) -> Path:
    """A folder of four pictures with sidecars: a bill, the same bill with another total, a list, a letter."""
    folder = tmp_path_factory.mktemp("day") / "day"
    folder.mkdir()
    for name, at, drawn in _day(screens):
        drawn.image.save(folder / f"{name}.png")
        said = {"ts": at, "app": drawn.app, "title": drawn.title}
        (folder / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def _day(screens: Any) -> Iterator[tuple[str, str, Any]]:
    for name, at, total in (("bill-1", "09:00:00", "418.20"), ("bill-2", "15:00:00", "431.70")):
        drawn = screens.blank("Bill 7702 - Ledger", "browser", (900, 420))
        drawn.text((40, 24), "Bill 7702", 26, bold=True)
        for place, (label, value) in enumerate(
            (
                ("Customer", "Ada Lindholm"),
                ("Issued", "4 March 2026"),
                ("Total", total),
                ("Reference", "QX-17-204"),
            )
        ):
            drawn.text((40, 90 + 34 * place), label, 15)
            drawn.text((260, 90 + 34 * place), value, 15)
        yield name, f"2026-03-05T{at}+00:00", drawn
    drawn = screens.blank("Crew", "sheet", (900, 420), dark=True)
    for row, cells in enumerate(
        (("Name", "Deck", "Cabin"), ("Odile Marchetti", "3", "341"), ("Tomas Berg", "2", "217"))
    ):
        for x, cell in zip((40, 320, 520), cells, strict=True):
            drawn.text((x, 40 + 30 * row), cell, 15)
    yield "crew", "2026-03-05T12:00:00+00:00", drawn
    drawn = screens.blank("Letter", "writer", (900, 420))
    drawn.text((40, 40), "The ferry to Runmarn leaves from pier 9 at 06:40.", 16)
    drawn.text((40, 80), "Please send the keys to Odile Marchetti before Friday.", 16)
    yield "letter", "2026-03-06T08:00:00+00:00", drawn


@pytest.fixture(scope="session")
def read_template(tmp_path_factory: pytest.TempPathFactory, drawn_day: Path) -> Path:
    """A home in which the day was taken in and read, made once; tests work on copies."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(root / "state"))
        with init_home(root / "home") as made:
            ingest(drawn_day, made)
            report = read_all(made)
            assert report.failed == ()
    return root


@pytest.fixture
def read_home(tmp_path: Path, read_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A copy of the read home, with its own anchors."""
    shutil.copytree(read_template / "home", tmp_path / "read")
    shutil.copytree(read_template / "state", tmp_path / "state")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with open_home(tmp_path / "read") as opened:
        yield opened
