"""Settings while work goes on: changes are taken up whole, bad files refuse heavy work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sterling.kernel.append import PreconditionFailed
from sterling.kernel.batch import Batch, ConfigIs, ContractsAre
from sterling.kernel.contract_lock_file import lock_sha256
from sterling.kernel.home import Home, init_home


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
    batch.require(ConfigIs(home.config.sha256))
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
