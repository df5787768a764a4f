"""The bridge to TRL: `GRPOTrainer` fed with recorded samples, many updates on one model and one optimiser state.

The only file that imports trl. TRL generates nothing and scores nothing here: one dataset row stands for one recorded
model call, `rollout_func` looks its tokens up, and the recorded advantages replace TRL's. Padding, loss, KL by disabling
the adapter, truncated importance sampling, clipping, accelerate and metrics stay TRL's.

With one optimiser step a batch the old log-probs are the current ones, so the importance ratio is computed in the forward
pass of the loss itself, which saves TRL's separate pass over the batch (a third of the work).
"""

from __future__ import annotations

import gc
import math
import os
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# Waiting threads sleep and do not spin: beside an engine on the same cores an update takes a tenth of the time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import logging as hf_logging
from transformers.trainer_callback import PrinterCallback, ProgressCallback

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of imports only: torch is deprecated here and there, TRL names the vLLM versions it knows
    import trl.trainer.utils as trl_utils
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.utils import RepeatSampler

from trainer import lora_weights, rank_messages
from trainer.config import Optimisation
from trainer.samples import Sample, by_length
from trainer.shared_prompts import packed, shareable

hf_logging.disable_progress_bar()
# TRL puts only the scored positions through the language-model head where it has Triton, and all of them elsewhere, for fear
# of recompilation. Nothing is compiled here: the same on a CPU saves a fifth of an update.
trl_utils._use_triton = lambda _: True  # pyright: ignore[reportPrivateImportUsage]


MEANS_OF_ROWS = frozenset({"grpo", "dr_grpo", "sapo", "luspo"})
"""Losses that TRL divides by the rows of a batch, the others by its tokens."""


class _RecordedTrainer(GRPOTrainer):
    """GRPOTrainer whose batches are given. `feed` sets the samples of the next `train()`, which makes one optimiser step."""

    args: GRPOConfig

    def __init__(self, *, optimisation: Optimisation, **arguments: Any) -> None:
        self._optimisation = optimisation
        self._samples: list[Sample] = []
        self._batches: list[dict[str, Any]] = []
        self._position, self._num_rows, self._num_batches, self._scale = 0, 0, 0, 1.0
        self.cap: float | None = None
        self._in_loss: dict[str, Any] | None = None
        self._ratios: list[torch.Tensor] = []
        self._drift: list[torch.Tensor] = []
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
        self._ratios, self._drift = [], []

    def let_go(self) -> None:
        """Forget the last step's batches."""
        self._batches, self._ratios, self._drift = [], [], []

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
        self._ratios.append(ratio[mask])
        self._drift.append(difference[mask])
        if self.cap is not None:
            batch["importance_sampling_ratio"] = ratio.clamp(max=self.cap)


