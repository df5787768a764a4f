"""Fixtures that every test may use: one real vLLM for the whole run, a scale for counts, a clean environment."""

from __future__ import annotations

import os

import pytest

SCALE = float(os.environ.get("RECOLLECT_TEST_SCALE", "1"))


def scaled(count: int) -> int:
    """A count of repetitions, scaled by RECOLLECT_TEST_SCALE; `make test-full` sets 10."""
    return max(1, round(count * SCALE))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith(("RECOLLECT_", "OPENAI_")) and name != "RECOLLECT_TEST_SCALE":
            monkeypatch.delenv(name)
