"""Adapter versions in a registry, as a scripted engine knows them: no weights, and a fingerprint of what the script answers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from recollect.canary import Canary
from recollect.manifest import Fingerprint, Manifest
from recollect.policy import Policy
from recollect.registry import CONFIG, WEIGHTS, Registry
from server.engines.fingerprint import fingerprint
from server.engines.scripted import Answer, ScriptedCall, ScriptedEngine

MARKER = "a shared beginning that all versions have, then"


def by_version(call: ScriptedCall) -> str:
    """An answer that names the policy that gave it, at its end and in many pieces."""
    return " ".join([MARKER, *[call.policy.name] * 20])


async def fingerprint_of(answer: Answer, policy: Policy) -> Fingerprint:
    """What an engine with this script answers the probes."""
    return await fingerprint(ScriptedEngine(answer=answer, adapters={policy.name: "loaded"}), policy)


async def publish(
    home: Path,
    *,
    answer: Answer = by_version,
    make_current: bool = True,
    canary: Canary | None = None,
    policy: str = "memory",
    **changed: Any,
) -> int:
    """Publish the next version of a policy; `changed` are fields of its manifest. Returns its number."""
    registry = Registry(home / "adapters")
    version = registry.next_version(policy)
    folder = home / "made" / f"{policy}-v{version}"
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"weights %d" % version)
    (folder / CONFIG).write_text("{}")
    manifest: dict[str, Any] = {
        "policy": policy,
        "version": version,
        "parent": version - 1 or None,
        "base": "scripted",
        "run_id": "r1",
        "rank": 8,
        "alpha": 16,
        "target_modules": ["q_proj"],
        "fingerprint": await fingerprint_of(answer, Policy(base="scripted", adapter=policy, version=version)),
        "sha256": hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
    }
    registry.publish(folder, Manifest(**(manifest | changed)), make_current=make_current, canary=canary)
    return version
