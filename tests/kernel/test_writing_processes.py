"""Several processes write one home: the turn passes, nobody starves, nothing is written twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel import wire
from sterling.kernel.append import PreconditionFailed, Receipt
from sterling.kernel.batch import Batch, FenceHolds, NewestIs
from sterling.kernel.group import LedgerBusy
from sterling.kernel.home import Home, init_home, open_home
from sterling.kernel.turn import Turn
from sterling.kernel.verify import verify_home

WRITERS = 8
BATCHES = 60

WRITE = """
import sys
from pathlib import Path
from sterling.kernel.batch import Batch
from sterling.kernel.home import open_home

lane, count = int(sys.argv[2]), int(sys.argv[3])
with open_home(Path(sys.argv[1])) as home:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        batch = Batch()
        for part in range(2):
            payload = {"command": f"{lane}/{number}", "exit": part}
            batch.append("process.ended", payload, subject=f"lane/{lane}")
        home.ledger.commit(batch)
        print(number, flush=True)
"""

HOLD = """
import sys
from pathlib import Path
from sterling.kernel.turn import Turn

turn = Turn(Path(sys.argv[1]) / "run")
assert turn.try_take()
print("holds", flush=True)
sys.stdin.readline()
"""


def started(program: str, *arguments: object) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


def ended(exit: int = 0, *, subject: str = "") -> Batch:
    batch = Batch()
    batch.append("process.ended", {"command": "test", "exit": exit}, subject=subject)
    return batch


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


@pytest.mark.slow
def test_eight_processes_write_each_in_its_own_order_and_nothing_twice(home: Home) -> None:
    children = [started(WRITE, home.path, lane, BATCHES) for lane in range(WRITERS)]
    for child in children:
        child.communicate("go\n")

    for lane in range(WRITERS):
        found = [(e.payload["command"], e.payload["exit"]) for e in home.ledger.read(subject=f"lane/{lane}")]
        assert found == [(f"{lane}/{number}", part) for number in range(BATCHES) for part in range(2)]
    assert [child.returncode for child in children] == [0] * WRITERS
    assert verify_home(home.path).exit == 0
    assert os.listdir(home.path / "run" / "queue") == []


def test_a_process_sees_what_another_wrote_before_it_writes(home: Home) -> None:
    home.ledger.commit(ended(subject="x"))
    with open_home(home.path) as other:
        last = other.ledger.commit(ended(subject="x")).last
    batch = ended(subject="x")
    batch.require(NewestIs("x", last))

    receipt = home.ledger.commit(batch)

    assert receipt.first == last + 1


def test_a_refusal_by_another_process_keeps_its_class_words_and_details(home: Home) -> None:
    with open_home(home.path) as other:
        turn = Turn(home.path / "run")
        batch = ended()
        batch.require(NewestIs("x", 5))
        waiting = turn.ask(wire.encode([batch]))
        other.ledger.commit(ended())

        heard = waiting.wait()

    assert heard is not None
    refusal = wire.decode_answers(heard)[batch.submission]
    assert isinstance(refusal, PreconditionFailed)
    assert refusal.details == {"subject": "x", "expected": 5, "found": None}
    assert "expected 5" in refusal.message
    assert [entry.kind for entry in home.ledger.read()][-2:] == ["process.ended", "write.refused"]
    turn.close()


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_batch_whose_answer_was_lost_is_judged_once(
    home: Home, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    batch = ended(7)
    if is_refused:
        batch.require(NewestIs("x", 5))
    answers: list[object] = []
    lost: list[object] = []

    def ask() -> None:
        try:
            answers.append(home.ledger.commit(batch))
        except PreconditionFailed as refusal:
            answers.append(refusal)

    monkeypatch.setattr(Turn, "answer", lambda *given: lost.append(given))
    with open_home(home.path) as other:
        assert other.ledger._turn.try_take()
        asking = threading.Thread(target=ask)
        asking.start()
        while not any(name[0].isdigit() for name in os.listdir(home.path / "run" / "queue")):
            time.sleep(0.001)
        other.ledger.commit(ended(8))
        asking.join()

    kinds = [entry.kind for entry in home.ledger.read()]
    assert len(lost) == 1
    assert kinds.count("write.refused") == is_refused and kinds.count("process.ended") == 2 - is_refused
    (answer,) = answers
    assert isinstance(answer, PreconditionFailed if is_refused else Receipt)
    assert not is_refused or "expected 5" in str(answer)


def test_a_lease_taken_for_a_waiting_process_comes_back_with_its_receipt(home: Home) -> None:
    holder = started(HOLD, home.path)
    assert holder.stdin is not None
    thread = threading.Timer(0.2, holder.communicate, ("go\n",))
    thread.start()
    lease = home.leases.acquire("task/1")
    thread.join()
    batch = ended()
    batch.require(FenceHolds(lease.name, lease.token))

    assert lease.token == 1
    assert home.ledger.commit(batch).last == home.ledger.size() - 1


def test_a_request_that_is_no_batch_or_breaks_a_contract_is_not_written(home: Home) -> None:
    turn = Turn(home.path / "run")
    wrong = Batch()
    wrong.append("process.ended", {"command": 7, "exit": "zero"})
    strange = Batch()
    strange.append("no.such-kind", {})
    waiting = turn.ask(wire.encode([wrong, strange]))
    (home.path / "run" / "queue" / "00-snobody-1").write_bytes(b'[{"is": "Path"}]')
    (home.path / "run" / "queue" / "01-snobody-1").write_bytes(b"\x00\x01 no batch")
    before = home.ledger.size()

    home.ledger.commit(ended())

    heard = waiting.wait()
    assert heard is not None
    codes = {answer.code for answer in wire.decode_answers(heard).values()}  # type: ignore[union-attr]
    assert codes == {"record.invalid", "contracts.unknown"}
    assert home.ledger.size() == before + 1
    turn.close()


def test_a_holder_that_is_stopped_makes_others_busy_and_leaves_nothing_behind(home: Home) -> None:
    home.ledger.commit(ended())
    holder = started(HOLD, home.path)
    holder.send_signal(signal.SIGSTOP)
    with open_home(home.path, settings=["store.wait_ms_max=150"]) as other, pytest.raises(LedgerBusy):
        other.ledger.commit(ended(1))

    holder.send_signal(signal.SIGKILL)
    holder.wait()
    home.ledger.commit(ended(2))

    assert [e.payload["exit"] for e in home.ledger.read(kind="process.ended")] == [0, 2]


def test_a_killed_holder_frees_the_turn_at_once(home: Home) -> None:
    holder = started(HOLD, home.path)
    holder.kill()
    holder.wait()

    home.ledger.commit(ended())

    assert home.ledger.size() == 2


def test_a_batch_claimed_by_a_leader_that_died_is_written_once(home: Home) -> None:
    """The leader takes the request's file away and dies: before its commit, and after it."""
    holder = started(HOLD, home.path)
    batch = ended(7)
    claim = """
import os, sys
from pathlib import Path
queue = Path(sys.argv[1]) / "run" / "queue"
while not (names := [n for n in os.listdir(queue) if n[0] not in ".s"]):
    pass
os.unlink(queue / names[0])
os.kill(int(sys.argv[2]), 9)
"""
    claimer = subprocess.Popen([sys.executable, "-c", claim, str(home.path), str(holder.pid)])

    receipt = home.ledger.commit(batch)
    again = home.ledger.commit(batch)

    claimer.wait()
    holder.wait()
    assert (receipt.first, receipt.last) == (again.first, again.last)
    assert [e.payload["exit"] for e in home.ledger.read(kind="process.ended")] == [7]


