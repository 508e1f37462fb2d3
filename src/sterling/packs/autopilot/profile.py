"""The profile of a repository: which commands prove what, in which scope, within which bounds.

Written by a person, in `[autopilot]` of the repository's `.sterling.toml` or in a
file of its own, and read from the base tree, so that the change being judged
cannot loosen it. Commands are argument arrays, never lines for a shell. The word
`{python}` stands for the interpreter that Sterling runs under.

Unknown keys are refused: a misspelt limit would be no limit.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sterling.kernel.hashing import address_of
from sterling.packs.autopilot.errors import NoProfile, ProfileInvalid

__all__ = ["COMMANDS", "FILE_NAME", "REQUIRED", "Profile", "ProfileLimits", "parse_profile"]

FILE_NAME = ".sterling.toml"
REQUIRED = ("build", "tests", "smoke")
COMMANDS = ("build", "tests", "lint", "types", "integration", "smoke")

_BYTES_MAX = 256 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class ProfileLimits:
    """Bounds on one command and on one agent process; seconds and bytes."""

    check_s: int = 900
    agent_s: int = 900
    silence_s: int = 300
    minutes: int = 120
    memory_bytes: int = 4 * 1024**3
    output_bytes: int = 64 * 1024**2
    processes: int = 512


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile, with the hash of the bytes it was read from."""

    sha256: str
    commands: Mapping[str, tuple[str, ...]]
    scope: tuple[str, ...]
    protected: tuple[str, ...]
    limits: ProfileLimits

    def argv(self, name: str) -> tuple[str, ...] | None:
        """The command under this name with `{python}` filled in, or None."""
        command = self.commands.get(name)
        if command is None:
            return None
        return tuple(sys.executable if word == "{python}" else word for word in command)


def parse_profile(data: bytes, *, source: str) -> Profile:
    """Read a profile: the table `[autopilot]`, or the whole file where there is no such table.

    Raises:
        NoProfile: the file has no `[autopilot]` table and no commands.
        ProfileInvalid: not TOML, an unknown key, a wrong value, a required command missing.
    """
    if len(data) > _BYTES_MAX:
        raise ProfileInvalid(f"expected at most {_BYTES_MAX} bytes, found {len(data)} in {source}")
    try:
        whole = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ProfileInvalid(f"expected TOML in {source}, found: {problem}") from problem
    table = whole.get("autopilot", whole)
    if not isinstance(table, dict) or "commands" not in table:
        raise NoProfile(f"expected commands under [autopilot] in {source}, found none")
    _refuse_unknown(table, {"commands", "scope", "protected", "limits"}, "", source)
    return Profile(
        sha256=address_of(data),
        commands=_commands(table["commands"], source),
        scope=_patterns(table, "scope", ("**",), source),
        protected=_patterns(table, "protected", (), source),
        limits=_limits(table.get("limits", {}), source),
    )


def _commands(table: Any, source: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise ProfileInvalid(f"expected commands as a table in {source}, found {type(table).__name__}")
    commands: dict[str, tuple[str, ...]] = {}
    for name in sorted(table):
        words = table[name]
        if not _NAME.fullmatch(name):
            raise ProfileInvalid(
                f"expected a command's name as letters and digits, found {name[:60]!r}", key=name
            )
        if not isinstance(words, list) or not words or not all(isinstance(w, str) and w for w in words):
            raise ProfileInvalid(f"expected commands.{name} as a list of words in {source}", key=name)
        commands[name] = tuple(words)
    missing = [name for name in REQUIRED if name not in commands]
    if missing:
        raise ProfileInvalid(f"expected commands {', '.join(missing)} in {source}, found none of that name")
    return commands


def _patterns(table: Mapping[str, Any], key: str, default: tuple[str, ...], source: str) -> tuple[str, ...]:
    value = table.get(key, list(default))
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ProfileInvalid(f"expected {key} as a list of path patterns in {source}", key=key)
    return tuple(value)


def _limits(table: Any, source: str) -> ProfileLimits:
    if not isinstance(table, dict):
        raise ProfileInvalid(f"expected limits as a table in {source}, found {type(table).__name__}")
    known = set(ProfileLimits.__slots__)
    _refuse_unknown(table, known, "limits.", source)
    for name in sorted(table):
        value = table[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ProfileInvalid(
                f"expected limits.{name} as a whole number above 0, found {value!r}", key=name
            )
    return ProfileLimits(**table)


def _refuse_unknown(table: Mapping[str, Any], known: set[str], prefix: str, source: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ProfileInvalid(
            f"expected keys {', '.join(sorted(known))} in {source}, found {prefix}{unknown[0]}",
            key=unknown[0],
        )
