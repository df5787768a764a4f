"""The Codex CLI as an agent: it does a task by itself in one folder, inside its own sandbox (`codex exec --json`)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from recollect.errors import EngineError, EngineUnavailable, InvalidRequest
from recollect.messages import Message
from recollect.policy import Policy
from recollect.trajectory import Usage
from server.agents.base import AgentContext, AgentRequest, StreamEvent
from server.agents.config_hash import config_hash
from server.agents.streams import events_of
from server.delegation.loop import ROLE, keep_finding
from server.delegation.plan import CodexProvider, Effort
from server.engines.base import Chunk, Sampling

MAX_LINE = 16 * 2**20
KILL_AFTER_S = 5.0
LAST_WORD_S = 1.0
POLL_S = 0.05
_THREAD = re.compile("[0-9a-zA-Z][0-9a-zA-Z-]{0,63}")
SAID = 500


@dataclass(frozen=True, slots=True)
class CodexDelegate:
    """One task for Codex. With `thread` it goes on with an earlier one of its own."""

    target: str
    model: str
    provider: CodexProvider
    folder: Path
    began: Callable[[str], Awaitable[None]]
    """Told of the thread's id, before it has done anything."""
    effort: Effort | None = None
    thread: str | None = None

    @property
    def id(self) -> str:
        """As trajectories name it."""
        return f"delegate/{self.target}"

    @property
    def aliases(self) -> frozenset[str]:
        """None: it calls no policy of this server."""
        return frozenset()

    @property
    def config_hash(self) -> str:
        """sha256 of what decides how it works."""
        return config_hash(self.id, {"sandbox": self.provider.sandbox, "effort": self.effort}, {})

    async def run(self, request: AgentRequest, ctx: AgentContext) -> AsyncGenerator[StreamEvent, None]:
        """Its last word. Raises EngineUnavailable if it cannot be started, EngineError if it fails."""
        policy = Policy(base=f"codex/{self.model}")
        task = self._task(request.messages)
        chunks = ctx.recorder.call(self._work(task), role=ROLE, policy=policy, sampling=Sampling(), messages=request.messages)
        async with aclosing(events_of(chunks, Usage())) as events:
            async for event in events:
                yield event

    async def acknowledge(self, request: AgentRequest, ctx: AgentContext) -> None:
        """Nothing: what a client's model hands on is not the user's own word."""

    async def remember(self, request: AgentRequest, answer: str, ctx: AgentContext) -> None:
        """Keep what was asked and found."""
        await keep_finding(request, answer, ctx)

    def command(self) -> list[str]:
        """What is run. The task comes on standard input: it is no argument, and in no list of processes."""
        options = ["--json", "--skip-git-repo-check", "-m", self.model, "-c", f'sandbox_mode="{self.provider.sandbox}"']
        options += ["-c", 'approval_policy="never"']
        if self.effort is not None:
            options += ["-c", f'model_reasoning_effort="{self.effort}"']
        again = ["resume", *options, self.thread] if self.thread else options
        return [self.provider.command, "exec", *again, "-"]

    def _task(self, messages: Sequence[Message]) -> str:
        """What it is told: the conversation, or what its thread has not answered yet."""
        told = [message for message in messages if message.content.strip()]
        if self.thread is not None:
            answered = max((i for i, message in enumerate(told) if message.role == "assistant"), default=-1)
            told = told[answered + 1 :]
        if all(message.role == "user" for message in told):
            return "\n\n".join(message.content for message in told)
        return "\n\n".join(f"{message.role}: {message.content}" for message in told)

    async def _work(self, task: str) -> AsyncIterator[Chunk]:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command(),
                cwd=self.folder,
                env=environment(self.provider, os.environ),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_LINE,
                start_new_session=True,
            )
        except OSError as exc:
            raise EngineUnavailable(f"{self.provider.command} cannot be started: {exc.strerror}; install Codex, or set command") from exc
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError, ConnectionResetError):  # it ended at once: its status says so
                process.stdin.write(task.encode(errors="replace"))
                await process.stdin.drain()
            process.stdin.close()
            yield await self._heard(process)
        finally:
            await _ended(process)

    async def _heard(self, process: asyncio.subprocess.Process) -> Chunk:
        said, failure = "", ""
        usage = Usage()
        async for line in _lines(process):
            event = _read(line)
            if event.type == "thread.started" and _THREAD.fullmatch(event.thread_id):
                await self.began(event.thread_id)
            elif event.type == "error":
                failure = event.message
            elif event.type == "item.completed" and event.item.type == "agent_message":
                said = event.item.text
            elif event.type == "turn.completed":
                failure = ""  # what was told before was overcome
                usage = Usage(prompt_tokens=event.usage.input_tokens, completion_tokens=event.usage.output_tokens)
            elif event.type == "turn.failed":
                failure = event.error.message or "it failed"
        status = await _exit(process)
        if status or not said:
            raise EngineError(f"codex ended with status {status}: {(failure or 'it said nothing')[:SAID]}")
        return Chunk(text=said, finish_reason="stop", usage=usage)


