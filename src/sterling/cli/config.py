"""`sterling config`: show, check and change the settings of a home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sterling.cli import face as faces
from sterling.cli import plain, words
from sterling.cli.face import Face

if TYPE_CHECKING:
    from sterling.kernel.config_keys import Setting

__all__ = ["command"]


@click.group("config")
def command() -> None:
    """Show, check and change the settings of a home."""


@command.command("show")
@click.option("--effective", is_flag=True, help="Every setting, also those at their default.")
@faces.options
def show(effective: bool, *, face: Face) -> None:
    """Settings that differ from their default, and where each comes from."""
    from sterling.kernel.config import load_config
    from sterling.kernel.config_keys import KEYS_BY_NAME

    path = face.settings_file()
    config = load_config(path, face.settings)
    rows = [
        {"key": key, "value": _plain_value(config.get(key)), "source": config.source(key)}
        for key in sorted(KEYS_BY_NAME)
        if effective or config.get(key) != KEYS_BY_NAME[key].default
    ]
    cells = [[str(row["key"]), _typed(config.get(str(row["key"]))), str(row["source"])] for row in rows]
    text = words.table(cells, ["key", "value", "from"]) if cells else "every setting is at its default"
    result = {"file": str(path), "sha256": config.sha256, "settings": rows}
    face.present(
        result, contract="config.show@1.0", text=f"{text}\n\nsettings {config.sha256[:16]} of {path}"
    )


@command.command("check")
@faces.options
def check(*, face: Face) -> None:
    """Whether the settings file is good. Exit 0 yes, 2 with the first thing wrong in it."""
    from sterling.kernel.config import load_config
    from sterling.kernel.config_keys import KEYS_BY_NAME

    path = face.settings_file()
    config = load_config(path, face.settings)
    count = sum(config.source(key) == "file" for key in KEYS_BY_NAME)
    result = {"file": str(path), "sha256": config.sha256, "status": "ok", "keys": count}
    face.present(
        result, contract="config.check@1.0", text=f"ok {path}: {count} settings, {config.sha256[:16]}"
    )


@command.command("keys")
@faces.options
def keys(*, face: Face) -> None:
    """Every setting that exists: default, bounds, owner, and what it does."""
    from sterling.kernel.config import allowed
    from sterling.kernel.config_keys import KEYS

    ordered = sorted(KEYS, key=lambda key: key.name)
    rows: list[dict[str, Any]] = [
        {
            "key": key.name,
            "type": key.type,
            "default": _plain_value(key.default),
            "minimum": key.minimum,
            "maximum": key.maximum,
            "unit": key.unit,
            "choices": list(key.choices),
            "owner": key.owner,
            "sentence": key.sentence,
        }
        for key in ordered
    ]
    cells = [[key.name, _typed(key.default), allowed(key), key.sentence] for key in ordered]
    text = words.table(cells, ["key", "default", "allowed", "what it does"])
    face.present({"keys": rows}, contract="config.keys@1.0", text=text)


@command.command("set")
@click.argument("key")
@click.argument("value")
@faces.options
def set_key(key: str, value: str, *, face: Face) -> None:
    """Set KEY to VALUE in the home's file; comments stay, the change is an entry in the ledger."""
    from sterling.kernel.config_edit import change_setting
    from sterling.kernel.home import open_home

    path = face.settings_file()
    change = change_setting(path, key, value, open_home=lambda: open_home(face.home_path))
    result = {
        "file": str(path),
        "key": key,
        "before": _plain_value(change.before),
        "after": _plain_value(change.after),
        "sha256": change.config.sha256,
        "entry": change.entry,
    }
    same = f"{key} is {_typed(change.after)} already"
    changed = f"{key}: {_typed(change.before)} -> {_typed(change.after)}, entry {change.entry}"
    face.present(result, contract="config.set@1.0", text=same if change.entry < 0 else changed)


def _plain_value(value: Setting) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _typed(value: Setting) -> str:
    from sterling.kernel.config import toml_value

    return plain.text(toml_value(value))
