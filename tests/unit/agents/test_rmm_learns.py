"""RMM learns online: where 5 of 20 candidates matter, what is shown is cited more and more, and a restart changes nothing.

`python -m benchmarks reranking` is the same over 1,000 requests for three seeds.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.reranking import learned, serve


async def test_the_cited_fraction_rises_over_the_control(tmp_path: Path) -> None:
    # A learning rate of four times the paper's, so that a third of its requests are enough.
    found = await learned(tmp_path, 1, 240, learning_rate=4e-3)
    assert found.gain.low > 0.05
    assert found.last > found.first
    assert found.frozen_after > found.frozen_before + 0.3


async def test_a_restart_in_the_middle_gives_the_same_answers_and_bit_equal_weights(tmp_path: Path) -> None:
    whole = await serve(tmp_path / "whole", 2, 30)
    parted = await serve(tmp_path / "parted", 2, 30, restart_at=14)
    assert parted == whole
    assert any(whole.weights)
