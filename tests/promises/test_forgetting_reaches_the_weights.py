"""Promise 5, second half: what learned from forgotten data is named, retired, deleted, and when asked trained again without it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recollect.errors import AdapterRefused, InvalidRequest
from recollect.learned import LEARNED
from recollect.log import LogWriter
from recollect.manifest import Manifest
from recollect.memory import Namespace
from recollect.registry import WEIGHTS, Registry
from recollect.settings import LogSettings
from server.engines.scripted import Answered, ScriptedCall, ScriptedEngine
from tests.api.conftest import Served, serving, until
from tests.contract.test_training_loop import SMALL, learning, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer.cli_replace import retrained
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.replacement import configuration_of

ADA, BOB = Namespace(parts=(("user", "u0"),)), Namespace(parts=(("user", "u1"),))
CONFIG = TrainConfig.model_validate(SMALL | {"publish": "always", "iterations": 2, "judge": {"api_key": "secret"}})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def teachable() -> ScriptedEngine:
    """Answers right as whatever a run has taught, and as the base model does before that, candidate 0 included."""
    engine = learning()
    answer = engine.answer

    def taught(call: ScriptedCall) -> Answered:
        untaught = call.policy.candidate is not None and call.policy.candidate.endswith(".0")
        plain = call.policy.model_copy(update={"adapter": None, "candidate": None}) if untaught else call.policy
        return answer(ScriptedCall(call.prompt, call.prompt_ids, plain, call.sampling, call.messages))

    engine.answer = taught
    return engine


def hashes(*users: int) -> set[str]:
    return {sha256(f"t{user}-{turn}".encode()).hexdigest() for user in users for turn in (0, 1)}


async def trained_twice(home: Path, base: Path) -> Registry:
    """Two users are logged; v1 learns from both, v2 is trained from v1."""
    write_log(home, 2)
    for _ in range(2):
        await train(CONFIG, settings(home, base), teachable())
    registry = Registry(home / "adapters")
    manifests = [registry.verify("memory", version) for version in (1, 2)]
    assert [(one.parent, set(one.trajectory_ids)) for one in manifests] == [(None, hashes(0, 1)), (1, hashes(0, 1))]
    return registry


def weights(home: Path) -> list[Path]:
    return list(home.rglob(WEIGHTS))


async def _state(served: Served) -> dict[str, Any]:
    data = (await served.http.get("/v1/admin/adapters")).json()["data"]
    return next(one for one in data if one["policy"] == "memory")


async def test_what_learned_from_a_forgotten_user_is_retired_and_trained_again_without_them(base: Path, tmp_path: Path) -> None:
    registry = await trained_twice(tmp_path, base)
    with pytest.raises(InvalidRequest, match="v2 is not retired"):
        configuration_of(registry, "memory", 2)
    async with serving(tmp_path, teachable()) as served:
        assert (await _state(served))["serving"] == "memory@v2"
        told = (await served.http.post("/v1/memories/forget", json={"everything": True, "namespace": "user/u0"})).json()
        assert (told["adapters"], told["retired"]) == (["memory@v1", "memory@v2"], ["memory@v1", "memory@v2"])
        assert (told["was"], told["now"]) == ({"memory": "v2"}, {"memory": "base"})
        state = await _state(served)
        assert (state["current"], state["serving"]) == (None, "scripted")
        assert [version["retired"] for version in state["versions"]] == [LEARNED, LEARNED]
        await until(lambda: not weights(tmp_path))
        refused = await served.http.post("/v1/admin/adapters/promote", json={"policy": "memory", "version": 2})
        assert refused.status_code == 409
        assert f"memory@v2 is retired: {LEARNED} (certificate {told['id']})" in refused.json()["error"]["message"]

        again = configuration_of(registry, "memory", 2)
        assert (again.iterations, again.from_log.since, again.judge.api_key) == (2, "all", "")
        await train(again, settings(tmp_path, base), teachable(), replaces=2)
        await until(lambda: served.service.adapters.pin(["memory"], "local").policies["memory"].version == 3)

        untouched = await served.service.forgetting.namespace(Namespace(parts=(("user", "nobody"),)))
        assert (untouched.adapters, untouched.retired, untouched.was) == ((), (), {})
    manifest = registry.verify("memory", 3)
    assert (manifest.parent, set(manifest.trajectory_ids), manifest.metrics["replaces"]) == (None, hashes(1), 2)


async def test_an_ancestor_that_learned_from_others_alone_takes_the_place(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 1, first=1)
    await train(CONFIG, settings(tmp_path, base), teachable())
    write_log(tmp_path, 1)
    await train(CONFIG, settings(tmp_path, base), teachable())
    registry = Registry(tmp_path / "adapters")
    async with serving(tmp_path, teachable()) as served:
        certificate = await served.service.forgetting.namespace(ADA)
        assert (certificate.adapters, certificate.now) == (("memory@v2",), {"memory": "v1"})
        assert (await _state(served))["serving"] == "memory@v1"
        await train(configuration_of(registry, "memory", 2), settings(tmp_path, base), teachable(), replaces=2)
        manifest = registry.verify("memory", 3)
        assert (manifest.parent, set(manifest.trajectory_ids)) == (1, hashes(1))
        # Nothing of the other user is left to learn from then, which is no failure.
        certificate = await served.service.forgetting.namespace(BOB)
        assert certificate.adapters == ("memory@v1", "memory@v2", "memory@v3")
        assert (certificate.retired, certificate.was) == (("memory@v1", "memory@v3"), {"memory": "v3"})
    [outcome] = retrained(settings(tmp_path, base), certificate.was)
    assert (outcome["version"], outcome["failed"]) == (None, False)
    assert outcome["said"].startswith("nothing replaces memory@v3: nothing to do: 4 trajectories give no task (4 forgotten)")


async def test_what_is_forgotten_while_a_run_learns_from_it_is_not_published(base: Path, tmp_path: Path) -> None:
    write_log(tmp_path, 2)
    engine = teachable()
    answer, log = engine.answer, LogWriter(tmp_path / "trajectories", LogSettings())

    def forgetting(call: ScriptedCall) -> Answered:
        if call.policy.adapter is not None:
            log.redact({"t0-0", "t0-1"})
        return answer(call)

    engine.answer = forgetting
    with pytest.raises(AdapterRefused, match="forgotten during the run"):
        await train(CONFIG, settings(tmp_path, base), engine)
    log.close()
    assert Registry(tmp_path / "adapters").versions("memory") == []
    assert weights(tmp_path) == []


async def test_a_forgetting_that_was_killed_before_it_retired_is_mended_by_the_next(base: Path, tmp_path: Path) -> None:
    registry = await trained_twice(tmp_path, base)
    log = LogWriter(tmp_path / "trajectories", LogSettings())
    log.redact({"t0-0", "t0-1"})
    log.close()
    quarantined = registry.root / "local" / "memory" / "quarantine" / "r9"
    quarantined.mkdir(parents=True)
    (quarantined / WEIGHTS).write_bytes(b"weights")
    said: Manifest = registry.manifest("memory", 1)
    (quarantined / "manifest.json").write_text(said.model_dump_json())
    async with serving(tmp_path, teachable()) as served:
        certificate = await served.service.forgetting.namespace(ADA)
        assert (certificate.retired, certificate.now) == (("memory@v1", "memory@v2"), {"memory": "base"})
        assert certificate.quarantined == ("memory@runr9",)
    assert not quarantined.exists()
