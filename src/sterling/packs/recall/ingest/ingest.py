"""One ingest: list what a path offers, take it, mark what is whole, bring the index up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sterling.kernel.canonical import Json
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home
from sterling.kernel.locks import Role
from sterling.packs.recall.ingest.commit import Taken, Taker
from sterling.packs.recall.ingest.items import Offer, list_offer
from sterling.packs.recall.ingest.stage1 import mark_frames
from sterling.packs.recall.reasons import REASONS, Reason
from sterling.packs.recall.search.index import RecallIndex, open_index
from sterling.runtime.plan import of_phases
from sterling.runtime.runs import Run, open_run

__all__ = ["IngestReport", "ingest"]

_PHASES = (("take", ()), ("complete", ("take",)), ("index", ("complete",)))
_CATCH_UP_EVERY = 256


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What came in. `refused` names every offer that could not be taken."""

    source: str
    name: str
    session: str
    taken: Taken
    complete: int
    run: str

    def as_json(self) -> dict[str, Json]:
        """The shape of `ingest.result`."""
        taken = self.taken
        counted = ("accepted", "repeated", "ticks", "frames", "same", "known", "tiles", "pixel_bytes")
        return {
            "source": self.source,
            "name": self.name,
            "session": self.session,
            "refused": [
                {"item": item.item, "code": item.code, "message": item.message} for item in taken.refused
            ],
            "complete": self.complete,
            "run": self.run,
            **{name: getattr(taken, name) for name in counted},
        }


def ingest(
    path: Path,
    home: Home,
    *,
    kind: str | None = None,
    zone: str = "UTC",
    on_item: Callable[[int, int], None] = lambda done, total: None,
) -> IngestReport:
    """Take everything that a path offers: a folder of images, a set, or one image.

    Repeating it adds nothing. `on_item(done, total)` is called after each item.
    Errors: PathMissing, NothingToIngest, SetInvalid, home.role-taken before anything is written.
    """
    offer = list_offer(path, zone=zone, kind=kind)
    plan = of_phases("recall", _PHASES)
    role = Role(home.path / "run", "recorder")
    role.take(wait_ms=int(home.config.get("store.wait_ms_max")))
    try:
        with open_run(home, pack="recall", plan=plan, origin="attended", title=f"ingest {offer.name}") as run:
            return _carry_out(home, run, offer, on_item)
    finally:
        role.release()


def _carry_out(home: Home, run: Run, offer: Offer, on_item: Callable[[int, int], None]) -> IngestReport:
    with open_index(home) as index:
        taker = Taker(home, index, offer, run.id, "take")
        for number, item in enumerate(offer.items, start=1):
            try:
                taker.take(item)
            except SterlingError as problem:
                run.settle("take", "failed", str(problem.code), f"{item.name}: {problem.message}")
                raise
            if number % _CATCH_UP_EVERY == 0:
                index.catch_up(home)
            on_item(number, len(offer.items))
        taken = taker.taken
        if taken.refused:
            first = taken.refused[0]
            count = f"{len(taken.refused)} of {len(offer.items)} were refused"
            because = f"{count}, first {first.item}: {first.message}"
            run.settle("take", "failed", first.code, because)
        else:
            run.settle("take", "ok", "ok", f"{taken.accepted} taken, {taken.repeated} here already.")
        index.catch_up(home)
        complete = _complete(home, run, index)
        manifest = index.catch_up(home)
        run.settle("index", "ok", "ok", f"{manifest.records} records indexed.")
        return IngestReport(offer.source, offer.name, taker.session, taken, complete, run.id)


def _complete(home: Home, run: Run, index: RecallIndex) -> int:
    marked = mark_frames(home, index, run.id, "complete")
    if marked.incomplete:
        why = REASONS[Reason.STAGE1_INCOMPLETE]
        run.settle(
            "complete",
            "failed",
            str(Reason.STAGE1_INCOMPLETE),
            f"{len(marked.incomplete)} frames, first {marked.incomplete[0]}. {why.sentence}",
        )
    else:
        run.settle("complete", "ok", "ok", f"{marked.complete} frames are whole.")
    return marked.complete
