"""Write queue_log.csv: the log of a small job queue, with a few true faults in it.

Six hosts serve jobs first come, first served, over ten working days. The faults
are planted on purpose and are the only ones: three jobs whose end lies before
their start (the two were swapped), two jobs that start before they were queued,
and four rows that were logged twice. Run it again and the file is the same.

    python make_queue_log.py > queue_log.csv
"""

import datetime as dt
import sys
from random import Random

SEED = 20240304
JOBS = 480
FIRST_DAY = dt.datetime(2024, 3, 4, 6, 0, 0)
ACTIVITIES = (("extract", 9), ("transform", 16), ("load", 7), ("report", 22), ("backup", 35))
HOSTS = ("alder", "birch", "cedar", "elm", "hazel", "maple")
SWAPPED, TOO_EARLY, TWICE = (57, 211, 389), (120, 333), (34, 150, 298, 441)


def pick(random: Random, count: int) -> int:
    """A whole number below `count`; `random()` alone is the same on every Python."""
    return int(random.random() * count)


def jobs(random: Random) -> list[list[object]]:
    """Every job in the order in which it was queued."""
    free = {host: FIRST_DAY for host in HOSTS}
    rows: list[list[object]] = []
    queued = FIRST_DAY
    for number in range(1, JOBS + 1):
        queued += dt.timedelta(seconds=20 + pick(random, 560))
        if queued.hour >= 19:
            queued = (queued + dt.timedelta(days=3 if queued.weekday() == 4 else 1)).replace(hour=6)
        activity, minutes = ACTIVITIES[pick(random, len(ACTIVITIES))]
        host = HOSTS[pick(random, len(HOSTS))]
        start = max(queued + dt.timedelta(seconds=1 + pick(random, 9)), free[host])
        end = start + dt.timedelta(seconds=30 + pick(random, minutes * 100))
        free[host] = end
        rows.append([f"J{number:05}", activity, host, queued, start, end])
    return rows


def spoil(rows: list[list[object]]) -> list[list[object]]:
    """The same rows with the planted faults."""
    for place in SWAPPED:
        rows[place][4], rows[place][5] = rows[place][5], rows[place][4]
    for place in TOO_EARLY:
        queued, start = rows[place][3], rows[place][4]
        assert isinstance(queued, dt.datetime) and isinstance(start, dt.datetime)
        rows[place][3], rows[place][4] = start, queued
    spoiled: list[list[object]] = []
    for place, row in enumerate(rows):
        spoiled += [row, row] if place in TWICE else [row]
    return spoiled


def main() -> None:
    print("job_id,activity,host,queued,start,end")
    for row in spoil(jobs(Random(SEED))):
        print(",".join(str(cell) for cell in row))


if __name__ == "__main__":
    sys.exit(main())