class Learner:
    """A base model with a trainable LoRA adapter. `update` makes one optimiser step; model and optimiser stay in memory."""

    def __init__(
        self, base: str, optimisation: Optimisation, *, output: Path, seed: int = 0, parent: Path | None = None, planned: int = 0
    ) -> None:
        """Load `base` (a folder or hub id) and begin from `parent`, an adapter's folder, or from a neutral new adapter.

        `planned` is how many updates there will be at most, for `optimisation.decay`; 0: not known, and nothing decays.

        `output` is a folder that TRL may write to. Raises OSError if the model cannot be read.
        """
        gc.unfreeze()  # of a learner before this one, which nobody could collect else
        gc.collect()
        rank_messages.tell("Learner", base=base, optimisation=optimisation, output=output, seed=seed, parent=parent, planned=planned)
        self.optimisation = optimisation
        gpu = torch.cuda.is_available()
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.tokenizer.padding_side = "left"
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if gpu else torch.float32)
        self.updates = 0
        self._trainer = _RecordedTrainer(
            optimisation=optimisation,
            model=PeftModel.from_pretrained(model, str(parent), is_trainable=True) if parent else model,
            peft_config=None if parent else _lora(optimisation),
            processing_class=self.tokenizer,
            args=_arguments(optimisation, output, seed=seed, gpu=gpu),
            train_dataset=Dataset.from_dict({"prompt": [0]}),
        )
        self._trainer.remove_callback(PrinterCallback)
        self._trainer.remove_callback(ProgressCallback)
        self._scheduled(planned)
        self._shares = gpu and optimisation.engine == "rests"
        self._put_aside()
        self._first = lora_weights.kept(self.model)

    @property
    def model(self) -> PeftModel:
        """The model with its adapter."""
        return cast(PeftModel, self._trainer.model)

    @property
    def arguments(self) -> GRPOConfig:
        """TRL's settings of the updates."""
        return self._trainer.args

    @property
    def window(self) -> int:
        """Tokens that the base model was made for."""
        return int(self.model.config.max_position_embeddings)

    def length(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser that lives through all updates."""
        return self._optimizer

    def update(self, samples: Sequence[Sample], *, corrected: bool = True) -> dict[str, float]:
        """One optimiser step on the samples; its metrics. `corrected`: by importance sampling, if the settings want that.

        Raises ValueError without samples, FloatingPointError if it diverged.
        """
        if not samples:
            raise ValueError("an update needs at least one sample")
        rank_messages.tell("update", samples=samples, corrected=corrected)
        started = time.perf_counter()
        if self.optimisation.threads:
            torch.set_num_threads(self.optimisation.threads)  # it holds for the thread that says it, and updates come from any
        with self._at_work():
            self._trainer.feed(samples, cap=self.optimisation.importance_cap if corrected else None)
            self._trainer.state.log_history.clear()
            self._trainer.train()
            self.updates += 1
            return _metrics(self._trainer, samples, time.perf_counter() - started)

    def largest_change(self) -> float:
        """Of all adapted weight matrices the largest ratio of the change's Frobenius norm to that of the matrix."""
        return lora_weights.largest_change(self.model)

    def divergence(self, samples: Sequence[Sample]) -> float:
        """The mean divergence (k3, nats a token) from the model that the run began with, on some of the samples."""
        with self._at_work():
            return lora_weights.divergence(self.model, self._first, samples, temperature=self.optimisation.temperature)

    def save(self, folder: Path) -> None:
        """Write the adapter in PEFT's format, as safetensors."""
        self.model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False, selected_adapters=["default"])

    def checkpoint(self, file: Path) -> None:
        """Write all that later updates depend on, all at once: what is trained, the optimiser, the warm-up, the count of updates."""
        state = {
            "updates": self.updates,
            "parameters": lora_weights.kept(self.model),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }
        aside = file.with_name(f".{file.name}.tmp")
        torch.save(state, aside)
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(file)

    def restore(self, file: Path) -> None:
        """Go on from the checkpoint of a learner with the same base, parent and optimisation. Raises OSError, ValueError for another's."""
        rank_messages.tell("restore", file=file)
        state = torch.load(file, map_location=self.model.device, weights_only=True)
        if lora_weights.trained(self.model).keys() != state["parameters"].keys():
            raise ValueError(f"{file} is the checkpoint of another model or of other optimisation.targets")
        lora_weights.put(self.model, state["parameters"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.updates = state["updates"]

    @contextmanager
    def _at_work(self) -> Generator[None]:
        """All where updates are computed; before and after, if the engine wants that device, it lies in the main memory."""
        if self._shares:
            self._move(self._trainer.accelerator.device)
        try:
            yield
        finally:
            self._put_aside()

    def _put_aside(self) -> None:
        """Leave the device to the engine, if it shares it."""
        if self._shares:
            self._trainer.let_go()
            self._move(torch.device("cpu"))
            gc.collect()
            torch.cuda.empty_cache()

    def _move(self, device: torch.device) -> None:
        self.model.to(device)  # in place: the optimiser goes on with the same parameters
        for state in self._optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.dim():  # counts of steps are scalars, which stay where torch keeps them
                    state[name] = value.to(device)

    def _scheduled(self, planned: int) -> None:
        """Give TRL an optimiser and a schedule of the learning rate that live through all updates."""
        trainer, warmup = self._trainer, self.optimisation.warmup_updates
        self._optimizer = trainer.create_optimizer()
        fall = planned if self.optimisation.decay else 0

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / (warmup + 1)) * (max(0.0, 1 - step / fall) if fall else 1.0)

        self._schedule = trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)
        gc.freeze()  # accelerate collects garbage before each step; what is loaded now need not be walked each time


