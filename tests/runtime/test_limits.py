from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from sterling.kernel.shipped import package_root
from sterling.runtime.limits import BodyLimits, breached
from sterling.runtime.process_tree import Usage

LIMITS = BodyLimits(wall_ms=100, cpu_ms=50, memory_bytes=1000, file_bytes=10, output_bytes=20, processes=2)
FINE = Usage(processes=2, memory_bytes=1000, rss_bytes=9999, cpu_us=0)


def judged(
    found: Usage = FINE, *, cpu_us: int = 50_000, wall_us: int = 100_000, output_bytes: int = 20
) -> str:
    return breached(LIMITS, found, cpu_us=cpu_us, wall_us=wall_us, output_bytes=output_bytes)


def test_using_exactly_what_is_allowed_passes_no_limit() -> None:
    assert judged() == ""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("limit.memory", {"found": replace(FINE, memory_bytes=1001)}),
        ("limit.processes", {"found": replace(FINE, processes=3)}),
        ("limit.output", {"output_bytes": 21}),
        ("limit.cpu", {"cpu_us": 50_001}),
        ("limit.wall", {"wall_us": 100_001}),
    ],
)
def test_one_unit_more_passes_the_limit_of_that_name(code: str, found: dict[str, object]) -> None:
    assert judged(**found) == code  # type: ignore[arg-type]


def test_zero_means_no_bound() -> None:
    free = BodyLimits(0, 0, 0, 0, 0, 0)

    assert breached(free, FINE, cpu_us=1 << 50, wall_us=1 << 50, output_bytes=1 << 50) == ""


def test_shared_pages_of_a_warm_parent_are_not_charged_to_its_fork() -> None:
    assert FINE.less(400).memory_bytes == 200
    assert FINE.less(4000).memory_bytes == 0


CHILD = """
import json, resource
from sterling.runtime.limits import BodyLimits, apply_rlimits
walls = apply_rlimits(BodyLimits(1000, 2500, 64 << 20, 4096, 100, 3), bound_data=True)
names = ("RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_NOFILE")
print(json.dumps([walls, {name: resource.getrlimit(getattr(resource, name)) for name in names}]))
bytearray(8 << 30)
"""


def test_the_kernels_limits_hold_in_the_process_that_set_them() -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={"PYTHONPATH": str(package_root().parent)},
        capture_output=True,
        text=True,
    )
    walls, limits = json.loads(child.stdout)

    assert {"core:rlimit", "cpu:rlimit", "file-size:rlimit", "files:rlimit", "memory:rlimit-data"} <= set(
        walls
    )
    assert limits["RLIMIT_CORE"] == [0, 0]
    assert limits["RLIMIT_CPU"] == [4, 5]
    assert limits["RLIMIT_FSIZE"] == [4096, 4096]
    assert "MemoryError" in child.stderr
