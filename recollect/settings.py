"""What can be set, section by section, and its defaults. How it is read: settings_read.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from recollect.model import Frozen

SEED_MODEL = Path(__file__).parent.parent / "models" / "seed"
Reading = Literal["plain", "section_first", "recall", "question_free"]
Rest = Literal["none", "sleep", "stop"]
"""How an engine rests while a trainer uses its device."""


def http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or any(letter.isspace() for letter in url):
        raise ValueError("write a whole URL, such as http://127.0.0.1:8000")
    return url


def _http_url_if_set(url: str) -> str:
    return http_url(url) if url else ""


class ServerSettings(Frozen):
    """Where the server listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"
    """On stderr: for people, or a line of JSON for each message."""
    max_in_flight: int = Field(default=256, ge=1)
    """Answers in progress, of all tenants together. About what the engines take at once (vLLM: its max_num_seqs): more wait in turn here,
    where tenants take turns, and not in the engine's queue, where they do not."""
    max_queued: int = Field(default=1024, ge=0)
    """Requests that wait for one of those to end. Beyond it, 429."""
    queue_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """How long one waits at most; then 429."""
    max_stream_s: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    """How long an answer may take; then it is ended with an error. Readings that were begun by MCP may take any time."""


class FallbackSettings(Frozen):
    """An OpenAI-compatible server that answers while the engine rests. What users say is sent there."""

    url: Annotated[str, AfterValidator(_http_url_if_set)] = ""
    """Empty: while the engine rests nobody is answered."""
    model: str = ""
    """The name that it knows the model by."""
    api_key: str = Field(default="", repr=False)


class EngineSettings(Frozen):
    """Which language model answers.

    `kind` vllm: start vLLM as a child on `model` (hub id or local path). attach: vLLM servers that run already, at `urls`.
    openai: any OpenAI-compatible server at `urls` (no token ids, so nothing is trained on it). scripted: no model, answers are found in
    the memories of the prompt; to try clients with. none: memory only.
    """

    kind: Literal["vllm", "attach", "openai", "scripted", "none"] = "vllm"
    model: str = ""
    """Empty: the bundled seed model."""
    urls: tuple[Annotated[str, AfterValidator(http_url)], ...] = ()
    api_key: str = Field(default="", repr=False)
    max_model_len: int | None = None
    dtype: str = "auto"
    max_lora_rank: int = 16
    max_loras: int = 4
    kv_cache_gb: int = 1
    gpu_memory_utilization: float | None = None
    arguments: tuple[str, ...] = ()
    """More arguments of vLLM's server, as they are."""
    tool_call_parser: str = ""
    """How the model writes tool calls, as vLLM names it (hermes, llama3_json, qwen3_coder, ...); empty: it is not asked to by itself."""
    reasoning_parser: str = ""
    """How the model writes what it thinks, as vLLM names it (qwen3, deepseek_r1, ...); empty: it is not told apart from the answer."""
    vision: bool = False
    """Whether the model takes images."""
    start_timeout_s: float = 600.0
    request_timeout_s: float = 600.0
    rest: Rest = "none"
    """How it makes room for a trainer on the same device (docs/training.md). sleep: vLLM moves its weights to the main memory and drops
    its cache; on a GPU only. stop: the child ends and is started again, on any device. none: it does not rest."""
    rest_drain_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """How long answers in progress may go on before a rest begins; then they are ended with an error."""
    fallback: FallbackSettings = FallbackSettings()

    @property
    def model_path(self) -> str:
        """The model to load: what was set, else the bundled seed model."""
        return self.model or str(SEED_MODEL)


class McpSettings(Frozen):
    """MCP at `/mcp` and `/<profile>/mcp`."""

    all: bool = False
    """Whether every tool is offered together at `/all/mcp`: more text than models like to read."""


class DelegationSettings(Frozen):
    """Tasks that clients' models hand on to other models and agents, by MCP at `/delegate/mcp`."""

    file: Path | None = None
    """YAML that says who may be asked to do what (docs/delegation.md). None: nobody."""


class EmbedderSettings(Frozen):
    """How texts become vectors. auto: a MiniLM installed or exported under the home, else full text only, with a warning."""

    kind: Literal["auto", "onnx", "endpoint", "sentence-transformers", "hash", "none"] = "auto"
    model: str = ""
    """A folder with model.onnx and tokenizer.json, the endpoint's model name, or a model of sentence-transformers (folder or hub id;
    in the trainer's environment only, because it needs torch)."""
    url: Annotated[str, AfterValidator(_http_url_if_set)] = ""
    api_key: str = Field(default="", repr=False)


class MemorySettings(Frozen):
    """Where memories are kept. A folder, or an object storage, may be shared by the servers of several homes."""

    uri: str = ""
    """Empty: `memory` in the home. Else a folder, or a URI such as s3://bucket/prefix."""
    storage_options: Mapping[str, str] = Field(default_factory=dict[str, str], repr=False)
    """Of an object storage, as Lance takes them: aws_endpoint, aws_region, ... Without them, the cloud's own environment variables."""


