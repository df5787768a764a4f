"""The wire shape of a chat request, and what it means: OpenAI's fields, checked one by one, nothing passed on unread."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.messages import Message, Role
from recollect.tools import Tool, ToolCall, Tools
from server.engines.base import Sampling
from server.routes.wire import Body, Wire
from server.routes.wire_content import ContentPart, message_of
from server.routes.wire_tools import MAX_TOOLS, ToolName, tools_of

MAX_CHOICES = 64
DOCUMENT = "document_id"
"""The key of `metadata` that names an uploaded file to read."""
StopText = Annotated[str, Field(min_length=1)]


class WireFunction(Wire):
    """A function that is offered."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class WireTool(Wire):
    """A tool that is offered. Only functions are known here: the client runs them."""

    type: Literal["function"]
    function: WireFunction


class CalledFunction(Wire):
    """What an earlier answer called."""

    name: ToolName
    arguments: str


class WireCall(Wire):
    """A call in an earlier answer."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class NamedFunction(Wire):
    """A function by its name."""

    name: ToolName


class NamedTool(Wire):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Wire):
    """What an answer is held to. The name and the description are the client's own."""

    name: str
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Wire):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class WireMessage(Wire):
    """One message of the request. What an earlier answer thought is taken and left: clients send whole messages back."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[WireCall] | None = None
    function_call: Any = None
    refusal: str | None = None
    audio: Any = None
    annotations: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None


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
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None = None
    tools: Annotated[list[WireTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: ResponseFormat | None = None
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
            "functions": self.functions,
            "function_call": self.function_call not in (None, "none", "auto"),
            "modalities": self.modalities not in (None, ["text"]),
            "audio": self.audio,
            "prediction": self.prediction,
            "web_search_options": self.web_search_options is not None,
        }
        for name, used in refused.items():
            if used:
                raise InvalidRequest(f"{name} is not supported by this server; leave it out", param=name, code="unsupported_parameter")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs is only allowed with logprobs=true", param="top_logprobs")
        if self.response_format is not None and self.response_format.type == "json_schema" and self.response_format.json_schema is None:
            where = "response_format.json_schema"
            raise InvalidRequest(f"{where} is required", param=where, code="missing_required_parameter")
        if self.tools is None and self.tool_choice not in (None, "none", "auto"):
            raise InvalidRequest("tool_choice is only allowed with tools", param="tool_choice")
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
        form = self.response_format
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            n=self.n or 1,
            schema=json.dumps(form.json_schema.json_schema) if form is not None and form.json_schema is not None else None,
            json_object=form is not None and form.type == "json_object",
            logit_bias=tuple((self.logit_bias or {}).items()),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def offered(self) -> Tools | None:
        """The tools; None if there are none. Raises InvalidRequest for a name that is there twice, or a choice of what is not there."""
        if not self.tools:
            return None
        tools = [
            Tool(name=each.name, description=each.description or "", parameters=each.parameters or {}, strict=each.strict)
            for each in (tool.function for tool in self.tools)
        ]
        chosen = self.tool_choice
        if isinstance(chosen, NamedTool):
            return tools_of(tools, "function", chosen.function.name, self.parallel_tool_calls)
        return tools_of(tools, chosen or "auto", None, self.parallel_tool_calls)

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
    for name, used in (("function_call", wire.function_call), ("audio", wire.audio)):
        if used:
            raise InvalidRequest(f"{where}.{name} is not supported by this server", param=f"{where}.{name}", code="unsupported_parameter")
    role: Role = "system" if wire.role == "developer" else wire.role
    calls = tuple(ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments) for call in wire.tool_calls or ())
    if calls and role != "assistant":
        raise InvalidRequest(f"{where}.tool_calls: only an assistant's message has them", param=f"{where}.tool_calls")
    if role == "tool" and not wire.tool_call_id:
        name = f"{where}.tool_call_id"
        raise InvalidRequest(f"{name} is required: it names the call that this answers", param=name, code="missing_required_parameter")
    if wire.content is None:
        if not calls:
            raise InvalidRequest(f"{where}.content is required", param=f"{where}.content", code="missing_required_parameter")
        return [Message(role=role, content="", tool_calls=calls)]
    if isinstance(wire.content, str):
        return [Message(role=role, content=wire.content, tool_calls=calls, tool_call_id=_answered(wire))]
    found = [message_of(part, role, f"{where}.content[{index}]") for index, part in enumerate(wire.content)]
    if not found and not calls:
        raise InvalidRequest(f"{where}.content has no parts", param=f"{where}.content")
    if role == "user":
        return found
    text = "\n".join(message.content for message in found)
    return [Message(role=role, content=text, tool_calls=calls, tool_call_id=_answered(wire))]


def _answered(wire: WireMessage) -> str | None:
    return wire.tool_call_id if wire.role == "tool" else None
