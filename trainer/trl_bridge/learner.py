"""The learner: a model and an optimiser state that live through many updates."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.trainer.grpo_config import GRPOConfig

from trainer import lora_weights, rank_messages
from trainer.config import Optimisation
from trainer.samples import Sample
from trainer.trl_bridge.arguments import grpo_config, lora_config
from trainer.trl_bridge.recorded_trainer import RecordedTrainer
from trainer.trl_bridge.step_metrics import step_metrics


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
        self._trainer = RecordedTrainer(
            optimisation=optimisation,
            model=PeftModel.from_pretrained(model, str(parent), is_trainable=True) if parent else model,
            peft_config=None if parent else lora_config(optimisation),
            processing_class=self.tokenizer,
            args=grpo_config(optimisation, output, seed=seed, gpu=gpu),
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
            return step_metrics(self._trainer, samples, time.perf_counter() - started)

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
