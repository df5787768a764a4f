"""The seam to a language model: one protocol, whether the model runs in a child process, behind a URL, or is scripted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from recollect.messages import Message
from recollect.policy import Policy
from recollect.tools import ToolCall, Tools
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
    at_most: bool = False
    """`max_tokens` is a limit that need not fit into the window; else what does not fit is an error."""
    json_object: bool = False
    """Held to some JSON object, as by a schema."""
    logit_bias: tuple[tuple[str, float], ...] = ()
    """What is added to the logits of single tokens, by id; such a step is not trained on either."""
    top_logprobs: int | None = None
    """How many alternatives to tell for each token (`Chunk.told`); None: nothing is told to the client."""

    @property
    def bent(self) -> bool:
        """True if what is sampled from is not the policy's own distribution."""
        return self.schema is not None or self.json_object or bool(self.logit_bias)

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
            "response_format": _response_format(self.schema) if self.schema else {"type": "json_object"} if self.json_object else None,
            "logit_bias": dict(self.logit_bias) or None,
        }
        return {name: value for name, value in values.items() if value is not None}


def _response_format(schema: str) -> dict[str, Any]:
    """OpenAI's form, which vLLM takes too."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema)}}


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a tool call: `index` counts the calls of its choice; id and name come with the first piece of each."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one choice. Without streaming there is one a choice, with everything in it.

    `token_ids` and `logprobs` belong to this piece; `prompt_ids` come with the first piece; `usage` with the last of all.
    An engine that knows no ids leaves them None. `told`: log-probabilities as the client asked for them, in OpenAI's form.
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    """What the model thought, where the engine tells it apart from what it says. It is shown and logged, and never prompted with again."""
    calls: tuple[CallPiece, ...] = ()
    told: tuple[dict[str, Any], ...] = ()
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    stopped_by: str | None = None
    """Which text of `Sampling.stop` ended it, where the engine says so."""
    usage: Usage | None = None


@dataclass(slots=True)
class Completion:
    """One whole choice, gathered from its chunks."""

    index: int = 0
    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    prompt_ids: list[int] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)

    def add(self, chunk: Chunk) -> None:
        """Append a chunk of this choice."""
        self.text += chunk.text
        self.reasoning += chunk.reasoning
        add_pieces(self.calls, chunk.calls)
        if chunk.token_ids is not None:
            self.token_ids = [*(self.token_ids or ()), *chunk.token_ids]
        if chunk.logprobs is not None:
            self.logprobs = [*(self.logprobs or ()), *chunk.logprobs]
        if chunk.prompt_ids is not None:
            self.prompt_ids = list(chunk.prompt_ids)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.usage = chunk.usage or self.usage


def add_pieces(calls: list[ToolCall], pieces: Sequence[CallPiece]) -> None:
    """Append what came of the calls of one choice."""
    for piece in pieces:
        if piece.index < len(calls):
            known = calls[piece.index]
            calls[piece.index] = known.model_copy(update={"arguments": known.arguments + piece.arguments})
        else:
            calls.append(ToolCall(id=piece.id or "", name=piece.name or "", arguments=piece.arguments))


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
        self,
        messages: Sequence[Message],
        *,
        policy: Policy,
        sampling: Sampling,
        stream: bool = False,
        salt: str | None = None,
        tools: Tools | None = None,
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

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """How many tokens `chat` would prompt with. Only where `exact`."""
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
