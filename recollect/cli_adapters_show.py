"""`recollect adapters show|diff|gc`: what a version is and learned from, what parts two of them, which weights may go."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, cast

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from recollect.adapter_story import DAY, shown_gain
from recollect.canary import canary_in
from recollect.cli_client import running_url
from recollect.cli_screen import Screen
from recollect.errors import AdapterRefused, Conflict, InvalidRequest, NotFound
from recollect.invocation import Invocation
from recollect.manifest import Manifest
from recollect.memory import LOCAL_TENANT
from recollect.quarantine import QUARANTINE, quarantined
from recollect.registry import MANIFEST, Registry
from recollect.retired import Retired
from recollect.train_lock import trainer_absent
from recollect.trajectory import now

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
COLLECTED = "its weights were deleted by `recollect adapters gc`"
_NAMED = re.compile(r"(?P<policy>[^@]+)(?:@(?:v(?P<version>[0-9]{1,9})|run(?P<run>[0-9a-z]+)))?")
Name = Annotated[
    str, typer.Argument(metavar="POLICY[@vN|@runID]", help="A version, a candidate in quarantine, or a policy's current version.")
]


def show(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """What a version is, what it learned from, and what it showed."""
    registry = _registry(ctx)
    manifest = found(registry, name)
    if as_json:
        typer.echo(manifest.model_dump_json(indent=1))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, text in _facts(registry, manifest):
        table.add_row(label, Text(text))
    Screen().print(table)


def diff(ctx: typer.Context, before: Name, after: Name, as_json: AsJson = False) -> None:
    """What parts two versions: settings, figures, what they learned from, and how many fixed prompts they answer differently."""
    registry = _registry(ctx)
    rows = differences(found(registry, before), found(registry, after))
    if as_json:
        typer.echo(json.dumps({name: list(pair) for name, pair in rows.items()}, indent=1))
        return
    table = Table("", before, after, box=None, pad_edge=False, header_style="bold")
    for label, pair in rows.items():
        table.add_row(label, *(Text(_said(value)) for value in pair))
    Screen().print(table)


def gc(
    ctx: typer.Context,
    keep: Annotated[int, typer.Option(min=1, help="The newest versions of each policy that keep their weights.")] = 5,
    days: Annotated[int, typer.Option(min=0, help="Candidates in quarantine go after so many days.")] = 30,
    dry: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and end.")] = False,
) -> None:
    """Delete weights that nobody needs: of old versions, and of candidates in quarantine. Manifests of versions stay.

    The current version and what it was trained from stay. A running server deletes what it has loaded after it has let go of it.
    """
    registry, served = _registry(ctx), running_url(ctx) is not None
    with trainer_absent(registry.root.parent) as absent:
        if not absent:
            raise Conflict("a trainer runs on this home, and may need what would go; wait for it to end")
        told = _collected(registry, keep, timedelta(days=days), served=served, dry=dry)
    typer.echo("\n".join(told) or "nothing to delete")


def _collected(registry: Registry, keep: int, age: timedelta, *, served: bool, dry: bool) -> list[str]:
    """Delete, unless `dry`; a line for each. What a server has loaded it deletes itself."""
    told: list[str] = []
    for policy in registry.known():
        old = collectable(registry, policy, keep)
        expired = [one.run_id for one in quarantined(registry, policy) if now() - one.at >= age]
        told += [f"{policy}@v{version}" for version in old] + [f"{policy}@run{run_id}" for run_id in expired]
        if dry:
            continue
        registry.retire(policy, {version: Retired(certificate="gc", reason=COLLECTED) for version in old})
        for version in () if served else old:
            registry.drop_weights(policy, version)
        for run_id in expired:
            shutil.rmtree(registry.root / LOCAL_TENANT / policy / QUARANTINE / run_id)
    verb = "would delete" if dry else "deleted"
    return [f"{verb} the weights of {name}" for name in told]


def collectable(registry: Registry, policy: str, keep: int) -> list[int]:
    """Versions whose weights may go: neither among the newest, nor current, nor a canary, nor what the current one was trained from,
    nor retired."""
    versions, current, canary = registry.versions(policy), registry.current(policy), registry.canary(policy)
    needed = {*versions[-keep:], current, canary.version if canary else None}
    if current in versions:
        needed.add(registry.standing(policy, registry.manifest(policy, current).parent))
    return [version for version in versions if version not in needed and registry.retired(policy, version) is None]


def found(registry: Registry, name: str) -> Manifest:
    """The manifest that a name stands for. Raises InvalidRequest, NotFound, AdapterRefused."""
    match = _NAMED.fullmatch(name)
    if match is None:
        raise InvalidRequest(f"{name[:80]!r} names no version; write POLICY, POLICY@v<number> or POLICY@run<id>", param="name")
    policy = match["policy"]
    if match["run"]:
        if match["run"] not in [one.run_id for one in quarantined(registry, policy)]:
            raise NotFound(f"no candidate of run {match['run']} is in quarantine", param="name", code="adapter_not_found")
        try:
            return Manifest.model_validate_json((registry.root / LOCAL_TENANT / policy / QUARANTINE / match["run"] / MANIFEST).read_bytes())
        except (FileNotFoundError, ValidationError) as exc:
            raise AdapterRefused(f"{name}: its {MANIFEST} cannot be read", param="name") from exc
    version = int(match["version"]) if match["version"] else registry.current(policy)
    if version is None:
        raise NotFound(f"{policy} answers with the base model; name a version", param="name", code="adapter_not_found")
    return registry.manifest(policy, version)


def differences(before: Manifest, after: Manifest) -> dict[str, tuple[Any, Any]]:
    """By dotted name, what is not the same in two manifests."""
    one, other = _flat(before), _flat(after)
    rows = {name: (one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)}
    learned = [set(manifest.trajectory_ids) for manifest in (before, after)]
    rows["trajectories learned from alone"] = (len(learned[0] - learned[1]), len(learned[1] - learned[0]))
    both = len(learned[0] & learned[1])
    rows["trajectories learned from by both"] = (both, both)
    answers = [[probe.completion_ids for probe in manifest.fingerprint.probes] for manifest in (before, after)]
    changed = sum(a != b for a, b in zip(*answers, strict=False))
    rows["fixed prompts answered differently"] = (changed, changed)
    return rows


def _flat(manifest: Manifest) -> dict[str, Any]:
    skipped = {"fingerprint", "trajectory_ids", "batches"}

    def flattened(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return {name: value}
        parts = cast("Mapping[str, Any]", value)
        return {key: one for part, below in parts.items() for key, one in flattened(below, f"{name}.{part}" if name else part).items()}

    return flattened(manifest.model_dump(mode="json", exclude=skipped), "")


def _facts(registry: Registry, manifest: Manifest) -> list[tuple[str, str]]:
    window = [f"{moment:{DAY}}" for moment in manifest.data_window or ()]
    name = f"{manifest.policy}@v{manifest.version}" if manifest.version else f"{manifest.policy}@run{manifest.run_id}, in quarantine"
    data = f"{manifest.num_logged_tasks} tasks of the log ({len(manifest.trajectory_ids)} trajectories)"
    facts = [
        ("version", name),
        ("trained", f"{manifest.created_at:{DAY}} by run {manifest.run_id}"),
        ("from", f"v{manifest.parent}" if manifest.parent is not None else f"the base model {manifest.base}"),
        ("learned from", f"{data}, {manifest.num_generated_tasks} generated"),
        ("logged", " to ".join(window) or "-"),
        ("updates", str(len(manifest.batches))),
        ("showed", shown_gain(manifest)),
        ("adapter", f"rank {manifest.rank}, alpha {manifest.alpha}, on {', '.join(manifest.target_modules)}"),
        ("weights", manifest.sha256),
    ]
    if gate := manifest.metrics.get("gate"):
        facts += [("gate", "passed" if gate["passed"] else "; ".join(gate["reasons"])), *(("", text) for text in gate["said"])]
    if manifest.version:
        facts += _as_canary(registry, manifest)
    if manifest.version and (retired := registry.retired(manifest.policy, manifest.version)):
        facts.append(("retired", f"{retired.at:{DAY}}: {retired.reason}"))
    return facts


def _as_canary(registry: Registry, manifest: Manifest) -> list[tuple[str, str]]:
    """What became of a version as a canary."""
    if (canary := canary_in(registry.path(manifest.policy, manifest.version))) is None:
        return []
    began = f"since {canary.since:{DAY}}, {canary.share:.0%} of the sessions"
    if canary.ended is None:
        return [("canary", f"{began}, until {canary.until:{DAY}} at most")]
    return [("canary", f"{began}; {canary.ended.verdict.replace('_', ' ')} {canary.ended.at:{DAY}}: {canary.ended.reason}")]


def _said(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _registry(ctx: typer.Context) -> Registry:
    invocation: Invocation = ctx.obj
    return Registry(invocation.settings().home / "adapters")
