"""kill -9 between every two steps of a sender, against a real receiver that counts what became visible."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sterling.kernel.adapters import Ability
from sterling.kernel.backoff import DELAY_US_MAX
from sterling.kernel.batch import Batch
from sterling.kernel.home import init_home, open_home
from sterling.kernel.outbox import Effect
from sterling.kernel.projections import rebuild_effects
from sterling.kernel.verify import verify_home
from sterling.testing.receiver import FakeReceiver, serve

# Reads lines {home, port, ability, stop, shift_us}; each is one sender in a process of its own, which ends by
# SIGKILL at the step numbered `stop` (0: never). Answers with how it ended and the steps it went through.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from sterling.kernel.adapters import Ability, HttpLoopbackAdapter
from sterling.kernel.clock import SystemClock
from sterling.kernel.home import open_home
import http.client

class Later(SystemClock):
    def wall_us(self):
        return super().wall_us() + ask["shift_us"]

def sender(out):
    passed = 0
    def point(name):
        nonlocal passed
        passed += 1
        os.write(out, (name + "\\n").encode())
        if passed == ask["stop"]:
            os.kill(os.getpid(), signal.SIGKILL)
    def watched(name, step):
        def stepped(*given):
            point("before " + name)
            answer = step(*given)
            point("after " + name)
            return answer
        return stepped
    with open_home(Path(ask["home"]), clock=Later()) as home:
        adapter = HttpLoopbackAdapter(ask["port"], Ability(ask["ability"]))
        adapter.send, adapter.look = watched("send", adapter.send), watched("look", adapter.look)
        home.ledger.commit = watched("commit", home.ledger.commit)
        home.outbox.run_once({"http-loopback": adapter})

for line in sys.stdin:
    ask = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            sender(writing)
        except BaseException as problem:
            os.write(writing, repr(problem).encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    points = b"".join(iter(lambda: os.read(reading, 65536), b"")).decode().splitlines()
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps({"status": status, "points": points}), flush=True)
"""


class Rig:
    """A home, a receiver behind HTTP, and senders that end when told to."""

    def __init__(
        self, folder: Path, port: int, receiver: FakeReceiver, senders: subprocess.Popen[str]
    ) -> None:
        self.path, self.port, self.receiver, self._senders = folder / "home", port, receiver, senders
        self.shift_us = self.count = 0
        init_home(self.path).close()

    def put(self, script: str) -> str:
        self.count += 1
        with open_home(self.path) as home:
            batch = Batch()
            batch.append("process.ended", {"command": "decide", "exit": 0}, subject=f"decision-{self.count}")
            order_key = f"k{self.count}"
            effect = home.outbox.put(batch, Effect("s", "http-loopback", order_key, {"n": self.count}))
            home.ledger.commit(batch)
            key = home.outbox.read(effect).key
        self.receiver.scripts[key] = [script]
        return effect

    def send(self, stop: int = 0) -> bool:
        """One sender; whether it came to its end."""
        self.shift_us += 2 * DELAY_US_MAX
        ask = {
            "home": str(self.path),
            "port": self.port,
            "ability": self.receiver.ability.value,
            "stop": stop,
            "shift_us": self.shift_us,
        }
        assert self._senders.stdin is not None and self._senders.stdout is not None
        self._senders.stdin.write(json.dumps(ask) + "\n")
        self._senders.stdin.flush()
        answer = json.loads(self._senders.stdout.readline())
        assert answer["status"] in (0, -signal.SIGKILL), answer
        return bool(answer["status"] == 0)

    def state(self, effect: str) -> tuple[str, str, int]:
        with open_home(self.path, read_only=True) as home:
            row = home.outbox.read(effect)
        return row.state.value, row.why, self.receiver.visible[row.key]

    def settle(self, effect: str) -> tuple[str, str, int]:
        for _ in range(4):
            if self.state(effect)[0] in ("done", "dead"):
                break
            assert self.send()
        return self.state(effect)

    def check(self) -> None:
        with open_home(self.path, read_only=True) as home:
            assert [*rebuild_effects(home.ledger.connection()).values()] == home.outbox.effects()
            assert len(home.outbox.effects()) == self.count
        assert verify_home(self.path, deep=True, blobs=True).exit == 0


MakeRig = Callable[[Ability], Rig]


@pytest.fixture
def senders() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def kill_everywhere(rig: Rig, script: str, judge: Callable[[Rig, str], None]) -> int:
    """One effect for each step at which its sender can end; returns how many steps there were."""
    for stop in range(1, 100):
        effect = rig.put(script)
        finished = rig.send(stop)
        judge(rig, effect)
        if finished:
            return stop - 1
    raise AssertionError("a sender that never ends")


