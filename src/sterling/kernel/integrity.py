"""What can be wrong with a ledger, one class a code.

`chain.py` names the two breaks a chain can see alone; these need a signature, a
tree, an outside copy or the blobs beside the ledger. `home.py` and `records.py`
declare two more that they raise themselves. A `Verification`
carries the codes of all of them.
"""

from __future__ import annotations

from sterling.kernel.errors import EXIT_BROKEN, EXIT_CANNOT_JUDGE, SterlingError

__all__ = [
    "BlobAlteredOnDisk",
    "BlobMissing",
    "CheckpointOrder",
    "ClaimUnfounded",
    "Forked",
    "KeyUnknown",
    "LedgerUnreadable",
    "NoAnchor",
    "ProjectionAltered",
    "RolledBack",
    "RootMismatch",
    "TailMissing",
    "TimeUnexplained",
]


class RolledBack(SterlingError):
    """The log is an older state of itself: it ends at a checkpoint that was once the newest."""

    code = "integrity.rolled-back"
    hint = "Put back the newest copy of the home. If this is the newest: `sterling ledger recover --help`."
    exit = EXIT_BROKEN


class TailMissing(SterlingError):
    """The log is shorter than, or other than, what its anchor remembers."""

    code = "integrity.tail-missing"
    hint = "Do not write. Restore the newest backup; if it is older: `sterling ledger recover --help`."
    exit = EXIT_BROKEN


class LedgerUnreadable(SterlingError):
    """The ledger's file is no database, or its pages are torn."""

    code = "integrity.ledger-unreadable"
    hint = "Keep the file. Put back the newest copy of the home, then run `sterling verify`."
    exit = EXIT_BROKEN


class RootMismatch(SterlingError):
    """A stored tree node or a signed checkpoint disagrees with the entries."""

    code = "integrity.root-mismatch"
    hint = "Stop writing. Compare with the newest backup, then run `sterling verify` on it."
    exit = EXIT_BROKEN


class KeyUnknown(SterlingError):
    """A checkpoint is signed, but by no key that was pinned."""

    code = "integrity.key-unknown"
    hint = "Name the key you trust: `sterling verify --pin KEY`. `sterling ledger head` shows a home's own."
    exit = EXIT_BROKEN


class Forked(SterlingError):
    """Two histories carry the same name: an anchor or an origin says otherwise than the log."""

    code = "integrity.forked"
    hint = "Stop writing. Find the copy that agrees with the anchor: `sterling verify PATH`."
    exit = EXIT_BROKEN


class CheckpointOrder(SterlingError):
    """A checkpoint lies where no checkpoint of this log can lie."""

    code = "integrity.checkpoint-order"
    hint = "Stop writing. Compare with the newest backup, then run `sterling verify` on it."
    exit = EXIT_BROKEN


class TimeUnexplained(SterlingError):
    """Time falls from one entry to the next and no entry says why."""

    code = "integrity.time-unexplained"
    hint = "Look at the entries around it: `sterling ledger show`."
    exit = EXIT_BROKEN


class BlobAlteredOnDisk(SterlingError):
    """The bytes under an address no longer hash to it."""

    code = "integrity.blob-altered"
    hint = "Put the file back from a copy, then run `sterling verify --blobs`."
    exit = EXIT_BROKEN


class BlobMissing(SterlingError):
    """An entry names bytes that are not there."""

    code = "integrity.blob-missing"
    hint = "Put the file back from a copy, then run `sterling verify --blobs`."
    exit = EXIT_BROKEN


class ProjectionAltered(SterlingError):
    """A table that is derived from entries does not say what the entries say."""

    code = "integrity.projection-altered"
    hint = "The entries are intact; answers read from that table are not. Run `sterling verify --deep`."
    exit = EXIT_BROKEN


class ClaimUnfounded(SterlingError):
    """A run's records are intact, but a claim in them does not follow from its evidence."""

    code = "integrity.claim-unfounded"
    hint = "See which steps the run had: `sterling run show RUN`."
    exit = EXIT_BROKEN


class NoAnchor(SterlingError):
    """The log agrees with itself, and nothing outside it vouches for its tail."""

    code = "integrity.no-anchor"
    hint = "Bring a checkpoint kept elsewhere: `sterling verify --anchor FILE --pin KEY`."
    exit = EXIT_CANNOT_JUDGE
