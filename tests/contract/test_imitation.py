"""A supervised warm start: what users accepted is imitated before anything is sampled, and its updates can be made again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from recollect.events import LogEvent
from recollect.log import LogWriter
from recollect.messages import user
from recollect.policy import Policy
from recollect.registry import Registry
from recollect.run_records import forget_in_run
from recollect.settings import LogSettings
from recollect.trajectory import Feedback, MemoryOp, Step
from tests.contract.test_rollouts_ahead import CONFIG
from tests.contract.test_training_loop import logged_turn, settings
from tests.contract.tiny_model import VOCABULARY, save_tiny_model
from tests.contract.train_until_killed import undecided
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.recorded import recorded_rollouts
from trainer.replaying import replayed

IMITATING = CONFIG | {"imitate": 2, "iterations": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def _step(rng: random.Random, index: int, role: str, text: str, answer: str, base: str, *ops: MemoryOp) -> Step:
    ids = [rng.randrange(2, VOCABULARY) for _ in range(9)]
    return Step(
        index=index,
        role=role,
        alias="memory",
        policy=Policy(base=base),
        messages=[user(text)],
        text=answer,
        prompt_ids=ids[:6],
        completion_ids=ids[6:],
        logprobs=[-1.0, -2.0, -0.5],
        memory_ops=list(ops),
    )


def write_calls(home: Path, count: int, *, accepted: int, base: str = "scripted") -> None:
    """Conversations of two turns with the calls that answered them and, in the first, wrote. The first `accepted` were accepted, the
    others corrected."""
    rng, log = random.Random(3), LogWriter(home / "trajectories", LogSettings())
    for number in range(count):
        for turn, (text, answer) in enumerate((("My metal is gold.", "Noted."), ("What is my metal?", "gold"))):
            steps = [_step(rng, 0, "answerer", text, answer, base)]
            if turn == 0:
                steps.append(_step(rng, 1, "updater", text, f"ADD {text}", base, MemoryOp(op="add", text=text)))
            trajectory = logged_turn(number, turn, text, answer, steps)
            body = trajectory.model_dump(mode="json")
            log.append(LogEvent(event_id=trajectory.id, trajectory_id=trajectory.id, kind="trajectory", body=body))
        taken = number < accepted
        feedback = Feedback(id=f"t{number}-1", label="up" if taken else None, correction=None if taken else "lead").model_dump(mode="json")
        log.append(LogEvent(event_id=f"f{number}", trajectory_id=f"t{number}-1", kind="feedback", body=feedback))
    log.close()


async def test_accepted_answers_are_imitated_first_and_their_updates_can_be_made_again(base: Path, tmp_path: Path) -> None:
    write_calls(tmp_path, 6, accepted=4)
    chosen = settings(tmp_path, base)
    result = await train(TrainConfig.model_validate(IMITATING), chosen, undecided())
    rows = result.iterations
    assert [(row["imitates"], row["groups"]) for row in rows] == [(1, 4), (1, 4), (0, 4)]
    # of each conversation the accepted answer, and what was written before it; not what was answered before it
    assert [row["samples"] for row in rows[:2]] == [8, 8]
    assert [(row["imitated"], row["rollouts"], row["reward"]) for row in rows[:2]] == [(8, 0, None)] * 2
    assert not [name for name in rows[0] if name.startswith(("importance_", "logprob_difference_", "kl_sampler"))]
    assert rows[2]["version_lag"] == 0
    imitated = [one.trajectory for one in recorded_rollouts(result.run.rollouts) if one.stage in ("0001", "0002")]
    assert {one.id for one in imitated} == {f"t{number}-{turn}" for number in range(4) for turn in (0, 1)}
    assert {one.answer for one in imitated} == {"gold", "Noted."}
    again = list(replayed(result.run, chosen))
    assert [one.same for one, _ in again] == [True] * 3
    assert again[-1][1] == Registry(tmp_path / "adapters").verify("memory", 1).sha256


async def test_what_is_forgotten_is_blanked_in_what_was_imitated_too(base: Path, tmp_path: Path) -> None:
    write_calls(tmp_path, 6, accepted=6)
    result = await train(TrainConfig.model_validate(IMITATING), settings(tmp_path, base), undecided())
    manifest = Registry(tmp_path / "adapters").verify("memory", 1)
    assert forget_in_run(tmp_path, result.run.path, set(manifest.trajectory_ids))
    left = [one for one in recorded_rollouts(result.run.rollouts) if one.stage in ("0001", "0002")]
    assert left
    assert all(one.forgotten and not one.trajectory.answer and not one.trajectory.steps[0].text for one in left)


async def test_a_log_without_an_accepted_answer_has_nothing_to_imitate_and_is_learned_from_by_rollouts(base: Path, tmp_path: Path) -> None:
    write_calls(tmp_path, 4, accepted=0)
    result = await train(TrainConfig.model_validate(IMITATING), settings(tmp_path, base), undecided())
    assert [(row["groups"], row["batch_sha256"]) for row in result.iterations[:2]] == [(0, None)] * 2
    assert [one.same for one, _ in replayed(result.run, settings(tmp_path, base))] == [True] * 3
    assert result.iterations[2]["samples"] > 0
    assert json.loads(result.run.report.read_text())["version"] == 1


async def test_calls_of_another_base_model_are_not_imitated(base: Path, tmp_path: Path) -> None:
    write_calls(tmp_path, 4, accepted=4, base="another")
    result = await train(TrainConfig.model_validate(IMITATING), settings(tmp_path, base), undecided())
    assert [row["groups"] for row in result.iterations[:2]] == [0, 0]
