"""TRL's `GRPOTrainer` whose batches are given: what it would generate and score is looked up."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from datasets import Dataset
from transformers import logging as hf_logging

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of imports only: torch is deprecated here and there, TRL names the vLLM versions it knows
    import trl.trainer.utils as trl_utils
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.utils import RepeatSampler

from trainer.config import Optimisation
from trainer.samples import Sample, by_length
from trainer.shared_prompts import packed, shareable

hf_logging.disable_progress_bar()
# TRL puts only the scored positions through the language-model head where it has Triton, and all of them elsewhere, for fear
# of recompilation. Nothing is compiled here: the same on a CPU saves a fifth of an update.
trl_utils._use_triton = lambda _: True  # pyright: ignore[reportPrivateImportUsage]

MEANS_OF_ROWS = frozenset({"grpo", "dr_grpo", "sapo", "luspo"})
"""Losses that TRL divides by the rows of a batch, the others by its tokens."""


class RecordedTrainer(GRPOTrainer):
    """GRPOTrainer whose batches are given. `feed` sets the samples of the next `train()`, which makes one optimiser step."""

    args: GRPOConfig

    def __init__(self, *, optimisation: Optimisation, **arguments: Any) -> None:
        self._optimisation = optimisation
        self._samples: list[Sample] = []
        self._batches: list[dict[str, Any]] = []
        self._position, self._num_rows, self._num_batches, self._scale = 0, 0, 0, 1.0
        self.cap: float | None = None
        self._in_loss: dict[str, Any] | None = None
        self.ratios: list[torch.Tensor] = []
        self.drift: list[torch.Tensor] = []
        super().__init__(rollout_func=self._look_up, reward_funcs=[_unused_reward], **arguments)
        self.num_generations = 1  # rows are no groups; TRL takes no less than 2 at its construction

    def feed(self, samples: Sequence[Sample], *, cap: float | None) -> None:
        """Take the samples of the next step, sorted by length and filled up with neutral rows to whole batches.

        `cap`: of importance sampling; None: no correction.
        """
        self.cap = cap
        rows = self._optimisation.rows_per_batch * self.accelerator.num_processes
        ordered = by_length(samples)
        num_batches = math.ceil(len(ordered) / rows)
        self._samples = ordered
        missing = num_batches * rows - len(ordered)
        # neutral rows are copies of the shortest sample, so that they lengthen no batch
        prompts = [-1] * missing + list(range(len(ordered)))
        # each process takes a stretch of the rows: with every so many batches it has as long ones as the others
        size, processes = self._optimisation.rows_per_batch, self.accelerator.num_processes
        batches = [prompts[place : place + size] for place in range(0, len(prompts), size)]
        in_turn = [batch for process in range(processes) for batch in batches[process::processes]]
        self.train_dataset = Dataset.from_dict({"prompt": list(chain.from_iterable(in_turn))})
        self._num_rows, self._num_batches = num_batches * rows, num_batches
        # Neutral rows are no calls, and a row may stand for several
        self._scale = self._num_rows / sum(one.count for one in ordered) if self.loss_type in MEANS_OF_ROWS else 1.0
        self.args.gradient_accumulation_steps = num_batches
        self.args.steps_per_generation = num_batches
        self.args.generation_batch_size = num_batches * rows
        self._batches, self._position = [], 0
        self.ratios, self.drift = [], []

    def let_go(self) -> None:
        """Forget the last step's batches."""
        self._batches, self.ratios, self.drift = [], [], []

    def _get_train_sampler(self, dataset: Dataset | None = None) -> RepeatSampler:
        return RepeatSampler(
            data_source=dataset if dataset is not None else self.train_dataset,
            mini_repeat_count=1,
            batch_size=self._num_rows,
            repeat_count=self._num_batches,
            shuffle=False,
        )

    def _look_up(self, prompts: list[Any], _: Any) -> dict[str, Any]:
        """TRL's rollout function: the recorded tokens of each row. Rows below zero are neutral: their mask is empty."""
        samples = [self._samples[row if row >= 0 else -1 - row] for row in prompts]
        return {
            "prompt_ids": [list(s.prompt_ids) for s in samples],
            "completion_ids": [list(s.completion_ids) for s in samples],
            "logprobs": [list(s.logprobs) for s in samples],
            "env_mask": [[int(row >= 0)] * len(s.completion_ids) for row, s in zip(prompts, samples, strict=True)],
        }

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The next batch; when the first is asked for, all are padded, each to its own longest row."""
        if not self._batches:
            size = self._optimisation.rows_per_batch
            parts = [generation_batch[i : i + size] for i in range(0, len(generation_batch), size)]
            self._batches = [self._generate_and_score_completions(part) for part in parts]
            tokens = torch.tensor(float(sum(s.count * len(s.completion_ids) for s in self._samples)))
            for batch in self._batches:
                batch["num_items_in_batch"] = tokens.to(self.accelerator.device)
        batch = self._batches[self._position]
        self._position += 1
        return batch

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        rows = [row["prompt"] for row in inputs]
        advantages = [self._samples[row].advantage * self._samples[row].count if row >= 0 else 0.0 for row in rows]
        batch["advantages"] = torch.tensor(advantages, dtype=torch.float32, device=self.accelerator.device)
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._in_loss = inputs
        # TRL multiplies the loss by `importance_sampling_ratio` only where it believes that vLLM sampled
        self.use_vllm = self.cap is not None
        try:
            return super()._compute_loss(model, inputs) * self._scale
        finally:
            self.use_vllm, self._in_loss = False, None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, *arguments: Any, **named: Any
    ) -> Any:
        plain = shareable(self.accelerator.unwrap_model(model).config) and not named.get("compute_aux_loss")
        shared = packed(input_ids, attention_mask, logits_to_keep, dtype=next(model.parameters()).dtype) if plain else None
        if shared is None:
            found = super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, *arguments, **named)
        else:
            with self.accelerator.autocast():
                outputs = model(**shared.inputs(), fused_lm_head=True)
            entropies = shared.of_calls(outputs.entropy) if named.get("compute_entropy") else None
            found = shared.of_calls(outputs.log_probs), entropies, None
        if self._in_loss is not None:
            self._correct(self._in_loss, found[0].detach())
        return found

    def _correct(self, batch: dict[str, Any], logprobs: torch.Tensor) -> None:
        """Put the truncated ratio of current to sampling probability, (B, C), into the batch, and keep it for the metrics."""
        mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
        difference = torch.nan_to_num((logprobs - batch["sampling_per_token_logps"]) * mask)
        ratio = difference.exp()
        self.ratios.append(ratio[mask])
        self.drift.append(difference[mask])
        if self.cap is not None:
            batch["importance_sampling_ratio"] = ratio.clamp(max=self.cap)


def _unused_reward(completions: Sequence[Any], **_: Any) -> list[float | None]:
    """TRL wants a reward function; its advantages are replaced by the recorded ones."""
    return [0.0] * len(completions)
