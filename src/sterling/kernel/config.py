"""Settings: reading `sterling.toml`, refusing what it must not say, and its snapshot.

The order is defaults, then the file, then `--set key=value`. Keys under `safety.`
come from the file alone. A wrong file is refused whole, naming key, line, what
was expected and what was found: no value is ever clamped or guessed.

A run names the hash of the snapshot it worked under, so it can be read again
with its settings. The keys themselves are in `config_keys.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sterling.kernel.canonical import Json, canonical_bytes
from sterling.kernel.config_keys import KEYS, KEYS_BY_NAME, Key, Setting
from sterling.kernel.durable import write_new
from sterling.kernel.errors import EXIT_USAGE, SterlingError
from sterling.kernel.hashing import CONFIG_TAG, tagged_hash

__all__ = [
    "Config",
    "ConfigInvalid",
    "ConfigMissing",
    "OutOfRange",
    "SafetySource",
    "UnknownKey",
    "allowed",
    "changed_keys",
    "default_config",
    "defaults_text",
    "load_config",
    "parse_config",
    "parse_override",
    "parse_value",
    "settings_table",
    "toml_value",
    "write_defaults",
]

_FILE_BYTES_MAX = 256 * 1024
_TEXT_LETTERS_MAX = 4096
_HEADER = re.compile(r"^\s*\[\s*([A-Za-z0-9_.\- ]+?)\s*\]\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"^\s*([A-Za-z0-9_\-]+(?:\s*\.\s*[A-Za-z0-9_\-]+)*)\s*=")


class ConfigMissing(SterlingError):
    """The home has no settings file any more."""

    code = "config.missing"
    hint = "Put the file back, or write the defaults: `sterling config set store.wait_ms_max 5000`."
    exit = EXIT_USAGE


class ConfigInvalid(SterlingError):
    """The settings file cannot be read as TOML."""

    code = "config.invalid"
    hint = "Mend the file, then run `sterling config check`."
    exit = EXIT_USAGE


class UnknownKey(SterlingError):
    """A setting that does not exist."""

    code = "config.unknown-key"
    hint = "List the settings: `sterling config keys`."
    exit = EXIT_USAGE


class OutOfRange(SterlingError):
    """A setting of the wrong type, or outside its bounds."""

    code = "config.out-of-range"
    hint = "See what the setting allows: `sterling config keys`."
    exit = EXIT_USAGE


class SafetySource(SterlingError):
    """A safety setting from elsewhere than the home's own file."""

    code = "config.safety-source"
    hint = "Write it in the home's own file: `sterling config set KEY VALUE`."
    exit = EXIT_USAGE


class Config:
    """Settings in force: a value for every declared key. Never changes once built."""

    __slots__ = ("_from_file", "_overridden", "_values")

    def __init__(self, from_file: Mapping[str, Setting], overridden: Mapping[str, Setting]) -> None:
        self._from_file = dict(from_file)
        self._overridden = dict(overridden)
        self._values = {key.name: key.default for key in KEYS} | self._from_file | self._overridden

    def get(self, key: str) -> Any:
        """The value of a declared key: bool, int, str or tuple of str. Errors: UnknownKey."""
        if key not in self._values:
            raise _unknown(key)
        return self._values[key]

    def keys(self) -> list[str]:
        """Every declared key, sorted."""
        return sorted(self._values)

    def source(self, key: str) -> str:
        """Where the value comes from: `set`, `file` or `default`."""
        if key in self._overridden:
            return "set"
        return "file" if key in self._from_file else "default"

    def overrides(self) -> list[str]:
        """Keys that `--set` decided, sorted."""
        return sorted(self._overridden)

    def snapshot(self) -> bytes:
        """Canonical bytes of all values, and of which keys `--set` decided."""
        values: dict[str, Json] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in self._values.items()
        }
        return canonical_bytes({"set": self.overrides(), "values": values})

    @property
    def sha256(self) -> str:
        """The tagged hash of the snapshot, as 64 hex digits."""
        return tagged_hash(CONFIG_TAG, self.snapshot()).hex()

    @property
    def file_sha256(self) -> str:
        """The hash of what the file alone says, which is the same for every process of the home."""
        return Config(self._from_file, {}).sha256

    def reread(self, raw: bytes, *, path: str) -> Config:
        """These overrides on top of another file. Errors: as `parse_config`."""
        return Config(parse_config(raw, path=path)._from_file, self._overridden)

    def with_overrides(self, overrides: Sequence[str]) -> Config:
        """The same settings with more `key=value` on top. Errors: as `parse_override`."""
        return Config(self._from_file, self._overridden | _parse_overrides(overrides))


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a home's `sterling.toml`.

    Errors: ConfigMissing, ConfigInvalid, UnknownKey, OutOfRange, SafetySource.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as problem:
        raise ConfigMissing(f"expected settings in {path}, found no file", path=str(path)) from problem
    except OSError as problem:
        raise ConfigInvalid(
            f"expected settings in {path}, found {problem.strerror}", path=str(path)
        ) from problem
    return parse_config(raw, overrides, path=str(path))


