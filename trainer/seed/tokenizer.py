"""The seed model's tokenizer: byte-level BPE with single digits, trained on generated text, and its chat template."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from recollect.messages import Message
from trainer.seed import curriculum
from trainer.seed.world import World

VOCAB_SIZE = 1280
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def render(messages: list[Message]) -> str:
    """The prompt text of `messages`, as the chat template writes it."""
    return "".join(f"{START}{m.role}\n{m.content}{END}\n" for m in messages) + f"{START}assistant\n"


def _texts(seed: int, count: int) -> Iterator[str]:
    world = World(random.Random(f"tokenizer/{seed}"))
    for _ in range(count):
        sample = curriculum.draw(world, 0.2, lambda text: len(text) // 3)
        yield "\n".join([*(f"{m.role}\n{m.content}" for m in sample.messages), sample.completion])


def train(seed: int, *, num_texts: int = 20_000) -> Tokenizer:
    """Train the BPE. Deterministic in `seed`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, num_texts), trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers and vLLM read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
