"""vLLM as a supervised child process: started, watched, restarted with back-off, its adapters loaded again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path

from recollect.errors import AdapterRefused, EngineError, EngineUnavailable, RecollectError
from recollect.messages import Message
from recollect.policy import Policy
from recollect.settings import EngineSettings, Rest
from recollect.tools import Tools
from server.engines import vllm_command
from server.engines.base import Chunk, Health, Sampling
from server.engines.kept_process import KeptProcess
from server.engines.start_log import StartLog
from server.engines.vllm import VllmEngine

POLL_S = 0.3
WATCH_S = 5.0
MISSES = 6
"""A loaded machine may be slow to answer; an engine whose core died ends by itself within seconds."""
STALLED_S = 120.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 1.0, 60.0
LOG_NAME = "engine.log"


class VllmChild:
    """A vLLM server that this process starts and ends.

    While none is ready, calls raise EngineUnavailable with the seconds after which one may be. `report` is told what is
    going on, a short sentence at a time. Raises ConfigurationError at once if the settings cannot work.
    """

    exact = True
    guided = True

    def __init__(self, settings: EngineSettings, log_dir: Path, report: Callable[[str], None] | None = None) -> None:
        vllm_command.check(settings)
        self.base = vllm_command.base_name(settings)
        self.window: int | None = settings.max_model_len
        self.log_path = log_dir.absolute() / LOG_NAME
        self.settings = settings
        self._report = report
        self._live: VllmEngine | None = None
        self._process: KeptProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._adapters: dict[str, tuple[Policy, str]] = {}
        self._awake = asyncio.Event()
        self._awake.set()
        self._changed = asyncio.Condition()
        self._detail = "not started"
        self._failed_starts = 0
        self._load_s = 30.0
        self._expected_at = time.monotonic()
        self._port = 0

    @property
    def url(self) -> str | None:
        """Where the server listens now; None while there is none."""
        return self._live.url if self._live else None

    @property
    def rests(self) -> Rest:
        """How it rests."""
        return self.settings.rest

    @property
    def pid(self) -> int | None:
        """The process id of the keeper, under which all of the engine's processes are."""
        return self._process.pid if self._process else None

    def chat(
        self,
        messages: Sequence[Message],
        *,
        policy: Policy,
        sampling: Sampling,
        stream: bool = False,
        salt: str | None = None,
        tools: Tools | None = None,
    ) -> AsyncIterator[Chunk]:
        """Answer a conversation under the model's chat template."""
        if self._live is None:
            return _failing(self._unavailable())
        return self._live.chat(messages, policy=policy, sampling=sampling, stream=stream, salt=salt, tools=tools)

    def complete(
        self, prompt_ids: Sequence[int], *, policy: Policy, sampling: Sampling, stream: bool = False, salt: str | None = None
    ) -> AsyncIterator[Chunk]:
        """Continue a prompt given as ids."""
        if self._live is None:
            return _failing(self._unavailable())
        return self._live.complete(prompt_ids, policy=policy, sampling=sampling, stream=stream, salt=salt)

    async def encode(self, text: str) -> list[int]:
        """The ids of a text, without added special tokens."""
        return await self._engine().encode(text)

    async def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return await self._engine().decode(ids)

    async def render(self, messages: Sequence[Message]) -> str:
        """The conversation's text under the chat template."""
        return await self._engine().render(messages)

    async def count(self, messages: Sequence[Message], tools: Tools | None = None) -> int:
        """How many tokens `chat` would prompt with."""
        return await self._engine().count(messages, tools)

    async def load_adapter(self, policy: Policy, path: str) -> None:
        """Load an adapter, and load it again whenever the engine has to be restarted."""
        await self._engine().load_adapter(policy, path)
        self._adapters[policy.name] = (policy, path)

    async def unload_adapter(self, policy: Policy) -> None:
        """Forget an adapter; requests in flight finish."""
        self._adapters.pop(policy.name, None)
        if self._live is not None:
            await self._live.unload_adapter(policy)

    async def health(self) -> Health:
        """Whether requests would be answered now."""
        return await self._live.health() if self._live else Health(False, self._detail)

    async def start(self) -> None:
        """Begin to supervise; returns at once."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="engine supervisor")

    async def ready(self, timeout_s: float | None = None) -> None:
        """Wait until requests are answered. EngineUnavailable if the start fails, or takes longer than `timeout_s`."""
        failed = self._failed_starts
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._live is not None or self._failed_starts > failed)
        except TimeoutError as exc:
            raise EngineUnavailable(f"the engine is not ready after {timeout_s:.0f} s: {self._detail}") from exc
        if self._live is None:
            raise self._unavailable()

    async def rest(self) -> None:
        """Let go of the device: end the process, or have it sleep. Raises EngineUnavailable for one that is to sleep and does not live."""
        if self.settings.rest == "stop":
            await self.close()
        else:
            await self._engine().rest()
            self._awake.clear()
        self._detail = "it rests"

    async def wake(self) -> None:
        """Start it again, or end its sleep. One that cannot be woken is replaced by a new process."""
        self._awake.set()
        if self._live is not None:
            try:
                await self._live.wake()
            except EngineError as exc:
                await self.close()
                await self._tell(f"it could not be woken ({exc.message}) and is started again")
        await self.start()

    async def close(self) -> None:
        """End the engine; returns when none of its processes is left."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        self._detail = "closed"

    def _engine(self) -> VllmEngine:
        if self._live is None:
            raise self._unavailable()
        return self._live

    def _unavailable(self) -> EngineUnavailable:
        seconds = round(self._expected_at - time.monotonic())
        return EngineUnavailable(f"the engine is not ready: {self._detail}", retry_after_s=min(max(seconds, 1), 120))

    async def _supervise(self) -> None:
        while True:
            await self._awake.wait()  # one that died in its sleep leaves the device to whoever has it now
            try:
                reason = await self._one_life()
            except (OSError, RecollectError) as exc:
                reason = str(exc)
            backoff = min(FIRST_BACKOFF_S * 2 ** min(max(self._failed_starts - 1, 0), 10), LAST_BACKOFF_S)
            self._expected_at = time.monotonic() + backoff + self._load_s
            await self._tell(f"the engine ended: {reason}; starting it again in {backoff:.0f} s (its log: {self.log_path})")
            await asyncio.sleep(backoff)

    async def _one_life(self) -> str:
        """Start the engine, serve until it ends, and leave nothing of it. Returns why it ended."""
        engine: VllmEngine | None = None
        ended: asyncio.Task[int] | None = None
        try:
            self._port = _free_port(self._port)
            log = await asyncio.to_thread(StartLog, self.log_path)
            began = time.monotonic()
            self._expected_at = began + self._load_s
            await self._tell(f"starting vLLM on {self.settings.model_path}")
            self._process = await KeptProcess.start(
                vllm_command.command(self.settings, self._port),
                environ=vllm_command.environment(self.settings),
                log=self.log_path,
                cwd=self.log_path.parent,
            )
            engine = VllmEngine(
                f"http://127.0.0.1:{self._port}",
                base=self.base,
                timeout_s=self.settings.request_timeout_s,
                max_lora_rank=self.settings.max_lora_rank,
                model_path=vllm_command.local_folder(self.settings),
            )
            ended = asyncio.create_task(self._process.wait())
            if reason := await self._come_up(engine, log, ended):
                return reason
            await self._reload(engine)
            self._load_s = time.monotonic() - began
            self._failed_starts = 0
            self.window = engine.window
            self._live = engine
            await self._tell(f"ready after {self._load_s:.0f} s: {self.base}, window {self.window} tokens")
            return await self._watch(engine, ended)
        finally:
            if self._live is None:
                self._failed_starts += 1
            self._live = None
            if self._process is not None:
                await self._process.stop()
                self._process = None
            if ended is not None:
                await ended
            if engine is not None:
                await engine.close()

    async def _come_up(self, engine: VllmEngine, log: StartLog, ended: asyncio.Task[int]) -> str | None:
        """Wait until it answers; tell its progress. Returns why it did not come up."""
        deadline = time.monotonic() + self.settings.start_timeout_s
        while time.monotonic() < deadline:
            for phase in await asyncio.to_thread(log.phases):
                await self._tell(phase)
            if ended.done():
                return f"it ended with status {ended.result()} before it was ready: {log.error or 'no error in its log'}"
            if (await engine.health()).ready:
                return None
            await asyncio.wait({ended}, timeout=POLL_S)
        return f"it was not ready within engine.start_timeout_s = {self.settings.start_timeout_s:.0f} s"

    async def _reload(self, engine: VllmEngine) -> None:
        """Load the adapters of the life before. One that fits no longer is told and left out; calls to it are NotFound."""
        for policy, path in list(self._adapters.values()):
            try:
                await engine.load_adapter(policy, path)
            except AdapterRefused as exc:
                del self._adapters[policy.name]
                await self._tell(f"{policy.name} could not be loaded again: {exc.message}")

    async def _watch(self, engine: VllmEngine, ended: asyncio.Task[int]) -> str:
        """Return why it ended, or why it has to be: it says that it is ill, or it answers nothing any more."""
        misses = 0
        while True:
            await asyncio.wait({ended}, timeout=WATCH_S)
            if ended.done():
                return f"it ended with status {ended.result()}"
            health = await engine.health()
            misses = 0 if health.ready else misses + 1
            if misses == MISSES:
                return f"it is ill: {health.detail}"
            if self._awake.is_set() and engine.stalled_s > STALLED_S and not await engine.pulse():
                return f"no token for {engine.stalled_s:.0f} s"

    async def _tell(self, sentence: str) -> None:
        self._detail = sentence
        if self._report is not None:
            self._report(sentence)
        async with self._changed:
            self._changed.notify_all()


async def _failing(error: EngineError) -> AsyncGenerator[Chunk]:
    """A stream that raises when it is read, as every engine's does."""
    raise error
    yield Chunk()


def _free_port(wanted: int) -> int:
    """`wanted`, if it is free (whoever knows the old address finds the engine there again), else another."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise EngineUnavailable("no port is free on 127.0.0.1")