class _Item(BaseModel):
    type: str = ""
    text: str = ""


class _Used(BaseModel):
    input_tokens: int = 0
    output_tokens: int = 0


class _Failure(BaseModel):
    message: str = ""


class _Event(BaseModel):
    """What is read of a line of `codex exec --json`."""

    type: str = ""
    thread_id: str = ""
    message: str = ""
    item: _Item = _Item()
    usage: _Used = _Used()
    error: _Failure = _Failure()


def folder_of(provider: CodexProvider, named: str | None) -> Path:
    """Where to work: the first of its folders, or one inside of one. Raises InvalidRequest."""
    allowed = [Path(os.path.realpath(folder)) for folder in provider.folders]
    if named is None:
        if not allowed[0].is_dir():
            raise InvalidRequest(f"{allowed[0]}, the first of codex's folders, is no folder", param="folder")
        return allowed[0]
    real = Path(os.path.realpath(named))
    if not os.path.isabs(named) or not any(real == folder or folder in real.parents for folder in allowed):
        raise InvalidRequest(f"{named!r} is in none of the folders that codex may work in", param="folder")
    if not real.is_dir():
        raise InvalidRequest(f"{named!r} is no folder", param="folder")
    return real


def environment(provider: CodexProvider, environ: Mapping[str, str]) -> dict[str, str]:
    """What of the server's environment it is given."""
    return {name: environ[name] for name in ("HOME", "PATH", "LANG", *provider.environment) if name in environ}


def is_installed(provider: CodexProvider) -> bool:
    """Whether its command is there."""
    return shutil.which(provider.command) is not None


def _read(line: bytes) -> _Event:
    try:
        return _Event.model_validate_json(line)
    except ValidationError:  # a kind of event that is not known here
        return _Event()


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """What it writes until it ends; what it leaves running may hold the pipe for ever. Raises EngineError for a line without end."""
    assert process.stdout is not None
    ended = asyncio.ensure_future(_exit(process))
    try:
        while True:
            reading = asyncio.ensure_future(process.stdout.readline())
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({reading}, timeout=LAST_WORD_S)
            if not reading.done():
                reading.cancel()
                return
            try:
                line = reading.result()
            except ValueError as exc:
                raise EngineError(f"codex wrote a line of more than {MAX_LINE} bytes") from exc
            if not line:
                return
            yield line
    finally:
        ended.cancel()


async def _exit(process: asyncio.subprocess.Process) -> int:
    """Its status when it has ended. asyncio's own `wait` waits for the end of its pipes too, which what it left running may hold."""
    while process.returncode is None:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
    return process.returncode


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End it with all that it started, as it leads a session of its own."""
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(_exit(process), KILL_AFTER_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await _exit(process)
        process._transport.close()  # pyright: ignore  (there is no other way to let go of a pipe that somebody still holds)
