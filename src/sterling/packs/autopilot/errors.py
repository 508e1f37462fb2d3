"""What the autopilot raises when the world is not as a request needs it.

Refusals of a move are values (`refusal.py`) and become entries. These are for
what comes before a move can be judged at all: no task, no profile, no sandbox.
"""

from __future__ import annotations

from sterling.kernel.errors import EXIT_BROKEN, EXIT_CANNOT_JUDGE, EXIT_USAGE, SterlingError

__all__ = [
    "AgentMayOnlyAsk",
    "AgentUnreachable",
    "ArtifactMalformed",
    "AuthorityGone",
    "AuthorityTaken",
    "KindUnknown",
    "NoProfile",
    "ProfileInvalid",
    "ReceiptAbsent",
    "ReceiptForeign",
    "ReceiptMismatch",
    "RequestInvalid",
    "SandboxNotArmed",
    "StateNotAllowed",
    "TaskUnknown",
    "TreeUnsafe",
    "WorkBroken",
]


class TaskUnknown(SterlingError):
    """No task has this id."""

    code = "task.unknown"
    hint = "List the tasks: `sterling task status`."
    exit = EXIT_USAGE


class AgentMayOnlyAsk(SterlingError):
    """A process that an authority started called a command that is a person's."""

    code = "task.agent-may-only-ask"
    hint = "Ask with `sterling task status`, `submit`, `check`, `advance` or `back`; a person does the rest."


class StateNotAllowed(SterlingError):
    """A person asked for a state that the task cannot go to."""

    code = "task.state-not-allowed"
    hint = "See where it stands: `sterling task status TASK`."


class KindUnknown(SterlingError):
    """No artifact has this name, or not in this phase."""

    code = "task.kind-unknown"
    hint = "See what is missing: `sterling task status TASK`."
    exit = EXIT_USAGE


class ArtifactMalformed(SterlingError):
    """A submitted artifact is not what its contract says."""

    code = "task.artifact-malformed"
    hint = "Mend the file at the named place, then `sterling task submit TASK KIND FILE` again."
    exit = EXIT_USAGE


class RequestInvalid(SterlingError):
    """A request to the authority is not one."""

    code = "task.request-invalid"
    hint = "See what can be asked: `sterling task --help`."
    exit = EXIT_USAGE


class NoProfile(SterlingError):
    """The repository has no profile, so nothing could be run."""

    code = "onboard.no-profile"
    hint = (
        "Write the commands under [autopilot] in .sterling.toml, or pass `sterling task run --profile FILE`."
    )
    exit = EXIT_CANNOT_JUDGE


class ProfileInvalid(SterlingError):
    """A profile says something that is not known, or not enough."""

    code = "onboard.profile-invalid"
    hint = "Mend the named key. docs/concepts/autopilot.md shows a profile. See `sterling task run --help`."
    exit = EXIT_USAGE


class SandboxNotArmed(SterlingError):
    """An agent would run without walls, and nobody said so on purpose."""

    code = "sandbox.not-armed"
    hint = "Run it uncontained on purpose: `sterling task run TASK --uncontained REASON -- ARGV`."
    exit = EXIT_CANNOT_JUDGE


class AgentUnreachable(SterlingError):
    """The agent's command could not be started."""

    code = "agent.unreachable"
    hint = "Name a program that exists: `sterling task run TASK -- ARGV`."
    exit = EXIT_CANNOT_JUDGE


class AuthorityTaken(SterlingError):
    """Another authority serves this home."""

    code = "identity.already-running"
    hint = "Wait for it to end; `sterling status` shows what runs."


class AuthorityGone(SterlingError):
    """Nobody listens at the authority's socket."""

    code = "task.authority-gone"
    hint = "Stop working: start the task again with `sterling task run TASK -- ARGV`."


class WorkBroken(SterlingError):
    """Git or the file system did not do what the work tree needs."""

    code = "task.work-broken"
    hint = "Check that git works here and the disk has room, then `sterling task run TASK -- ARGV` again."


class TreeUnsafe(SterlingError):
    """The work tree holds what may not be taken over: a link out, or a repository inside."""

    code = "task.tree-unsafe"
    hint = "Remove the named path from the work tree. See `sterling task status TASK`."


class ReceiptAbsent(SterlingError):
    """The task has no receipt."""

    code = "task.receipt-absent"
    hint = "A receipt is written when the task is done: `sterling task status TASK`."


class ReceiptForeign(SterlingError):
    """A receipt says that another home signed it, so this one cannot judge it."""

    code = "task.receipt-foreign"
    hint = "Name the home that signed it with --home. See `sterling task receipt check --help`."
    exit = EXIT_CANNOT_JUDGE


class ReceiptMismatch(SterlingError):
    """A receipt does not fit this home or this repository."""

    code = "task.receipt-mismatch"
    hint = "Ask for the receipt of exactly this tree: `sterling task receipt export TASK`."
    exit = EXIT_BROKEN
