"""`python -m benchmarks.iteration_stock JOB`: TRL's `GRPOTrainer` as it comes, with transformers generation, on given prompts. Prints JSON.

Nothing of the trainer's bridge is imported, which changes TRL. LoRA, rows per batch, loss, temperature, float32 and no gradient
checkpointing (TRL's default is to spend time on it) are Recollect's; the rest is TRL's default. One step generates and trains as many
calls as an iteration of Recollect; as TRL recommends it, once for all accumulation steps, so that no pass for old log-probs is made.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from benchmarks.child import peak_resident
from trainer.config import Optimisation


class Timed(GRPOTrainer):
    """Counts the seconds of generation and rewards, and changes nothing."""

    def __init__(self, **arguments: Any) -> None:
        self.rolled_out_s: list[float] = []
        super().__init__(**arguments)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        began = time.perf_counter()
        made = super()._generate_and_score_completions(inputs)
        self.rolled_out_s.append(time.perf_counter() - began)
        return made


class Ends(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.at.append(time.perf_counter())


def boxed(completions: Sequence[str], **_: Any) -> list[float]:
    """A reward by rule: whether there is an answer in a box."""
    return [float("\\boxed{" in completion) for completion in completions]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One step for each list of prompts in `job["prompts"]`, after one that is not measured."""
    by_step: list[list[list[int]]] = json.loads(Path(job["prompts"]).read_text())
    by_step = [by_step[0], *by_step]
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    texts = tokenizer.batch_decode([ids for prompts in by_step for ids in prompts])
    calls, ends = len(by_step[0]) * job["group"], Ends()
    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype="float32"),
        reward_funcs=[boxed],
        args=arguments(job, steps=len(by_step), calls=calls),
        train_dataset=Dataset.from_dict({"prompt": texts}),
        processing_class=tokenizer,
        peft_config=lora(Optimisation()),
        callbacks=[ends],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    found = [
        {"calls": calls, "trained": calls, "rows": calls, "seconds": end - begin, "update_s": end - begin - rolled_out_s}
        for (begin, end), rolled_out_s in zip(pairwise(ends.at), trainer.rolled_out_s[1:], strict=True)
    ]
    return {"iterations": found, "peak": peak_resident()}


def arguments(job: dict[str, Any], *, steps: int, calls: int) -> GRPOConfig:
    """`steps` optimiser steps of `calls` calls each."""
    optimisation, rows = Optimisation(), job["rows_per_batch"]
    if calls % rows:
        raise ValueError(f"{calls} calls are no whole number of batches of {rows}")
    return GRPOConfig(
        output_dir=job["folder"],
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=calls // rows,
        num_generations=job["group"],
        max_completion_length=job["max_tokens"],
        max_steps=steps,
        learning_rate=optimisation.learning_rate,
        loss_type=optimisation.loss,
        temperature=optimisation.temperature,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        shuffle_dataset=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def lora(optimisation: Optimisation) -> LoraConfig:
    """The trainer's adapter."""
    return LoraConfig(
        r=optimisation.rank,
        lora_alpha=optimisation.alpha,
        target_modules=list(optimisation.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
