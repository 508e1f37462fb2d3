"""Why something may not run, stopped or ended: the closed list of runtime reasons.

A reason is a stable code with one sentence for a person and one next step. It
is data: deciders name reasons, faces print them. A code that is not here does
not exist; a pack's own codes for `na` belong to the pack.

Some codes are also the code of an error class. The class carries what was
found; this table carries what the code means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["REASONS", "Meaning", "Reason", "hint_of", "sentence_of"]


class Reason(StrEnum):
    """Every reason code of the runtime."""

    MODE_FULLSCREEN = "mode.fullscreen"
    MODE_CPU_PRESSURE = "mode.cpu-pressure"
    MODE_RAM_PRESSURE = "mode.ram-pressure"
    MODE_POWER_LOW = "mode.power-low"
    MODE_QUERY_INTENT = "mode.query-intent"
    MODE_USER_ACTIVE = "mode.user-active"
    MODE_ON_BATTERY = "mode.on-battery"
    MODE_IDLE_WINDOW = "mode.idle-window"
    MODE_ACTIVE_ALLOWED = "mode.active-allowed"
    MODE_IDLE_THRESHOLD = "mode.idle-threshold"
    MODE_ATTENDED = "mode.attended"
    SIGNAL_MISSING = "signal.missing"
    SIGNAL_STALE = "signal.stale"
    SIGNAL_UNREADABLE = "signal.unreadable"
    SIGNAL_FILE_UNREADABLE = "signal.file-unreadable"
    SIGNAL_NO_FULLSCREEN_SOURCE = "signal.no-fullscreen-source"
    SIGNAL_GPU_MISSING = "signal.gpu-missing"
    BUDGET_EXHAUSTED = "budget.exhausted"
    BUDGET_RESERVED = "budget.reserved"
    BUDGET_JOBS_EXHAUSTED = "budget.jobs-exhausted"
    BUDGET_CONCURRENCY = "budget.concurrency"
    BUDGET_GRANT_USED = "budget.grant-used"
    BUDGET_TOO_SMALL_NOW = "budget.too-small-now"
    BUDGET_NEVER_FITS = "budget.never-fits"
    MEMORY_TOKENS = "memory.tokens"
    GPU_SLOT = "gpu.slot"
    SWITCH_OFF = "switch.off"
    SWITCH_UNREADABLE = "switch.unreadable"
    JOB_BACKOFF = "job.backoff"
    JOB_OVERDUE = "job.overdue"
    JOB_NO_PROGRESS = "job.no-progress"
    GOVERNOR_FORCE_STOPPED = "governor.force-stopped"
    CONDUCTOR_ALREADY_UP = "conductor.already-up"
    CONDUCTOR_TICK_FAILED = "conductor.tick-failed"
    CONDUCTOR_SAFE_MODE = "conductor.safe-mode"
    CONDUCTOR_LOST_LEASE = "conductor.lost-lease"
    RUN_ABANDONED = "run.abandoned"
    RUN_INTERRUPTED = "run.interrupted"
    RUN_UNSETTLED = "run.unsettled"
    STEP_RAISED = "step.raised"
    STEP_HUNG = "step.hung"
    STEP_EMPTY_OK = "step.empty-ok"
    STEP_INVALID_RESULT = "step.invalid-result"
    STEP_UPSTREAM_FAILED = "step.upstream-failed"
    STEP_UPSTREAM_NA = "step.upstream-na"
    WORKER_DIED = "worker.died"
    WORKER_PROTOCOL = "worker.protocol"
    LIMIT_MEMORY = "limit.memory"
    LIMIT_CPU = "limit.cpu"
    LIMIT_WALL = "limit.wall"
    LIMIT_PROCESSES = "limit.processes"
    LIMIT_OUTPUT = "limit.output"
    LIMIT_FILES = "limit.files"
    SANDBOX_UNAVAILABLE = "sandbox.unavailable"
    NEED_LIBRARY_MISSING = "need.library-missing"
    NEED_MODEL_MISSING = "need.model-missing"
    NEED_CONTRACT_MISSING = "need.contract-missing"
    NEED_GPU_MISSING = "need.gpu-missing"
    PLUGIN_NOT_LISTED = "plugin.not-listed"
    PLUGIN_ALTERED = "plugin.altered"
    PLUGIN_MANIFEST_INVALID = "plugin.manifest-invalid"
    PLUGIN_LANE_MISSING = "plugin.lane-missing"
    PLUGIN_LANE_ROLE_CONFLICT = "plugin.lane-role-conflict"
    PLUGIN_DOWNSTREAM_MISSING = "plugin.downstream-missing"
    PLUGIN_ID_DUPLICATE = "plugin.id-duplicate"
    PLUGIN_PATH_ESCAPE = "plugin.path-escape"
    PLUGIN_PERMISSION_WIDENED = "plugin.permission-widened"
    PLUGIN_CONTRACT_UNKNOWN = "plugin.contract-unknown"
    PLUGIN_API_RANGE = "plugin.api-range"
    PLUGIN_LIBRARY_UNDECLARED = "plugin.library-undeclared"
    PLUGIN_CONFLICT = "plugin.conflict"
    PLUGIN_UNTRUSTED_NETWORK = "plugin.untrusted-network"
    PLUGIN_UNDECLARED_IMPORT = "plugin.undeclared-import"
    PLAN_CYCLE = "plan.cycle"
    PLAN_UNKNOWN_NEED = "plan.unknown-need"
    PLAN_CROSS_LANE = "plan.cross-lane"
    CACHE_FIRST_TIME = "cache.first-time"
    CACHE_CODE = "cache.code"
    CACHE_MANIFEST = "cache.manifest"
    CACHE_SETTINGS = "cache.settings"
    CACHE_INPUT = "cache.input"
    CACHE_UPSTREAM = "cache.upstream"
    CACHE_SEED = "cache.seed"
    CACHE_POLICY = "cache.policy"
    CACHE_LIBRARY = "cache.library"
    CACHE_MODEL = "cache.model"
    CACHE_CONTRACT = "cache.contract"
    CACHE_TAMPERED = "cache.tampered"
    CACHE_FAILED_BEFORE = "cache.failed-before"
    CACHE_KEY_ERROR = "cache.key-error"
    CACHE_BYPASS = "cache.bypass"
    ENGINE_LOST = "engine.lost"
    ENGINE_LOCK_DIFFERS = "engine.lock-differs"
    SCAN_FOUND = "scan.found"
    SCAN_EXPIRED = "scan.expired"
    SCAN_UNMATCHED = "scan.unmatched"
    GATE_GATING_REGRESSED = "gate.gating-regressed"
    GATE_NOTHING_DERIVED = "gate.nothing-derived"
    GATE_SERVICE_MISSING = "gate.service-missing"
    GATE_NO_BASELINE = "gate.no-baseline"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One sentence for a person, and one next step."""

    sentence: str
    hint: str