def test_a_forked_child_neither_keeps_the_turn_nor_uses_its_parents_connection(home: Home) -> None:
    home.ledger.commit(ended())
    inner, outer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(outer)
        try:
            home.ledger.commit(ended(1))
            os.read(inner, 1)
        finally:
            os._exit(0)
    os.close(inner)
    deadline = time.monotonic() + 20
    while home.ledger.size() < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    home.ledger.commit(ended(2))
    os.close(outer)
    os.waitpid(child, 0)

    assert [e.payload["exit"] for e in home.ledger.read(kind="process.ended")] == [0, 1, 2]
    home.ledger.checkpoint()
    assert verify_home(home.path).exit == 0


def test_two_homes_in_one_process_share_the_turn(home: Home) -> None:
    with open_home(home.path) as other:
        for number in range(5):
            home.ledger.commit(ended(number))
            other.ledger.commit(ended(number + 100))

    assert home.ledger.size() == 11


def test_what_dead_processes_left_in_the_queue_is_swept(home: Home) -> None:
    queue = home.path / "run" / "queue"
    home.ledger.commit(ended())
    holder = started(HOLD, home.path)
    claim = (
        "import sys; from pathlib import Path; from sterling.kernel.turn import Turn; "
        "turn = Turn(Path(sys.argv[1]) / 'run'); turn.try_take(); turn.ask(b'[]').withdraw(); "
        "import os; os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", claim, str(home.path)], check=True)
    assert [name[0] for name in os.listdir(queue)] == ["s"]
    holder.communicate("go\n")

    turn = Turn(home.path / "run")
    turn.try_take()
    turn.ask(b"[]").withdraw()
    turn.close()

    assert os.listdir(queue) == []
