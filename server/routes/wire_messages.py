"""The wire shape of Anthropic's messages, and what it means: blocks become messages, tool calls and their results."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from recollect.errors import InvalidRequest
from recollect.messages import Message
from recollect.tools import Tool, ToolCall, Tools
from server.engines.base import Sampling
from server.routes.wire import LooseBody, Wire
from server.routes.wire_content import image_of, results_first
from server.routes.wire_tools import MAX_TOOLS, ToolName, tools_of


class Source(Wire):
    """Where an image or a document comes from."""

    type: Literal["base64", "text", "url", "file", "content"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Any = None


class Block(Wire):
    """A block of content. Which of the fields it has depends on its type; marks of caching and citing are left unread."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: str
    text: str | None = None
    source: Source | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None


class WireTurn(Wire):
    """One turn of the conversation."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class OfferedTool(Wire):
    """A tool that is offered. One that Anthropic's servers would run has another type than custom."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: ToolName
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class Choice(Wire):
    """Whether a tool is called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Prompt(LooseBody):
    """What `count_tokens` counts, and what a message is asked for with."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[WireTurn], Field(min_length=1)]
    system: str | list[Block] | None = None
    tools: Annotated[list[OfferedTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Choice | None = None

    def conversation(self) -> tuple[Message, ...]:
        """The messages, `system` first. Raises InvalidRequest for a block that is not understood, naming its place."""
        found: list[Message] = []
        if self.system:
            found.append(Message(role="system", content=_joined(self.system, "system")))
        for index, turn in enumerate(self.messages):
            found += _turn(turn, f"messages[{index}].content")
        return tuple(results_first(found))

    @property
    def attached(self) -> bool:
        """True if the user's turns hold a document."""
        blocks = [block for turn in self.messages if isinstance(turn.content, list) for block in turn.content]
        return any(block.type == "document" for block in blocks)

    def offered(self) -> Tools | None:
        """The tools that the client runs; None if there are none. Those that a server would run are left out."""
        own = [tool for tool in self.tools or () if tool.type in (None, "custom")]
        if not own:
            return None
        tools = [Tool(name=tool.name, description=tool.description or "", parameters=tool.input_schema or {}) for tool in own]
        choice = self.tool_choice or Choice(type="auto")
        parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
        if choice.type == "tool":
            if choice.name is None:
                raise InvalidRequest("tool_choice.name is required with type tool", param="tool_choice.name")
            return tools_of(tools, "function", choice.name, parallel)
        return tools_of(tools, "required" if choice.type == "any" else choice.type, None, parallel)


class UserMetadata(Wire):
    """Who asks."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    user_id: str | None = None


class Thinking(Wire):
    """Whether what the model thought is told. That it thinks, and how much, is the engine's matter."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    type: Literal["enabled", "adaptive", "disabled"]
    display: str | None = None


class MessagesBody(Prompt):
    """`POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    metadata: UserMetadata | None = None
    thinking: Thinking | None = None

    @property
    def shows_thinking(self) -> bool:
        """True if the answer begins with what was thought."""
        return self.thinking is not None and self.thinking.type != "disabled" and self.thinking.display != "omitted"

    def unread(self) -> dict[str, str]:
        """Also how much is to be thought."""
        names = {f"tools.{tool.name}" for tool in self.tools or () if tool.type not in (None, "custom")}
        return self.unread_with(names | {f"thinking.{name}" for name in (self.thinking and self.thinking.model_extra) or ()})

    def sampling(self) -> Sampling:
        """How to sample. `max_tokens` is a limit: clients name their model's, which may be above this one's window."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            at_most=True,
            stop=tuple(self.stop_sequences or ()),
        )


def _turn(turn: WireTurn, where: str) -> list[Message]:
    if isinstance(turn.content, str):
        return [Message(role=turn.role, content=turn.content)]
    if not turn.content:
        raise InvalidRequest(f"{where} has no blocks", param=where)
    if turn.role == "system":
        return [Message(role="system", content=_joined(turn.content, where))]
    if turn.role == "assistant":
        return _said(turn.content, where)
    found: list[Message] = []
    for index, block in enumerate(turn.content):
        found += _heard(block, f"{where}[{index}]")
    return found


def _said(blocks: list[Block], where: str) -> list[Message]:
    """An assistant's blocks as one message; what it thought is left out."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(blocks):
        match block.type:
            case "text":
                texts.append(_text(block, f"{where}[{index}]"))
            case "tool_use":
                if not block.id or not block.name:
                    missing = f"{where}[{index}].{'name' if block.id else 'id'}"
                    raise InvalidRequest(f"{missing} is required", param=missing, code="missing_required_parameter")
                calls.append(ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input or {}, ensure_ascii=False)))
            case "thinking" | "redacted_thinking":
                pass
            case _:
                raise _not_read(block, f"{where}[{index}]")
    return [Message(role="assistant", content="".join(texts), tool_calls=tuple(calls))] if texts or calls else []


def _heard(block: Block, where: str) -> list[Message]:
    """A block of the user's turn: text, an image, a text document, or the result of a call."""
    match block.type:
        case "text":
            return [Message(role="user", content=_text(block, where))]
        case "image":
            return [image_of(_data_url(block, where), "user", f"{where}.source")]
        case "document" if block.source is not None and block.source.type == "text":
            return [Message(role="user", content=block.source.data or "")]
        case "tool_result":
            if not block.tool_use_id:
                name = f"{where}.tool_use_id"
                raise InvalidRequest(
                    f"{name} is required: it names the call that this answers", param=name, code="missing_required_parameter"
                )
            return _result(block, where)
        case _:
            raise _not_read(block, where)


def _result(block: Block, where: str) -> list[Message]:
    """What a tool answered; its images follow as the user's, because a tool's message holds text alone."""
    parts = [Block(type="text", text=block.content)] if isinstance(block.content, str) else block.content or []
    texts: list[str] = []
    images: list[Message] = []
    for index, part in enumerate(parts):
        for message in _heard(part, f"{where}.content[{index}]"):
            if message.is_text:
                texts.append(message.content)
            else:
                images.append(message)
    failed = "Error: " if block.is_error else ""
    told = Message(role="tool", content=failed + "\n".join(texts), tool_call_id=block.tool_use_id)
    return [told, *images]


def _joined(content: str | list[Block], where: str) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(_text(block, f"{where}[{index}]") for index, block in enumerate(content))


def _text(block: Block, where: str) -> str:
    if block.type != "text":
        raise _not_read(block, where)
    if block.text is None:
        raise InvalidRequest(f"{where}.text is required", param=f"{where}.text", code="missing_required_parameter")
    return block.text


def _data_url(block: Block, where: str) -> str:
    source = block.source
    if source is None or source.type != "base64" or not source.media_type:
        raise InvalidRequest(
            f"{where}.source: send the image itself, as type base64 with media_type and data; nothing is fetched",
            param=f"{where}.source",
            code="unsupported_content_part",
        )
    return f"data:{source.media_type};base64,{source.data or ''}"


def _not_read(block: Block, where: str) -> InvalidRequest:
    return InvalidRequest(
        f"{where} is of type {block.type[:40]!r}, which this server does not read", param=where, code="unsupported_content_part"
    )
