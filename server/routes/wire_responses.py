"""The wire shape of OpenAI's responses, and what it means: items become messages, tool calls and their results.

Tools in a namespace are offered to the model as `namespace__name`, and custom tools, whose input is plain text, as functions with one
argument `input`; `OfferedNames` turns the calls back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from recollect.errors import InvalidRequest
from recollect.messages import Message
from recollect.tools import Tool, ToolCall, Tools
from server.engines.base import Sampling
from server.routes.wire import LooseBody, Wire
from server.routes.wire_chat import StreamOptions
from server.routes.wire_content import FilePart, image_of, results_first, text_of_file
from server.routes.wire_tools import MAX_TOOLS, ToolName, tools_of

LOGPROBS = "message.output_text.logprobs"
FREE_TEXT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
SEPARATOR = "__"


class Loose(Wire):
    """A part whose further fields are left unread."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, populate_by_name=True)


class Part(Loose):
    """A part of an item's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_id: str | None = None
    file_data: str | None = None


class Item(Loose):
    """One item of the conversation. Which of the fields it has depends on its type; without one it is a message."""

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[Part] | None = None


class OfferedTool(Loose):
    """A tool that is offered: a function, a custom tool, or a namespace of such. Others a server would have to run."""

    type: str
    name: ToolName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: list[OfferedTool] | None = None


class NamedTool(Loose):
    """The tool that must be called, or those that may be."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None


class Format(Loose):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class TextOptions(Loose):
    """Options of the text."""

    format: Format | None = None


class Offered(NamedTuple):
    """A tool as the client names it."""

    name: str
    namespace: str | None
    custom: bool


