"""A decision and its effect, done durably: ours beside DBOS with SQLite, and what kills leave visible.

Both sides do the same two steps for each piece of work: write the decision down,
then post to one receiver on this machine that shows every arrival. First the
time of a piece of work, interleaved. Then the same kills on both: `kill -9`
before and after each step, a new start, and a look at what became visible twice.
DBOS repeats a step that was cut off and asks for steps that bear it; ours asks the
receiver first, which here can be asked. DBOS lives in `.bench` (`make .bench/ready`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from report import line, parse_arguments

from sterling.kernel.adapters import Ability
from sterling.kernel.home import init_home
from sterling.testing.receiver import FakeReceiver, serve

HERE = Path(__file__).resolve().parent
RIVAL = [str(HERE.parent / ".bench" / "bin" / "python"), str(HERE / "rivals" / "outbox_dbos.py")]
POINTS = (
    "before the decision",
    "after the decision",
    "before the send",
    "after the send",
    "after the receipt",
)

OURS = """
import json, os, signal, sys, time
from pathlib import Path
from sterling.kernel.adapters import Ability, HttpLoopbackAdapter
from sterling.kernel.batch import Batch
from sterling.kernel.home import open_home
from sterling.kernel.outbox import Effect

stop = ""

def point(name):
    if name == stop:
        os.kill(os.getpid(), signal.SIGKILL)

class Watched(HttpLoopbackAdapter):
    def send(self, letter):
        point("before the send")
        answer = super().send(letter)
        point("after the send")
        return answer

adapters = {"http-loopback": Watched(int(sys.argv[2]), Ability.FINDS)}

def decide_and_send(work):
    point("before the decision")
    batch = Batch()
    batch.append("process.ended", {"command": "decide " + work, "exit": 0}, subject="decision-" + work)
    home.outbox.put(batch, Effect(work, "http-loopback", work, {"work": work}))
    home.ledger.commit(batch)
    point("after the decision")
    home.outbox.run_once(adapters)
    point("after the receipt")

with open_home(Path(sys.argv[1])) as home:
    home.outbox.run_once(adapters)
    print(json.dumps({"recovered": True}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        stop = ask["stop"]
        start = time.perf_counter()
        decide_and_send(ask["work"])
        print(json.dumps({"work": ask["work"], "ms": (time.perf_counter() - start) * 1000}), flush=True)
"""


class Side:
    """One of the two: a process that does pieces of work, started again whenever it was killed."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process = self._start()

    def work(self, name: str, stop: str = "") -> float | None:
        """Milliseconds, or None when it was killed on the way; then it has recovered since."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"work": name, "stop": stop}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        if answer is None:
            self.close()
            self._process = self._start()
            return None
        return float(answer["ms"])

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._read() is not None, f"{self._command[1]} does not start"
        return self._process

    def _read(self) -> dict[str, float] | None:
        assert self._process.stdout is not None
        for answer in self._process.stdout:
            if answer.startswith("{"):
                found: dict[str, float] = json.loads(answer)
                return found
        return None


def main() -> None:
    arguments = parse_arguments("a decision and its effect, ours and DBOS")
    count, rounds = (60, 2) if arguments.quick else (500, 20)
    if not Path(RIVAL[0]).exists():
        sys.exit("expected DBOS in .bench, found none: run `make .bench/ready`")
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        init_home(folder / "home").close()
        ours, rival = FakeReceiver(Ability.FINDS), FakeReceiver(Ability.FINDS)
        with serve(ours) as port, serve(rival) as rival_port:
            sides = (
                Side([sys.executable, "-c", OURS, str(folder / "home"), str(port)]),
                Side([*RIVAL, str(folder / "dbos.sqlite"), str(rival_port)]),
            )
            durable_time(sides, count)
            kills(sides, (ours, rival), count, rounds)
            for side in sides:
                side.close()


def durable_time(sides: tuple[Side, Side], count: int) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(count):
        for side, taken in zip(sides, times, strict=True):
            ms = side.work(f"timed-{number}")
            assert ms is not None
            taken.append(ms)
    line(
        bench="outbox",
        case="decision and effect, durable, median",
        ours=statistics.median(times[0]),
        against=statistics.median(times[1]),
        rival="DBOS with SQLite",
        unit="ms",
        must="<= 0.5",
        accepted=count,
        history=count,
        runs=count,
    )


def kills(
    sides: tuple[Side, Side], receivers: tuple[FakeReceiver, FakeReceiver], history: int, rounds: int
) -> None:
    """Each piece of work is killed once; ours is asked for again, DBOS finishes by itself."""
    for number in range(rounds):
        for point in POINTS:
            work = f"killed-{number}-{point.replace(' ', '-')}"
            for side in sides:
                assert side.work(work, point) is None, f"expected a kill {point}"
                assert side.work(work) is not None
    killed = rounds * len(POINTS)
    seen = [list(receiver.visible.values()) for receiver in receivers]
    assert [len(each) for each in seen] == [history + killed] * 2, "an effect is missing"
    line(
        bench="outbox",
        case="effects visible more than once after kill -9",
        ours=sum(count > 1 for count in seen[0]),
        against=sum(count > 1 for count in seen[1]),
        rival="DBOS with SQLite",
        unit="effects",
        must="0",
        accepted=killed,
        history=history + killed,
        runs=killed,
    )


if __name__ == "__main__":
    main()
