"""The SDKs of OpenAI and Anthropic, and LangChain: a session that stores a fact, and a second one that recalls it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from mcp import Client
from openai import AsyncOpenAI

from tests.clients.conftest import CLIENTS, Place

pytestmark = pytest.mark.clients
FACT, QUESTION = "My boat is called Albatross.", "What is my boat called?"
LOOK: Any = {
    "name": "search_memories",
    "description": "Finds memories.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
}
Ask = Callable[[str], Awaitable[str]]


async def _recalls(place: Place, ask: Ask) -> None:
    await ask(FACT)
    assert FACT in await place.memories()
    assert FACT in await ask(QUESTION)


@pytest.fixture
async def openai(place: Place) -> AsyncGenerator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{place.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_openai_chat(place: Place, openai: AsyncOpenAI) -> None:
    async def ask(text: str) -> str:
        answer = await openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": text}])
        return answer.choices[0].message.content or ""

    await _recalls(place, ask)


async def test_openai_chat_streaming(place: Place, openai: AsyncOpenAI) -> None:
    async def ask(text: str) -> str:
        stream = await openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": text}], stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    await _recalls(place, ask)


async def test_openai_chat_with_tools(place: Place, openai: AsyncOpenAI) -> None:
    """The base model without memory: it recalls by the tool alone, which the client runs over MCP."""
    await openai.chat.completions.create(model="memory", messages=[{"role": "user", "content": FACT}])
    conversation: list[Any] = [{"role": "user", "content": QUESTION}]
    tools: Any = [{"type": "function", "function": LOOK}]
    first = await openai.chat.completions.create(model="scripted", messages=conversation, tools=tools)
    [call] = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    async with Client(f"{place.url}/mcp") as mcp:
        found = await mcp.call_tool(call.function.name, json.loads(call.function.arguments))
    result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps(found.structured_content)}
    conversation += [first.choices[0].message.model_dump(exclude_none=True), result]
    second = await openai.chat.completions.create(model="scripted", messages=conversation, tools=tools)
    assert second.choices[0].message.content == FACT


async def test_openai_responses(place: Place, openai: AsyncOpenAI) -> None:
    async def ask(text: str) -> str:
        return (await openai.responses.create(model="memory", input=text)).output_text

    await _recalls(place, ask)


async def test_openai_responses_streaming(place: Place, openai: AsyncOpenAI) -> None:
    async def ask(text: str) -> str:
        async with openai.responses.stream(model="memory", input=text) as stream:
            return (await stream.get_final_response()).output_text

    await _recalls(place, ask)


async def test_anthropic(place: Place) -> None:
    async with AsyncAnthropic(base_url=place.url, api_key="none", max_retries=0) as client:

        async def ask(text: str) -> str:
            answer = await client.messages.create(model="memory", max_tokens=100, messages=[{"role": "user", "content": text}])
            return "".join(block.text for block in answer.content if block.type == "text")

        await _recalls(place, ask)


async def test_anthropic_streaming(place: Place) -> None:
    async with AsyncAnthropic(base_url=place.url, api_key="none", max_retries=0) as client:

        async def ask(text: str) -> str:
            async with client.messages.stream(model="memory", max_tokens=100, messages=[{"role": "user", "content": text}]) as stream:
                return await stream.get_final_text()

        await _recalls(place, ask)


LANGCHAIN = """
import sys
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

url, text, how = sys.argv[1:]

@tool
def search_memories(query: str) -> str:
    "Finds memories."
    return "My boat is called Albatross."

if how == "tools":
    model = ChatOpenAI(model="scripted", base_url=url, api_key="none").bind_tools([search_memories])
    conversation = [HumanMessage(text)]
    answer = model.invoke(conversation)
    conversation += [answer, *(ToolMessage(search_memories.invoke(c["args"]), tool_call_id=c["id"]) for c in answer.tool_calls)]
    print(model.invoke(conversation).content)
elif how == "responses":
    print(ChatOpenAI(model="memory", base_url=url, api_key="none", use_responses_api=True).invoke(text).text)
elif how == "stream":
    print("".join(chunk.content for chunk in ChatOpenAI(model="memory", base_url=url, api_key="none").stream(text)))
else:
    print(ChatOpenAI(model="memory", base_url=url, api_key="none").invoke(text).content)
"""


@pytest.mark.parametrize("how", ["chat", "stream", "responses"])
async def test_langchain(place: Place, how: str) -> None:
    python = CLIENTS / "bin" / "python"

    async def ask(text: str) -> str:
        return await place.run(python, "-c", LANGCHAIN, f"{place.url}/v1", text, how)

    await _recalls(place, ask)


async def test_langchain_with_tools(place: Place) -> None:
    answer = await place.run(CLIENTS / "bin" / "python", "-c", LANGCHAIN, f"{place.url}/v1", QUESTION, "tools")
    assert FACT in answer
