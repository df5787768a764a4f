"""What the three protocols have in common about tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from recollect.errors import InvalidRequest
from recollect.tools import Tool, Tools

MAX_TOOLS = 256
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


def tools_of(
    tools: Sequence[Tool], choice: Literal["auto", "none", "required", "function"], named: str | None = None, parallel: bool | None = None
) -> Tools:
    """What is offered. Raises InvalidRequest for a name that is there twice, and for a choice of what is not there."""
    names = [tool.name for tool in tools]
    if twice := next((name for index, name in enumerate(names) if name in names[:index]), None):
        raise InvalidRequest(f"tools: {twice!r} is there twice; give each tool a name of its own", param="tools")
    if named is not None and named not in names:
        raise InvalidRequest(f"tool_choice: there is no tool {named!r}; offered are {', '.join(names[:20])}", param="tool_choice")
    return Tools(offered=tuple(tools), choice=choice, named=named, parallel=parallel)
