"""A random model of 25 million parameters with the seed model's tokenizer, and prompts of 2,000 tokens for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from recollect.settings import SEED_MODEL
from trainer.environments.generated import reading_task

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
POSITIONS = 4096


def save_model(folder: Path) -> int:
    """Write the model and the tokenizer to `folder`; the number of its parameters."""
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=512,
        intermediate_size=1472,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=2,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(SEED_MODEL / name, folder / name)
    return model.num_parameters()


def long_prompts(count: int, num_tokens: int) -> list[list[int]]:
    """`count` prompts of exactly `num_tokens` ids, each the beginning of another document."""
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    made: list[list[int]] = []
    for number in range(count):
        # a section stops short of its size, so ask for more than is taken
        task = reading_task(f"long-{number}", "train", lambda text: len(text) // 3, num_sections=1, section_tokens=2 * num_tokens)
        made.append(ids(task.request[0].content)[:num_tokens])
    if short := [len(one) for one in made if len(one) < num_tokens]:
        raise ValueError(f"a document has {min(short)} tokens, {num_tokens} are wanted")
    return made
