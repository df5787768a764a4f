"""Everything that a training run works with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recollect.registry import Registry
from recollect.settings import Settings
from server.engines.base import Engine
from trainer.candidates import Candidates
from trainer.config import TrainConfig
from trainer.device import Device
from trainer.inputs import LogInput, Parent
from trainer.progress import Listener
from trainer.recorded import Recorded
from trainer.rollout import Rollouts
from trainer.run_folder import RunFolder
from trainer.task_pool import TaskPool
from trainer.trl_bridge import Learner

ANSWER_TOKENS = {"compact": 64}
OTHER_ANSWER_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a run works with. `alias` learns."""

    alias: str
    config: TrainConfig
    settings: Settings
    pool: str
    folder: RunFolder
    log: LogInput
    tasks: TaskPool
    parent: Parent
    registry: Registry
    engine: Engine
    learner: Learner
    candidates: Candidates
    rollouts: Rollouts
    recorded: Recorded
    device: Device
    until: float | None
    """Of `time.monotonic`: when the run is to be over; None: whenever it is."""
    listen: Listener

    @property
    def max_tokens(self) -> int:
        """Tokens of an answer."""
        return self.config.max_answer_tokens or ANSWER_TOKENS.get(self.settings.prompt_pack, OTHER_ANSWER_TOKENS)

    def rollouts_of(self, stage: str) -> Rollouts:
        """Rollouts that are recorded as those of a stage, and found there if they were before."""
        return replace(self.rollouts, stage=self.recorded.stage(stage))
