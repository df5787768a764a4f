"""A run's numbers reach the trackers that `report_to` names."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

from recollect.errors import ConfigurationError
from tests.contract.test_training_loop import SMALL, learning, settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer.config import TrainConfig
from trainer.loop import train


def _events(folder: Path) -> list[Event]:
    """The records of TensorBoard's files: eight bytes of length, four of a checksum, the message, four of another checksum."""
    found: list[Event] = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


async def test_tensorboard_shows_every_number_of_every_iteration(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "tiny")
    write_log(tmp_path, 4)
    config = TrainConfig.model_validate(SMALL | {"report_to": ["tensorboard"]})
    result = await train(config, settings(tmp_path, base), learning())
    events = _events(result.run.path / "tensorboard")
    values = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    for row in result.iterations:
        for name, number in row.items():
            if isinstance(number, int | float) and math.isfinite(number):
                assert values[row["iteration"], f"train/{name}"] == pytest.approx(number, rel=1e-6), name
    assert {step for step, tag in values if tag == "train/reward"} == {1, 2, 3}


async def test_a_tracker_whose_package_is_missing_is_named_before_anything_begins(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "tiny")
    write_log(tmp_path, 4)
    config = TrainConfig.model_validate(SMALL | {"report_to": ["wandb"]})
    with pytest.raises(ConfigurationError, match="report_to wandb: its package is missing; pip install wandb"):
        await train(config, settings(tmp_path, base), learning())
    assert not (tmp_path / "runs").exists()


async def test_a_tracker_that_fails_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("the tracker's server is gone")

    monkeypatch.setattr("transformers.integrations.integration_utils.TensorBoardCallback.on_log", broken)
    base = save_tiny_model(tmp_path / "tiny")
    write_log(tmp_path, 4)
    config = TrainConfig.model_validate(SMALL | {"report_to": ["tensorboard"]})
    result = await train(config, settings(tmp_path, base), learning())
    assert len(result.iterations) == 3
