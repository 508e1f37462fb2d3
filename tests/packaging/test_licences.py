"""What an installation brings with it: every pin is hashed, no index is named, nothing is copyleft."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PINS = {
    name: (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    for name in ("base", "dev", "bench")
}
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|GNU|MPL|Mozilla|EUPL|CDDL)\b", re.IGNORECASE)
ELSEWHERE = {"colorama", "pywin32-ctypes"}  # Installed on another platform only.


def names(text: str) -> list[str]:
    return sorted({match.lower() for match in re.findall(r"^([A-Za-z0-9_.-]+)==", text, re.MULTILINE)})


@pytest.mark.parametrize("name", sorted(PINS))
def test_every_pin_has_hashes_and_no_file_names_an_index(name: str) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9_.-]+==)", PINS[name], flags=re.MULTILINE)[1:]

    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"--(index-url|extra-index-url|find-links)|https?://", PINS[name])


@pytest.mark.parametrize("name", [pin for pin in names(PINS["base"]) if pin not in ELSEWHERE])
def test_nothing_in_the_installed_set_is_copyleft(name: str) -> None:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        pytest.fail(f"{name} is pinned but not installed")
    facts = found.metadata
    said = [facts.get("License-Expression") or "", *(facts.get_all("Classifier") or [])]
    licence = facts.get("License") or ""
    said += [licence if len(licence) < 200 else licence.splitlines()[0]]
    words = " ".join(line for line in said if "icen" in line or line == said[0] or line == licence)

    assert words.strip(), f"{name} states no licence"
    assert not COPYLEFT.search(words), words