class RmmSettings(Frozen):
    """The agent `rmm` (arXiv 2503.08026, section 4.2 of whose text the figures are)."""

    candidates: int = Field(default=20, ge=1, le=100)
    """K: how many memories are searched for,"""
    shown: int = Field(default=5, ge=1, le=100)
    """and M: how many of them the reranker keeps."""
    reranker: Literal["embedding", "policy"] = "embedding"
    """embedding: residual matrices that learn from citations while serving. policy: the model itself chooses, a call more."""
    learn: bool = True
    """False: frozen for all tenants; the best M by what was learned so far, without noise."""
    seed: int = 0
    temperature: float = Field(default=0.5, gt=0)
    baseline: float = 0.5
    learning_rate: float = Field(default=1e-3, gt=0)
    batch: int = Field(default=4, ge=1, le=1000)
    """Requests with citations between two updates of the weights."""
    keep: int = Field(default=5, ge=1, le=100)
    """How many earlier states can be gone back to,"""
    keep_every: int = Field(default=25, ge=1)
    """and how many updates lie between two of them."""
    similar: int = Field(default=5, ge=1, le=20)
    """Topic memories that a new one may be merged into."""
    reflect_at_end: bool = True
    """Whether topics are extracted when a session ends: model calls in the background, one for each speaker and one for each topic."""
    assistant: bool = False
    """Also remember what was answered, and extract topics from it; it is marked as an assistant's word."""


class AgentSettings(Frozen):
    """How the agents are wired."""

    prompts: str = ""
    """The prompt pack; empty: `compact` for the seed model, else `default`."""
    policy: str = "memory"
    """The alias that both agents' model calls use."""
    writing: Literal["episodic", "operations"] = "episodic"
    """episodic: the user's turns are kept as they are, no model call. operations: the policy adds, updates and deletes."""
    retrieve: int = Field(default=8, ge=1, le=100)
    related: int = Field(default=4, ge=1, le=20)
    memory_chars: int = 6000
    section_tokens: int = 0
    """Tokens of a section that `reader` reads at once; 0: 80 for the compact pack, else 5,000, or what fits the window."""
    memory_tokens: int = 0
    """Tokens that `reader`'s memory may have; 0: 48 for the compact pack, else 1,024."""
    manager_policy: str = "memory-manager"
    """The alias by which `memory-r1` extracts facts and decides on operations."""
    answer_policy: str = "memory-answer"
    """The alias by which `memory-r1` answers."""
    candidates: int = Field(default=30, ge=1, le=100)
    """Memories of each of two speakers that `memory-r1` answers from, at most; `memory_chars` holds for each speaker."""
    speakers: Literal["user", "both"] = "user"
    """Whose turns `memory-r1` remembers. both: the replies too, as the second speaker's."""
    show_distilled: bool = False
    """Whether `memory-r1` sends the memories that it chose along before its answer."""
    folders: tuple[Path, ...] = ()
    """Where more agents are found, in YAML files; those in `agents` under the home are too."""
    max_sections: int = Field(default=0, ge=0)
    """Sections that `reader` reads at most: of a longer document the beginning and the end, its middle is left out. 0: all of it."""
    reading: Reading = "plain"
    """How `reader` reads. section_first: the section before the memory in the prompt, so that siblings share the engine's prefix cache.
    recall: it may ask for one of its own earlier memories (ReMemR1). question_free: it does not know the question while it reads."""
    session_idle_minutes: float = Field(default=30.0, gt=0)
    """A session ends when nothing was said in it for so long, or with a request that says so (`X-Session-Done: true`)."""
    daily_calls: int = Field(default=0, ge=0)
    """Model calls after answers (operations, facts, topics) that all agents together may make on a day in UTC; 0: any number. When
    they are used up, what users say is kept as it was, by no call."""
    daily_tokens: int = Field(default=0, ge=0)
    """The same in tokens, of prompts and completions."""
    max_tool_rounds: int = Field(default=256, ge=1)
    """Rounds of tool calls and their results in a request, since the user's last message. More are refused: the client goes in circles."""
    rmm: RmmSettings = RmmSettings()


class FileSettings(Frozen):
    """Files that are uploaded to be read."""

    max_bytes: int = Field(default=512 * 2**20, ge=1)
    """Of one file."""


class LogSettings(Frozen):
    """The trajectory log."""

    enabled: bool = True
    fsync: bool = False
    segment_bytes: int = 16 * 2**20
    keep_bytes: int = 10 * 2**30
    keep_days: int | None = None
    trajectory_tokens: int = Field(default=1_000_000, ge=1)
    """Tokens of which one trajectory keeps the ids. Its later steps keep text and counts alone, so that a reading of any length fits."""


class TelemetrySettings(Frozen):
    """OpenTelemetry. Without `otlp_endpoint` nothing is traced and nothing is sent, whatever OTEL_* variables say."""

    otlp_endpoint: Annotated[str, AfterValidator(_http_url_if_set)] = ""
    """The base of an OTLP/HTTP receiver, such as http://127.0.0.1:4318; /v1/traces and /v1/metrics are added."""
    headers: Mapping[str, str] = Field(default_factory=dict[str, str], repr=False)
    """Sent with every export, such as a receiver's key."""
    service_name: str = Field(default="recollect", min_length=1)
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Of requests that come without a trace of their own; a client's `traceparent` decides for itself."""
    metrics: bool = True
    """Whether metrics are sent too: some receivers take traces alone."""

    def address(self, signal: Literal["traces", "metrics"]) -> str:
        """Where a signal goes."""
        return f"{self.otlp_endpoint.rstrip('/')}/v1/{signal}"


class Settings(Frozen):
    """Everything that can be set."""

    home: Path = Path(".recollect")
    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    memory: MemorySettings = MemorySettings()
    embedder: EmbedderSettings = EmbedderSettings()
    agents: AgentSettings = AgentSettings()
    mcp: McpSettings = McpSettings()
    delegation: DelegationSettings = DelegationSettings()
    files: FileSettings = FileSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def memory_uri(self) -> str:
        """Where memories are kept."""
        return self.memory.uri or str(self.home.resolve() / "memory")

    @property
    def prompt_pack(self) -> str:
        """The prompt pack in use."""
        if self.agents.prompts:
            return self.agents.prompts
        return "compact" if self.engine.kind == "vllm" and not self.engine.model else "default"