def once(rig: Rig, effect: str) -> None:
    state, why, visible = rig.settle(effect)
    assert (state, visible) == ("done", 1), why


def once_or_dead(rig: Rig, effect: str) -> None:
    """Without a way to tell: visible once and done, or dead and at most once; never twice."""
    state, why, visible = rig.settle(effect)
    assert (state, visible) == ("done", 1) or ((state, why) == ("dead", "effect.unprovable") and visible <= 1)


JUDGES = {Ability.FINDS: once, Ability.IDEMPOTENT: once, Ability.NEITHER: once_or_dead}


@pytest.mark.parametrize("ability", Ability)
def test_a_sender_killed_between_any_two_steps_leaves_one_visible_effect_or_a_dead_one(
    tmp_path: Path, senders: subprocess.Popen[str], ability: Ability
) -> None:
    receiver = FakeReceiver(ability)
    with serve(receiver) as port:
        rig = Rig(tmp_path, port, receiver, senders)

        assert kill_everywhere(rig, "ok", JUDGES[ability]) == 8
        rig.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", ["repeated", "lost-after", "lost-before", "error-after", "error-before", "not-now"]
)
@pytest.mark.parametrize("ability", Ability)
def test_kills_and_a_bad_receiver_together_still_leave_one_visible_effect_or_a_dead_one(
    tmp_path: Path, senders: subprocess.Popen[str], ability: Ability, script: str
) -> None:
    receiver = FakeReceiver(ability)
    with serve(receiver) as port:
        rig = Rig(tmp_path, port, receiver, senders)

        assert kill_everywhere(rig, script, JUDGES[ability]) == 8
        rig.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "ability"), [*(("ok", each) for each in Ability), ("lost-after", Ability.FINDS)]
)
def test_a_second_sender_killed_between_any_two_steps_changes_nothing(
    tmp_path: Path, senders: subprocess.Popen[str], ability: Ability, script: str
) -> None:
    receiver = FakeReceiver(ability)
    with serve(receiver) as port:
        rig = Rig(tmp_path, port, receiver, senders)
        for first in range(1, 9):
            for second in range(1, 100):
                effect = rig.put(script)
                assert not rig.send(first)
                finished = rig.send(second)
                JUDGES[ability](rig, effect)
                if finished:
                    break
        rig.check()


SENDS = """
import sys
from pathlib import Path
from sterling.kernel.adapters import Ability, HttpLoopbackAdapter
from sterling.kernel.home import open_home

with open_home(Path(sys.argv[1])) as home:
    sys.stdin.readline()
    for _ in range(30):
        home.outbox.run_once({"http-loopback": HttpLoopbackAdapter(int(sys.argv[2]), Ability.NEITHER)})
"""


def test_three_senders_at_once_send_each_effect_once_and_keep_the_order(tmp_path: Path) -> None:
    receiver = FakeReceiver(Ability.NEITHER)
    with init_home(tmp_path / "home") as home:
        batch = Batch()
        for number in range(30):
            home.outbox.put(batch, Effect("s", "http-loopback", f"k{number % 5}", {"n": number}))
        home.ledger.commit(batch)
        keys = [row.key for row in home.outbox.effects()]
    with serve(receiver) as port:
        command = [sys.executable, "-c", SENDS, str(tmp_path / "home"), str(port)]
        senders = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(3)]
        for sender in senders:
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
        assert [sender.wait() for sender in senders] == [0, 0, 0]

    assert receiver.visible == dict.fromkeys(keys, 1)
    for first in range(5):
        order = [receiver.order.index(key) for key in keys[first::5]]
        assert order == sorted(order)
    with open_home(tmp_path / "home", read_only=True) as home:
        assert {row.state for row in home.outbox.effects()} == {"done"}


PUTS = """
import sys
from pathlib import Path
from sterling.kernel.batch import Batch
from sterling.kernel.home import open_home
from sterling.kernel.outbox import Effect

sys.stdin.readline()
for number in range(20):
    with open_home(Path(sys.argv[1])) as home:
        batch = Batch()
        print(home.outbox.put(batch, Effect("s", "file", sys.argv[2], {"n": number})))
        home.ledger.commit(batch)
"""


def test_two_processes_that_put_the_same_effects_put_each_once(tmp_path: Path) -> None:
    init_home(tmp_path / "home").close()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PUTS, str(tmp_path / "home"), order_key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for order_key in ("first", "second")
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] and len(set(said[0])) == 20
    with open_home(tmp_path / "home", read_only=True) as home:
        assert sorted(row.id for row in home.outbox.effects()) == sorted(said[0])
        assert sum(1 for _ in home.ledger.read(kind="effect.queued")) == 20
