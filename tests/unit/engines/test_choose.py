"""The settings decide the engine, and wrong ones say what to do before anything is started."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from recollect.errors import ConfigurationError
from recollect.settings import EngineSettings
from server.engines import vllm_command
from server.engines.child import VllmChild
from server.engines.choose import open_engine
from server.engines.pool import EnginePool
from server.engines.upstream import OpenAIUpstream


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("installed")
def test_each_kind_is_its_engine(model: Path, tmp_path: Path) -> None:
    child = open_engine(EngineSettings(model=str(model)), log_dir=tmp_path)
    assert isinstance(child, VllmChild)
    assert child.base == "tiny"
    assert isinstance(open_engine(EngineSettings(kind="attach", urls=("http://a", "http://b")), log_dir=tmp_path), EnginePool)
    assert isinstance(open_engine(EngineSettings(kind="openai", model="m", urls=("http://a",)), log_dir=tmp_path), OpenAIUpstream)
    assert isinstance(open_engine(EngineSettings(kind="openai", model="m", urls=("http://a", "http://b")), log_dir=tmp_path), EnginePool)
    assert open_engine(EngineSettings(kind="none"), log_dir=tmp_path) is None


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("settings", "param"),
    [
        (EngineSettings(kind="attach"), "engine.urls"),
        (EngineSettings(kind="openai", model="m"), "engine.urls"),
        (EngineSettings(kind="openai", urls=("http://a",)), "engine.model"),
        (EngineSettings(model="/nowhere/model"), "engine.model"),
        (EngineSettings(model="./nowhere"), "engine.model"),
        (EngineSettings(model="org/model", max_lora_rank=0), "engine.max_lora_rank"),
        (EngineSettings(kind="attach", urls=("http://a",), rest="stop"), "engine.rest"),
        (EngineSettings(kind="openai", model="m", urls=("http://a",), rest="sleep"), "engine.rest"),
        (EngineSettings(kind="openai", model="m", urls=("http://a",), rest="stop"), "engine.rest"),
        (EngineSettings(kind="none", rest="stop"), "engine.rest"),
        (EngineSettings(model="org/model", max_lora_rank=1000), "engine.max_lora_rank"),
        (EngineSettings(model="org/model", arguments=("--trust-remote-code",)), "engine.arguments"),
        (EngineSettings(model="org/model", arguments=("--trust_remote_code=true",)), "engine.arguments"),
    ],
)
def test_wrong_settings_are_named(settings: EngineSettings, param: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        open_engine(settings, log_dir=tmp_path)
    assert raised.value.param == param
    assert str(raised.value.param) in raised.value.message


@pytest.mark.usefixtures("installed")
def test_sleep_is_for_gpus(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = EngineSettings(model=str(model), rest="sleep")
    monkeypatch.setattr(vllm_command, "on_cpu", lambda: True)
    with pytest.raises(ConfigurationError, match=r"frees nothing on a CPU; set engine\.rest=stop") as raised:
        open_engine(settings, log_dir=tmp_path)
    assert raised.value.param == "engine.rest"
    monkeypatch.setattr(vllm_command, "on_cpu", lambda: False)
    open_engine(settings, log_dir=tmp_path)
    assert "--enable-sleep-mode" in vllm_command.command(settings, 1)
    assert vllm_command.environment(settings)["VLLM_SERVER_DEV_MODE"] == "1"
    other = EngineSettings(model=str(model), rest="stop")
    assert "--enable-sleep-mode" not in vllm_command.command(other, 1)
    assert "VLLM_SERVER_DEV_MODE" not in vllm_command.environment(other)


@pytest.mark.usefixtures("installed")
def test_a_folder_without_weights_is_named(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=r"has no \*\.safetensors"):
        open_engine(EngineSettings(model=str(model)), log_dir=tmp_path)


def test_without_vllm_the_fix_is_told(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install") as raised:
        open_engine(EngineSettings(model=str(model)), log_dir=tmp_path)
    assert raised.value.param == "engine.kind"


def test_the_command_is_what_exact_tokens_need(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_command, "on_cpu", lambda: True)
    settings = EngineSettings(model=str(model), max_lora_rank=9, max_model_len=1024, arguments=("--seed", "3"))
    line = " ".join(vllm_command.command(settings, 1234)[2:])
    for part in (
        f"--model {model} --served-model-name tiny --host 127.0.0.1 --port 1234",
        "--logprobs-mode processed_logprobs",
        "--max-lora-rank 16",
        "--dtype float32",
        "--enforce-eager --no-enable-chunked-prefill",
        "--max-model-len 1024",
        "--enable-lora",
    ):
        assert part in line
    assert line.endswith("down_proj --seed 3")
    assert "trust" not in line
    environment = vllm_command.environment(settings)
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == "1"
    monkeypatch.setattr(vllm_command, "on_cpu", lambda: False)
    on_gpu = " ".join(vllm_command.command(EngineSettings(model="org/model", gpu_memory_utilization=0.5), 1))
    assert "--gpu-memory-utilization 0.5" in on_gpu
    assert "--dtype auto" in on_gpu
    assert "--enforce-eager" not in on_gpu
    assert "--served-model-name model" in on_gpu
    assert "parser" not in on_gpu


def test_the_parsers_of_calls_and_of_thoughts_are_vllms(model: Path) -> None:
    settings = EngineSettings(model=str(model), tool_call_parser="hermes", reasoning_parser="qwen3")
    line = " ".join(vllm_command.command(settings, 1))
    for part in ("--tool-call-parser hermes", "--enable-auto-tool-choice", "--reasoning-parser qwen3"):
        assert part in line
