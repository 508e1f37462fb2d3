"""Every reason code of this pack with its sentence: a closed list.

The table in `docs/reference/ci-codes.md` is this one, under test. A code that is
not here cannot stand in a gate, an outcome or an error of the pack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["REASONS"]

REASONS: Final[Mapping[str, str]] = {
    "ci.added-muted": "A new test is skipped or expected to fail from its first day.",
    "ci.baseline-mismatch": "There is a baseline, but for another command, interpreter, platform or tree.",
    "ci.baseline-tampered": "A baseline file is not what it was sealed as.",
    "ci.baseline-unhealthy": "The base's own run cannot serve: cut short, without tests, or not committed.",
    "ci.change-not-claimed": "Nobody claimed a change, so an unchanged tree proves nothing. Does not close.",
    "ci.changed-signature": "A test fails as before, but for another reason.",
    "ci.collect-error": "A file could not be loaded; its tests did not run.",
    "ci.coverage-not-asked": "No coverage report was asked for. Does not close.",
    "ci.crashed": "The runner died by a fault of its own (a segmentation fault, an abort).",
    "ci.evidence-tampered": "Bytes behind the evidence are not what their hash says.",
    "ci.exit-contradicts-report": "The exit status and the report tell different stories.",
    "ci.exit-unknown": "Nobody stated how the runner ended, or the status is not known for this runner.",
    "ci.facet-incomplete": "The report does not tell what the comparison needs.",
    "ci.flaky": "A test or a file that stood in the way passed when asked again at the same tree.",
    "ci.gate-crashed": "A gate broke while it looked; a guard that crashes refuses.",
    "ci.gone-quiet": "A test that was red or muted is gone. Deleting a red test is not a fix.",
    "ci.harness-broken-by-change": "The runner broke, and the same command ran clean on the baseline.",
    "ci.harness-fault": "The runner refused its arguments or broke inside; nothing is known about the tests.",
    "ci.hidden": "A test that was red is skipped or expected to fail now.",
    "ci.interrupted": "The run was interrupted before it ended.",
    "ci.killed": "The run was ended from outside, or passed a limit other than time and memory.",
    "ci.ledger-refused": "The decision could not be appended, so there is none.",
    "ci.new-failure": "A test fails that did not fail on the baseline.",
    "ci.new-skip": "A test that passed is skipped now.",
    "ci.new-xfail": "A test that passed is expected to fail now.",
    "ci.no-baseline": "There is no baseline, so nobody can say what vanished.",
    "ci.no-tests-ran": "Not one test ran.",
    "ci.noop": "A change was claimed and the tree is unchanged.",
    "ci.not-started": "The command could not be started.",
    "ci.nothing-to-rerun": "Nothing that ran stands in the way, so nothing was asked again. Does not close.",
    "ci.out-of-memory": "The run passed its memory limit.",
    "ci.policy-changed": "The change edits the policy; the base's policy was used.",
    "ci.policy-invalid": "The repository's [ci] table says something that is not known.",
    "ci.rendering-conflict": "Two reports of one run, or a report and the exit status, disagree.",
    "ci.report-empty": "The report holds nothing.",
    "ci.report-hostile": "The report declares entities, nests too deep, or is too large.",
    "ci.report-missing": "The run left no report.",
    "ci.report-stale": "The report was written before the run started.",
    "ci.report-torn": "The report ends early or is not well formed.",
    "ci.report-unknown": "The file is no report of a known shape, or no plain file.",
    "ci.rerun-environment": "The tree or the environment changed meanwhile, so a re-run proves nothing.",
    "ci.timed-out": "The run passed its time limit.",
    "ci.tree-unmeasured": "A change was claimed, and the trees before and after were not both measured.",
    "ci.vanished": "A test that passed is gone.",
    "ci.worse-failure": "A test that failed breaks outright now.",
    "ci.xpass": "A test that was expected to fail passes now.",
}
