"""Settings: what a file may say, where a value comes from, and what is refused."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from sterling.kernel import config_edit
from sterling.kernel.canonical import parse_canonical
from sterling.kernel.config import (
    ConfigInvalid,
    ConfigMissing,
    OutOfRange,
    SafetySource,
    UnknownKey,
    changed_keys,
    default_config,
    defaults_text,
    load_config,
    parse_config,
    settings_table,
    write_defaults,
)
from sterling.kernel.config_keys import KEYS
from sterling.kernel.hashing import CONFIG_TAG, tagged_hash
from sterling.kernel.home import Home, init_home, open_home


def test_there_are_fewer_keys_than_a_person_gives_up_on() -> None:
    assert len(KEYS) < 150
    assert len({key.name for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_is_complete_and_its_default_is_allowed(key) -> None:  # type: ignore[no-untyped-def]
    assert key.owner
    assert key.sentence.endswith(".")
    assert key.type in ("bool", "int", "text", "list")
    assert key.type != "int" or key.unit

    assert default_config().get(key.name) == key.default


def test_the_written_defaults_say_what_no_file_would_say(tmp_path: Path) -> None:
    path = tmp_path / "sterling.toml"
    write_defaults(path)

    config = load_config(path)

    assert changed_keys(default_config(), config) == []
    assert config.sha256 == default_config().sha256
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(config.source(key) == "file" for key in config.keys())  # noqa: SIM118


def test_writing_defaults_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sterling.toml"
    path.write_text("mine = 1\n")

    with pytest.raises(FileExistsError):
        write_defaults(path)

    assert path.read_text() == "mine = 1\n"


def test_the_order_is_defaults_then_file_then_set() -> None:
    raw = b"[governor]\nidle_ms_min = 60000\ngrace_ms = 200\n"

    config = parse_config(raw, ["governor.grace_ms=300"])

    assert config.get("governor.idle_ms_min") == 60_000
    assert config.get("governor.grace_ms") == 300
    assert config.get("governor.active_ms") == 3_000
    sources = [config.source(f"governor.{name}") for name in ("idle_ms_min", "grace_ms", "active_ms")]
    assert sources == ["file", "set", "default"]
    assert config.overrides() == ["governor.grace_ms"]


def test_a_file_that_vanished_is_missing_and_not_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigMissing) as caught:
        load_config(tmp_path / "sterling.toml")

    assert caught.value.exit == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"a = ",
        b"[governor\n",
        b"\xff\xfe",
        b"a = 1\na = 2\n",
        b"x = [" * 2000,
        b"a = '" + b"b" * 300_000 + b"'",
    ],
    ids=["torn", "open section", "wrong encoding", "key twice", "deep", "huge"],
)
def test_a_file_that_is_no_toml_is_invalid(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sterling.toml"
    path.write_bytes(raw)

    with pytest.raises(ConfigInvalid, match=r"sterling\.toml"):
        load_config(path)


def test_a_folder_in_place_of_the_file_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("[governor]\n# why\nidle_ms_mni = 1\n", "governor.idle_ms_mni", 3),
        ("[governer]\nidle_ms_min = 60000\n", "governer.idle_ms_min", 2),
        ("\ngovernor.idle_min = 1\n", "governor.idle_min", 2),
        ("idle_ms_min = 60000\n", "idle_ms_min", 1),
        ("governor = 3\n", "governor", 1),
        ("[empty]\n", "empty", 1),
        ("governor = { idle = 3 }\n", "governor.idle", None),
    ],
)
def test_an_unknown_key_is_refused_with_its_line(text: str, name: str, line: int | None) -> None:
    with pytest.raises(UnknownKey) as caught:
        parse_config(text.encode())

    assert caught.value.details["key"] == name
    assert caught.value.details["line"] == line


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UnknownKey, match=r"did you mean governor\.idle_ms_min"):
        parse_config(b"[governor]\nidle_ms_mni = 1\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("governor.idle_ms_min = 999", "999"),
        ("governor.idle_ms_min = 86400001", "86400001"),
        ("governor.idle_ms_min = '60000'", '"60000"'),
        ("governor.idle_ms_min = 60000.0", "60000.0"),
        ("governor.idle_ms_min = true", "true"),
        ("governor.idle_ms_min = [60000]", "[60000]"),
        ("governor.suspend_workers = 1", "1"),
        ("governor.suspend_workers = 'true'", '"true"'),
        ("ocr.languages = 'eng'", '"eng"'),
        ("ocr.languages = []", "[]"),
        ("ocr.languages = ['eng', 3]", "['eng', 3]"),
        ("ocr.languages = ['eng', '']", "['eng', '']"),
        ("ocr.languages = ['eng', 'eng']", "['eng', 'eng']"),
        ("ask.week_start = 'friday'", '"friday"'),
        ("ask.zone = 3", "3"),
        ('ask.zone = "a\\u0000b"', '"a\x00b"'),
        ("ask.zone = 2026-01-01", "datetime.date(2026, 1, 1)"),
        ("governor.cpu_limit_bp = 10001", "10001"),
        ("governor.cpu_limit_bp = true", "true"),
        ("governor.cpu_limit_bp = nan", "nan"),
    ],
)
def test_a_wrong_type_or_range_is_refused_and_never_clamped(text: str, found: str) -> None:
    with pytest.raises(OutOfRange) as caught:
        parse_config(text.encode())

    assert caught.value.details["key"] == text.partition(" =")[0]
    assert caught.value.details["found"] == found
    assert caught.value.details["line"] == 1
    assert caught.value.details["expected"]


@pytest.mark.parametrize("value", [1_000, 86_400_000])
def test_the_bounds_themselves_are_allowed(value: int) -> None:
    assert parse_config(f"governor.idle_ms_min = {value}".encode()).get("governor.idle_ms_min") == value


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_a_safety_key_comes_from_the_file_alone(value: str) -> None:
    with pytest.raises(SafetySource):
        default_config([f"safety.shared_home={value}"])

    assert parse_config(b"safety.shared_home = true").get("safety.shared_home") is True


def test_the_environment_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = default_config().sha256
    monkeypatch.setenv("STERLING_SAFETY_SHARED_HOME", "true")
    monkeypatch.setenv("STERLING_GOVERNOR_GRACE_MS", "9")

    assert default_config().sha256 == before


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("governor.grace_ms=10", 10),
        ("governor.grace_ms = 1_0 ", 10),
        ("governor.suspend_workers=false", False),
        ("ask.zone=Europe/Berlin", "Europe/Berlin"),
        ("ask.zone='Europe/Berlin'", "Europe/Berlin"),
        ("governor.activity_file=2026", "2026"),
        ("ask.week_start=sunday", "sunday"),
        ("ocr.languages=eng,deu", ("eng", "deu")),
        ('ocr.languages=["eng", "deu"]', ("eng", "deu")),
        ("anchor.paths=", ()),
    ],
)
def test_set_takes_toml_or_bare_words(text: str, value: object) -> None:
    assert default_config([text]).get(text.partition("=")[0].strip()) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("governor.grace_ms", "config.out-of-range"),
        ("governor.grace_ms=", "config.out-of-range"),
        ("governor.grace_ms=ten", "config.out-of-range"),
        ("governor.grace_ms=1\nx=2", "config.out-of-range"),
        ("nothing=1", "config.unknown-key"),
        ("=1", "config.unknown-key"),
        ("", "config.unknown-key"),
        ("governor=1", "config.unknown-key"),
    ],
)
def test_a_bad_override_is_refused(text: str, code: str) -> None:
    with pytest.raises((OutOfRange, UnknownKey)) as caught:
        default_config([text])

    assert caught.value.code == code


def test_asking_for_an_undeclared_key_is_refused() -> None:
    with pytest.raises(UnknownKey):
        default_config().get("governor.idle")


def test_the_snapshot_holds_every_value_and_its_hash_is_tagged() -> None:
    config = default_config(["governor.grace_ms=10"])

    snapshot = parse_canonical(config.snapshot())

    assert snapshot["set"] == ["governor.grace_ms"]
    assert set(snapshot["values"]) == {key.name for key in KEYS}
    assert snapshot["values"]["ocr.languages"] == ["eng"]
    assert config.sha256 == tagged_hash(CONFIG_TAG, config.snapshot()).hex()


def test_the_hash_follows_values_and_not_spelling_or_order() -> None:
    one = parse_config(b"governor.grace_ms = 10\nask.zone = 'UTC'\n")
    same = parse_config(b'# x\n[ask]\nzone = "UTC"\n[governor]\ngrace_ms = 0xA\n')
    other = parse_config(b"governor.grace_ms = 11\nask.zone = 'UTC'\n")

    assert one.sha256 == same.sha256
    assert one.sha256 != other.sha256
    assert changed_keys(one, other) == ["governor.grace_ms"]


def test_editing_keeps_comments_order_and_other_keys() -> None:
    text = "# mine\n[governor]\n# because of the fan\ngrace_ms = 10  # ms\n\n[ask]\nzone = 'UTC'\n"

    edited = config_edit.edit_text(text, "governor.grace_ms", 20)
    edited = config_edit.edit_text(edited, "store.wait_ms_max", 7)

    assert "# because of the fan\ngrace_ms = 20  # ms\n" in edited
    assert tomllib.loads(edited) == {
        "governor": {"grace_ms": 20},
        "ask": {"zone": "UTC"},
        "store": {"wait_ms_max": 7},
    }


def test_editing_a_dotted_key_does_not_make_a_second_section() -> None:
    edited = config_edit.edit_text("governor.grace_ms = 10\n", "governor.active_ms", 500)

    assert tomllib.loads(edited) == {"governor": {"grace_ms": 10, "active_ms": 500}}


@pytest.fixture
def home_path(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    init_home(path).close()
    return path


def changes(home_path: Path) -> list[dict[str, object]]:
    with open_home(home_path, read_only=True) as home:
        return [entry.payload for entry in home.ledger.read(kind="config.changed")]


def opening(home_path: Path):  # type: ignore[no-untyped-def]
    return lambda: open_home(home_path)


def test_a_changed_setting_is_in_the_file_and_in_the_ledger(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    before = load_config(path)

    change = config_edit.change_setting(path, "governor.grace_ms", "10", open_home=opening(home_path))

    after = load_config(path)
    assert (change.before, change.after) == (150, 10)
    assert after.get("governor.grace_ms") == 10
    assert changes(home_path) == [
        {"before": before.sha256, "after": after.sha256, "keys": ["governor.grace_ms"]}
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_setting_the_same_value_changes_nothing(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    raw = path.read_bytes()

    change = config_edit.change_setting(path, "governor.grace_ms", "150", open_home=opening(home_path))

    assert change.entry == -1
    assert path.read_bytes() == raw
    assert changes(home_path) == []


def test_a_refused_value_leaves_file_and_ledger_alone(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    raw = path.read_bytes()

    with pytest.raises(OutOfRange):
        config_edit.change_setting(path, "governor.grace_ms", "-1", open_home=opening(home_path))

    assert path.read_bytes() == raw
    assert changes(home_path) == []


def test_setting_the_bad_key_mends_a_bad_file(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    path.write_text(defaults_text().replace("grace_ms = 150", "grace_ms = 'soon'"))

    config_edit.change_setting(path, "governor.grace_ms", "10", open_home=opening(home_path))

    assert load_config(path).get("governor.grace_ms") == 10
    assert changes(home_path)[0]["before"] == ""


def test_another_bad_key_keeps_the_file_from_being_written(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    raw = defaults_text().replace("grace_ms = 150", "grace_ms = 'soon'")
    path.write_text(raw)

    with pytest.raises(OutOfRange, match="grace_ms"):
        config_edit.change_setting(path, "governor.active_ms", "500", open_home=opening(home_path))

    assert path.read_text() == raw


def test_a_missing_file_is_written_anew_from_the_defaults(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    path.rename(home_path / "elsewhere.toml")

    config_edit.change_setting(path, "store.wait_ms_max", "5000", open_home=opening(home_path))

    assert changed_keys(default_config(), load_config(path)) == []


def test_a_change_that_the_ledger_cannot_keep_is_taken_back(home_path: Path) -> None:
    path = home_path / "sterling.toml"
    raw = path.read_bytes()

    def broken() -> Home:
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        config_edit.change_setting(path, "governor.grace_ms", "10", open_home=broken)

    assert path.read_bytes() == raw


def test_an_error_is_plain_json_for_programs() -> None:
    with pytest.raises(OutOfRange) as caught:
        parse_config(b"ocr.languages = [1]")

    assert json.loads(json.dumps(caught.value.as_json()))["details"]["key"] == "ocr.languages"


def test_the_page_of_settings_is_the_table_of_settings() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"

    assert settings_table() in page.read_text(encoding="utf-8")
