"""What TRL and PEFT are told of our settings of an update."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig
from trl.trainer.grpo_config import GRPOConfig

from trainer.config import Optimisation


def lora_config(optimisation: Optimisation) -> LoraConfig:
    return LoraConfig(
        r=optimisation.rank,
        lora_alpha=optimisation.alpha,
        target_modules=list(optimisation.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def grpo_config(optimisation: Optimisation, output: Path, *, seed: int, gpu: bool) -> GRPOConfig:
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
