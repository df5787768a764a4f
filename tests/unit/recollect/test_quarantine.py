"""Quarantine: what is put there stays with its reason, is listed, and is no version."""

from __future__ import annotations

from pathlib import Path

import pytest

from recollect.errors import AdapterRefused
from recollect.manifest import Fingerprint, Manifest
from recollect.quarantine import REASON, put_aside, quarantined
from recollect.registry import CONFIG, WEIGHTS, Registry, file_sha256


def candidate(folder: Path, run_id: str) -> Manifest:
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"weights")
    (folder / CONFIG).write_text("{}")
    return Manifest(
        policy="memory",
        version=0,
        base="seed",
        run_id=run_id,
        rank=4,
        alpha=8,
        target_modules=["q_proj"],
        fingerprint=Fingerprint(probes=[]),
        sha256=file_sha256(folder / WEIGHTS),
    )


def test_a_candidate_in_quarantine_is_listed_with_its_reason_and_is_no_version(tmp_path: Path) -> None:
    registry, manifest = Registry(tmp_path / "adapters"), candidate(tmp_path / "c", "r1")
    place = put_aside(registry, tmp_path / "c", manifest, ["not better for certain"])
    assert put_aside(registry, tmp_path / "c", manifest, ["again"]) == place
    assert [(one.run_id, one.reasons) for one in quarantined(registry, "memory")] == [("r1", ["not better for certain"])]
    assert (registry.versions("memory"), registry.current("memory"), registry.policies()) == ([], None, [])
    assert file_sha256(place / WEIGHTS) == manifest.sha256


def test_a_reason_that_cannot_be_read_is_said_and_hides_no_candidate(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "adapters")
    place = put_aside(registry, tmp_path / "c", candidate(tmp_path / "c", "r1"), ["why"])
    (place / REASON).write_text("{")
    assert [(one.run_id, one.reasons) for one in quarantined(registry, "memory")] == [("r1", ["its reason.json cannot be read"])]


def test_what_the_check_refuses_is_not_put_there(tmp_path: Path) -> None:
    def refuse() -> None:
        raise AdapterRefused("forgotten")

    registry, manifest = Registry(tmp_path / "adapters"), candidate(tmp_path / "c", "r1")
    with pytest.raises(AdapterRefused, match="forgotten"):
        put_aside(registry, tmp_path / "c", manifest, ["why"], check=refuse)
    assert quarantined(registry, "memory") == []