def parse_config(raw: bytes, overrides: Sequence[str] = (), *, path: str = "sterling.toml") -> Config:
    """Settings from the bytes of a file and `key=value` overrides.

    Errors: ConfigInvalid, UnknownKey, OutOfRange, SafetySource.
    """
    if len(raw) > _FILE_BYTES_MAX:
        raise ConfigInvalid(f"{path}: expected at most {_FILE_BYTES_MAX} bytes, found {len(raw)}", path=path)
    try:
        text = raw.decode("utf-8")
        document = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as problem:
        raise ConfigInvalid(f"{path}: expected TOML in UTF-8, found {problem}", path=path) from problem
    values: dict[str, Setting] = {}
    lines = _lines_of(text)
    for name, value in sorted(_leaves(document)):
        values[name] = _check(name, value, path=path, line=lines.get(name))
    return Config(values, _parse_overrides(overrides))


def default_config(overrides: Sequence[str] = ()) -> Config:
    """The defaults alone, for work without a home."""
    return Config({}, _parse_overrides(overrides))


def parse_override(text: str) -> tuple[str, Setting]:
    """One `key=value` from the command line; the value is TOML, or bare text for a text key.

    Errors: UnknownKey, OutOfRange, SafetySource.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if name not in KEYS_BY_NAME:
        raise _unknown(name)
    if not equals:
        raise OutOfRange(f"--set {name}: expected key=value, found no value", key=name)
    if KEYS_BY_NAME[name].from_file_only:
        raise SafetySource(f"{name}: expected it in the home's file, found --set", key=name)
    return name, parse_value(name, value)


def parse_value(name: str, text: str) -> Setting:
    """A key's value from text as a person types it. Errors: UnknownKey, OutOfRange."""
    key = KEYS_BY_NAME.get(name)
    if key is None:
        raise _unknown(name)
    try:
        value: Any = tomllib.loads(f"value = {text}")
        value = value["value"] if list(value) == ["value"] else text
    except tomllib.TOMLDecodeError:
        value = text
    if key.type == "text" and not isinstance(value, str):
        value = text
    if key.type == "list" and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return _check(name, value, path="", line=None)


def changed_keys(before: Config, after: Config) -> list[str]:
    """Keys whose values differ, sorted."""
    return [key for key in sorted(KEYS_BY_NAME) if before.get(key) != after.get(key)]


def defaults_text() -> str:
    """The file that `init` writes: every key with its default, its bounds and its sentence."""
    lines = [
        "# Settings of this home. `sterling config keys` explains each one,",
        "# `sterling config set KEY VALUE` changes one and keeps these comments.",
        "",
    ]
    section = ""
    for key in sorted(KEYS, key=lambda each: each.name):
        head, _, leaf = key.name.rpartition(".")
        if head != section:
            lines += [*([""] if section else []), f"[{head}]"]
            section = head
        lines.append(f"# {key.sentence} ({allowed(key)})")
        lines.append(f"{leaf} = {toml_value(key.default)}")
    return "\n".join(lines) + "\n"


