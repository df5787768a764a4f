"""Where the last candidate of a run goes: the registry, quarantine, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
        if run.config.make_current and run.registry.current(alias, run.pool) == run.parent.version:
            await asyncio.to_thread(run.registry.set_current, alias, published.version, run.pool)
        return published
    if verdict.refusal and not verdict.keep:
        return None
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
        | ({"gate": verdict.gate} if verdict.gate else {}),
        fingerprint=found,
        batches=[row["batch_sha256"] for row in iterations if row["batch_sha256"]],
    )

    def check() -> None:
        check_remembered(run.settings.home / "trajectories", manifest)

    if verdict.refusal:
        aside = await asyncio.to_thread(put_aside, run.registry, folder, manifest, verdict.reasons, run.pool, check=check)
        run.listen(Progress("publish", text=f"quarantined {alias}@run{run.folder.id}: {verdict.refusal} ({aside})"))
        return None
    await asyncio.to_thread(run.registry.publish, folder, manifest, pool=run.pool, make_current=run.config.make_current, check=check)
    run.listen(Progress("publish", text=f"published {alias}@v{manifest.version}"))
    return manifest


def _frozen(run: Run) -> dict[str, Any]:
    """What the policy was trained against, for the manifest."""
    return {"frozen": {alias: policy.name for alias, policy in run.rollouts.frozen.items()}} if run.rollouts.frozen else {}