class ResponsesBody(LooseBody):
    """`POST /v1/responses`."""

    model: Annotated[str, Field(min_length=1)]
    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    store: bool | None = None
    text: TextOptions | None = None
    tools: Annotated[list[OfferedTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None

    def check(self) -> None:
        """Raises InvalidRequest for what is known but not done here."""
        for name in ("background", "conversation", "prompt"):
            if getattr(self, name):
                raise InvalidRequest(f"{name} is not supported by this server; leave it out", param=name, code="unsupported_parameter")
        form = self.text.format if self.text else None
        if form is not None and form.type == "json_schema" and form.json_schema is None:
            raise InvalidRequest("text.format.schema is required", param="text.format.schema", code="missing_required_parameter")

    def sampling(self) -> Sampling:
        """How to sample."""
        form = self.text.format if self.text else None
        told = self.top_logprobs is not None or LOGPROBS in (self.include or ())
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_output_tokens,
            at_most=True,
            schema=json.dumps(form.json_schema) if form is not None and form.json_schema is not None else None,
            json_object=form is not None and form.type == "json_object",
            top_logprobs=(self.top_logprobs or 0) if told else None,
        )

    def conversation_of(self, earlier: Sequence[Message] = ()) -> tuple[Message, ...]:
        """The messages: instructions, what was said `earlier`, the input. Raises InvalidRequest for an item that is not understood."""
        first = [Message(role="system", content=self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return (*first, *earlier, Message(role="user", content=self.input))
        said: list[Message] = []
        for index, item in enumerate(self.input):
            said += _messages(item, f"input[{index}]")
        return (*first, *earlier, *results_first(_with_joined_calls(said)))

    @property
    def attached(self) -> bool:
        """True if something came as a file."""
        parts = [part for item in self.input if isinstance(item, Item) and isinstance(item.content, list) for part in item.content]
        return any(part.type == "input_file" for part in parts)

    def names(self) -> dict[str, Offered]:
        """By the name that the model sees, how the client calls each tool that it runs."""
        return {name: offered for name, offered, _ in _run_by_client(self.tools or ())}

    def called(self) -> dict[str, Offered]:
        """The same of the tools whose calls are in the input."""
        items = [] if isinstance(self.input, str) else [item for item in self.input if item.type in _CALLS and item.name]
        return {flat(i.name or "", i.namespace): Offered(i.name or "", i.namespace, i.type == "custom_tool_call") for i in items}

    def offered(self) -> Tools | None:
        """The tools that the client runs; None if there are none."""
        tools = [tool for _, _, tool in _run_by_client(self.tools or ())]
        if not tools:
            return None
        chosen = self.tool_choice
        if isinstance(chosen, NamedTool):
            if chosen.type in ("function", "custom"):
                return tools_of(tools, "function", chosen.name or "", self.parallel_tool_calls)
            chosen = chosen.mode or "auto"
        return tools_of(tools, chosen or "auto", None, self.parallel_tool_calls)

    def unread(self) -> dict[str, str]:
        """Also tools that a server would run: this one has none."""
        hosted = {f"tools.{tool.type}" for tool in self.tools or () if tool.type not in ("function", "custom", "namespace")}
        return self.unread_with(hosted)


_RUN = ("function", "custom")
_CALLS = ("function_call", "custom_tool_call")
CALLED = "called"
"""In what is logged of a request: the names of tools that earlier answers called and it does not offer."""


def names_in(asked: Mapping[str, Any]) -> dict[str, Offered]:
    """`ResponsesBody.names` of what was logged of a request, those of earlier answers' calls included."""
    tools = [OfferedTool.model_validate(tool) for tool in asked.get("tools", ())]
    called = {name: Offered(*offered) for name, offered in asked.get(CALLED, {}).items()}
    return {**called, **{name: offered for name, offered, _ in _run_by_client(tools)}}


def _run_by_client(tools: Sequence[OfferedTool]) -> list[tuple[str, Offered, Tool]]:
    found: list[tuple[str, Offered, Tool]] = []
    for index, tool in enumerate(tools):
        if tool.type == "namespace":
            inner = tool.tools or []
            found += [_own(each, tool.name, f"tools[{index}].tools[{i}]") for i, each in enumerate(inner) if each.type in _RUN]
        elif tool.type in _RUN:
            found.append(_own(tool, None, f"tools[{index}]"))
    return found


def flat(name: str, namespace: str | None) -> str:
    """The one name that the model knows a tool by."""
    return name if namespace is None else f"{namespace}{SEPARATOR}{name}"


def _own(tool: OfferedTool, namespace: str | None, where: str) -> tuple[str, Offered, Tool]:
    if tool.name is None:
        raise InvalidRequest(f"{where}.name is required", param=f"{where}.name", code="missing_required_parameter")
    custom = tool.type == "custom"
    name = flat(tool.name, namespace)
    parameters = FREE_TEXT if custom else tool.parameters or {}
    offered = Tool(name=name, description=tool.description or "", parameters=parameters, strict=None if custom else tool.strict)
    return name, Offered(tool.name, namespace, custom), offered


def _messages(item: Item, where: str) -> list[Message]:
    match item.type:
        case "message":
            return _said(item, where)
        case "function_call" | "custom_tool_call":
            return [Message(role="assistant", content="", tool_calls=(_call(item, where),))]
        case "function_call_output" | "custom_tool_call_output":
            return _result(item, where)
        case "reasoning":
            return []
        case _:
            raise InvalidRequest(
                f"{where} is of type {item.type[:40]!r}, which this server does not read", param=where, code="unsupported_content_part"
            )


def _said(item: Item, where: str) -> list[Message]:
    if item.role is None:
        raise InvalidRequest(f"{where}.role is required", param=f"{where}.role", code="missing_required_parameter")
    role = "system" if item.role == "developer" else item.role
    if item.content is None:
        raise InvalidRequest(f"{where}.content is required", param=f"{where}.content", code="missing_required_parameter")
    if isinstance(item.content, str):
        return [Message(role=role, content=item.content)]
    if role == "user":
        return [_part(part, f"{where}.content[{index}]") for index, part in enumerate(item.content)]
    return [Message(role=role, content="".join(_text(part, f"{where}.content[{index}]") for index, part in enumerate(item.content)))]


def _part(part: Part, where: str) -> Message:
    if part.type == "input_image":
        return image_of(part.image_url or "", "user", f"{where}.image_url")
    if part.type == "input_file":
        return text_of_file(FilePart(file_id=part.file_id, file_data=part.file_data), where)
    return Message(role="user", content=_text(part, where))


def _text(part: Part, where: str) -> str:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in ("input_text", "output_text", "text", "refusal"):
        raise InvalidRequest(
            f"{where} is of type {part.type[:40]!r}, which this server does not read", param=where, code="unsupported_content_part"
        )
    if text is None:
        raise InvalidRequest(f"{where}.text is required", param=f"{where}.text", code="missing_required_parameter")
    return text


def _call(item: Item, where: str) -> ToolCall:
    for name in ("call_id", "name"):
        if not getattr(item, name):
            raise InvalidRequest(f"{where}.{name} is required", param=f"{where}.{name}", code="missing_required_parameter")
    arguments = json.dumps({"input": item.input or ""}) if item.type == "custom_tool_call" else item.arguments or ""
    return ToolCall(id=item.call_id or "", name=flat(item.name or "", item.namespace), arguments=arguments)


def _result(item: Item, where: str) -> list[Message]:
    """What a tool answered; its images follow as the user's, because a tool's message holds text alone."""
    if not item.call_id:
        name = f"{where}.call_id"
        raise InvalidRequest(f"{name} is required: it names the call", param=name, code="missing_required_parameter")
    if isinstance(item.output, str):
        return [Message(role="tool", content=item.output, tool_call_id=item.call_id)]
    parts = [_part(part, f"{where}.output[{index}]") for index, part in enumerate(item.output or ())]
    text = "\n".join(message.content for message in parts if message.is_text)
    return [Message(role="tool", content=text, tool_call_id=item.call_id), *(message for message in parts if not message.is_text)]


def _with_joined_calls(messages: Sequence[Message]) -> list[Message]:
    """Each call is an item; one answer's text and calls are one message."""
    joined: list[Message] = []
    for message in messages:
        if message.tool_calls and joined and joined[-1].role == "assistant":
            before = joined.pop()
            message = before.model_copy(update={"tool_calls": (*before.tool_calls, *message.tool_calls)})
        joined.append(message)
    return joined
