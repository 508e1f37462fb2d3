"""A receiver of effects that counts what became visible, by key, and misbehaves on request.

`FakeReceiver` is an adapter by itself. `serve` puts it behind HTTP on this
machine, for senders in other processes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sterling.kernel.adapters import Ability, Answer, Letter, Verdict

__all__ = ["BEHAVIOURS", "FakeReceiver", "serve"]

# Behaviour: whether the effect becomes visible, and the HTTP status of the answer (0: none).
BEHAVIOURS = {
    "ok": (True, 200),
    "repeated": (True, 200),
    "lost-after": (True, 0),
    "lost-before": (False, 0),
    "error-after": (True, 500),
    "error-before": (False, 500),
    "not-now": (False, 503),
    "lied": (True, 503),
    "refused": (False, 422),
}
_VERDICTS = {
    200: Verdict.ACCEPTED,
    0: Verdict.LOST,
    500: Verdict.LOST,
    503: Verdict.NOT_NOW,
    422: Verdict.REFUSED,
}


class FakeReceiver:
    """Takes effects as its script says, key by key; without a script, well.

    One that is idempotent shows a key once however often it comes; the others show every arrival.
    """

    def __init__(self, ability: Ability) -> None:
        self.ability = ability
        self.visible: Counter[str] = Counter()
        self.sends: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.order: list[str] = []
        self.scripts: dict[str, list[str]] = {}
        self.default = "ok"
        self.can_look = True

    def take(self, key: str) -> str:
        """One arrival; returns the behaviour that was played."""
        script = self.scripts.get(key, [])
        played = script.pop(0) if script else self.default
        self.sends[key] += 1
        if BEHAVIOURS[played][0] and not (self.ability is Ability.IDEMPOTENT and self.visible[key]):
            self.visible[key] += 1
            self.order.append(key)
        return played

    def send(self, letter: Letter) -> Answer:
        played = self.take(letter.key)
        return Answer(_VERDICTS[BEHAVIOURS[played][1]], f"receipt {letter.key[:8]} {played}")

    def look(self, letter: Letter) -> Answer:
        self.looks[letter.key] += 1
        if not self.can_look:
            return Answer(Verdict.NOT_NOW, "expected an answer, found none")
        found = self.visible[letter.key] > 0
        return Answer(Verdict.ACCEPTED if found else Verdict.ABSENT, f"found {letter.key[:8]}")


@contextmanager
def serve(receiver: FakeReceiver) -> Iterator[int]:
    """Serve it on a free port of this machine; gives the port."""
    lock = threading.Lock()

    class Requests(BaseHTTPRequestHandler):
        wbufsize = -1  # An answer goes out in one piece.

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                played = receiver.take(self.path.rpartition("/")[2])
            for _ in range(2 if played == "repeated" else 1):
                self._answer(BEHAVIOURS[played][1], played)

        def do_GET(self) -> None:
            key = self.path.rpartition("/")[2]
            with lock:
                receiver.looks[key] += 1
                found = receiver.visible[key] > 0
            self._answer(200 if found else 404, "found")

        def _answer(self, status: int, text: str) -> None:
            if status:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode("ascii"))

        def log_message(self, format: str, *arguments: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
