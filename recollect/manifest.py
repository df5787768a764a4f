"""The adapter registry's documents: what an adapter is, what it was trained on, and how to recognise it in an engine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from recollect.model import Record
from recollect.trajectory import now


class FingerprintProbe(Record):
    """Greedy ids and their log-probabilities for one fixed prompt."""

    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]


class Fingerprint(Record):
    """How an adapter answers 8 fixed prompts greedily. After a swap ids must be equal, log-probs within 1e-3."""

    probes: list[FingerprintProbe]


class Manifest(Record):
    """`manifest.json` of one adapter version."""

    policy: str
    version: int
    """0 of a candidate in quarantine."""
    parent: int | None = None
    base: str
    base_sha256: str | None = None
    run_id: str
    created_at: datetime = Field(default_factory=now)
    rank: int
    alpha: int
    target_modules: list[str]
    data_window: tuple[datetime, datetime] | None = None
    trajectory_ids: list[str] = Field(default_factory=list[str])
    """sha256 of the ids of the logged trajectories that tasks were made from, in hex."""
    batches: list[str] = Field(default_factory=list[str])
    """sha256 of the batch of each update, in their order: what `recollect runs rebuild` makes again of the recorded rollouts."""
    num_logged_tasks: int = 0
    num_generated_tasks: int = 0
    configuration: dict[str, Any] = Field(default_factory=dict[str, Any])
    metrics: dict[str, Any] = Field(default_factory=dict[str, Any])
    fingerprint: Fingerprint
    sha256: str
    """Of adapter_model.safetensors."""
