"""The wire shape of a chat request, and what it means: OpenAI's fields, checked one by one, nothing passed on unread."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.messages import Message, Role
from server.engines.base import Sampling
from server.routes.wire import Body, Wire
from server.routes.wire_content import ContentPart, message_of

MAX_CHOICES = 64
DOCUMENT = "document_id"
"""The key of `metadata` that names an uploaded file to read."""
StopText = Annotated[str, Field(min_length=1)]


class WireMessage(Wire):
    """One message of the request."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    refusal: str | None = None
    audio: Any = None
    annotations: Any = None


class StreamOptions(Wire):
    """Options of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatBody(Body):
    """`POST /v1/chat/completions`. Fields that OpenAI knows and that change nothing here are taken and left."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[WireMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    verbosity: str | None = None

    def check(self) -> None:
        """Raises InvalidRequest for what is known but not done here."""
        refused = {
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
            "logit_bias": self.logit_bias,
            "tools": self.tools,
            "tool_choice": self.tool_choice not in (None, "none", "auto"),
            "functions": self.functions,
            "function_call": self.function_call not in (None, "none", "auto"),
            "response_format": self.response_format is not None and self.response_format.get("type") != "text",
            "modalities": self.modalities not in (None, ["text"]),
            "audio": self.audio,
            "prediction": self.prediction,
            "web_search_options": self.web_search_options is not None,
        }
        for name, used in refused.items():
            if used:
                raise InvalidRequest(f"{name} is not supported by this server; leave it out", param=name, code="unsupported_parameter")
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options is only allowed with stream=true", param="stream_options")
        if (self.n or 1) > 1 and self.temperature == 0:
            raise InvalidRequest("n above 1 with temperature 0 would give the same answer n times; raise temperature", param="n")

    @property
    def include_usage(self) -> bool:
        """True if a stream ends with a chunk that has the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self) -> Sampling:
        """How to sample."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            n=self.n or 1,
        )

    def conversation(self) -> tuple[Message, ...]:
        """The messages, the document that `metadata` names first. Each part of a user's message is one of its own; other roles' parts
        are joined by newlines."""
        messages = [message for index, wire in enumerate(self.messages) for message in _messages(wire, f"messages[{index}]")]
        if named := (self.metadata or {}).get(DOCUMENT):
            messages.insert(0, Message(role="user", content="", file_id=named))
        return tuple(messages)

    @property
    def attached(self) -> bool:
        """True if something came as a file."""
        parts = [part for wire in self.messages if isinstance(wire.content, list) for part in wire.content]
        return bool((self.metadata or {}).get(DOCUMENT)) or any(part.type == "file" for part in parts)


def _messages(wire: WireMessage, where: str) -> list[Message]:
    for name, used in (("tool_calls", wire.tool_calls), ("function_call", wire.function_call), ("audio", wire.audio)):
        if used:
            raise InvalidRequest(f"{where}.{name} is not supported by this server", param=f"{where}.{name}", code="unsupported_parameter")
    role: Role = "system" if wire.role == "developer" else wire.role
    if wire.content is None:
        raise InvalidRequest(f"{where}.content is required", param=f"{where}.content", code="missing_required_parameter")
    if isinstance(wire.content, str):
        return [Message(role=role, content=wire.content)]
    found = [message_of(part, role, f"{where}.content[{index}]") for index, part in enumerate(wire.content)]
    if not found:
        raise InvalidRequest(f"{where}.content has no parts", param=f"{where}.content")
    return found if role == "user" else [Message(role=role, content="\n".join(message.content for message in found))]
