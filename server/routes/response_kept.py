"""A response from the log: the same that was answered once, less what the log does not keep: log-probabilities as they were told,
and the order of what came mixed. It has one thought, one text and the calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recollect.messages import Message
from recollect.trajectory import Trajectory, Usage
from server.routes.errors import DEFECT
from server.routes.response_items import Asked, Json, Names, broken, call_item, ended, failed, output_of, text_item
from server.routes.said import Said, extension_of
from server.routes.wire_responses import CALLED, names_in


def kept_response(found: Trajectory) -> Json:
    """The response; one that failed says so."""
    asked = _asked(found)
    said = Said(text=found.answer, reasoning=found.answer_reasoning, calls=found.answer_calls)
    if found.error is not None:
        output = output_of(found.id, asked.names, said, silent=True)
        return failed(found.id, asked, broken(output, found.finish_reason), _told(found.error))
    usage = sum((step.usage for step in found.steps), Usage())
    policies = {step.alias or "base": step.policy.name for step in found.steps if step.policy is not None}
    output = output_of(found.id, asked.names, said)
    return ended(found.id, asked, output, found.finish_reason, usage, extension_of(found.id, policies, found.steps))


def _told(error: str) -> str:
    """What the client was told of it: the log has the type of the error in front, and of a defect nothing else."""
    _, _, message = error.partition(": ")
    return message or DEFECT


def input_items(found: Trajectory) -> list[Json]:
    """The conversation that was answered, oldest first, earlier answers of it included and the instructions not."""
    names = _asked(found).names
    messages = found.request[1 if found.instructed else 0 :]
    called = {call.id: call.name for message in messages for call in message.tool_calls}
    items: list[Json] = []
    for message in messages:
        for item in _items(message, names, called):
            items.append({"id": f"{item.pop('kind')}_{found.id}_in{len(items)}", **item})
    return items


def _items(message: Message, names: Names, called: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Each with its `kind`, which its id begins with."""
    done = {"status": "completed"}
    if message.role == "tool":
        custom = (name := called.get(message.tool_call_id or "")) is not None and name in names and names[name].custom
        type_ = "custom_tool_call_output" if custom else "function_call_output"
        yield {"kind": "fco", "type": type_, "call_id": message.tool_call_id, "output": message.content, **done}
    elif message.role == "assistant":
        if message.content or not message.tool_calls:
            yield {"kind": "msg", **_without_id(text_item("", message.content))}
        for call in message.tool_calls:
            yield {"kind": "fc", **_without_id(call_item("", names, call))}
    else:
        yield {"kind": "msg", "type": "message", "role": message.role, "content": [_part(message)], **done}


def _without_id(item: Json) -> Json:
    return {name: value for name, value in item.items() if name != "id"}


def _part(message: Message) -> Json:
    if message.image is not None:
        return {"type": "input_image", "detail": "auto", "image_url": message.image}
    if message.file_id is not None:
        return {"type": "input_file", "file_id": message.file_id}
    return {"type": "input_text", "text": message.content}


def _asked(found: Trajectory) -> Asked:
    instructions = found.request[0].content if found.instructed else found.asked.get("instructions")
    echo = {name: value for name, value in found.asked.items() if name != CALLED}
    return Asked({**echo, "instructions": instructions}, names_in(found.asked))
