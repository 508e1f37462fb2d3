"""Running somebody's tests: in a clean copy, with known variables, bounded, to one end.

The report goes to a fresh folder outside the copy, both streams are captured, the
status is what the wait returned. A report older than the start, or one that is
no plain file, is never read as this run's. An argv is an array of words; no
shell sees it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sterling.kernel.blobs import Blobs
from sterling.kernel.canonical import Json
from sterling.kernel.clock import Clock
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.ids import random_id
from sterling.packs.ci.checkout import Checkout, Repository, copy_revision, copy_worktree
from sterling.packs.ci.environment import (
    Environment,
    child_variables,
    led_to_copy,
    lock_hash,
    measure_environment,
)
from sterling.packs.ci.exits import ProcessEnd
from sterling.packs.ci.facts import Facts, clean_text, with_fault
from sterling.packs.ci.ingest import ingest_reports
from sterling.packs.ci.policy import POLICY_FILE
from sterling.packs.ci.snapshot import is_wanted, named_files, take_snapshot
from sterling.runtime.commands import CommandEnd, CommandLimits, CommandNotStarted, run_command
from sterling.runtime.fingerprint import TreeListing, TreeUnreadable, tree_listing

__all__ = [
    "Attempt",
    "Order",
    "Place",
    "Prepared",
    "execute",
    "is_pytest",
    "left_workspaces",
    "prepare",
    "profile_of",
    "remove_tree",
    "workspace",
]

TIMEOUT_MS = 900_000
OUTPUT_BYTES_MAX = 512 * 1024 * 1024
PROCESSES_MAX = 2_048
GRACE_MS = 5_000
_MEMORY_SHARE_PERCENT = 80
_TAIL_BYTES = 64 * 1024
_PREFIX = "sterling-ci-"
_RUNNING = re.compile(
    r"^(?P<name>\S+\.py::\S.*?)(?: (?:PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*)?$", re.MULTILINE
)


class CopyFailed(SterlingError):
    """The tree could not be copied: a file cannot be read, or there is no room."""

    code = "checkout.copy-failed"
    hint = "Make the files readable and the temporary folder large enough. See `sterling ci run --help`."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Order:
    """What to run and where. An empty `commit` means the working tree as it stands."""

    repository: Repository
    argv: tuple[str, ...]
    commit: str = ""
    timeout_ms: int = TIMEOUT_MS
    memory_bytes: int = 0
    variables: tuple[str, ...] = ()
    plain: bool = False
    reports: tuple[str, ...] = ()

    @property
    def limits(self) -> CommandLimits:
        return CommandLimits(
            wall_ms=self.timeout_ms,
            memory_bytes=self.memory_bytes or _memory_default(),
            output_bytes=OUTPUT_BYTES_MAX,
            processes=PROCESSES_MAX,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one attempt, fresh and outside any checkout."""

    root: Path

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def reports(self) -> Path:
        return self.root / "reports"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A copy ready to run in: its hash and files, and the environment measured for it.

    `order` has the program led to where it lies; `given` is the command as it was typed.
    `policy` is the tree's settings file as it stood before anything ran.
    """

    order: Order
    given: tuple[str, ...]
    place: Place
    checkout: Checkout
    listing: TreeListing
    environment: Environment
    variables: dict[str, str]
    policy: bytes | None

    @property
    def cwd(self) -> Path:
        return self.place.tree / self.order.repository.prefix

    @property
    def tree(self) -> str:
        return self.listing.sha256


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution and what it left."""

    id: str
    prepared: Prepared
    argv_run: tuple[str, ...]
    end: CommandEnd | None
    facts: Facts
    streams: dict[str, dict[str, Json]]
    snapshot: dict[str, Json] | None
    started_us: int
    ended_us: int
    last_test: str


@contextlib.contextmanager
def workspace(run_id: str) -> Iterator[Path]:
    """A folder for one run's attempts, removed at the end. Its name tells which run it belonged to."""
    try:
        root = Path(tempfile.gettempdir()) / f"{_PREFIX}{run_id}"
        root.mkdir(mode=0o700)
    except OSError as problem:
        raise CopyFailed(f"expected room for a workspace, found {problem}") from problem
    try:
        yield root
    finally:
        remove_tree(root)


