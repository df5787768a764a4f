"""A run on several engines: they share its rollouts, all are left as they were, and one that dies costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from recollect.errors import EngineUnavailable
from recollect.policy import Policy
from server.engines.pool import EnginePool
from server.engines.scripted import Answered, ScriptedCall, ScriptedEngine
from tests.contract.test_rollouts_ahead import CONFIG
from tests.contract.test_training_loop import settings, write_log
from tests.contract.tiny_model import save_tiny_model
from tests.contract.train_until_killed import undecided
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.replaying import replayed


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def dying(after: int) -> ScriptedEngine:
    """Is gone for good after so many answers."""
    engine = undecided()
    answer = engine.answer

    def answering(call: ScriptedCall) -> Answered:
        if len(engine.calls) > after:
            engine.trouble.unhealthy = "gone"
            raise EngineUnavailable("the engine is gone")
        return answer(call)

    engine.answer = answering
    return engine


async def test_engines_share_the_rollouts_and_are_left_as_they_were(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    engines, chosen = [undecided(), undecided()], settings(tmp_path, base)
    for engine in engines:
        engine.trouble.delay_s = 0.001  # else each answers before the next call, and the first has all
    result = await train(TrainConfig.model_validate(CONFIG), chosen, EnginePool(engines))
    calls = [len(engine.calls) for engine in engines]
    assert min(calls) > 0.3 * sum(calls)
    assert all(any(call.policy.candidate for call in engine.calls) for engine in engines)
    assert not any(engine.adapters for engine in engines)
    assert result.version == 1


async def test_an_engine_that_dies_costs_no_rollout(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    left, chosen = undecided(), settings(tmp_path, base)
    result = await train(TrainConfig.model_validate(CONFIG), chosen, EnginePool([dying(60), left]))
    assert [row["failed"] for row in result.iterations] == [0] * 4
    assert all(one.same for one, _ in replayed(result.run, chosen))
    assert result.version == 1


class _Leaving(ScriptedEngine):
    """Cannot be reached while `away`."""

    away = False

    async def unload_adapter(self, policy: Policy) -> None:
        if self.away:
            raise EngineUnavailable("away")
        await super().unload_adapter(policy)


async def test_an_engine_that_is_down_forgets_an_adapter_on_its_return() -> None:
    leaving, staying = _Leaving(), ScriptedEngine()
    pool, policy = EnginePool([leaving, staying]), Policy(base="scripted", adapter="memory", candidate="run.1")
    await pool.load_adapter(policy, "/nowhere")
    leaving.away = True
    await pool.unload_adapter(policy)
    assert (bool(leaving.adapters), bool(staying.adapters)) == (True, False)
    leaving.away = False
    await pool.health()
    assert not leaving.adapters


async def test_an_adapter_of_an_earlier_pool_is_unloaded_everywhere() -> None:
    engines = [ScriptedEngine(), ScriptedEngine()]
    policy = Policy(base="scripted", adapter="memory", candidate="run.1")
    await EnginePool(engines).load_adapter(policy, "/nowhere")
    assert all(engine.adapters for engine in engines)
    await EnginePool(engines).unload_adapter(policy)
    assert not any(engine.adapters for engine in engines)
