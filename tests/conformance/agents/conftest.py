"""Every agent, served on a store of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.agents.cases import CASES, RECALLING, Case, Run, running


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=RECALLING, ids=lambda case: case.name)
def recalling(request: pytest.FixtureRequest) -> Case:
    """Those that have a memory of the user."""
    return request.param


@pytest.fixture
async def run(case: Case, tmp_path: Path) -> AsyncIterator[Run]:
    async with running(case, tmp_path) as started:
        yield started
