"""What a signature costs beside bare `cryptography` in the same run, and what following rotations costs.

The first case signs the same bytes, interleaved. The second follows five rotations
and checks every signature in them: what a checkpoint's copy outside pays once keys
have changed.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from report import line, parse_arguments

from sterling.kernel.key_history import KeyHistory, rotation_payload
from sterling.kernel.signing import Signer

NOTE_BYTES, ROTATIONS = 120, 5


def main() -> None:
    runs = 2_000 if parse_arguments("signing against bare Ed25519").quick else 20_000
    seed, message = secrets.token_bytes(32), secrets.token_bytes(NOTE_BYTES)
    ours, bare = Signer("ledger", seed), Ed25519PrivateKey.from_private_bytes(seed)
    taken = interleaved(lambda: ours.sign(message), lambda: bare.sign(message), runs)
    ours_us, bare_us = statistics.median(taken[0]), statistics.median(taken[1])
    told("sign a note, median", ours_us, bare_us, "bare cryptography", "<= 1.5", runs)

    changes = list(rotations())
    key, signature = bare.public_key(), ours.sign(message)
    followed, floor = interleaved(
        lambda: follow(changes),
        lambda: [key.verify(signature, message) for _ in range(2 * ROTATIONS)],
        runs // 20,
    )
    rival = f"{2 * ROTATIONS} bare verifications"
    told(
        "follow 5 rotations, median",
        statistics.median(followed),
        statistics.median(floor),
        rival,
        "<= 1.5",
        runs // 20,
    )


def rotations() -> list[tuple[int, dict[str, object]]]:
    keys = [Signer("ledger", bytes([at]) * 32) for at in range(1, ROTATIONS + 2)]
    return [
        (at, rotation_payload("home-" + "a" * 26, old, new, at, "bench"))
        for at, (old, new) in enumerate(pairwise(keys), start=1)
    ]


def follow(changes: list[tuple[int, dict[str, object]]]) -> None:
    history = KeyHistory("home-" + "a" * 26, {"ledger": Signer("ledger", b"\x01" * 32).public_key})
    for index, payload in changes:
        history.observe(index, "key.rotated", "key/ledger", payload)
    assert len(history.spans("ledger")) == ROTATIONS + 1


def interleaved(
    ours: Callable[[], object], rival: Callable[[], object], runs: int
) -> tuple[list[float], list[float]]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for place, act in zip(taken, (ours, rival), strict=True):
            start = time.perf_counter()
            act()
            place.append((time.perf_counter() - start) * 1_000_000)
    return taken


def told(case: str, ours: float, against: float, rival: str, must: str, runs: int) -> None:
    line(
        bench="keys",
        case=case,
        ours=ours,
        against=against,
        rival=rival,
        unit="us",
        must=must,
        accepted=runs,
        history=0,
        runs=runs,
    )


if __name__ == "__main__":
    main()
