"""Updates that two processes make together are those of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recollect.registry import WEIGHTS, Registry
from recollect.run_records import REPLAYED
from tests.contract.test_training_loop import settings, write_log
from tests.contract.tiny_model import save_tiny_model
from trainer.replaying import replayed
from trainer.resuming import run_folders

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("loss", ["dapo", "grpo"])
def test_two_processes_learn_what_one_learns_of_the_same_rollouts(tmp_path: Path, loss: str) -> None:
    base = save_tiny_model(tmp_path / "tiny")
    write_log(tmp_path, 6)
    script = Path(__file__).with_name("train_in_processes.py")
    found = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, tmp_path, base, loss],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    [folder] = run_folders(tmp_path)
    assert found.stdout.split() == [folder.id, "1"]
    assert [row["iteration"] for row in folder.written_metrics()] == [1, 2, 3, 4]
    done = list(replayed(folder, settings(tmp_path, base)))
    assert all(one.same for one, _ in done)
    together = load_file(Registry(tmp_path / "adapters").path("memory", 1) / WEIGHTS)
    alone = load_file(folder.path / REPLAYED / WEIGHTS)
    assert together.keys() == alone.keys()
    assert max(float(one.abs().max()) for one in alone.values()) > 1e-3
    for name, one in alone.items():
        torch.testing.assert_close(together[name], one, atol=2e-5, rtol=1e-3)
