"""Settings while work goes on: changes are taken up whole, bad files refuse heavy work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterling.kernel import wire
from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import Batch, ConfigIs, ContractsAre
from sterling.kernel.canonical import parse_canonical
from sterling.kernel.config import ConfigInvalid, load_config
from sterling.kernel.config_edit import change_setting
from sterling.kernel.config_keys import KEYS
from sterling.kernel.config_watch import ConfigWatch
from sterling.kernel.contract_lock_file import lock_sha256
from sterling.kernel.hashing import CONFIG_TAG, tagged_hash
from sterling.kernel.home import Home, init_home, open_home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with init_home(tmp_path / "home") as made:
        yield made


def ended() -> Batch:
    batch = Batch()
    batch.append("process.ended", {"command": "test", "exit": 0}, subject="test")
    return batch


def test_a_batch_may_insist_on_the_settings_and_contracts_it_was_decided_under(home: Home) -> None:
    batch = ended()
    batch.require(ConfigIs(home.config.file_sha256))
    batch.require(ContractsAre(lock_sha256()))

    receipt = home.ledger.commit(batch)

    assert receipt.last == home.ledger.size() - 1


@pytest.mark.parametrize(
    "condition", [ConfigIs("0" * 64), ContractsAre("0" * 64), ConfigIs(""), ContractsAre("")]
)
def test_a_batch_decided_under_others_is_refused_and_noted(
    home: Home, condition: ConfigIs | ContractsAre
) -> None:
    size = home.ledger.size()
    batch = ended()
    batch.require(condition)

    with pytest.raises(PreconditionFailed, match=type(condition).__name__):
        home.ledger.commit(batch)

    (refused,) = home.ledger.read(after=size - 1)
    assert (refused.kind, refused.payload["code"]) == ("write.refused", "ledger.precondition")


def rewrite(home: Home, before: str, after: str) -> None:
    path = home.path / "sterling.toml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def told(home: Home) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.kind, entry.payload) for entry in home.ledger.read(subject="config")]


def test_a_file_that_did_not_change_is_taken_up_silently(home: Home) -> None:
    watch, config = ConfigWatch(home), home.config

    assert [watch.look().sha256, watch.look().sha256] == [config.sha256, config.sha256]
    assert (watch.refusal, told(home)) == (None, [])


def test_a_changed_file_is_taken_up_at_the_next_look_as_a_whole(home: Home) -> None:
    watch = ConfigWatch(home)
    before = watch.look()
    rewrite(home, "reruns = 1", "reruns = 3")
    rewrite(home, "jobs_max = 256", "jobs_max = 7")
    assert home.config is before

    after = watch.look()

    assert (after.get("ci.reruns"), after.get("governor.jobs_max")) == (3, 7)
    assert home.config is after
    keys = ["ci.reruns", "governor.jobs_max"]
    payload = {"before": before.sha256, "after": after.sha256, "keys": keys}
    assert told(home) == [("config.changed", payload)]
    assert watch.look() is after and len(told(home)) == 1


def test_another_spelling_of_the_same_settings_is_no_change(home: Home) -> None:
    watch, before = ConfigWatch(home), home.config
    rewrite(home, "reruns = 1", "reruns    = 1 # once")

    assert watch.look().sha256 == before.sha256
    assert told(home) == []


def test_what_was_set_for_this_process_stays_on_top(home: Home, tmp_path: Path) -> None:
    home.close()
    with open_home(tmp_path / "home", settings=("ci.reruns=9",)) as opened:
        watch = ConfigWatch(opened)
        rewrite(opened, "reruns = 1", "reruns = 3")
        rewrite(opened, "jobs_max = 256", "jobs_max = 7")

        config = watch.look()

    assert (config.get("ci.reruns"), config.get("governor.jobs_max")) == (9, 7)
    assert config.source("ci.reruns") == "set"


BAD = [
    ("reruns = 1", "reruns = ", "config.invalid"),
    ("reruns = 1", "reruns = 99", "config.out-of-range"),
    ("reruns = 1", 'reruns = "1"', "config.out-of-range"),
    ("reruns = 1", "reruns_max = 1", "config.unknown-key"),
]


@pytest.mark.parametrize(("before", "after", "code"), BAD)
def test_a_bad_file_keeps_the_last_good_settings_and_refuses_until_it_is_mended(
    home: Home, before: str, after: str, code: str
) -> None:
    watch, good = ConfigWatch(home), home.config
    rewrite(home, "jobs_max = 256", "jobs_max = 7")
    rewrite(home, before, after)

    assert [watch.look(), watch.look()] == [good, good]
    assert watch.refusal is not None and watch.refusal.code == code
    ((kind, payload),) = told(home)
    assert (kind, payload["code"], payload["kept"]) == ("config.invalid", code, good.sha256)

    rewrite(home, after, before)
    mended = watch.look()

    assert (watch.refusal, mended.get("governor.jobs_max")) == (None, 7)
    assert [kind for kind, _ in told(home)] == ["config.invalid", "config.changed"]


def test_a_file_that_went_missing_is_missing_and_not_defaults(home: Home) -> None:
    rewrite(home, "reruns = 1", "reruns = 3")
    watch = ConfigWatch(home)
    watch.look()
    path = home.path / "sterling.toml"
    path.rename(home.path / "elsewhere")

    assert [watch.look().get("ci.reruns"), watch.look().get("ci.reruns")] == [3, 3]
    assert watch.refusal is not None and watch.refusal.code == "config.missing"
    assert [kind for kind, _ in told(home)] == ["config.changed", "config.invalid"]

    (home.path / "elsewhere").rename(path)

    assert watch.look().get("ci.reruns") == 3 and watch.refusal is None
    assert told(home)[-1][1]["keys"] == []


def test_a_change_that_config_set_told_already_is_not_told_twice(home: Home, tmp_path: Path) -> None:
    watch = ConfigWatch(home)
    watch.look()
    home.ledger.close()
    change_setting(
        home.path / "sterling.toml", "ci.reruns", "3", open_home=lambda: open_home(tmp_path / "home")
    )

    assert watch.look().get("ci.reruns") == 3
    assert [kind for kind, _ in told(home)] == ["config.changed"]


def test_a_batch_that_was_decided_before_a_change_is_refused(home: Home) -> None:
    batch = ended()
    batch.require(ConfigIs(home.config.file_sha256))
    rewrite(home, "reruns = 1", "reruns = 3")

    with pytest.raises(PreconditionFailed, match="ConfigIs"):
        home.ledger.commit(batch)


def test_a_batch_that_insists_on_settings_is_refused_while_nobody_can_read_them(home: Home) -> None:
    batch = ended()
    batch.require(ConfigIs(home.config.file_sha256))
    rewrite(home, "reruns = 1", "reruns = ")

    with pytest.raises(ConfigInvalid):
        home.ledger.commit(batch)


def test_what_one_process_set_for_itself_is_no_part_of_what_a_batch_insists_on(
    home: Home, tmp_path: Path
) -> None:
    said = home.config.file_sha256
    home.close()
    with open_home(tmp_path / "home", settings=("ci.reruns=9",)) as opened:
        batch = ended()
        batch.require(ConfigIs(opened.config.file_sha256))

        assert opened.config.file_sha256 == said != opened.config.sha256
        assert opened.ledger.commit(batch).last == opened.ledger.size() - 1


def test_the_insistence_crosses_to_another_process() -> None:
    batch = ended()
    batch.require(ConfigIs("1" * 64))
    batch.require(ContractsAre("2" * 64))

    assert wire.decode(wire.encode([batch])) == [batch]


def test_the_snapshot_of_a_setting_is_enough_to_read_it_again(home: Home) -> None:
    raw = home.config.snapshot()

    values = parse_canonical(raw, limit=len(raw))["values"]

    assert tagged_hash(CONFIG_TAG, raw).hex() == home.config.sha256
    assert values == {
        key.name: list(key.default) if isinstance(key.default, tuple) else key.default for key in KEYS
    }
    assert load_config(home.path / "sterling.toml").sha256 == home.config.sha256


OWNED_MAX = {
    "kernel": 32,
    "runtime": 28,
    "recall": 26,
    "insight": 18,
    "ci": 10,
    "autopilot": 26,
    "serve": 6,
}


def test_each_owner_has_no_more_keys_than_its_share() -> None:
    owned = {owner: sum(key.owner == owner for key in KEYS) for owner in {key.owner for key in KEYS}}

    assert sum(OWNED_MAX.values()) < 150
    assert {owner: count for owner, count in owned.items() if count > OWNED_MAX.get(owner, 0)} == {}
