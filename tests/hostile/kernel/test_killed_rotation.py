"""A rotation killed at every step: whatever is left, the home goes on and both verifiers say so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import standalone_verify
from sterling.kernel.anchors import Anchors
from sterling.kernel.batch import Batch
from sterling.kernel.home import init_home, open_home
from sterling.kernel.key_change import read_key_history, rotate_key
from sterling.kernel.keys import load_key, load_next_key
from sterling.kernel.ledger import Ledger
from sterling.kernel.verify import verify_home

STEPS_MAX = 80


def killed_at(step: int, path: Path, purpose: str) -> bool:
    """Rotate in a process that dies before or after its step-th durable act; whether it died."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def act(*arguments: Any, **named: Any) -> Any:
                for moment in (None, real):
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    given = None if moment is None else real(*arguments, **named)
                return given

            return act

        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)  # type: ignore[method-assign]
        Ledger.commit = counted(Ledger.commit)  # type: ignore[method-assign]
        Anchors.append = counted(Anchors.append)  # type: ignore[method-assign]
        with open_home(path) as home:
            rotate_key(home, purpose, "the old laptop was sold")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.parametrize("purpose", ["ledger", "attest"])
def test_a_rotation_that_is_killed_at_any_step_leaves_a_home_that_goes_on(
    tmp_path: Path, purpose: str
) -> None:
    path, seen = tmp_path / "home", set()
    init_home(path).close()

    for step in range(STEPS_MAX):
        has_died = killed_at(step, path, purpose)
        found = verify_home(path)
        assert (found.exit, found.code) == (0, "")
        assert standalone_verify.verify(path)["exit"] == 0
        try:
            is_left = load_next_key(path / "keys", purpose) is not None
        finally:
            with open_home(path) as home:
                batch = Batch()
                batch.append("process.ended", {"command": "tool", "exit": 0})
                home.ledger.commit(batch)
                home.ledger.checkpoint()
                current = read_key_history(home).current(purpose)
                was_entered = load_next_key(path / "keys", purpose) is None
        assert load_key(path / "keys", purpose).public_key == current
        assert verify_home(path, require_anchored=True).exit == 0
        assert standalone_verify.verify(path)["exit"] == 0
        seen.add((is_left, was_entered))
        if not has_died:
            break

    assert not has_died, "the rotation has more steps than this test counts"
    assert {(True, False), (True, True), (False, True)} <= seen
