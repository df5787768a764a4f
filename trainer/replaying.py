"""The updates of a run again, from its folder alone: its batches against the hashes that it wrote down, and the weights that they make."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recollect.registry import WEIGHTS, Registry, file_sha256
from recollect.run_records import REPLAYED
from recollect.settings import Settings
from trainer.batches import Rebuilt, batch_of, rebuilt
from trainer.resuming import configuration, parent_at, saved_config
from trainer.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Compared:
    """The batch of an iteration, rebuilt, beside the hash that the run wrote down (None: its groups taught nothing)."""

    rebuilt: Rebuilt
    recorded: str | None

    @property
    def same(self) -> bool:
        """Whether it is the batch of that iteration."""
        return self.rebuilt.batch is not None and self.rebuilt.batch.sha256 == self.recorded

    def figures(self) -> dict[str, Any]:
        """As a row of what is told."""
        batch = self.rebuilt.batch
        return {
            "iteration": self.rebuilt.iteration,
            "samples": sum(sample.count for sample in batch.samples) if batch else None,
            "batch_sha256": batch.sha256 if batch else None,
            "recorded": self.recorded,
            "forgotten": self.rebuilt.num_forgotten,
            "same": self.same,
        }


def compared(folder: RunFolder, settings: Settings) -> Iterator[Compared]:
    """Every iteration of the run that has a line in metrics.jsonl. Raises CorruptLog, NewerLog, ConfigurationError."""
    saved, written = saved_config(folder), folder.written_metrics()
    config = configuration(saved)
    alias = config.policy or settings.agents.policy
    found = {one.iteration: one for one in rebuilt(folder.rollouts, config, alias=alias, window=saved["window"])}
    for number, line in enumerate(written, 1):
        nothing = None if line["batch_sha256"] else batch_of([], config, number, alias=alias, window=saved["window"])
        yield Compared(found.get(number, Rebuilt(number, nothing, 0)), line["batch_sha256"])


def replayed(folder: RunFolder, settings: Settings, *, threads: int = 1) -> Iterator[tuple[Compared, str]]:
    """Make every update of the run again, without an engine; behind each the sha256 of the weights.

    One thread makes the weights of a run whose `optimisation.threads` was 1, byte for byte. Ends at the first batch that cannot be
    rebuilt. The weights of the last are left in `<run>/replayed`. Raises what `compared` does, OSError, NotFound for a parent that is gone.
    """
    from trainer.publish import save_candidate
    from trainer.trl_bridge import Learner

    saved = saved_config(folder)
    config = configuration(saved)
    parent = parent_at(Registry(settings.home / "adapters"), config.policy or settings.agents.policy, saved)
    optimisation = config.optimisation.model_copy(update={"threads": threads})
    learner = Learner(
        settings.engine.model_path, optimisation, seed=config.seed, output=folder.path, parent=parent.folder, planned=config.iterations
    )
    target = folder.path / REPLAYED
    for one in compared(folder, settings):
        if one.rebuilt.batch is None:
            return
        if one.rebuilt.batch.samples:
            learner.update(one.rebuilt.batch.samples, corrected=not one.rebuilt.batch.imitates)
        shutil.rmtree(target, ignore_errors=True)
        yield one, file_sha256(save_candidate(learner, target) / WEIGHTS)
