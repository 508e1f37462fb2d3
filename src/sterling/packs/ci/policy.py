"""The policy of a repository: what it may tighten, read from the base tree only.

A change cannot relax its own gate: the policy judged by is the base's, and an
edited one takes effect after merge. A policy can raise a warning to a block and
choose the number of re-runs. It has no word for lowering a block.

```toml
[ci]
block = ["changed_signature", "hidden"]
reruns = 2
```
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from sterling.kernel.canonical import Json
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import address_of
from sterling.packs.ci.delta import WARNS

__all__ = ["POLICY_FILE", "RERUNS_MAX", "Policy", "PolicyInvalid", "parse_policy"]

POLICY_FILE = ".sterling.toml"
RERUNS_MAX = 5
_BYTES_MAX = 256 * 1024


class PolicyInvalid(SterlingError):
    """The repository's `[ci]` table says something that is not known."""

    code = "ci.policy-invalid"
    hint = "Mend `[ci]` in .sterling.toml on the base branch; `sterling ci verdict --help` names its keys."
    exit = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Policy:
    """What the base tree asks for. `text_sha256` is empty where there is no policy file."""

    block: frozenset[str] = frozenset()
    reruns: int = 1
    text_sha256: str = ""

    def as_json(self) -> dict[str, Json]:
        return {"block": sorted(self.block), "reruns": self.reruns, "text_sha256": self.text_sha256}

    @property
    def rule(self) -> str:
        """The rule in one sentence, for the decision record."""
        raised = f", and also {', '.join(sorted(self.block))}" if self.block else ""
        times = "no re-run" if not self.reruns else f"{self.reruns} re-run{'s' if self.reruns > 1 else ''}"
        return f"No regression against the baseline after {times}{raised}."


def parse_policy(text: bytes | None) -> Policy:
    """The policy in a repository's settings file; the default where there is none.

    Errors: PolicyInvalid for unreadable TOML, unknown keys, wrong types, and
            `safety` settings, which belong to the home alone.
    """
    if text is None:
        return Policy()
    if len(text) > _BYTES_MAX:
        raise PolicyInvalid(f"expected {POLICY_FILE} of at most {_BYTES_MAX} bytes, found {len(text)}")
    try:
        value = tomllib.loads(text.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise PolicyInvalid(f"expected TOML in {POLICY_FILE}, found {problem}") from problem
    if "safety" in value:
        raise PolicyInvalid(
            f"expected no [safety] in {POLICY_FILE}, found it: it belongs to the home's settings"
        )
    table = value.get("ci", {})
    if not isinstance(table, dict):
        raise PolicyInvalid(f"expected [ci] to be a table, found {type(table).__name__}")
    if unknown := sorted(set(table) - {"block", "reruns"}):
        raise PolicyInvalid(f"expected the keys block and reruns in [ci], found {unknown[0]}", key=unknown[0])
    return Policy(_block(table.get("block", [])), _reruns(table.get("reruns", 1)), address_of(text))


def _block(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise PolicyInvalid(f"expected ci.block to be a list of names, found {value!r}"[:300])
    if unknown := sorted(set(value) - set(WARNS)):
        raise PolicyInvalid(f"expected ci.block to name some of {', '.join(WARNS)}, found {unknown[0]}")
    return frozenset(value)


def _reruns(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= RERUNS_MAX:
        raise PolicyInvalid(f"expected ci.reruns from 0 to {RERUNS_MAX}, found {value!r}"[:200])
    return value
