"""One evaluation: split the set, let the answering side answer, score what it predicted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, EXIT_USAGE, SterlingError
from sterling.kernel.shipped import package_root
from sterling.packs.recall.evaluate.score import Scores, score
from sterling.packs.recall.evaluate.sets import EvalSet, load_predictions, load_set, write_public_part

__all__ = ["AnsweringFailed", "Evaluation", "evaluate"]

_OnStep = Callable[[str, int, int], None]


class AnsweringFailed(SterlingError):
    """The answering side of an evaluation could not answer."""

    code = "recall.answering-failed"
    hint = "Look at the cause in the message; `sterling drain --force` shows the same error on a home."
    exit = EXIT_CANNOT_JUDGE


class OutputTaken(SterlingError):
    """The file for predictions exists already."""

    code = "recall.output-taken"
    hint = "Name a new file: `sterling eval recall SET --out FILE`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of a set, and the file of predictions they stand on ('' when it was not kept)."""

    loaded: EvalSet
    scores: Scores
    predictions: str

    def as_json(self, require_bp: int | None) -> dict[str, Json]:
        """The shape of `eval.recall`."""
        both = self.scores.all["both"]
        passed = require_bp is None or (both.of > 0 and both.share_bp >= require_bp)
        return {
            "set": self.loaded.name,
            "set_hash": self.loaded.hash,
            "frames": len(self.loaded.frames),
            "questions": len(self.loaded.questions),
            "answerable": sum(question.is_answerable for question in self.loaded.questions),
            "all": {name: rate.as_json() for name, rate in self.scores.all.items()},
            "types": {
                kind: {name: rate.as_json() for name, rate in rates.items()}
                for kind, rates in self.scores.types.items()
            },
            "states": self.scores.states,
            "require_bp": require_bp,
            "passed": passed,
            "predictions": self.predictions,
        }


def evaluate(
    set_path: Path,
    *,
    predictions: Path | None = None,
    out: Path | None = None,
    before: bool = False,
    on_step: _OnStep = lambda phase, done, total: None,
) -> Evaluation:
    """Answer a set and score the answers, or score predictions that somebody else made.

    `before` asks without reading any frame; `out` keeps the predictions.
    Errors: PathMissing, SetInvalid naming the line, AnsweringFailed, OutputTaken.
    """
    loaded = load_set(set_path)
    if predictions is not None:
        return Evaluation(loaded, _scores(loaded, predictions), str(predictions))
    if out is not None and out.exists():
        raise OutputTaken(f"expected a new file, found {out}", path=str(out))
    with tempfile.TemporaryDirectory(prefix="sterling-eval-") as scratch:
        target = out if out is not None else Path(scratch) / "predictions.jsonl"
        write_public_part(loaded, Path(scratch) / "set")
        _answer(Path(scratch), target.resolve(), before, on_step)
        return Evaluation(loaded, _scores(loaded, target), "" if out is None else str(out))


def _scores(loaded: EvalSet, predictions: Path) -> Scores:
    return score(
        loaded.questions,
        load_predictions(predictions),
        sizes={frame.id: (frame.width, frame.height) for frame in loaded.frames.values()},
        same_as={frame.id: frame.same_as for frame in loaded.frames.values() if frame.same_as},
    )


def _answer(scratch: Path, out: Path, before: bool, on_step: _OnStep) -> None:
    """Run the answering side in a process that is told nothing but the public part."""
    words = [sys.executable, "-P", "-m", "sterling.packs.recall.evaluate.answer_side"]
    words += [str(scratch), str(out), "before" if before else "after"]
    environment = {
        "HOME": str(scratch),
        "LC_ALL": "C.UTF-8",
        "PATH": os.defpath,
        "PYTHONPATH": str(package_root().parent),
        "PYTHONHASHSEED": "0",
        "TMPDIR": str(scratch),
        "XDG_STATE_HOME": str(scratch / "state"),
    }
    last = ""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            step = _step(line)
            if step is None:
                last = line.strip() or last
            else:
                on_step(*step)
        status = process.wait()
    if status != 0:
        raise _failure(last, status)


def _step(line: str) -> tuple[str, int, int] | None:
    try:
        document = json.loads(line)
        return str(document["phase"]), int(document["done"]), int(document["total"])
    except (ValueError, KeyError, TypeError):
        return None


def _failure(last: str, status: int) -> AnsweringFailed:
    try:
        error = json.loads(last)["error"]
        problem = AnsweringFailed(
            f"{error['code']}: {error['message']}", hint=str(error["hint"]), cause=error["code"]
        )
    except (ValueError, KeyError, TypeError):
        problem = AnsweringFailed(f"expected answers, found status {status}: {last[:300]}")
    return problem
