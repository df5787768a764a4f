"""Through every fault nothing is lost that was acknowledged, clients are told what is wrong, and afterwards all is well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS, vllm_killed

TOLD = {
    "engine killed": {"503 engine_unavailable", "error event (engine_unavailable)"},
    "slow": {"503 engine_unavailable", "error event (engine_unavailable)"},
    "truncated": {"502 engine_error", "503 engine_unavailable", "error event (engine_unavailable)", "error event (engine_error)"},
    "not json": {"502 engine_error", "error event (engine_error)"},
    "wrong json": {"502 engine_error", "error event (engine_error)"},
    "nothing": {"502 engine_error", "503 engine_unavailable"},
    "failing": {"502 engine_error"},
    "embedder down": {"502 embedder_error"},
    "disk full": {"507 storage_full", "error event (storage_full)"},
    "clock jump": set(),
    "ended under load": {"no answer (ConnectError)", "no answer (ReadError)", "no answer (RemoteProtocolError)", "503 engine_unavailable"},
    "two servers": {"no answer (ConnectError)", "no answer (ReadError)", "no answer (RemoteProtocolError)"},
}
"""What clients may see of a fault, and nothing else."""


@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_acknowledged_is_lost_and_clients_are_told(tmp_path: Path, name: str) -> None:
    outcome = await SCENARIOS[name](tmp_path)
    assert outcome.lost == []
    assert outcome.acknowledged > 10
    other = {seen for seen in outcome.seen if not any(seen.endswith(told) for told in TOLD[name])}
    assert other == set()


@pytest.mark.full
async def test_vllm_is_started_again_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    outcome = await vllm_killed(tmp_path)
    assert outcome.lost == []
    assert all(seen.endswith(("503 engine_unavailable", "error event (engine_unavailable)")) for seen in outcome.seen), outcome.seen
