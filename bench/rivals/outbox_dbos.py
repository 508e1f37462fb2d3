"""The same two-step work on DBOS with SQLite: decide, then post to a receiver on this machine.

Run by `bench/outbox.py` with the Python of `.bench`. Reads lines {work, stop} and answers {work, ms}.
It ends itself by SIGKILL at the point named `stop`. Started on a database with unfinished work it
finishes that first, as DBOS does by itself, and then says {recovered}.
"""

import http.client
import json
import os
import signal
import sys
import time

from dbos import DBOS, SetWorkflowID

PORT = int(sys.argv[2])
STOP = ""

DBOS(
    config={
        "name": "outbox-bench",
        "system_database_url": f"sqlite:///{sys.argv[1]}",
        "run_admin_server": False,
        "log_level": "CRITICAL",
        "console_log_level": "CRITICAL",
        "application_version": "1",
        "executor_id": "local",
    }
)


def point(name: str) -> None:
    if name == STOP:
        os.kill(os.getpid(), signal.SIGKILL)


@DBOS.step()
def decide(work: str) -> dict[str, str]:
    point("before the decision")
    return {"work": work}


@DBOS.step()
def send(work: str, decision: dict[str, str]) -> str:
    point("before the send")
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    connection.request("POST", f"/effects/{work}", body=json.dumps(decision).encode())
    receipt = connection.getresponse().read().decode()
    connection.close()
    point("after the send")
    return receipt


@DBOS.workflow()
def decide_and_send(work: str) -> str:
    decision = decide(work)
    point("after the decision")
    receipt = send(work, decision)
    point("after the receipt")
    return receipt


def main() -> None:
    global STOP
    DBOS.launch()
    while DBOS.list_workflows(status="PENDING"):
        time.sleep(0.02)
    print(json.dumps({"recovered": True}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        STOP = ask["stop"]
        start = time.perf_counter()
        with SetWorkflowID(ask["work"]):
            decide_and_send(ask["work"])
        print(json.dumps({"work": ask["work"], "ms": (time.perf_counter() - start) * 1000}), flush=True)


if __name__ == "__main__":
    main()
