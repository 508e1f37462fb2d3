"""Making a task, and opening the authority for one.

A new task binds what it will be judged by: its text, the base tree and the bytes
of the profile, all as they are now. Nothing that happens to the repository later
changes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sterling.kernel.batch import Actor, Batch
from sterling.kernel.home import Home
from sterling.kernel.ids import random_id
from sterling.kernel.leases import Lease
from sterling.kernel.locks import Role as ProcessRole
from sterling.kernel.locks import RoleTaken
from sterling.kernel.records import Source
from sterling.packs.autopilot.authority.collect import Site
from sterling.packs.autopilot.authority.loop import Authority
from sterling.packs.autopilot.authority.worktree import WorkTree
from sterling.packs.autopilot.errors import (
    AuthorityTaken,
    NoProfile,
    RequestInvalid,
    TaskUnknown,
)
from sterling.packs.autopilot.orders import TaskOrder
from sterling.packs.autopilot.ports import TestEvidence
from sterling.packs.autopilot.process.story import read_view, write
from sterling.packs.autopilot.process.view import TaskView
from sterling.packs.autopilot.profile import FILE_NAME, Profile, parse_profile

__all__ = ["create_task", "find_task", "lease_name", "list_tasks", "open_authority", "work_of"]

LEASE_S = 300
_TEXT_BYTES_MAX = 64 * 1024


def create_task(home: Home, order: TaskOrder) -> TaskView:
    """Take over the repository's base, bind the profile, and write the task's first line.

    Raises:
        RequestInvalid: no text, or too much. NoProfile, ProfileInvalid. WorkBroken, TreeUnsafe.
    """
    data = order.text.strip().encode("utf-8")
    if not data or len(data) > _TEXT_BYTES_MAX or b"\x00" in data:
        raise RequestInvalid(f"expected a task of 1 to {_TEXT_BYTES_MAX} bytes of text, found {len(data)}")
    if not order.repository.is_dir():
        raise RequestInvalid(f"expected a repository's folder, found {order.repository}")
    task = random_id("task")
    (home.path / "work").mkdir(mode=0o700, exist_ok=True)
    with TemporaryDirectory(prefix="new-", dir=home.path / "work") as staging:
        work = WorkTree(Path(staging) / task)
        base = work.create(order.repository)
        source, profile_bytes = _read_profile(work, base.tree, order)
        profile = parse_profile(profile_bytes, source=source)
        work.folder.rename(work_of(home, task).folder)
    text_blob, profile_blob = home.blobs.put(data), home.blobs.put(profile_bytes)
    batch = Batch(actor=Actor("person", order.person))
    document = {
        "task": task,
        "run": random_id("work"),
        "text": {"blob": text_blob},
        "title": " ".join(order.text.split())[:120],
        "repository": str(order.repository.resolve()),
        "base_commit": base.commit,
        "base_tree": base.tree,
        "is_repository": base.is_repository,
        "profile": {"blob": profile_blob},
        "profile_sha256": profile.sha256,
        "scope": list(order.scope),
        "deliverables": list(order.deliverables),
        "risk": order.risk,
    }
    sources = [Source("text", blob=text_blob), Source("profile", blob=profile_blob)]
    ref = home.records.put(batch, "autopilot.task", document, sources)
    view = TaskView(task)
    write(home, batch, view, [ref], "task", fence=None)
    return view


def find_task(home: Home, name: str) -> TaskView:
    """The task with this id, or the only one whose id starts like this.

    Raises:
        TaskUnknown: none, or more than one.
    """
    if name:
        view = read_view(home, name)
        if view is not None:
            return view
    found = [task for task in list_tasks(home) if task.startswith(name)] if name else []
    if len(found) != 1:
        raise TaskUnknown(f"expected one task with id {name[:80]!r}, found {len(found) or 'none'}", task=name)
    view = read_view(home, found[0])
    assert view is not None
    return view


def list_tasks(home: Home) -> list[str]:
    """Every task's id, oldest first."""
    return [str(record.document["task"]) for record in home.records.read("autopilot.task")]


def work_of(home: Home, task: str) -> WorkTree:
    """Where a task's work lies."""
    return WorkTree(home.path / "work" / task)


def lease_name(view: TaskView) -> str:
    return f"task/{view.run}/{view.task}"


@contextmanager
def open_authority(
    home: Home, view: TaskView, evidence: TestEvidence, *, ring: str = "uncontained"
) -> Iterator[tuple[Authority, Lease]]:
    """The authority of a task, with its role and its lease; both are given back at the end.

    Raises:
        AuthorityTaken, lease.held, ProfileInvalid.
    """
    role = ProcessRole(home.path / "run", "authority")
    try:
        role.take()
    except RoleTaken as problem:
        raise AuthorityTaken(problem.message) from problem
    try:
        profile = read_profile(home, view)
        lease = home.leases.acquire(lease_name(view), LEASE_S)
        try:
            site = Site(home, view, work_of(home, view.task), profile, evidence, lease.fence)
            yield Authority(site, ring), lease
        finally:
            row = home.leases.read(lease.name)
            mine = row is not None and row.token == lease.token and row.holder == lease.holder
            if row is not None and mine and row.is_live(home.clock.boot_us(), home.clock.boot_id()):
                home.leases.release(lease)
    finally:
        role.release()


def read_profile(home: Home, view: TaskView) -> Profile:
    """The profile that the task was bound to."""
    return parse_profile(home.blobs.get(str(view.facts["profile"]["blob"])), source="the task's profile")


def _read_profile(work: WorkTree, base: str, order: TaskOrder) -> tuple[str, bytes]:
    if order.profile is not None:
        try:
            return str(order.profile), order.profile.read_bytes()
        except OSError as problem:
            raise NoProfile(f"expected a profile at {order.profile}, found {problem.strerror}") from problem
    data = work.read(base, FILE_NAME)
    if data is None:
        raise NoProfile(f"expected {FILE_NAME} in the base of {order.repository}, found none")
    return FILE_NAME, data
