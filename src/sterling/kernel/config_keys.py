"""The table of settings: every key that `sterling.toml` may hold, and nothing else.

A key has one owner, one type, one default, bounds where they make sense and one
sentence. The table is the whole truth: the file written at `init`, the check on
reading and `docs/reference/settings.md` all come from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["KEYS", "KEYS_BY_NAME", "Key", "Setting"]

Setting = bool | int | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `type` is `bool`, `int`, `text` or `list` (of texts)."""

    name: str
    type: str
    default: Setting
    minimum: int | None
    maximum: int | None
    unit: str
    owner: str
    sentence: str
    choices: tuple[str, ...] = ()

    @property
    def from_file_only(self) -> bool:
        """Whether `--set` must not touch it."""
        return self.name.startswith("safety.")


def _flag(name: str, default: bool, owner: str, sentence: str) -> Key:
    return Key(name, "bool", default, None, None, "", owner, sentence)


def _count(name: str, default: int, low: int, high: int, unit: str, owner: str, sentence: str) -> Key:
    return Key(name, "int", default, low, high, unit, owner, sentence)


def _choice(name: str, default: str, choices: tuple[str, ...], owner: str, sentence: str) -> Key:
    return Key(name, "text", default, None, None, "", owner, sentence, choices)


_DAY_MS = 24 * 60 * 60 * 1000

_KERNEL = (
    _count(
        "store.wait_ms_max",
        5_000,
        0,
        600_000,
        "ms",
        "kernel",
        "Longest wait for the writer before a write is refused as busy.",
    ),
    _count(
        "anchor.lag_entries_max",
        10_000,
        1,
        1_000_000,
        "entries",
        "kernel",
        "Entries that may be without an outside anchor before writes are refused.",
    ),
    _count(
        "anchor.lag_s_max",
        300,
        1,
        86_400,
        "s",
        "kernel",
        "Seconds that the newest entry may be without an outside anchor before writes are refused.",
    ),
    Key(
        "anchor.paths",
        "list",
        (),
        0,
        8,
        "folders",
        "kernel",
        "More folders that receive a copy of every checkpoint, such as a second disk.",
    ),
    _count(
        "store.free_warn_mb",
        10_240,
        0,
        1_000_000_000,
        "MiB",
        "kernel",
        "Room on the home's disk below which `status` warns.",
    ),
    _count(
        "store.free_soft_mb",
        5_120,
        0,
        1_000_000_000,
        "MiB",
        "kernel",
        "Room on the home's disk below which derived work should wait.",
    ),
    _count(
        "store.free_hard_mb",
        1_024,
        0,
        1_000_000_000,
        "MiB",
        "kernel",
        "Room on the home's disk below which captured work goes to the spool.",
    ),
    Key(
        "spool.path",
        "text",
        "",
        None,
        None,
        "folder",
        "kernel",
        "Folder on a second disk that takes captured work while the home's disk is full; empty means none.",
    ),
    Key(
        "outbox.adapters",
        "list",
        (),
        0,
        32,
        "adapters",
        "kernel",
        "Adapters that may carry an effect out of this machine.",
    ),
    Key(
        "archive.stores",
        "list",
        (),
        0,
        32,
        "folders",
        "kernel",
        "Folders of archives; blobs that were moved there are read from those that are attached.",
    ),
    _flag("safety.shared_home", False, "kernel", "Allow a home that other users of the machine can read."),
)

