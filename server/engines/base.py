"""The seam to a language model: one protocol, whether the model runs in a child process, behind a URL, or is scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from recollect.messages import Message
from recollect.policy import Policy
from recollect.trajectory import Usage


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. None leaves the engine's default. `max_tokens` None means: as many as fit into the window."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int = 1
    ignore_eos: bool = False
    schema: str | None = None
    """A JSON schema, as JSON text, that the answer is held to by guided decoding. Only where the engine is `guided`.

    Log-probabilities are then those of the distribution renormalised over what the schema allows at each token: vLLM masks the
    logits before it samples and before it takes log-probabilities. The policy's own, which training computes, are lower by the
    log of the mass that was allowed, so a step that was decoded so is not trained on.
    """

    def fields(self) -> dict[str, Any]:
        """The request fields, without those that are left to the engine."""
        values: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "stop": list(self.stop) or None,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "n": self.n if self.n != 1 else None,
            "ignore_eos": self.ignore_eos or None,
            "response_format": _response_format(self.schema) if self.schema else None,
        }
        return {name: value for name, value in values.items() if value is not None}


def _response_format(schema: str) -> dict[str, Any]:
    """OpenAI's form, which vLLM takes too."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema)}}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one choice. Without streaming there is one a choice, with everything in it.

    `token_ids` and `logprobs` belong to this piece; `prompt_ids` come with the first piece; `usage` with the last of all.
    An engine that knows no ids leaves them None.
    """

    index: int = 0
    text: str = ""
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(slots=True)
class Completion:
    """One whole choice, gathered from its chunks."""

    index: int = 0
    text: str = ""
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    prompt_ids: list[int] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)

    def add(self, chunk: Chunk) -> None:
        """Append a chunk of this choice."""
        self.text += chunk.text
        if chunk.token_ids is not None:
            self.token_ids = [*(self.token_ids or ()), *chunk.token_ids]
        if chunk.logprobs is not None:
            self.logprobs = [*(self.logprobs or ()), *chunk.logprobs]
        if chunk.prompt_ids is not None:
            self.prompt_ids = list(chunk.prompt_ids)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.usage = chunk.usage or self.usage


async def collect(chunks: AsyncIterator[Chunk]) -> list[Completion]:
    """All choices of a call, by index."""
    choices: dict[int, Completion] = {}
    async for chunk in chunks:
        choices.setdefault(chunk.index, Completion(index=chunk.index)).add(chunk)
    return [choices[index] for index in sorted(choices)]


class Health(NamedTuple):
    """Whether the engine answers, and a sentence for people."""

    ready: bool
    detail: str


class Engine(Protocol):
    """A language model that serves one base model and versioned adapters.

    Errors: EngineUnavailable (none now; try later), EngineError (it answered with an error), ContextTooLong,
    InvalidRequest (it refused a field), NotFound (no such adapter).
    """

    @property
    def base(self) -> str:
        """The name of the base model, as the engine calls it."""
        ...

    @property
    def window(self) -> int | None:
        """Tokens of prompt and completion together; None if unknown."""
        ...

    @property
    def exact(self) -> bool:
        """True if it gives token ids and log-probabilities and takes prompts as ids."""
        ...

    @property
    def guided(self) -> bool:
        """True if it can hold an answer to a schema (`Sampling.schema`)."""
        ...

    def chat(
        self, messages: Sequence[Message], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Answer a conversation under the model's chat template. `salt` parts the prefix cache between tenants."""
        ...

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Continue a prompt given as ids. Only where `exact`."""
        ...

    async def encode(self, text: str) -> list[int]:
        """The ids of a text, without added special tokens. Only where `exact`."""
        ...

    async def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation under the model's chat template, ready for an answer. Only where `exact`."""
        ...

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included. Only where `exact`."""
        ...

    async def load_adapter(self, policy: Policy, path: str) -> None:
        """Make a policy's adapter answerable by its name. AdapterRefused if it does not fit; loading it twice is fine."""
        ...

    async def unload_adapter(self, policy: Policy) -> None:
        """Forget an adapter; requests in flight finish. Unloading one that is not loaded is fine."""
        ...

    async def health(self) -> Health:
        """Whether requests would be answered now."""
        ...

    async def start(self) -> None:
        """Begin to supervise or to connect; returns at once. Readiness is told by `health`."""
        ...

    async def close(self) -> None:
        """End what was started."""
        ...
