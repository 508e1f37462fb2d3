"""The local engine: tasks in worker processes of this machine, a few at a time.

It is the default and the reference for every other engine. Families are started
when their first task comes, and ended together on `close`.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType

from sterling.runtime.engine import Event, HostRow, Task, TaskEnd
from sterling.runtime.frames import FrameInvalid
from sterling.runtime.host import EngineLost, FamilyHost, RunningTask
from sterling.runtime.launch import SandboxUnavailable, prove

__all__ = ["LocalEngine"]

_UNTRUSTED = "untrusted"  # The family of plugins that nobody vouches for: its parent loads nothing for them.


class LocalEngine:
    """At most `workers` tasks at a time. Use it as a context manager: leaving ends every process.

    `owner` is a mark that every process of it carries, to be found by when all that watch it were killed.
    """

    def __init__(
        self, workers: int, *, preload: Mapping[str, Sequence[str]] | None = None, owner: str = ""
    ) -> None:
        assert workers > 0, "an engine needs a worker"
        self._workers, self._owner = workers, owner
        self._preload = dict(preload or {})
        self._hosts: dict[str, FamilyHost] = {}
        self._running: dict[str, RunningTask] = {}
        self._settled: list[Event] = []

    def slots(self) -> int:
        """How many more tasks may be submitted now."""
        return self._workers - len(self._running) - len(self._settled)

    def hosts(self) -> list[HostRow]:
        """The families' parents that were started, in order of their start."""
        return [host.row for host in self._hosts.values()]

    def submit(self, task: Task) -> None:
        """Start a task. One that cannot start ends at once, with the reason."""
        assert self.slots() > 0, "submit only when there is a slot"
        assert task.key not in self._running, f"{task.key} runs already"
        task.out_dir.mkdir(parents=True, exist_ok=True)
        try:
            if task.plugin.trust != "package":
                prove()
            self._running[task.key] = self._start(task)
        except SandboxUnavailable as problem:
            self._settle(TaskEnd(task.key, "refused", reason=problem.code, message=problem.message))
        except (FrameInvalid, TypeError, ValueError) as problem:
            self._settle(
                TaskEnd(task.key, "protocol", message=f"The task cannot be sent to a worker: {problem}.")
            )
        except EngineLost as problem:
            self._settle(TaskEnd(task.key, "died", reason=problem.code, message=problem.message))

    def poll(self, timeout_us: int) -> list[Event]:
        """Events, waiting at most so long for the first; in the order in which tasks were submitted."""
        events, self._settled = self._settled, []
        if not self._running:
            return events
        poller = select.poll()
        for running in self._running.values():
            poller.register(running.fileno(), select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(0 if events else timeout_us / 1000)}
        for running in [task for task in self._running.values() if task.fileno() in ready]:
            progress, end = running.read()
            if progress:
                done, total = progress[-1]
                events.append(Event("progress", running.task.key, done=done, total=total))
            if end is not None:
                running.close()
                del self._running[running.task.key]
                events.append(Event("end", running.task.key, end=end))
        return events

    def ask_stop(self, key: str) -> None:
        """Ask a running task to stop; it sees it when it next calls `should_stop`."""
        if key in self._running:
            self._running[key].tell("stop")

    def kill(self, key: str) -> None:
        """Kill a running task's whole tree; its end comes as `stopped`."""
        if key in self._running:
            self._running[key].tell("kill")

    def close(self) -> None:
        """End every task and every process of this engine; returns when they are gone."""
        for running in self._running.values():
            running.close()
        self._running.clear()
        hosts, self._hosts = self._hosts, {}
        for host in hosts.values():
            host.close()

    def run(self, tasks: Iterable[Task], on_event: Callable[[Event], None] | None = None) -> list[TaskEnd]:
        """Run tasks in this order, as many at a time as there are slots; returns their ends in this order."""
        waiting = list(tasks)
        order = [task.key for task in waiting]
        ends: dict[str, TaskEnd] = {}
        waiting.reverse()
        while len(ends) < len(order):
            while waiting and self.slots() > 0:
                self.submit(waiting.pop())
            for event in self.poll(1_000_000):
                if event.end is not None:
                    ends[event.key] = event.end
                if on_event is not None:
                    on_event(event)
        return [ends[key] for key in order]

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, task: Task) -> RunningTask:
        """Start in the family's parent, once more in a new one when that was killed."""
        is_ours = task.plugin.trust == "package"
        family = task.plugin.family if is_ours else _UNTRUSTED
        for fresh in (False, True):
            host = self._hosts.get(family)
            if host is None or fresh:
                if host is not None:
                    host.close()
                modules = self._preload.get(family, task.plugin.imports) if is_ours else ()
                host = self._hosts[family] = FamilyHost(family, modules, owner=self._owner)
            try:
                return host.start(task)
            except EngineLost:
                if fresh:
                    raise
        raise AssertionError("unreachable: the second try returns or raises")

    def _settle(self, end: TaskEnd) -> None:
        self._settled.append(Event("end", end.key, end=end))
