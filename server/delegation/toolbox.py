"""The tools that a worker's model has: its user's memory, and files that may be read. What they return is data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recollect.errors import Forbidden, RecollectError
from recollect.memory import MAX_TEXT, Kind, MemoryWrite
from recollect.tools import Tool, ToolCall
from recollect.trajectory import MemoryOp, MemoryRef
from server.agents.base import AgentContext
from server.agents.memory_ids import memory_id, provenance
from server.delegation.paths import MAX_READ, Roots

ROLE = "tool"
MAX_PATH, MAX_PATTERN = 4_096, 128
READERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="worker-files")
"""Reading files takes no thread from the rest of the server, however long it takes."""
MAX_RESULT = 40_000
"""Characters of one result."""
TAG = "delegation"
"""What marks memories that workers wrote."""


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Query(_Arguments):
    """What to look for in memory."""

    query: str = Field(min_length=1, max_length=2_000)
    limit: int = Field(default=8, ge=1, le=20)


class Fact(_Arguments):
    """One fact, in one or two sentences."""

    text: str = Field(min_length=1, max_length=MAX_TEXT)


class ReadFile(_Arguments):
    """A file, from a character on."""

    path: str = Field(max_length=MAX_PATH)
    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=MAX_READ, ge=1, le=MAX_READ)


class ListFiles(_Arguments):
    """A folder, and how names look."""

    path: str = Field(default=".", max_length=MAX_PATH)
    pattern: str = Field(default="*", max_length=MAX_PATTERN)


class SearchFiles(_Arguments):
    """A text to look for in files."""

    text: str = Field(min_length=1, max_length=400)
    path: str = Field(default=".", max_length=MAX_PATH)
    pattern: str = Field(default="*", max_length=MAX_PATTERN)


Outcome = Literal["done", "failed", "denied"]
Told = Callable[[str, str | None, Outcome], None]
Runs = Callable[[Any, AgentContext], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Known:
    line: str
    arguments: type[BaseModel]
    run: Runs


class Toolbox:
    """The tools by name. `told` hears of every call: its name, what path it was about, and how it went."""

    def __init__(self, roots: Roots, chosen: Sequence[str] | None, told: Told) -> None:
        """`chosen`: which of them; None: all. Those on files are left out where no folder is allowed.

        A path is told only of what was found: a wrong one may be any text.
        """
        self._told = told
        files: dict[str, _Known] = {
            "list_files": _Known("List files under a folder.", ListFiles, _in_thread(lambda a: roots.list(a.path, pattern=a.pattern))),
            "read_file": _Known("Read a text file.", ReadFile, _in_thread(lambda a: roots.read(a.path, offset=a.offset, limit=a.limit))),
            "search_files": _Known(
                "Find lines of files that hold a text.", SearchFiles, _in_thread(lambda a: roots.search(a.text, a.path, pattern=a.pattern))
            ),
        }
        known: dict[str, _Known] = {
            "search_memories": _Known("Find what is remembered of earlier tasks and conversations.", Query, _search),
            "add_memory": _Known("Remember a fact that later tasks will need.", Fact, _remember),
            **(files if roots.folders else {}),
        }
        self._known = known if chosen is None else {name: known[name] for name in chosen if name in known}

    @property
    def offered(self) -> tuple[Tool, ...]:
        """What the model is told of them."""
        return tuple(
            Tool(name=name, description=one.line, parameters=one.arguments.model_json_schema()) for name, one in self._known.items()
        )

    async def run(self, call: ToolCall, ctx: AgentContext) -> str:
        """Do one call. What goes wrong is the result, for the model to read."""
        known = self._known.get(call.name)
        try:
            if known is None:
                self._told("unknown", None, "failed")
                return f"error: there is no tool {call.name!r}; there are {', '.join(self._known)}"
            arguments = known.arguments.model_validate_json(call.arguments or "{}")
            result = await known.run(arguments, ctx)
        except ValidationError as exc:
            problem = exc.errors(include_input=False, include_url=False)[0]
            field = ".".join(str(part) for part in problem["loc"])
            self._told(call.name, None, "failed")
            return f"error: {f'{field}: ' if field else ''}{problem['msg']}"
        except RecollectError as exc:
            self._told(call.name, None, "denied" if isinstance(exc, Forbidden) else "failed")
            return f"error: {exc.message}"
        self._told(call.name, getattr(arguments, "path", None), "done")
        return result if len(result) <= MAX_RESULT else f"{result[:MAX_RESULT]}\n[cut: {len(result) - MAX_RESULT} characters more]"


def _in_thread(read: Callable[[Any], str]) -> Runs:
    async def run(arguments: Any, _: AgentContext) -> str:
        return await asyncio.get_running_loop().run_in_executor(READERS, read, arguments)

    return run


async def _search(arguments: Query, ctx: AgentContext) -> str:
    hits = await ctx.store.search(ctx.namespace, arguments.query, limit=arguments.limit)
    refs = [MemoryRef(id=h.record.id, score=h.score, content_hash=h.record.content_hash, trust=h.record.trust) for h in hits]
    ctx.recorder.begin_operation(ROLE, refs)
    return "\n".join(f"- {hit.record.text}" for hit in hits) or "[nothing is remembered of it]"


async def _remember(arguments: Fact, ctx: AgentContext) -> str:
    await write_memory(arguments.text, ctx, kind="semantic")
    return "remembered"


async def write_memory(text: str, ctx: AgentContext, *, kind: Kind) -> None:
    """Commit what a worker found out, as a memory of its user that no user said."""
    step = ctx.recorder.begin_operation(ROLE)
    write = MemoryWrite(
        op="add",
        id=memory_id(ctx, step, 0),
        text=text,
        kind=kind,
        valid_at=ctx.at,
        provenance=provenance(ctx, step),
        trust="assistant",
        tags=(TAG,),
    )
    await ctx.store.apply(ctx.namespace, [write])
    ctx.recorder.amend(step, memory_ops=[MemoryOp(op="add", id=write.id, text=write.text)])