def write_defaults(path: Path) -> None:
    """Write the settings file of a new home, readable by its owner alone; never over another."""
    write_new(path, defaults_text())


def allowed(key: Key) -> str:
    """What a key may hold, in words."""
    if key.choices:
        return "one of " + ", ".join(toml_value(choice) for choice in key.choices)
    if key.type == "bool":
        return "true or false"
    if key.type == "int":
        return f"{key.minimum} to {key.maximum} {key.unit}"
    if key.type == "list":
        return f"list of {key.minimum} to {key.maximum} {key.unit}"
    return f"text, {key.unit}" if key.unit else "text"


def settings_table() -> str:
    """Every key as the table of `docs/reference/settings.md`."""
    lines = ["| key | default | allowed | owner | what it does |", "| --- | --- | --- | --- | --- |"]
    for key in sorted(KEYS, key=lambda each: each.name):
        cells = (f"`{key.name}`", f"`{toml_value(key.default)}`", allowed(key), key.owner, key.sentence)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def toml_value(value: Setting) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Setting]:
    return dict(parse_override(text) for text in overrides)


def _leaves(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names and values; an empty or unknown table is a leaf, so that it is refused too."""
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        dotted = f"{prefix}{name}"
        is_section = any(key.name.startswith(dotted + ".") for key in KEYS)
        if isinstance(value, dict) and (is_section or value) and dotted not in KEYS_BY_NAME:
            found += _leaves(value, dotted + ".")
        else:
            found.append((dotted, value))
    return found


def _check(name: str, value: Any, *, path: str, line: int | None) -> Setting:
    key = KEYS_BY_NAME.get(name)
    if key is None:
        raise _unknown(name, path=path, line=line)
    checked = _CHECKS[key.type](key, value)
    if checked is None:
        place = _place(path, line)
        raise OutOfRange(
            f"{place}{name}: expected {allowed(key)}, found {_show(value)}",
            key=name,
            line=line,
            expected=allowed(key),
            found=_show(value),
        )
    return checked


def _check_flag(_: Key, value: Any) -> Setting | None:
    return value if isinstance(value, bool) else None


def _check_count(key: Key, value: Any) -> Setting | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    assert key.minimum is not None and key.maximum is not None
    return value if key.minimum <= value <= key.maximum else None


def _check_text(key: Key, value: Any) -> Setting | None:
    if not isinstance(value, str) or len(value) > _TEXT_LETTERS_MAX or not value.isprintable():
        return None
    return value if not key.choices or value in key.choices else None


def _check_list(key: Key, value: Any) -> Setting | None:
    assert key.minimum is not None and key.maximum is not None
    if not isinstance(value, list) or not key.minimum <= len(value) <= key.maximum:
        return None
    items = [item for item in value if isinstance(item, str) and item and item.isprintable()]
    distinct = len(set(items)) == len(value)
    return tuple(items) if distinct else None


_CHECKS = {"bool": _check_flag, "int": _check_count, "text": _check_text, "list": _check_list}


def _unknown(name: str, *, path: str = "", line: int | None = None) -> UnknownKey:
    import difflib

    near = difflib.get_close_matches(name, [key.name for key in KEYS], n=1, cutoff=0.5)
    meant = f" (did you mean {near[0]}?)" if near else ""
    found = name if name.isprintable() else repr(name)
    return UnknownKey(
        f"{_place(path, line)}expected a known setting, found {found}{meant}",
        key=name,
        line=line,
        nearest=near[0] if near else "",
    )


def _place(path: str, line: int | None) -> str:
    return (f"{path}, line {line}: " if line else f"{path}: ") if path else ""


def _lines_of(text: str) -> dict[str, int]:
    """The line that sets each key or opens each section; what stands in inline tables has none."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = header[1].replace(" ", "")
            lines.setdefault(section, number)
        elif assignment := _ASSIGNMENT.match(line):
            dotted = re.sub(r"\s", "", assignment[1])
            lines.setdefault(f"{section}.{dotted}" if section else dotted, number)
    return lines


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 120 else text[:117] + "..."
