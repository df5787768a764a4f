"""Real tokenizers over the scripted engine: the seed model's, and small ones of the kinds that models have, trained on the spot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from recollect.policy import Policy
from recollect.settings import SEED_MODEL
from recollect.trajectory import Usage
from server.engines.base import Chunk, Sampling
from server.engines.scripted import ScriptedEngine

Kind = Literal["seed", "qwen", "o200k", "metaspace", "llama"]
KINDS: tuple[Kind, ...] = ("seed", "qwen", "o200k", "metaspace", "llama")
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CORPUS = [
    "The guard of Ola is Tim, and the code of Brinar is 417. Don't say it: he'll know, it's so.",
    "Rain fell on the hills.\n\nSnow fell on the roofs;\n  the price of Ola was 1,024 then.",
    "東京都の天気は晴れです。明日は雨でしょう。 Grüße aus Köln! été, café — ok...",
] * 20


class Tokenized(ScriptedEngine):
    """An engine with a tokenizer of `kind`. It samples letter by letter, as no tokenizer would encode the text."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.prompts: list[list[int]] = []
        self.sampled: list[list[int]] = []

    async def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        text = f"the guard, the hills and é {len(self.sampled)}"
        ids = [token for letter in text for token in await self.encode(letter)]
        self.prompts.append(list(prompt_ids))
        self.sampled.append(ids)
        usage = Usage(prompt_tokens=len(prompt_ids), completion_tokens=len(ids))
        yield Chunk(
            text=text, token_ids=tuple(ids), logprobs=(-1.0,) * len(ids), prompt_ids=tuple(prompt_ids), finish_reason="stop", usage=usage
        )

    async def encode(self, text: str) -> list[int]:
        return tokenizer(self.kind).encode(text, add_special_tokens=False).ids

    async def decode(self, ids: Sequence[int]) -> str:
        return tokenizer(self.kind).decode(list(ids), skip_special_tokens=False)


@cache
def tokenizer(kind: Kind) -> Tokenizer:
    if kind == "seed":
        return Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))
    return _byte_level(QWEN if kind == "qwen" else O200K) if kind in ("qwen", "o200k") else _sentence_piece(kind)


def _byte_level(pattern: str) -> Tokenizer:
    """As Qwen and GPT-4o have it: NFC, a pattern, byte-level BPE."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    made.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    return made


def _sentence_piece(kind: Kind) -> Tokenizer:
    """As Llama 2 has it: a blank before every text, blanks written as U+2581, no pattern (`llama`) or words apart (`metaspace`)."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False))
    if kind == "llama":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        made.pre_tokenizer = None  # pyright: ignore[reportAttributeAccessIssue]
    made.decoder = decoders.Metaspace()
    return made