def left_workspaces() -> list[tuple[str, Path]]:
    """Workspaces in the temp folder, each with the run it belongs to: a killed run leaves its own behind."""
    base = Path(tempfile.gettempdir())
    return [(path.name.removeprefix(_PREFIX), path) for path in sorted(base.glob(f"{_PREFIX}run-*"))]


def remove_tree(root: Path) -> None:
    """Remove a folder whatever modes its content has; what cannot be removed stays."""

    def open_up(function: object, path: str, _problem: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            os.unlink(path) if not os.path.isdir(path) else shutil.rmtree(path, ignore_errors=True)

    shutil.rmtree(root, onerror=open_up)


def prepare(order: Order, root: Path) -> Prepared:
    """Copy the tree into a fresh place and measure what the run will stand on.

    Errors: checkout.*, command.variable-missing, CopyFailed.
    """
    try:
        return _prepare(order, root)
    except OSError as problem:
        raise CopyFailed(f"expected to copy the tree, found {problem}") from problem


def _prepare(order: Order, root: Path) -> Prepared:
    place = Place(root)
    for folder in (root, place.reports, root / "home", root / "tmp"):
        folder.mkdir(parents=True, mode=0o700)
    copy = place.tree
    if order.commit:
        checkout = copy_revision(order.repository, order.commit, copy)
    else:
        checkout = copy_worktree(order.repository, copy)
    listing = tree_listing(copy)
    variables = child_variables(order.variables, home=root / "home", temporary=root / "tmp")
    given, order = order.argv, replace(order, argv=_reachable(order, copy))
    environment = measure_environment(
        order.argv,
        variables=variables,
        named=order.variables,
        lock=lock_hash(copy),
        scratch=root / "ask",
    )
    if led := led_to_copy(environment.paths, root=order.repository.root, copy=copy):
        variables["PYTHONPATH"] = os.pathsep.join(led)
    settings = copy / POLICY_FILE
    policy = settings.read_bytes() if settings.is_file() else None
    return Prepared(order, given, place, checkout, listing, environment, variables, policy)


def execute(prepared: Prepared, *, blobs: Blobs, clock: Clock, argv: Sequence[str] | None = None) -> Attempt:
    """Run the command once and read what it left. `argv` replaces the order's words for a re-run."""
    place, order = prepared.place, prepared.order
    words = tuple(argv or order.argv)
    expected: list[Path] = []
    if is_pytest(words) and not order.plain:
        words, expected = _with_reports(words, prepared)
    mark = place.root / "start"
    mark.touch()
    started_us = clock.wall_us()
    out, err = place.root / "stdout", place.root / "stderr"
    end, exit = _run(words, prepared, out, err)
    ended_us = clock.wall_us()
    facts = _read_reports(prepared, expected, exit, mark, blobs)
    if end is None:
        facts = replace(facts, notes=(*facts.notes, err.read_text(encoding="utf-8").strip()))
    snapshot = _snapshot(prepared, facts, (out, err), blobs) if is_wanted(facts) else None
    return Attempt(
        id=random_id("attempt"),
        prepared=prepared,
        argv_run=words,
        end=end,
        facts=facts,
        streams={"stdout": _stored(out, blobs), "stderr": _stored(err, blobs)},
        snapshot=snapshot,
        started_us=started_us,
        ended_us=ended_us,
        last_test=_last_test(out),
    )


def is_pytest(argv: Sequence[str]) -> bool:
    """Whether a command runs pytest, by its words."""
    return any(os.path.basename(word) in ("pytest", "py.test") for word in argv[:8])


def profile_of(argv: Sequence[str]) -> str:
    """The runner whose exit statuses apply; empty if the words do not tell."""
    if is_pytest(argv):
        return "pytest"
    pairs = itertools.pairwise(argv)
    return (
        "unittest"
        if any(first == "-m" and second in ("unittest", "xmlrunner") for first, second in pairs)
        else ""
    )


def _reachable(order: Order, copy: Path) -> tuple[str, ...]:
    """The command with a program that the copy leaves out (an ignored `.venv`) led to the original."""
    program = order.argv[0]
    if os.sep not in program or os.path.isabs(program) or (copy / order.repository.prefix / program).exists():
        return order.argv
    original = order.repository.root / order.repository.prefix / program
    return (os.path.abspath(original), *order.argv[1:]) if original.exists() else order.argv


def _with_reports(words: tuple[str, ...], prepared: Prepared) -> tuple[tuple[str, ...], list[Path]]:
    """The command with report options added, and the files it should leave."""
    reports, environment, variables = prepared.place.reports, prepared.environment, prepared.variables
    junit, told = reports / "junit.xml", reports / "report.json"
    added = ["-v", "-rA", f"--junitxml={junit}"]
    expected = [junit]
    switched_off = any(word.startswith("no:") and "json" in word for word in words)
    switched_off = switched_off or bool(variables.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"))
    if environment.has_plugin("pytest_jsonreport") and not switched_off:
        added += ["--json-report", f"--json-report-file={told}"]
        expected.append(told)
    at = words.index("--") if "--" in words else len(words)
    return (*words[:at], *added, *words[at:]), expected


def _run(
    words: tuple[str, ...], prepared: Prepared, out: Path, err: Path
) -> tuple[CommandEnd | None, ProcessEnd]:
    try:
        end = run_command(
            words,
            cwd=prepared.cwd,
            env=prepared.variables,
            limits=prepared.order.limits,
            stdout=out,
            stderr=err,
            grace_ms=GRACE_MS,
        )
    except CommandNotStarted as problem:
        err.write_text(f"{problem.message}\n", encoding="utf-8", errors="backslashreplace")
        return None, ProcessEnd(started=False)
    return end, ProcessEnd(end.status, end.signal, end.limit or "")


def _read_reports(
    prepared: Prepared, expected: Sequence[Path], exit: ProcessEnd, mark: Path, blobs: Blobs
) -> Facts:
    order, base = prepared.order, prepared.cwd
    named: dict[Path, str] = {path: path.name for path in expected if os.path.lexists(path)}
    for pattern in order.reports:
        inside = sorted(base.glob(pattern)) if not os.path.isabs(pattern) else []
        named |= {path: path.relative_to(base).as_posix() for path in inside}
    strange = [name for path, name in named.items() if not _is_readable(path)]
    if strange:
        named = {path: name for path, name in named.items() if name not in strange}
    facts = ingest_reports(
        [(name, path) for path, name in sorted(named.items())],
        blobs=blobs,
        listing=[entry.path for entry in prepared.listing.entries],
        end=exit,
        runner=profile_of(order.argv),
        root=str(prepared.place.tree),
    )
    started_ns = mark.stat().st_mtime_ns
    stale = sorted(name for path, name in named.items() if path.stat().st_mtime_ns < started_ns)
    if strange:
        return with_fault(
            facts, "ci.report-unknown", f"{strange[0]} is no readable plain file, so it was not read."
        )
    if stale:
        return with_fault(facts, "ci.report-stale", f"{stale[0]} was written before this run started.")
    return facts


def _is_readable(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode) and os.access(path, os.R_OK)


def _snapshot(prepared: Prepared, facts: Facts, streams: Sequence[Path], blobs: Blobs) -> dict[str, Json]:
    readable = True
    try:
        listing = tree_listing(prepared.place.tree)
    except TreeUnreadable:
        # The run locked some of its files; what was copied in is still known.
        listing, readable = prepared.listing, False
    return take_snapshot(
        prepared.place.tree,
        [entry.as_json() for entry in listing.entries],
        tree_sha256=listing.sha256,
        named=named_files(facts, [_tail(path) for path in streams]),
        sys_path=prepared.environment.paths,
        cwd=prepared.order.repository.prefix,
        blobs=blobs,
        readable=readable,
    )


def _stored(stream: Path, blobs: Blobs) -> dict[str, Json]:
    if not stream.exists():
        stream.touch()
    return {"blob": blobs.put_file(stream), "size_bytes": stream.stat().st_size}


def _tail(stream: Path) -> str:
    if not stream.exists():
        return ""
    with stream.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


def _last_test(out: Path) -> str:
    """The test a verbose pytest named last, which is the one that ran when it ended."""
    found = list(_RUNNING.finditer(_tail(out)))
    return clean_text(found[-1]["name"].strip())[:500] if found else ""


def _memory_default() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total * _MEMORY_SHARE_PERCENT // 100
