"""One user of the demo, shown in full: told facts, asked questions, and the same memories found by an MCP client."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from clients.mcp_search import search_by_mcp
from trainer.demo.users import MAX_TOKENS, client

TOLD = (
    "My locker code is 4821.",
    "My dog is called Tarvo.",
    "My town is Kelbo.",
    "My sister is called Dorun.",
    "My dog is now Merin.",
)
ASKED = ("What is my locker code?", "What is my dog?", "What is my town?")


async def one_user(url: str, user: str, console: Console) -> None:
    """`user` tells facts on Monday and asks for them on Friday; then an MCP client looks into the memory."""
    talk = Table("who", "session", "text", title="a real openai client", title_justify="left")
    async with client(url) as openai:
        for session, texts in (("monday", TOLD), ("friday", ASKED)):
            for text in texts:
                answer = await openai.chat.completions.create(
                    model="memory",
                    messages=[{"role": "user", "content": text}],
                    user=user,
                    temperature=0,
                    max_tokens=MAX_TOKENS,
                    extra_headers={"X-Session-Id": session},
                )
                talk.add_row(user, session, text)
                talk.add_row("memory", session, answer.choices[0].message.content)
    console.print(talk)
    found = await search_by_mcp(f"{url}/mcp", "dog", scope=user)
    if not found:
        console.print("The same memory by MCP (search_memories): empty; the model stored nothing of what it was told")
        return
    memories = Table("score", "memory", title="the same memory by MCP (search_memories)", title_justify="left")
    for score, text in found:
        memories.add_row(f"{score:.3f}", text)
    console.print(memories)
