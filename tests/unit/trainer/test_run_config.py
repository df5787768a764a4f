"""What a run keeps of the settings that it began with: all of them but secrets."""

from __future__ import annotations

from pathlib import Path

from recollect.settings_read import load
from trainer.config import TrainConfig
from trainer.run_folder import RunFolder


def test_a_runs_configuration_holds_no_secret(tmp_path: Path) -> None:
    secrets = (
        "engine.api_key=sk-1",
        "embedder.api_key=sk-2",
        "memory.storage_options={key: sk-3}",
        "telemetry.headers={key: sk-4}",
        "engine.fallback.api_key=sk-5",
    )
    folder = RunFolder(tmp_path)
    folder.save_config(TrainConfig(), load(None, secrets, {}), pool="local", parent=None, replaces=None, window=512)
    written = folder.config.read_text("utf-8")
    assert "sk-" not in written
    assert "service_name: recollect" in written
