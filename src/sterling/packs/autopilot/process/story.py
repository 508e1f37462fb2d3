"""Reading and writing a task's story: every batch about a task ends with one line.

The line (`task.line`) has the task as its subject and names the records that the
batch wrote, so a task is read by its own lines alone, however long the ledger
is, and its newest line is what an asker must have seen. `write` puts a batch
under the task's fence and under the newest line of the view it was decided on:
whoever decided on an older one is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sterling.kernel.batch import Batch, Fence, FenceHolds, NewestIs
from sterling.kernel.home import Home
from sterling.kernel.ledger import Receipt
from sterling.kernel.records import RecordRef
from sterling.packs.autopilot.process.view import TaskView, Told

__all__ = ["LINE_KIND", "read_story", "read_view", "refresh", "write"]

LINE_KIND = "task.line"
_AREA = "autopilot."


def read_story(home: Home, task: str, *, after: int = -1) -> Iterator[tuple[int, Told]]:
    """Every record of a task in order, each with the index of the line that names it."""
    for entry in home.ledger.read(kind=LINE_KIND, subject=task, after=after):
        for record_id in entry.payload["records"]:
            record = home.records.get(str(record_id))
            name = record.contract.partition("@")[0].removeprefix(_AREA)
            yield entry.index, Told(name, record.id, record.document, record.entry, entry.at_us)


def read_view(home: Home, task: str) -> TaskView | None:
    """The task as the ledger tells it now; None when there is no such task."""
    view = TaskView(task)
    refresh(home, view)
    return view if view.newest >= 0 else None


def refresh(home: Home, view: TaskView) -> None:
    """Add what was written since the view was read."""
    for index, told in read_story(home, view.task, after=view.newest):
        view.take(told)
        view.newest = index


def write(
    home: Home,
    batch: Batch,
    view: TaskView,
    records: Sequence[RecordRef],
    what: str,
    *,
    fence: Fence | None,
) -> Receipt:
    """End a batch with the task's line, commit it, and bring the view up to date.

    Only the batch that creates a task has no fence.

    Errors: ledger.precondition (another line came first), lease.expired, lease.lost,
            and whatever keeps the ledger from being durable. Nothing was written then.
    """
    assert records, "a line names at least one record"
    batch.append(
        LINE_KIND,
        {"task": view.task, "what": what, "records": [ref.id for ref in records]},
        subject=view.task,
    )
    batch.require(NewestIs(view.task, view.newest if view.newest >= 0 else None))
    if fence is not None:
        batch.require(FenceHolds(fence.lease, fence.token))
    receipt = home.ledger.commit(batch)
    refresh(home, view)
    return receipt
