"""Stage 2: frames that lack a reading, and what becomes of a worker's end.

A frame is due when it is whole (stage 1) and no state text exists for it. The
reading, the state and the state text are written in one batch, so there is
never a reading without its text, nor the other way round. `ReadingSource` hands
this work to the conductor; `read_all` does it for somebody who is waiting.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.batch import Batch
from sterling.kernel.errors import EXIT_CANNOT_JUDGE, SterlingError
from sterling.kernel.home import Home
from sterling.packs.recall.ocr.language import find_language_folder
from sterling.packs.recall.ocr.reading import (
    FULL_FRAME,
    EngineBlind,
    ReadingInvalid,
    load_reading,
    put_state,
    put_text,
    reading_inputs,
    tokens_of,
)
from sterling.packs.recall.search.index import IndexBehind, open_index
from sterling.runtime.dispatches import Job, JobEnd
from sterling.runtime.engine import Task, TaskEnd
from sterling.runtime.engine_local import LocalEngine
from sterling.runtime.execute import gather_facts
from sterling.runtime.manifest import Manifest
from sterling.runtime.preflight import check
from sterling.runtime.registry import load_registry

__all__ = [
    "EngineMissing",
    "ReadReport",
    "ReadingSource",
    "job_key",
    "last_failure",
    "read_all",
    "reading_plugin",
    "unread_frames",
]

PLUGIN_ID = "ocr_tesseract"
PROVIDER = "sterling.packs.recall.provider"
_ESTIMATE_BASE_MS = 600
_ESTIMATE_MS_PER_MEGAPIXEL = 700
_LEAST_SLICE_MS = 500


class EngineMissing(SterlingError):
    """The reading engine is not installed."""

    code = "recall.engine-missing"
    hint = "Install it with `pip install tesserocr`, then run `sterling drain --force`."
    exit = EXIT_CANNOT_JUDGE


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What a whole pass of reading did; `failed` holds frame, code and sentence."""

    read: int
    failed: tuple[tuple[str, str, str], ...]


class ReadingSource:
    """Finds frames that were not read, and keeps what the workers read."""

    kind = "recall.read"

    def __init__(self) -> None:
        self._home: Home | None = None
        self._plugin: Manifest | None = None
        self._folders: dict[str, tempfile.TemporaryDirectory[str]] = {}

    def due(self, home: Home, limit: int) -> list[Job]:
        """Whole frames without a state text, oldest first."""
        self._home = home
        frames = unread_frames(home, limit)
        if not frames:
            return []
        memory_bytes = self._manifest().limits.memory_bytes
        return [
            Job(
                key=job_key(frame),
                kind=self.kind,
                pack="recall",
                title=f"read the text of frame {frame}",
                estimate_ms=_ESTIMATE_BASE_MS + pixels * _ESTIMATE_MS_PER_MEGAPIXEL // 1_000_000,
                least_slice_ms=_LEAST_SLICE_MS,
                memory_bytes=memory_bytes,
            )
            for frame, pixels in frames
        ]

    def start(self, job: Job) -> Task:
        """The task of a job. Errors: LanguageMissing, and what an altered store raises."""
        assert self._home is not None, "a job is started by the source that found it"
        folder = tempfile.TemporaryDirectory(prefix="sterling-read-")
        task = _task(self._home, _frame_of(job), self._manifest(), Path(folder.name) / "out")
        self._folders[job.key] = folder
        return task

    def accept(self, home: Home, job: Job, end: TaskEnd) -> JobEnd:
        """Keep a good reading; anything else is a failure with its code."""
        with self._folders.pop(job.key) as folder:
            return _accept(home, _frame_of(job), self._manifest(), end, Path(folder) / "out")

    def _manifest(self) -> Manifest:
        if self._plugin is None:
            self._plugin = reading_plugin()
        return self._plugin


def job_key(frame: str) -> str:
    """The name of the job that reads a frame."""
    return f"recall/{PLUGIN_ID}/{frame}"


def reading_plugin() -> Manifest:
    """The checked manifest of the reading plugin. Errors: plugin.*."""
    return load_registry("recall").get("recall", PLUGIN_ID)


def unread_frames(home: Home, limit: int) -> list[tuple[str, int]]:
    """Whole frames without a state text, oldest first, with their pixels counted. Cost: one query."""
    try:
        with open_index(home) as index:
            if index.manifest().entries == home.ledger.size() or not home.read_only:
                rows = index.connection.execute(
                    """SELECT f.record, f.width * f.height FROM frames f
                       JOIN stage1 s ON s.frame = f.record AND s.state = 'complete'
                       WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE d.frame = f.record)
                       ORDER BY f.entry LIMIT ?""",
                    (limit,),
                ).fetchall()
                return [(str(row[0]), int(row[1])) for row in rows]
    except IndexBehind:
        if not home.read_only:
            raise
    return [(frame, 0) for frame in _unread_by_ledger(home)[:limit]]