_RUNTIME = (
    _count(
        "governor.idle_ms_min",
        45_000,
        1_000,
        _DAY_MS,
        "ms",
        "runtime",
        "Time without input after which heavy work may start.",
    ),
    _count(
        "governor.active_ms",
        3_000,
        100,
        600_000,
        "ms",
        "runtime",
        "Time since the last input during which the person counts as active.",
    ),
    _count(
        "governor.cpu_limit_bp",
        5_000,
        0,
        10_000,
        "bp",
        "runtime",
        "Processor use by other programs at which heavy work stops; 0 turns the limit off.",
    ),
    _count(
        "governor.ram_limit_bp",
        8_500,
        0,
        10_000,
        "bp",
        "runtime",
        "Memory use of the machine at which heavy work stops; 0 turns the limit off.",
    ),
    _count(
        "governor.charge_min_bp",
        3_000,
        0,
        10_000,
        "bp",
        "runtime",
        "Battery charge below which no heavy work runs.",
    ),
    _flag("governor.suspend_workers", True, "runtime", "Stop heavy work when the person becomes active."),
    _flag("governor.heavy_while_active", False, "runtime", "Allow heavy work while the person is active."),
    _flag("governor.heavy_on_battery", False, "runtime", "Allow heavy work on battery."),
    _flag(
        "governor.user_query_heavy", True, "runtime", "Let a question that a person waits for run heavy work."
    ),
    _count(
        "governor.grace_ms",
        150,
        0,
        10_000,
        "ms",
        "runtime",
        "Time between the cause of a stop and asking a step to stop.",
    ),
    _count(
        "governor.suspend_deadline_ms",
        500,
        0,
        60_000,
        "ms",
        "runtime",
        "Time between the cause of a stop and ending the step's processes.",
    ),
    _count(
        "governor.window_ms",
        300_000,
        10_000,
        _DAY_MS,
        "ms",
        "runtime",
        "Period that one budget of heavy work covers.",
    ),
    _count(
        "governor.budget_ms",
        0,
        0,
        64 * _DAY_MS,
        "ms",
        "runtime",
        "Heavy work allowed in one window; 0 means 0.8 of the window for each worker.",
    ),
    _count("governor.job_ms_max", 30_000, 100, _DAY_MS, "ms", "runtime", "Longest single grant to one job."),
    _count(
        "governor.jobs_max", 256, 1, 100_000, "jobs", "runtime", "Jobs that may be granted in one window."
    ),
    _count(
        "governor.workers_max",
        0,
        0,
        256,
        "workers",
        "runtime",
        "Steps that may run at once; 0 means half the cores, at least 1.",
    ),
    _count(
        "governor.query_floor_bp",
        2_500,
        0,
        10_000,
        "bp",
        "runtime",
        "Part of the budget kept for questions that a person waits for.",
    ),
    _count(
        "governor.stale_ms",
        5_000,
        250,
        600_000,
        "ms",
        "runtime",
        "Age at which a reading of a signal no longer counts.",
    ),
    Key(
        "governor.activity_file",
        "text",
        "",
        None,
        None,
        "path",
        "runtime",
        "File in which another machine writes whether its person is active; empty means none.",
    ),
)

_PACKS = (
    Key(
        "ocr.languages",
        "list",
        ("eng",),
        1,
        16,
        "languages",
        "recall",
        "Languages that text recognition looks for, by their Tesseract names.",
    ),
    _count(
        "ocr.scale_bp",
        15_000,
        10_000,
        40_000,
        "bp",
        "recall",
        "Enlargement of a picture before text recognition; 10000 is its own size.",
    ),
    Key(
        "ask.zone",
        "text",
        "",
        None,
        None,
        "time zone",
        "recall",
        "Time zone of words such as yesterday, by its IANA name; empty means the machine's.",
    ),
    _choice(
        "ask.week_start",
        "monday",
        ("monday", "sunday", "saturday"),
        "recall",
        "First day of a week in questions.",
    ),
    _choice(
        "ask.date_order",
        "",
        ("", "dmy", "mdy", "ymd"),
        "recall",
        "How a date such as 3/4/2026 is read; empty means that such a date is refused.",
    ),
    _count(
        "insight.large_rows",
        1_000_000,
        1_000,
        10_000_000_000,
        "rows",
        "insight",
        "Rows from which a table counts as large and is read in parts.",
    ),
    _count(
        "insight.cell_bytes_max",
        1_048_576,
        1,
        1_073_741_824,
        "bytes",
        "insight",
        "Largest cell that a table may hold.",
    ),
    _count(
        "insight.columns_max", 2_000, 1, 100_000, "columns", "insight", "Most columns that a table may have."
    ),
    _count("ci.timeout_s", 900, 1, 86_400, "s", "ci", "Longest time that one test command may take."),
    _count("ci.reruns", 1, 0, 10, "runs", "ci", "Times that a failed test is run again to tell a flaky one."),
    _count(
        "autopilot.check_timeout_s",
        600,
        1,
        86_400,
        "s",
        "autopilot",
        "Longest time that one check of a task may take.",
    ),
)

KEYS: tuple[Key, ...] = _KERNEL + _RUNTIME + _PACKS
KEYS_BY_NAME = MappingProxyType({key.name: key for key in KEYS})
