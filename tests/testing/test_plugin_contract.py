"""The suite for plugins finds each promise broken: one bad plugin a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from sterling.kernel.errors import SterlingError
from sterling.runtime.plugin_skeleton import write_skeleton
from sterling.testing.plugin_contract import PluginContract

TESTS = tuple(name for name in dir(PluginContract) if name.startswith("test_"))
MANIFEST, ACCEPTED, CITES, SAME, EMPTY = (
    "test_the_manifest_is_valid_and_the_code_imports_what_it_declares",
    "test_a_tiny_table_gives_an_outcome_that_the_runtime_accepts",
    "test_every_finding_cites",
    "test_the_same_input_gives_the_same_bytes",
    "test_an_empty_input_is_na_with_a_reason",
)
# (in which file, what stands there, what stands there instead, which tests must fail)
BROKEN = [
    (".toml", 'lane = "explanation"', 'lane = "both"', set(TESTS)),
    (".toml", "terminal_context = true", "terminal_context = false", set(TESTS)),
    (".py", "import Finding", "import Nonesuch, Finding", {ACCEPTED, CITES, SAME, EMPTY}),
    (".py", "def run(", "import sterling.kernel.home\ndef run(", {MANIFEST}),
    (".py", "def run(", "import duckdb\ndef run(", {MANIFEST}),
    (".py", "def run(", "def ran(", {ACCEPTED, CITES, SAME, EMPTY}),
    (".py", "(table: Table)", "(table: Table, registry)", {ACCEPTED, CITES, SAME, EMPTY}),
    (".py", "evidence=table.cite(empty)", "evidence={}", {ACCEPTED, CITES}),
    (".py", "Ok([Finding", "Ok([]) or Ok([Finding", {ACCEPTED, CITES}),
    (".py", "{len(empty)} of", "{hash('x')} of", {SAME}),
    (".py", "{len(empty)} of", "{list({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})} of", {SAME}),
    (".py", "if table.row_count == 0", "if table.row_count < 0", {EMPTY}),
    (".py", "The table has no row to look at.", " ", {EMPTY}),
    (".py", "insight.too-few-rows", "ci.too-few-rows", {EMPTY}),
    (".py", "table.row_count == 0", "True", {ACCEPTED, CITES}),
    (".py", "def run(", "print('talk')\ndef run(", set()),
]  # fmt: skip


def failing(contract: PluginContract) -> set[str]:
    failed = set()
    for name in TESTS:
        try:
            getattr(contract, name)()
        except (AssertionError, KeyError, SterlingError):
            failed.add(name)
    return failed


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "before", "after", "expected"), BROKEN)
def test_each_broken_promise_fails_its_test(
    tmp_path: Path, suffix: str, before: str, after: str, expected: set[str]
) -> None:
    manifest = write_skeleton("mine", lane="explanation", pack="insight", folder=tmp_path)[0]
    broken = manifest.with_suffix(suffix)
    broken.write_text(broken.read_text().replace(before, after))
    contract = type("Mine", (PluginContract,), {"manifest": manifest})()

    assert failing(contract) == expected
