"""What every scene stands on: running a real command, checking its exit, telling the story.

A scene runs the same command lines a person would type, in processes of their
own, and reads their `--json` answers. What a scene shows must be so: an
unexpected exit or answer makes the scene fail, and the story goes on.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sterling.cli import plain
from sterling.cli.words import paint, state_word

__all__ = ["Answer", "Scene", "SceneFailed", "SceneNotPossible", "Stage", "Told", "program", "short_path"]

LINES_MAX = 8
COMMAND_TIMEOUT_S = 300


class SceneFailed(Exception):
    """A command ended otherwise than the scene's row says."""


class SceneNotPossible(Exception):
    """Something this machine lacks; the message holds the cure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left: its exit status, its JSON object and what it said."""

    exit: int
    data: dict[str, Any]
    talk: str


@dataclass(frozen=True, slots=True)
class Told:
    """How a scene ended."""

    id: str
    state: str
    code: str
    shows: tuple[str, ...]
    look: str


@dataclass(slots=True)
class Stage:
    """Where the demo plays: the home, the folder for results, the samples."""

    folder: Path
    home: Path
    samples: Path
    say: Callable[[str], None]
    shows: list[str] = field(default_factory=list)
    look: str = ""

    def run(self, *argv: str, expect: Sequence[int] = (0,), cwd: Path | None = None) -> Answer:
        """Run `sterling ARGV --home HOME --json` and demand one of the expected exits.

        Errors: SceneNotPossible when the command says a service is missing (exit 4, unexpected),
                SceneFailed for any other exit.
        """
        split = list(argv).index("--") if "--" in argv else len(argv)
        own = [*argv[:split], "--home", str(self.home), "--json", *argv[split:]]
        done = subprocess.run(
            [sys.executable, "-m", "sterling", *own],
            capture_output=True,
            text=True,
            cwd=cwd or self.folder,
            timeout=COMMAND_TIMEOUT_S,
            env=_environment(),
            check=False,
        )
        data = _object(done.stdout)
        if done.returncode not in expect:
            error = data.get("error", {})
            said = f"{error.get('code', 'exit')}: {error.get('message', done.stderr.strip()[-400:])}"
            if done.returncode == 4 and error:
                raise SceneNotPossible(f"{said} next: {error.get('hint', '')}")
            wanted = " or ".join(str(code) for code in expect)
            raise SceneFailed(
                f"`sterling {shlex.join(argv)}`: expected exit {wanted}, found {done.returncode}: {said}"
            )
        return Answer(done.returncode, data, done.stderr)

    def fresh_folder(self, name: str) -> Path:
        """A path in the demo's folder that is free; what an earlier demo left there is moved aside."""
        path = self.folder / name
        if path.exists():
            number = sum(1 for other in self.folder.glob(f"{name}-before-*")) + 1
            path.rename(self.folder / f"{name}-before-{number}")
        return path

    def tell(self, words: str) -> None:
        """One line of the story; at most eight a scene."""
        assert len(self.shows) < LINES_MAX, f"a scene shows at most {LINES_MAX} lines"
        self.shows.append(words)
        self.say("  " + words)

    def command(self, *argv: str) -> None:
        """The line that repeats what comes next, as it can be typed from here."""
        split = list(argv).index("--") if "--" in argv else len(argv)
        words = [*argv[:split], "--home", short_path(self.home), *argv[split:]]
        self.say(paint(f"  $ {program()} {shlex.join(words)}", "2", colour=_is_terminal()))

    def demand(self, is_so: bool, words: str) -> None:
        """What the scene claims must hold.

        Errors: SceneFailed.
        """
        if not is_so:
            raise SceneFailed(words)


@dataclass(frozen=True, slots=True)
class Scene:
    """One part of the demo: its id, the question in bold, and the play."""

    id: str
    question: str
    play: Callable[[Stage], None]

    def perform(self, stage: Stage) -> Told:
        """Play the scene; a failure is told, not raised."""
        stage.shows, stage.look = [], ""
        stage.say("")
        stage.say(paint(self.question, "1", colour=_is_terminal()))
        try:
            self.play(stage)
        except SceneNotPossible as missing:
            stage.say(f"  {state_word('na')}: {plain.text(str(missing))}")
            return Told(self.id, "na", "demo.scene-na", (*stage.shows, str(missing)), "")
        except (SceneFailed, subprocess.TimeoutExpired) as problem:
            stage.say(f"  {state_word('failed')}: {plain.text(str(problem))}")
            return Told(self.id, "failed", "demo.scene-failed", (*stage.shows, str(problem)), "")
        if stage.look:
            stage.say(f"  look: {stage.look}")
        return Told(self.id, "ok", "", tuple(stage.shows), stage.look)


def program() -> str:
    """What a person types to run this program: its name when the shell finds it, else its path."""
    return "sterling" if shutil.which("sterling") else short_path(Path(sys.argv[0]).resolve())


def short_path(path: Path) -> str:
    """The path relative to the working directory when it lies inside, else as it is."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _environment() -> dict[str, str]:
    """The caller's environment; a child must not draw bars or wait on a terminal."""
    return {**os.environ, "TERM": "dumb", "NO_COLOR": "1"}


def _is_terminal() -> bool:
    return sys.stderr.isatty()