def last_failure(home: Home) -> tuple[str, str] | None:
    """Code and sentence with which the last try on the oldest unread frame failed, or None."""
    frames = unread_frames(home, 1)
    entry = home.ledger.newest(f"job/{job_key(frames[0][0])}") if frames else None
    if entry is None or entry.payload["end"] != "failed":
        return None
    return str(entry.payload["reason"]), str(entry.payload["because"])


def read_all(
    home: Home, *, workers: int = 1, on_read: Callable[[int, int], None] = lambda done, total: None
) -> ReadReport:
    """Read every frame that is due, for a person who waits. A frame that fails is named, not retried.

    Errors: LanguageMissing, EngineMissing, plugin.*.
    """
    plugin = reading_plugin()
    find_language_folder(FULL_FRAME.languages)
    lacking = check(plugin, gather_facts())
    if lacking is not None:
        raise EngineMissing(f"{lacking.reason}: {lacking.because}")
    failed: dict[str, tuple[str, str, str]] = {}
    read = 0
    with LocalEngine(workers) as engine:
        while frames := [frame for frame, _ in unread_frames(home, 64 + len(failed)) if frame not in failed]:
            left = len(unread_frames(home, 1_000_000))
            with tempfile.TemporaryDirectory(prefix="sterling-read-") as scratch:
                tasks = [_task(home, frame, plugin, Path(scratch) / frame) for frame in frames]
                for frame, task, end in zip(frames, tasks, engine.run(tasks), strict=True):
                    ended = _accept(home, frame, plugin, end, task.out_dir)
                    if ended.end == "completed":
                        read += 1
                    else:
                        failed[frame] = (frame, ended.reason, ended.because)
                    on_read(read + len(failed), read + len(failed) + left)
                    left -= 1
    return ReadReport(read, tuple(failed[frame] for frame in sorted(failed)))


def _frame_of(job: Job) -> str:
    return job.key.rpartition("/")[2]


def _task(home: Home, frame: str, plugin: Manifest, out_dir: Path) -> Task:
    record = home.records.get(frame)
    folder = find_language_folder(FULL_FRAME.languages)
    return Task(
        key=job_key(frame),
        plugin=plugin,
        provider=PROVIDER,
        inputs=reading_inputs(home, record, folder),
        settings=FULL_FRAME.as_json(),
        out_dir=out_dir,
    )


def _accept(home: Home, frame: str, plugin: Manifest, end: TaskEnd, out_dir: Path) -> JobEnd:
    """Judge a worker's end; a good reading is written with its state and state text."""
    if end.end != "returned":
        lacking = check(plugin, gather_facts())
        if lacking is not None:
            return JobEnd("failed", lacking.reason, lacking.because)
        return JobEnd(
            "failed", end.reason or _REASONS.get(end.end, "step.raised"), end.message or "It gave no reading."
        )
    document = home.records.get(frame).document
    try:
        reading = load_reading(out_dir / "reading.json", int(document["width"]), int(document["height"]))
    except (ReadingInvalid, EngineBlind) as problem:
        return JobEnd("failed", str(problem.code), problem.message)
    batch = Batch()
    text = put_text(home, batch, frame, reading, FULL_FRAME, plugin=f"{plugin.id}@{plugin.version}")
    put_state(home, batch, frame, text.id, tokens_of(reading))
    home.ledger.commit(batch)
    return JobEnd("completed", "ok", f"{len(reading['tokens'])} words read.")


_REASONS = {
    "raised": "step.raised",
    "died": "worker.died",
    "hung": "step.hung",
    "invalid": "step.invalid-result",
    "protocol": "worker.protocol",
    "stopped": "run.interrupted",
}


def _unread_by_ledger(home: Home) -> list[str]:
    """The same from the ledger alone, for a home that may not be written and has no fresh index."""
    frames: dict[str, list[str]] = {}
    for contract in ("recall.stage1", "recall.state"):
        frames[contract] = [
            str(source["record"])
            for entry in home.ledger.read(kind="record.put", contract=contract)
            for source in entry.payload["sources"]
            if source["role"] == "frame"
        ]
    read = set(frames["recall.state"])
    return [frame for frame in frames["recall.stage1"] if frame not in read]
