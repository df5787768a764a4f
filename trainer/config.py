"""Settings of a training run. The defaults are those of the seed model on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recollect.canary import CanarySettings
from recollect.model import Frozen
from trainer.credit.settings import Credit
from trainer.curriculum import Curriculum
from trainer.environments.from_log.settings import WINDOW, LogUse
from trainer.gate_settings import GateSettings
from trainer.rewards.case import Scoring
from trainer.rewards.judge import JudgeSettings
from trainer.rewards.weights import RewardWeights
from trainer.suites.suite import TaskSet

BY_SEQUENCE = ("grpo", "sapo", "luspo")
"""Losses that a ratio for each sequence can go with."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Optimisation(Frozen):
    """How the adapter is updated.

    `loss` is TRL's name. dapo: the mean over all tokens of a batch. grpo: the mean over calls of each call's mean. dr_grpo: the mean
    over calls of their sums, by `completion_tokens`. cispo: ratios are clipped and tokens are not. sapo: a soft gate in place of
    clipping. luspo: sums of calls by sequence ratios. vespo: calls weighed by a gamma of their sequence ratio.
    """

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    targets: tuple[str, ...] = TARGETS
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_updates: int = Field(default=2, ge=0)
    decay: bool = False
    """Let the learning rate fall to nothing over the planned iterations. A run that goes on from what learned already is less
    likely to lose it again."""
    loss: Literal["dapo", "grpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    ratios: Literal["token", "sequence"] = "token"
    """Whether each token has its ratio of new to old probability, or each call its geometric mean (GSPO is loss grpo with sequence)."""
    completion_tokens: int = Field(default=256, ge=1)
    """What dr_grpo divides a call's sum by, in tokens."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the model that the run began with."""
    clip_low: float = Field(default=0.2, ge=0)
    clip_high: float = Field(default=0.28, ge=0)
    importance_cap: float | None = Field(default=2.0, gt=0)
    """The cap of truncated importance sampling; null: no correction."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    """Of rollouts, and therefore of the log-probs that are trained on."""
    rows_per_batch: int = Field(default=16, ge=1)
    """Rows that are computed at once. It changes speed and memory, not the gradient."""
    engine: Literal["beside", "rests"] = "beside"
    """Where the engine is while an update is made. beside: it goes on, on a device or a part of one of its own. rests: the server of the
    home lets it rest (its `engine.rest`), and wakes it before anything is sampled: one device holds both in turn."""
    threads: int = Field(default=0, ge=0)
    """Threads of an update on a CPU; 0: torch's choice. With 1 the same batches give the same weights, byte for byte."""

    @property
    def mergeable(self) -> bool:
        """Whether identical calls may be computed as one with their mean advantage: the loss must be linear in it."""
        return self.loss != "vespo" and self.beta == 0

    @model_validator(mode="after")
    def _ratios_fit(self) -> Self:
        if self.loss == "luspo" and self.ratios == "token":
            raise ValueError("loss luspo is defined on sequences: set optimisation.ratios=sequence")
        if self.ratios == "sequence" and self.loss not in BY_SEQUENCE:
            raise ValueError(f"ratios sequence would weigh calls by their length under loss {self.loss}: take {' or '.join(BY_SEQUENCE)}")
        return self


class Needs(Frozen):
    """What a run wants that does not come with Recollect, and how it differs from what it follows. `recollect train --dry-run` tells it."""

    follows: str = ""
    """The paper or script, and where its figures stand."""
    weights: tuple[str, ...] = ()
    """Models for `engine.model`, one of which is meant."""
    data: tuple[str, ...] = ()
    """Where the files of `tasks` come from, in words."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Settings as `section.key`, and the value that the run is meant to have."""
    figures: dict[str, str] = Field(default_factory=dict)
    """Figures of the paper that no setting of a run stands for."""
    differences: tuple[str, ...] = ()


class TrainConfig(Frozen):
    """A run: `iterations` times, roll `group_size` siblings of some tasks out, score them, update the adapter."""

    seed: int = 0
    policy: str = ""
    """The alias that learns; empty: agents.policy. Every other alias is frozen at its current version."""
    roles: tuple[str, ...] = ()
    """Roles of modules whose calls are trained on, such as manager; empty: all of the alias."""
    iterations: int = Field(default=25, ge=1)
    tasks_per_iteration: int = Field(default=16, ge=1)
    group_size: int = Field(default=8, ge=2)
    imitate: int = Field(default=0, ge=0)
    """Iterations at the beginning that imitate accepted answers of the log and roll nothing out: a supervised warm start."""
    decided_after: int = Field(default=0, ge=0)
    """Siblings of a group after which no more are rolled out if all have the same reward: most such groups teach nothing. Those that
    would have, had there been more siblings, are lost. 0: all are rolled out."""
    max_lag: int = Field(default=0, ge=0)
    """Updates that a rollout's policy may be behind the newest. 0: rollouts and updates take turns. 1: while an update is made the
    next rollouts run already, as is worth it where engine and trainer have a device each; importance sampling corrects for it."""
    concurrency: int = Field(default=128, ge=1)
    """Rollouts in flight at once."""
    max_answer_tokens: int = Field(default=0, ge=0)
    """0: 64 for the compact prompts, else 1,024."""
    sync_every: int = Field(default=1, ge=1)
    """Updates between two candidates."""
    window: int = Field(default=WINDOW, ge=0)
    """Earlier turns that a logged task replays at most."""
    from_log: LogUse = LogUse()
    """Which tasks are made from the log."""
    min_logged_share: float = Field(default=0.5, gt=0, le=1)
    """Share of tasks from the log, at least; generated ones fill the rest."""
    tasks: tuple[TaskSet, ...] = ()
    """Tasks of named sources, such as files, in place of generated ones. `held_out_tasks` of them are measured and not trained on."""
    mix: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """How the sets of `tasks` are mixed: by name, weights that the numbers of their tasks are in proportion to. A set that is not
    named weighs 1; empty: all that they have."""
    data: Path = Path()
    """The folder in which their files lie."""
    needs: Needs = Needs()
    held_out_logged_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of the log's conversations that are kept from training and measured instead, chosen by a hash. What was held out with
    a smaller share is held out with a larger one too; a smaller one would train on what was measured before."""
    held_out_logged_tasks: int = Field(default=64, ge=0)
    """Tasks of them that are measured, at most; always the same ones come first."""
    generated_only: bool = False
    generated_tasks: int = Field(default=512, ge=1)
    """Generated tasks to train on, at most."""
    reading_share: float = Field(default=0.5, ge=0, le=1)
    """Share of generated tasks that are documents; the others are dialogues."""
    num_sections: int = Field(default=3, ge=1)
    rewards: RewardWeights = RewardWeights()
    """Weights by the names of docs/rewards.md."""
    scoring: Scoring = Scoring()
    judge: JudgeSettings = JudgeSettings()
    held_out_tasks: int = Field(default=64, ge=1)
    samples_per_task: int = Field(default=4, ge=1)
    """Sampled answers a held-out task; a greedy one is taken besides."""
    publish: Literal["gate", "unless_worse", "always", "never"] = "unless_worse"
    """gate: only what is better for certain and passes all checks (`gate`), on held-out tasks and a fixed regression suite.
    unless_worse: not if the whole interval of the held-out difference lies below 0."""
    gate: GateSettings = GateSettings()
    canary: CanarySettings = CanarySettings()
    """Whether a version that is published answers a share of the sessions first, until their rewards promote it or take it back."""
    make_current: bool = True
    """Whether a published version is answered with from now on; false leaves that to `recollect adapters promote`."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Where each iteration's numbers are told besides; wandb sends them over the network, tensorboard writes `<run>/tensorboard`."""
    optimisation: Optimisation = Optimisation()
    credit: Credit = Credit()
    curriculum: Curriculum = Curriculum()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.decided_after == 1 or self.decided_after >= self.group_size:
            raise ValueError(f"decided_after must be 2 or more and less than group_size ({self.group_size}); 0 turns it off")
        if self.max_lag and self.optimisation.engine == "rests":
            raise ValueError("max_lag samples while an update is made, when the engine rests: set max_lag=0 or optimisation.engine=beside")
        if self.max_lag and self.optimisation.importance_cap is None:
            raise ValueError("max_lag samples from older policies, which importance sampling corrects: set optimisation.importance_cap")
        return self