_SEE_NOW = "See every condition with its reading: `sterling governor explain`."
_FORCE = "Wait until the machine is idle, or ask for it now: `sterling drain --force`."
_WINDOW = "See the budget window: `sterling governor explain`. The next window starts by itself."
_SIGNALS = "See which source is missing, then feed one: `sterling governor write-activity PATH`."
_RUN = "See the step and its evidence: `sterling run show RUN`."
_AGAIN = "Finished steps are kept. Start the run again, then `sterling run list`."
_LIMITS = "Give the step less to do or raise the limit in its manifest: `sterling plugins list`."
_SANDBOX = "Install bubblewrap and allow user namespaces: see the row `sandbox` of `sterling doctor`."
_PLUGIN = "See what was refused and why: `sterling plugins check`."
_SCAN = "Finish the work or mend the row, then look again: `sterling scan unfinished`."
_PLAN = "See the steps and what each of them needs: `sterling plugins list`."
_STATUS = "See what runs, what waits and why: `sterling status`."
_REUSE = "See the whole answer: `sterling run explain STEP`."
_NEEDS = "Install what the step names, then `sterling plugins check`."


REASONS: dict[Reason, Meaning] = {
    Reason.MODE_FULLSCREEN: Meaning("A program fills the screen, so nothing heavy runs.", _SEE_NOW),
    Reason.MODE_CPU_PRESSURE: Meaning(
        "Other programs keep the processors busy.",
        "Wait for them, or let the work compete: `sterling drain --force --set governor.cpu_limit_bp=0`.",
    ),
    Reason.MODE_RAM_PRESSURE: Meaning(
        "Memory is nearly used up.",
        "Free some, or let the work compete: `sterling drain --force --set governor.ram_limit_bp=0`.",
    ),
    Reason.MODE_POWER_LOW: Meaning("The machine runs on battery and the charge is low.", _SEE_NOW),
    Reason.MODE_QUERY_INTENT: Meaning("A person asked for this work and waits for it.", _SEE_NOW),
    Reason.MODE_USER_ACTIVE: Meaning("A person is using the machine, or nothing says otherwise.", _FORCE),
    Reason.MODE_ON_BATTERY: Meaning("The machine runs on battery.", _FORCE),
    Reason.MODE_IDLE_WINDOW: Meaning("Nobody has touched the machine for long enough.", _SEE_NOW),
    Reason.MODE_ACTIVE_ALLOWED: Meaning("Heavy work is allowed beside a person by configuration.", _SEE_NOW),
    Reason.MODE_IDLE_THRESHOLD: Meaning("The machine has not been idle for long enough yet.", _FORCE),
    Reason.MODE_ATTENDED: Meaning("A person typed this command and is waiting for it.", _SEE_NOW),
    Reason.SIGNAL_MISSING: Meaning("No source gives this signal on this machine.", _SIGNALS),
    Reason.SIGNAL_STALE: Meaning("The newest reading of this signal is too old.", _SIGNALS),
    Reason.SIGNAL_UNREADABLE: Meaning("A source of this signal is there but cannot be read.", _SIGNALS),
    Reason.SIGNAL_FILE_UNREADABLE: Meaning("The activity file is there but cannot be read.", _SIGNALS),
    Reason.SIGNAL_NO_FULLSCREEN_SOURCE: Meaning(
        "Nothing on this desktop tells whether a program fills the screen.", _SIGNALS
    ),
    Reason.SIGNAL_GPU_MISSING: Meaning("No source tells how busy the graphics processor is.", _SEE_NOW),
    Reason.BUDGET_EXHAUSTED: Meaning("The time of this budget window is spent.", _WINDOW),
    Reason.BUDGET_RESERVED: Meaning("What is left of this window is kept for questions.", _WINDOW),
    Reason.BUDGET_JOBS_EXHAUSTED: Meaning("This window has started as many jobs as it may.", _WINDOW),
    Reason.BUDGET_CONCURRENCY: Meaning("As many heavy jobs run as may run at once.", _WINDOW),
    Reason.BUDGET_GRANT_USED: Meaning("The job used all the time it was granted.", _WINDOW),
    Reason.BUDGET_TOO_SMALL_NOW: Meaning(
        "What is left of this window is less than the job's smallest useful piece.", _WINDOW
    ),
    Reason.BUDGET_NEVER_FITS: Meaning(
        "The job's smallest useful piece is larger than any grant can be.",
        "Raise governor.job_ms_max or governor.budget_ms, then see `sterling governor explain`.",
    ),
    Reason.MEMORY_TOKENS: Meaning("The running jobs and this one together declare too much memory.", _WINDOW),
    Reason.GPU_SLOT: Meaning("Another job holds the graphics processor.", _WINDOW),
    Reason.SWITCH_OFF: Meaning(
        "A person asked for this work, but the switch user_query_heavy is off.",
        "Turn it on: `sterling governor switch user_query_heavy true --reason WHY`.",
    ),
    Reason.SWITCH_UNREADABLE: Meaning(
        "The settings cannot be read, so nothing heavy runs.",
        "Repair sterling.toml, then `sterling governor explain`.",
    ),
    Reason.JOB_BACKOFF: Meaning(
        "The job failed a short while ago and waits before the next try.",
        "The job tries again by itself. See its error: `sterling run list`.",
    ),
    Reason.JOB_OVERDUE: Meaning("The job was passed over in eight windows that could have run it.", _STATUS),
    Reason.JOB_NO_PROGRESS: Meaning("The job was stopped eight times without getting further.", _LIMITS),
    Reason.GOVERNOR_FORCE_STOPPED: Meaning(
        "The job did not stop when asked, so its processes were ended at the deadline.",
        "It was queued again once. See its dispatches: `sterling drain --json`.",
    ),
    Reason.CONDUCTOR_ALREADY_UP: Meaning(
        "A conductor already works on this home.", "See it: `sterling status`."
    ),
    Reason.CONDUCTOR_TICK_FAILED: Meaning("A tick of the conductor raised an error.", _STATUS),
    Reason.CONDUCTOR_SAFE_MODE: Meaning(
        "After three crashes nothing heavy runs until a person allows it.", _STATUS
    ),
    Reason.CONDUCTOR_LOST_LEASE: Meaning(
        "Another conductor took over this home.", "See it: `sterling status`."
    ),
    Reason.RUN_ABANDONED: Meaning("The program that ran this died before the step ended.", _AGAIN),
    Reason.RUN_INTERRUPTED: Meaning("The run was stopped before the step ended.", _AGAIN),
    Reason.RUN_UNSETTLED: Meaning("The run ended while planned steps had no outcome.", _RUN),
    Reason.STEP_RAISED: Meaning("The step raised an error.", _RUN),
    Reason.STEP_HUNG: Meaning("The step made no progress for too long and was ended.", _RUN),
    Reason.STEP_EMPTY_OK: Meaning("The step said ok but gave nothing.", _RUN),
    Reason.STEP_INVALID_RESULT: Meaning("The step gave a result that its contract does not allow.", _RUN),
    Reason.STEP_UPSTREAM_FAILED: Meaning("A step that this one needs failed.", _RUN),
    Reason.STEP_UPSTREAM_NA: Meaning("A step that this one needs could not be applied.", _RUN),
    Reason.WORKER_DIED: Meaning("The worker process died before it gave a result.", _RUN),
    Reason.WORKER_PROTOCOL: Meaning("The worker sent something that is not a message.", _RUN),
    Reason.LIMIT_MEMORY: Meaning("The step used more memory than it may.", _LIMITS),
    Reason.LIMIT_CPU: Meaning("The step used more processor time than it may.", _LIMITS),
    Reason.LIMIT_WALL: Meaning("The step took longer than it may.", _LIMITS),
    Reason.LIMIT_PROCESSES: Meaning("The step started more processes than it may.", _LIMITS),
    Reason.LIMIT_OUTPUT: Meaning("The step wrote more than it may.", _LIMITS),
    Reason.LIMIT_FILES: Meaning("The step opened more files than it may.", _LIMITS),
    Reason.SANDBOX_UNAVAILABLE: Meaning("An untrusted plugin has no sandbox to run in here.", _SANDBOX),
    Reason.NEED_LIBRARY_MISSING: Meaning("A library that the step needs is not installed.", _NEEDS),
    Reason.NEED_MODEL_MISSING: Meaning("A model that the step needs is not there.", _NEEDS),
    Reason.NEED_CONTRACT_MISSING: Meaning(
        "A contract that the step needs is not known.", "See the contracts: `sterling contracts check`."
    ),
    Reason.NEED_GPU_MISSING: Meaning("The step needs a graphics processor and there is none.", _NEEDS),
    Reason.PLUGIN_NOT_LISTED: Meaning("The plugin is not in plugins.lock, so it is never loaded.", _PLUGIN),
    Reason.PLUGIN_ALTERED: Meaning("The plugin's files differ from what plugins.lock pins.", _PLUGIN),
    Reason.PLUGIN_MANIFEST_INVALID: Meaning("The plugin's manifest breaks its contract.", _PLUGIN),
    Reason.PLUGIN_LANE_MISSING: Meaning("The plugin's manifest names no lane.", _PLUGIN),
    Reason.PLUGIN_LANE_ROLE_CONFLICT: Meaning("The plugin's flags do not go with its lane.", _PLUGIN),
    Reason.PLUGIN_DOWNSTREAM_MISSING: Meaning("The plugin explains nothing that a decision uses.", _PLUGIN),
    Reason.PLUGIN_ID_DUPLICATE: Meaning("Two plugins have the same id.", _PLUGIN),
    Reason.PLUGIN_PATH_ESCAPE: Meaning("A plugin's file lies outside its folder.", _PLUGIN),
    Reason.PLUGIN_PERMISSION_WIDENED: Meaning("The plugin asks for more than plugins.lock allows.", _PLUGIN),
    Reason.PLUGIN_CONTRACT_UNKNOWN: Meaning("The plugin names a contract that is not known.", _PLUGIN),
    Reason.PLUGIN_API_RANGE: Meaning("The plugin was written for another plugin interface.", _PLUGIN),
    Reason.PLUGIN_LIBRARY_UNDECLARED: Meaning("The plugin imports a library it does not declare.", _PLUGIN),
    Reason.PLUGIN_CONFLICT: Meaning("Two declarations of the plugin contradict each other.", _PLUGIN),
    Reason.PLUGIN_UNTRUSTED_NETWORK: Meaning("An untrusted plugin asks for the network.", _PLUGIN),
    Reason.PLUGIN_UNDECLARED_IMPORT: Meaning("The plugin loaded a module it does not declare.", _PLUGIN),
    Reason.PLAN_CYCLE: Meaning("Steps need each other in a circle, so none can start.", _PLAN),
    Reason.PLAN_UNKNOWN_NEED: Meaning("A step needs another that is not in the plan.", _PLAN),
    Reason.PLAN_CROSS_LANE: Meaning("A decision step needs an explanation step.", _PLAN),
    Reason.CACHE_FIRST_TIME: Meaning("Nothing is known of this step in this home, so it ran.", _REUSE),
    Reason.CACHE_CODE: Meaning(
        "The code of the plugin, or of a module it runs with, is not what it was.", _REUSE
    ),
    Reason.CACHE_MANIFEST: Meaning("The manifest of the plugin is not what it was.", _REUSE),
    Reason.CACHE_SETTINGS: Meaning("The settings of the step are not what they were.", _REUSE),
    Reason.CACHE_INPUT: Meaning("What the step reads is not what it was.", _REUSE),
    Reason.CACHE_UPSTREAM: Meaning("A step that this one needs ended differently.", _REUSE),
    Reason.CACHE_SEED: Meaning("The seed of the run is not what it was.", _REUSE),
    Reason.CACHE_POLICY: Meaning(
        "The mode of the run, or the rules of the lanes, are not what they were.", _REUSE
    ),
    Reason.CACHE_LIBRARY: Meaning("The interpreter or an installed library is not what it was.", _REUSE),
    Reason.CACHE_MODEL: Meaning("A model that the step uses is not what it was.", _REUSE),
    Reason.CACHE_CONTRACT: Meaning("A contract that the step reads or writes is not what it was.", _REUSE),
    Reason.CACHE_TAMPERED: Meaning(
        "The kept result has other bytes than were written, so it was not used.",
        "See what else is wrong: `sterling verify`.",
    ),
    Reason.CACHE_FAILED_BEFORE: Meaning(
        "The same step failed before, and a failure is never reused.", _REUSE
    ),
    Reason.CACHE_KEY_ERROR: Meaning(
        "What the step depends on could not all be named, so it is not reused.", _REUSE
    ),
    Reason.CACHE_BYPASS: Meaning(
        "The person asked to run everything anew.",
        "Leave out --no-cache to reuse what is kept: `sterling analyze --help`.",
    ),
    Reason.ENGINE_LOST: Meaning("The engine that ran the steps went away.", _AGAIN),
    Reason.ENGINE_LOCK_DIFFERS: Meaning("A worker has other plugins than this machine.", _PLUGIN),
    Reason.SCAN_FOUND: Meaning("A tracked file holds unfinished work that no row excuses.", _SCAN),
    Reason.SCAN_EXPIRED: Meaning("A row of unfinished.toml is past its last day.", _SCAN),
    Reason.SCAN_UNMATCHED: Meaning("A row of unfinished.toml is incomplete or excuses nothing.", _SCAN),
    Reason.GATE_GATING_REGRESSED: Meaning(
        "Heavy work was let in, kept out or stopped otherwise than the tables say.",
        "Stop heavy work, then look at what differs: `sterling governor gate`.",
    ),
    Reason.GATE_NOTHING_DERIVED: Meaning(
        "A forced run over the sample left no record, or no answer that stands on one.",
        "See what this installation lacks: `sterling doctor`.",
    ),
    Reason.GATE_SERVICE_MISSING: Meaning(
        "Something that the sample needs is not installed.", "See what is missing: `sterling doctor`."
    ),
    Reason.GATE_NO_BASELINE: Meaning(
        "There is no earlier result to compare with.",
        "Keep one: `sterling governor gate --json > FILE`, then name it with --baseline.",
    ),
}


def sentence_of(reason: Reason) -> str:
    """What the code means, in one sentence."""
    return REASONS[reason].sentence


def hint_of(reason: Reason) -> str:
    """What to do next, naming a command."""
    return REASONS[reason].hint
