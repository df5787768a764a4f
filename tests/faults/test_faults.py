"""Through every fault nothing is lost that was acknowledged, clients are told what is wrong, and afterwards all is well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS, vllm_killed

UNAVAILABLE, FAILED = "503 engine_unavailable", "502 engine_error"
BROKEN = {"stream: an error event (engine_unavailable)", "stream: an error event (engine_error)"}
GONE = {"no answer (ConnectError)", "no answer (ReadError)", "no answer (RemoteProtocolError)"}
TOLD = {
    "engine killed": {UNAVAILABLE} | BROKEN,
    "engine slow": {UNAVAILABLE},
    "engine lies: cut off": {FAILED} | BROKEN,
    "engine lies: no JSON": {FAILED} | BROKEN,
    "engine lies: other JSON": {FAILED} | BROKEN,
    "engine lies: nothing": {FAILED, UNAVAILABLE},
    "engine fails": {FAILED},
    "embedder down": {"502 embedder_error"},
    "disk full": {"507 storage_full", "stream: an error event (storage_full)"},
    "clock jump": set[str](),
    "SIGTERM under load": GONE | {UNAVAILABLE},
    "two servers on one store": GONE,
}
"""What clients may see of a fault, and nothing else."""


@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_acknowledged_is_lost_and_clients_are_told(tmp_path: Path, name: str) -> None:
    for outcome in await SCENARIOS[name](tmp_path):
        assert outcome.lost == []
        assert outcome.acknowledged > 10
        other = {seen for seen in outcome.seen if not seen.endswith(tuple(TOLD[outcome.fault]))}
        assert other == set(), outcome.fault


@pytest.mark.full
async def test_vllm_is_started_again_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    [outcome] = await vllm_killed(tmp_path)
    assert outcome.lost == []
    assert all(seen.endswith(("503 engine_unavailable", "error event (engine_unavailable)")) for seen in outcome.seen), outcome.seen
