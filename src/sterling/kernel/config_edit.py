"""Changing one setting in a home's file: comments stay, a bad result is never written.

The new text is checked whole before the file is replaced, so a file that was
good stays good, and a file that was bad can be mended by setting the bad key.
The change is an entry in the ledger; when that cannot be written, the file is
put back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sterling.kernel.batch import Batch
from sterling.kernel.config import (
    Config,
    ConfigInvalid,
    ConfigMissing,
    changed_keys,
    defaults_text,
    load_config,
    parse_config,
    parse_value,
)
from sterling.kernel.config_keys import Setting
from sterling.kernel.durable import replace_file
from sterling.kernel.errors import SterlingError

if TYPE_CHECKING:
    from sterling.kernel.home import Home

__all__ = ["SettingChange", "change_setting", "edit_text"]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """What `config set` did; `entry` is -1 when the file said this already."""

    before: Setting
    after: Setting
    config: Config
    entry: int


def change_setting(
    path: Path,
    name: str,
    value: str,
    *,
    open_home: Callable[[], AbstractContextManager[Home]],
    beside: Callable[[Batch, Setting, Config], None] | None = None,
) -> SettingChange:
    """Set one key in a settings file and write down that it changed.

    `beside` may add to the batch that says so; it is told the value before and the new settings.
    Errors: config.*; what opening the home or committing raises.
    """
    wanted = parse_value(name, value)
    try:
        old_raw: bytes | None = path.read_bytes()
    except FileNotFoundError:
        old_raw = None
    old = _readable(path)
    base = defaults_text() if old_raw is None else _decode(old_raw, path)
    raw = edit_text(base, name, wanted, path=str(path)).encode("utf-8")
    new = parse_config(raw, path=str(path))
    if old is not None and changed_keys(old, new) == []:
        return SettingChange(wanted, wanted, new, -1)
    replace_file(path, raw)
    try:
        before = new.get(name) if old is None else old.get(name)
        batch = _noted(old, new, name)
        if beside is not None:
            beside(batch, before, new)
        with open_home() as home:
            entry = home.ledger.commit(batch).last
    except BaseException:
        if old_raw is not None:
            replace_file(path, old_raw)
        raise
    return SettingChange(before, wanted, new, entry)


def edit_text(text: str, name: str, value: Setting, *, path: str = "sterling.toml") -> str:
    """The text with one key set; comments and order stay.

    Errors: ConfigInvalid when the text is no TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        table: Any = document
        *sections, leaf = name.split(".")
        for section in sections:
            if not isinstance(table.get(section), dict):
                table[section] = tomlkit.table()
            table = table[section]
        table[leaf] = list(value) if isinstance(value, tuple) else value
        return tomlkit.dumps(document)
    except (TOMLKitError, ValueError) as problem:
        raise ConfigInvalid(f"{path}: expected TOML in UTF-8, found {problem}", path=path) from problem


def _readable(path: Path) -> Config | None:
    """The settings before, or None when there were none that could be in force."""
    try:
        return load_config(path)
    except ConfigMissing:
        return None
    except SterlingError as problem:
        if problem.code.startswith("config."):
            return None
        raise


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ConfigInvalid(f"{path}: expected TOML in UTF-8, found {problem}", path=str(path)) from problem


def _noted(old: Config | None, new: Config, name: str) -> Batch:
    keys = [name] if old is None else changed_keys(old, new)
    payload = {"before": "" if old is None else old.sha256, "after": new.sha256, "keys": keys}
    batch = Batch()
    batch.append("config.changed", payload, subject="config")
    return batch
