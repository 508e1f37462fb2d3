"""Record the sample day: real programs on a virtual screen, without loss.

Usage: python samples/recall/capture.py OUT
Needs: Xvfb, openbox, xterm, mousepad, gnumeric, chromium, xdotool (Debian packages) and `mss`, `Pillow`.

Each scene opens a program on the files in `desk/`, waits until the picture has
stopped changing, and grabs the whole screen. The pixels are what the programs
drew; the times are a scripted day, so that questions about time have answers.
Writes OUT/NAME.png and OUT/frames.jsonl.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import mss
from PIL import Image

HERE = Path(__file__).resolve().parent / "desk"
DESK = Path("/tmp/day")  # Programs show paths in their titles, so they get the files from a neutral place.
DISPLAY = ":97"
WIDTH, HEIGHT = 1920, 1080


@dataclass(frozen=True)
class Window:
    """A program to show: its argv, its place (x, y, width, height) and what it is called."""

    argv: tuple[str, ...]
    place: tuple[int, int, int, int]
    app: str
    title: str


@dataclass(frozen=True)
class Scene:
    """What is open for one grab, and when that was on the scripted day."""

    name: str
    ts: str
    windows: tuple[Window, ...]


FULL = (0, 0, WIDTH, HEIGHT)
LEFT, RIGHT = (0, 0, WIDTH // 2, HEIGHT), (WIDTH // 2, 0, WIDTH // 2, HEIGHT)


def _laid_out(file: str) -> Path:
    """A copy of one of our files: `notes-changed.txt` becomes `DESK/changed/notes.txt`."""
    source = HERE / file
    stem, _, variant = source.stem.partition("-")
    target = DESK / variant / f"{stem}{source.suffix}" if variant else DESK / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    return target


def terminal(file: str, place: tuple[int, int, int, int] = FULL) -> Window:
    """xterm showing a file; the title is what a person would see."""
    words = f"cat {_laid_out(file)}; read line"
    argv = ("xterm", "-fa", "DejaVu Sans Mono", "-fs", "13", "-bg", "#10141a", "-fg", "#e6e6e6", "-T", "Terminal")
    return Window((*argv, "-e", "sh", "-c", words), place, "xterm", "Terminal")


def editor(file: str, place: tuple[int, int, int, int] = FULL) -> Window:
    shown = _laid_out(file)
    return Window(("mousepad", "--disable-server", str(shown)), place, "mousepad", shown.name)


def sheet(file: str, place: tuple[int, int, int, int] = FULL) -> Window:
    shown = _laid_out(file)
    return Window(("gnumeric", "--no-splash", str(shown)), place, "gnumeric", shown.name)


def page(file: str, title: str, place: tuple[int, int, int, int] = FULL) -> Window:
    """Chromium in a window of its own, with no tabs, on a local file."""
    folder = tempfile.mkdtemp(prefix="profile-")
    argv = (
        "chromium", f"--app=file://{_laid_out('pages/' + file)}", f"--user-data-dir={folder}", "--no-sandbox",
        "--test-type", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--disable-quic", "--force-device-scale-factor=1", "--password-store=basic",
    )  # fmt: skip
    return Window(argv, place, "chromium", title)


SCENES = (
    Scene("f01", "2026-03-10T08:02:00Z", (terminal("build.log"),)),
    Scene("f02", "2026-03-10T08:02:30Z", (terminal("build.log"),)),
    Scene("f03", "2026-03-10T08:20:00Z", (terminal("build-next.log"),)),
    Scene("f04", "2026-03-10T08:31:00Z", (page("timetable.html", "Departures - Harrow Junction"),)),
    Scene("f05", "2026-03-10T08:33:00Z", (page("timetable-changed.html", "Departures - Harrow Junction"),)),
    Scene("f06", "2026-03-10T09:05:00Z", (editor("notes.txt"),)),
    Scene("f07", "2026-03-10T09:06:00Z", (editor("notes-changed.txt"),)),
    Scene("f08", "2026-03-10T09:40:00Z", (sheet("invoices.csv"),)),
    Scene("f09", "2026-03-10T09:41:00Z", (sheet("invoices-changed.csv"),)),
    Scene("f10", "2026-03-10T10:12:00Z", (page("order.html", "Your order - Northgate Lighting"),)),
    Scene("f11", "2026-03-10T10:12:30Z", (page("order.html", "Your order - Northgate Lighting"),)),
    Scene("f12", "2026-03-10T10:45:00Z", (terminal("queue.log", LEFT), editor("notes-changed.txt", RIGHT))),
    Scene("f13", "2026-03-10T10:45:30Z", (terminal("queue-next.log", LEFT), editor("notes-changed.txt", RIGHT))),
    Scene("f14", "2026-03-10T12:20:00Z", (page("moby.html", "Moby-Dick, chapter 1"),)),
    Scene("f15", "2026-03-10T12:34:00Z", (page("pride.html", "Pride and Prejudice, chapter 1"),)),
    Scene("f16", "2026-03-10T13:10:00Z", (page("recipe.html", "Walnut bread"),)),
    Scene("f17", "2026-03-10T14:02:00Z", (sheet("invoices.csv", LEFT), terminal("build-next.log", RIGHT))),
    Scene("f18", "2026-03-10T14:03:00Z", (sheet("invoices-changed.csv", LEFT), terminal("build-next.log", RIGHT))),
    Scene("f19", "2026-03-10T15:15:00Z", (page("recipe.html", "Walnut bread", LEFT), editor("notes.txt", RIGHT))),
    Scene("f20", "2026-03-10T15:48:00Z", (page("timetable-changed.html", "Departures - Harrow Junction", LEFT), terminal("queue-next.log", RIGHT))),
    Scene("f21", "2026-03-10T16:30:00Z", (page("moby.html", "Moby-Dick, chapter 1", RIGHT), editor("invoices.csv", LEFT))),
    Scene("f22", "2026-03-10T16:55:00Z", (editor("build-next.log"),)),
    Scene("f23", "2026-03-10T17:05:00Z", (terminal("queue.log"),)),
    Scene("f24", "2026-03-10T17:06:00Z", (terminal("queue-next.log"),)),
)  # fmt: skip


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    os.environ["DISPLAY"] = DISPLAY
    screen = f"{WIDTH}x{HEIGHT}x24"
    server = subprocess.Popen(["Xvfb", DISPLAY, "-screen", "0", screen, "-nolisten", "tcp"])
    try:
        time.sleep(1)
        manager = subprocess.Popen(["openbox"], stderr=subprocess.DEVNULL)
        time.sleep(1)
        rows = []
        shown: tuple[Window, ...] = ()
        running: list[subprocess.Popen[bytes]] = []
        for scene in SCENES:
            if _argvs(scene.windows) != _argvs(shown):
                _stop(running)
                running = [_open(window) for window in scene.windows]
                shown = scene.windows
            _settled_picture().save(out / f"{scene.name}.png", optimize=True)
            front = scene.windows[-1]
            row = {"id": scene.name, "file": f"{scene.name}.png", "ts": scene.ts, "app": front.app,
                   "title": front.title, "monitor": "virtual-1", "zone": "UTC", "w": WIDTH, "h": HEIGHT}  # fmt: skip
            rows.append(json.dumps(row, sort_keys=True))
            print(scene.name, flush=True)
        _stop(running)
        manager.terminate()
        (out / "frames.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    finally:
        server.terminate()
        server.wait()


def _argvs(windows: tuple[Window, ...]) -> list[tuple[str, ...]]:
    """What is open, less the throw-away profile folders."""
    return [tuple(word for word in window.argv if "user-data-dir" not in word) for window in windows]


def _open(window: Window) -> subprocess.Popen[bytes]:
    before = _visible()
    process = subprocess.Popen(
        window.argv, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    fresh: list[str] = []
    for _ in range(150):
        time.sleep(0.2)
        fresh = [number for number in _visible() if number not in before]
        if fresh:
            break
    time.sleep(1.5)
    fresh = [number for number in _visible() if number not in before]
    x, y, width, height = window.place
    for number in fresh:
        subprocess.run(["xdotool", "windowmove", number, str(x), str(y)], check=False)
        subprocess.run(["xdotool", "windowsize", number, str(width), str(height - 24)], check=False)
    subprocess.run(["xdotool", "mousemove", str(WIDTH - 1), str(HEIGHT - 1)], check=False)
    return process


def _visible() -> list[str]:
    found = subprocess.run(
        ["xdotool", "search", "--onlyvisible", "--name", "."], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def _stop(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    time.sleep(0.5)


def _settled_picture() -> Image.Image:
    """The screen once three grabs in a row are equal, or after ten seconds (a blinking caret)."""
    with mss.MSS() as grabber:
        last, equal = b"", 0
        for _ in range(50):
            time.sleep(0.2)
            shot = grabber.grab(grabber.monitors[0])
            equal = equal + 1 if shot.rgb == last else 0
            last = shot.rgb
            if equal >= 3:
                break
        return Image.frombytes("RGB", shot.size, last)


if __name__ == "__main__":
    main()
