"""One device for engine and trainer: the server's engine rests while an update is made, and is awake for everything else."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from recollect.errors import ConfigurationError, EngineError, EngineUnavailable
from recollect.settings_read import parse
from server.engines.pool import EnginePool
from server.engines.scripted import ScriptedCall, ScriptedEngine
from tests.api.conftest import Served, until
from tests.api.live import listening
from tests.contract.test_nights import night
from tests.contract.test_training_loop import SMALL, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer.config import TrainConfig
from trainer.device import Shared
from trainer.loop import train
from trainer.nightly import PUBLISHED
from trainer.resuming import LAST, unfinished
from trainer.running_engine import run_here
from trainer.trl_bridge import Learner

OPTIMISATION = {"rank": 4, "alpha": 8, "rows_per_batch": 8, "threads": 1, "engine": "rests"}
CONFIG: dict[str, Any] = SMALL | {"iterations": 2, "publish": "always", "optimisation": OPTIMISATION}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


class Seen(ScriptedEngine):
    """Keeps what happens in order, and loses its adapters in each rest, as a process does that is ended."""

    def __init__(self) -> None:
        super().__init__(answer=self.told, rests="stop")
        self.events: list[str] = []
        self.wake_fails = False
        self._rng = random.Random(1)

    def told(self, call: ScriptedCall) -> str:
        """Sampled answers are right half of the time, so that every iteration teaches; greedy ones once something was learned."""
        self.note("call")
        if call.sampling.temperature == 0.0:
            return "gold" if call.policy.adapter else "lead"
        text = call.messages[-1].content if call.messages else call.prompt
        return "NOOP" if "Operations:" in text else self._rng.choice(("gold", "lead"))

    def note(self, event: str) -> None:
        if self.events[-1:] != [event]:
            self.events.append(event)

    async def rest(self) -> None:
        self.note("rest")
        self.adapters.clear()
        await super().rest()

    async def wake(self) -> None:
        if self.wake_fails:
            raise EngineError("it sleeps too well")
        self.note("wake")
        await super().wake()


@asynccontextmanager
async def home_server(home: Path, engine: ScriptedEngine, engine_urls: Sequence[str] = ()) -> AsyncGenerator[Served]:
    """A server that has written down where it and its engines are."""
    async with listening(home, engine, engine={"start_timeout_s": 20.0}) as served:
        (home / "server.json").write_text(
            json.dumps({"url": str(served.http.base_url), "token": served.service.owner_token, "engine_urls": list(engine_urls)})
        )
        yield served


async def nothing() -> None:
    """Nothing is loaded again."""


def phase(served: Served) -> str:
    return served.service.resting.state.phase


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Seen:
    engine = Seen()
    update, made = Learner.update, Learner.__init__

    def updating(*given: Any, **named: Any) -> Any:
        assert engine.resting
        engine.note("update")
        return update(*given, **named)

    def loading(*given: Any, **named: Any) -> None:
        assert engine.resting
        engine.note("load")
        made(*given, **named)

    monkeypatch.setattr(Learner, "update", updating)
    monkeypatch.setattr(Learner, "__init__", loading)
    return engine


async def test_rollout_rest_update_wake_in_turn_and_what_was_learned_is_served(base: Path, tmp_path: Path, watched: Seen) -> None:
    write_log(tmp_path, 6)
    async with home_server(tmp_path, watched) as served:
        pool = EnginePool([watched])
        device = Shared(tmp_path, [], pool.reload)
        result = await train(TrainConfig.model_validate(CONFIG), settings(tmp_path, base), pool, device=device)
        assert watched.events[:6] == ["rest", "load", "wake", "call", "rest", "update"]
        assert watched.events[4:] == ["rest", "update", "wake", "call"] * 2
        assert result.version == 1
        await until(lambda: served.service.adapters.pin(["memory"], "local").policies["memory"].version == 1)
        # The run's own candidates were loaded again after each rest, and let go of at the end.
        assert list(watched.adapters) == ["memory@v1"]
        assert all(0 < row["rest_s"] < row["update_s"] for row in result.iterations)


async def test_a_night_shares_the_device_with_the_homes_server(base: Path, tmp_path: Path, watched: Seen) -> None:
    write_log(tmp_path, 6)
    config = TrainConfig.model_validate(CONFIG | {"from_log": {"since": "cursor"}})
    async with home_server(tmp_path, watched, ["http://127.0.0.1:9"]) as served:
        done = await asyncio.to_thread(night, settings(tmp_path, base), watched, config=config)
        assert (done.code, phase(served)) == (PUBLISHED, "awake")
        assert watched.events[:8] == ["rest", "load", "wake", "call", "rest", "update", "wake", "call"]


async def test_an_engine_that_comes_back_elsewhere_ends_the_run(tmp_path: Path) -> None:
    async with home_server(tmp_path, ScriptedEngine(rests="stop"), ["http://127.0.0.1:9"]) as served:
        with pytest.raises(EngineUnavailable, match=r"came back at another address .*; the run can go on: recollect train --resume last"):
            await Shared(tmp_path, ["http://127.0.0.1:10"], nothing).use(lambda: None)
        assert phase(served) == "awake"


async def test_a_run_whose_engine_does_not_come_back_says_so_and_can_go_on(
    base: Path, tmp_path: Path, watched: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.service.resting.TRY_AGAIN_S", 0.05)
    write_log(tmp_path, 6)
    chosen = settings(tmp_path, base)
    async with home_server(tmp_path, watched) as served:
        pool = EnginePool([watched])
        noted = watched.note

        def second_update(event: str) -> None:
            watched.wake_fails = watched.wake_fails or event == "update"
            noted(event)

        watched.note = second_update
        with pytest.raises(EngineUnavailable, match=r"did not come back from its rest: .*it sleeps too well; the run can go on: recollect"):
            await train(TrainConfig.model_validate(CONFIG), chosen, pool, device=Shared(tmp_path, [], pool.reload))
        # The server tries again by itself.
        watched.note, watched.wake_fails = noted, False
        await until(lambda: phase(served) == "awake" and served.service.adapters.settled)
        run = unfinished(tmp_path, LAST, chosen)
        assert run.config.optimisation.engine == "rests"
        pool = EnginePool([watched])
        result = await train(run.config, chosen, pool, pool=run.pool, resume=run, device=Shared(tmp_path, [], pool.reload))
        assert (result.run.id, result.version) == (run.folder.id, 1)


@pytest.mark.parametrize("fails", [True, False])
async def test_the_engine_is_woken_after_an_update_that_fails_or_is_given_up(tmp_path: Path, fails: bool) -> None:
    async with home_server(tmp_path, ScriptedEngine(rests="stop")) as served:
        begun, ends = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            assert ends.wait(60)
            if fails:
                raise FloatingPointError("the update diverged")

        using = asyncio.create_task(Shared(tmp_path, [], nothing).use(work))
        await until(begun.is_set)
        assert (phase(served), served.service.resting.state.reason) == ("resting", "training")
        if not fails:
            using.cancel()
            await asyncio.sleep(0)
            assert not using.done()  # the thread has the device still
            assert phase(served) == "resting"
        ends.set()
        with pytest.raises(FloatingPointError if fails else asyncio.CancelledError):
            await using
        assert phase(served) == "awake"


async def test_a_long_update_makes_its_rest_longer(tmp_path: Path) -> None:
    async with home_server(tmp_path, ScriptedEngine(rests="stop")) as served:
        longer, ends = list[bool](), threading.Event()
        rest = served.service.resting.rest

        async def counted(*given: Any, renew: bool = False) -> Any:
            longer.append(renew)
            return await rest(*given, renew=renew)

        served.service.resting.rest = counted  # pyright: ignore[reportAttributeAccessIssue]
        using = asyncio.create_task(Shared(tmp_path, [], nothing, lease_s=0.6).use(lambda: ends.wait(60)))
        await until(lambda: len(longer) > 5)
        assert phase(served) == "resting"
        ends.set()
        await using
        assert (longer[0], set(longer[1:])) == (False, {True})
        assert phase(served) == "awake"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_trainer_that_is_ended_leaves_no_engine_at_rest(tmp_path: Path, number: signal.Signals) -> None:
    async with home_server(tmp_path, ScriptedEngine(rests="stop")) as served:
        script = Path(__file__).with_name("use_a_device.py")
        process = await asyncio.create_subprocess_exec(sys.executable, script, str(tmp_path), stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"used\n"
        assert phase(served) == "resting"
        process.send_signal(number)
        assert await process.wait() == -number
        left = served.service.resting.state.left_s
        assert left is None or left <= (2 if number == signal.SIGTERM else 60)
        if number == signal.SIGTERM:
            await until(lambda: phase(served) == "awake")


async def test_a_rest_that_was_ended_by_others_is_not_begun_again(tmp_path: Path) -> None:
    async with home_server(tmp_path, ScriptedEngine(rests="stop")) as served:
        refused = await served.http.post("/v1/admin/engine/rest", json={"lease_s": 60, "renew": True})
        assert (refused.status_code, phase(served)) == (409, "awake")
        assert "does not rest any more" in refused.json()["error"]["message"]


async def test_a_rest_that_is_left_over_is_ended_before_a_run(tmp_path: Path) -> None:
    async with home_server(tmp_path, ScriptedEngine(rests="stop")) as served:
        await served.http.post("/v1/admin/engine/rest", json={"lease_s": 600})
        await Shared(tmp_path, [], nothing).begin()
        assert phase(served) == "awake"


async def test_what_cannot_be_is_told_before_the_run(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 6)
    config = TrainConfig.model_validate(CONFIG)
    async with home_server(tmp_path, ScriptedEngine()):
        with pytest.raises(ConfigurationError, match=r"does not rest; set engine\.rest there"):
            await train(config, settings(tmp_path, base), ScriptedEngine(), device=Shared(tmp_path, [], nothing))
    (tmp_path / "server.json").unlink()
    with pytest.raises(EngineUnavailable, match="no server runs on home"):
        await Shared(tmp_path, [], nothing).begin()
    with pytest.raises(ConfigurationError, match="leave --engine-url out"):
        await asyncio.to_thread(run_here, config, settings(tmp_path, base), ["http://127.0.0.1:9"], None, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_lag"):
        parse(TrainConfig, {**CONFIG, "max_lag": 1})
