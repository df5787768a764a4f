"""Rollouts that run beside updates, and groups that end early: what is recorded makes the same updates again."""

from __future__ import annotations

from pathlib import Path

import pytest

from recollect.registry import Registry
from server.engines.scripted import Answered, ScriptedCall
from tests.contract.test_training_loop import SMALL, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from tests.contract.train_until_killed import undecided
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.recorded import recorded_rollouts
from trainer.replaying import replayed

CONFIG = SMALL | {"iterations": 4, "publish": "always", "optimisation": {"rank": 4, "alpha": 8, "rows_per_batch": 8, "threads": 1}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("lag", [0, 1, 2])
async def test_rollouts_are_as_many_updates_behind_as_they_may_be(base: Path, tmp_path: Path, lag: int) -> None:
    write_log(tmp_path, 6)
    engine, chosen = undecided(), settings(tmp_path, base)
    answer, sampled = engine.answer, set[str]()

    def watched(call: ScriptedCall) -> Answered:
        sampled.add(call.policy.name)
        return answer(call)

    engine.answer = watched
    result = await train(TrainConfig.model_validate(CONFIG | {"max_lag": lag}), chosen, engine)
    assert [row["version_lag"] for row in result.iterations] == [min(number, lag) for number in range(4)]
    assert len({name.rpartition(".")[2] for name in sampled if result.run.id in name}) == max(1, 4 - lag)
    assert not engine.adapters
    again = list(replayed(result.run, chosen))
    assert all(one.same for one, _ in again)
    assert again[-1][1] == Registry(tmp_path / "adapters").verify("memory", 1).sha256


async def test_a_group_whose_first_siblings_agree_has_no_more(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    chosen = settings(tmp_path, base)
    result = await train(TrainConfig.model_validate(CONFIG | {"decided_after": 3}), chosen, undecided())
    sizes: dict[tuple[str, int], list[float | None]] = {}
    for one in recorded_rollouts(result.run.rollouts):
        if one.stage.isdigit():
            sizes.setdefault((one.stage, one.task), []).append(one.trajectory.reward)
    short = [rewards for rewards in sizes.values() if len(rewards) == 3]
    assert sum(row["groups_decided"] for row in result.iterations) == len(short) > 0
    assert all(len(set(rewards)) == 1 for rewards in short)
    assert {len(rewards) for rewards in sizes.values()} == {3, CONFIG["group_size"]}
    assert all(one.same for one, _ in replayed(result.run, chosen))