def _lora(optimisation: Optimisation) -> LoraConfig:
    return LoraConfig(
        r=optimisation.rank,
        lora_alpha=optimisation.alpha,
        target_modules=list(optimisation.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def _arguments(optimisation: Optimisation, output: Path, *, seed: int, gpu: bool) -> GRPOConfig:
    rows = optimisation.rows_per_batch
    return GRPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=1,
        num_generations=2,
        steps_per_generation=2,
        max_steps=1,
        learning_rate=optimisation.learning_rate,
        weight_decay=0.0,
        max_grad_norm=optimisation.max_grad_norm,
        loss_type=optimisation.loss,
        importance_sampling_level=optimisation.ratios,
        max_completion_length=optimisation.completion_tokens,
        beta=optimisation.beta,
        use_bias_correction_kl=False,  # the papers' k3 as it is, without the ratio as a weight
        epsilon=optimisation.clip_low,
        # TRL takes cispo's as the greatest weight itself, the other losses' as how far a ratio may be above 1
        epsilon_high=optimisation.clip_high + (optimisation.loss == "cispo"),
        scale_rewards="none",
        temperature=optimisation.temperature,
        vllm_importance_sampling_correction=optimisation.importance_cap is not None,
        vllm_importance_sampling_mode="token_truncate",
        gradient_checkpointing=gpu,
        use_cpu=not gpu,
        bf16=gpu,
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=gpu,
        shuffle_dataset=False,
    )


def _unused_reward(completions: Sequence[Any], **_: Any) -> list[float | None]:
    """TRL wants a reward function; its advantages are replaced by the recorded ones."""
    return [0.0] * len(completions)


def _of_all(trainer: _RecordedTrainer, values: torch.Tensor) -> torch.Tensor:
    """The values (n,) of all processes."""
    return torch.cat(gather_object([values.cpu()])) if trainer.accelerator.num_processes > 1 else values


def _metrics(trainer: _RecordedTrainer, samples: Sequence[Sample], seconds: float) -> dict[str, float]:
    """What the step did: TRL's own figures, and the ratios of current to sampling probabilities."""
    logged = next((row for row in reversed(trainer.state.log_history) if "grad_norm" in row), {})
    ratios, drift = _of_all(trainer, torch.cat(trainer._ratios)), _of_all(trainer, torch.cat(trainer._drift))
    cap = trainer.cap
    metrics = {
        "loss": float(logged.get("loss", math.nan)),
        "grad_norm": float(logged.get("grad_norm", math.nan)),
        "learning_rate": float(logged.get("learning_rate", math.nan)),
        "entropy": float(logged.get("entropy", math.nan)),
        "clip_low": float(logged.get("clip_ratio/low_mean", 0.0)),
        "clip_high": float(logged.get("clip_ratio/high_mean", logged.get("cispo_clip_ratio", 0.0))),
        "kl_sampler": float((ratios - 1 - drift).mean()),
        "importance_mean": float(ratios.mean()),
        "importance_max": float(ratios.max()),
        "importance_truncated": float((ratios > cap).float().mean()) if cap is not None else 0.0,
        "logprob_difference_mean": float(drift.abs().mean()),
        "logprob_difference_max": float(drift.abs().max()),
        "samples": float(sum(s.count for s in samples)),
        "rows": float(len(samples)),
        "tokens": float(sum(s.tokens for s in samples)),
        "update_s": seconds,
    }
    if "kl" in logged:
        metrics["kl_reference"] = float(logged["kl"])
    if not math.isfinite(metrics["loss"]) or not math.isfinite(metrics["grad_norm"]):
        raise FloatingPointError(
            f"the update diverged: loss {metrics['loss']}, gradient norm {metrics['grad_norm']}; lower the learning rate"
        )
    return metrics
