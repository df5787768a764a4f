"""Where the last candidate of a run goes: the registry, quarantine, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recollect.canary import Canary
from recollect.manifest import Fingerprint, Manifest
from recollect.policy import Policy
from recollect.quarantine import put_aside
from trainer.progress import Progress
from trainer.publish import manifest_of
from trainer.replacement import check_remembered
from trainer.run import Run
from trainer.verdict import Verdict


async def place(
    run: Run,
    policy: Policy,
    verdict: Verdict,
    found: Fingerprint,
    figures: dict[str, Any],
    iterations: Sequence[Mapping[str, Any]],
) -> Manifest | None:
    """The last candidate as the policy's next version, or in quarantine, or nowhere.

    Of a run that died after it had published, the version that it is already.
    """
    alias, folder = run.alias, run.candidates.folder(policy)
    if (published := await asyncio.to_thread(run.registry.of_run, alias, run.folder.id, run.pool)) is not None:
        tried = await asyncio.to_thread(run.registry.tried, alias, published.version, run.pool)
        if run.config.make_current and not tried and run.registry.current(alias, run.pool) == run.parent.version:
            await asyncio.to_thread(run.registry.set_current, alias, published.version, run.pool)
        return published
    if verdict.refusal and not verdict.keep:
        return None
    canary = None if verdict.refusal else await asyncio.to_thread(_canary, run)
    manifest = await asyncio.to_thread(
        manifest_of,
        folder,
        policy=alias,
        version=0 if verdict.refusal else run.registry.next_version(alias, run.pool),
        parent=run.parent.version,
        base=run.engine.base,
        base_path=Path(run.settings.engine.model_path),
        run_id=run.folder.id,
        logged=run.log.trajectories,
        tasks=run.tasks.training,
        configuration=run.config.model_dump(mode="json", exclude={"judge": {"api_key"}}) | _frozen(run),
        metrics=figures
        | ({"replaces": run.parent.replaces} if run.parent.replaces else {})
        | ({"gate": verdict.gate} if verdict.gate else {})
        | ({"canary": canary.share} if canary else {}),
        fingerprint=found,
        batches=[row["batch_sha256"] for row in iterations if row["batch_sha256"]],
    )

    def check() -> None:
        check_remembered(run.settings.home / "trajectories", manifest)

    if verdict.refusal:
        aside = await asyncio.to_thread(put_aside, run.registry, folder, manifest, verdict.reasons, run.pool, check=check)
        run.listen(Progress("publish", text=f"quarantined {alias}@run{run.folder.id}: {verdict.refusal} ({aside})"))
        return None
    how = {"pool": run.pool, "make_current": run.config.make_current, "canary": canary, "check": check}
    await asyncio.to_thread(run.registry.publish, folder, manifest, **how)
    run.listen(Progress("publish", text=f"published {alias}@v{manifest.version}{' as a canary' if canary else ''}"))
    return manifest


def _canary(run: Run) -> Canary | None:
    """How the version is to be tried first; None if it is to answer all sessions at once, as what replaces a retired version does."""
    config = run.config
    if not config.canary.share or not config.make_current or run.parent.replaces is not None:
        return None
    over = run.registry.current(run.alias, run.pool)
    return Canary(over=over, margin=config.gate.own_margin, **config.canary.model_dump())


def _frozen(run: Run) -> dict[str, Any]:
    """What the policy was trained against, for the manifest."""
    return {"frozen": {alias: policy.name for alias, policy in run.rollouts.frozen.items()}} if run.rollouts.frozen else {}
