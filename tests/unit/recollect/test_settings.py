"""Settings: texts stay as they are written, a wrong value names its key and the fix, and no error shows a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.running import environment
from recollect.errors import ConfigurationError
from recollect.settings import EngineSettings, ServerSettings
from recollect.settings_read import load

SECRET = "sk-4711"


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "settings.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@pytest.mark.parametrize("key", ["123456789", "0123", "true", "null", "[x", "&a", "a: b", "a #b", "2026-01-31", "'"])
def test_a_key_is_the_text_that_was_written(key: str) -> None:
    assert load(None, (), {"RECOLLECT_ENGINE__API_KEY": key}).engine.api_key == key
    assert load(None, [f"engine.api_key={key}"], {}).engine.api_key == key


@pytest.mark.parametrize("key", ["123456789", "0123", "0x1F", "true", "2026-01-31", "12:30:45"])
def test_a_key_in_a_file_is_the_text_that_was_written(tmp_path: Path, key: str) -> None:
    assert load(written(tmp_path, f"engine: {{kind: openai, api_key: {key}}}"), (), {}).engine.api_key == key


def test_quotes_around_a_text_are_taken_off() -> None:
    assert load(None, ["engine.api_key='a b'", 'engine.model="m"'], {}).engine == EngineSettings(api_key="a b", model="m")


def test_values_that_are_no_texts_are_read_as_yaml(tmp_path: Path) -> None:
    file = written(tmp_path, "log: {fsync: yes, keep_days: null, keep_bytes: 1_000}\nengine: {gpu_memory_utilization: .5}\n")
    settings = load(file, ["engine.arguments=[--seed, 3]", "log.keep_days=7", "server={port: 1}"], {})
    assert (settings.log.fsync, settings.log.keep_bytes, settings.log.keep_days, settings.server.port) == (True, 1000, 7, 1)
    assert (settings.engine.arguments, settings.engine.gpu_memory_utilization) == (("--seed", "3"), 0.5)
    assert load(None, ["engine.max_model_len=null"], {"RECOLLECT_ENGINE__MAX_MODEL_LEN": "5"}).engine.max_model_len is None


def test_the_environment_of_a_started_server_means_the_same_settings(tmp_path: Path) -> None:
    overrides = ["engine.api_key=0123", "engine.model=", "engine.urls=[http://a]", "log.keep_days=3", "log.fsync=true", f"home={tmp_path}"]
    settings = load(None, overrides, {})
    assert load(None, (), environment(settings, tmp_path)) == settings


def test_an_empty_model_means_the_seed_and_an_empty_section_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "server:\nengine:\n  model: /some/model\nembedder:\n  model:\n")
    settings = load(file, ["engine.model=", "server.log_level=info"], {})
    assert settings.engine == EngineSettings(model="")
    assert settings.engine.model_path.endswith("seed")
    assert (settings.server, settings.embedder.model) == (ServerSettings(log_level="info"), "")
    assert load(written(tmp_path, "server:\n"), (), {}).server == ServerSettings()


@pytest.mark.parametrize(
    "text",
    [
        f"engine: {{api_key: [{SECRET}]}}",
        f"engine: {{api_key: {{x: {SECRET}}}}}",
        f"engine: [api_key, {SECRET}]",
        f'engine: {{api_key: "{SECRET}',
        f"engine: {{api_key: *{SECRET}}}",
        f"engine: {{api_key: !{SECRET} x}}",
        f"engine: {{api_key: a: {SECRET}}}",
        f"engine: {{api_key: {SECRET}\x07}}",
        f"embedder: {{api_kee: {SECRET}}}",
    ],
)
def test_no_error_shows_a_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(written(tmp_path, text), (), {})
    assert SECRET not in raised.value.message
    assert "engine" in raised.value.message or "embedder" in raised.value.message or str(tmp_path) in raised.value.message
    with pytest.raises(ConfigurationError) as raised:
        load(None, (), {"RECOLLECT_ENGINE": "", "RECOLLECT_SERVER__PORT": f"{{api_key: {SECRET}"})
    assert SECRET not in raised.value.message
    assert SECRET not in repr(load(None, [f"engine.api_key={SECRET}"], {}))


@pytest.mark.parametrize("text", [f"telemetry.headers={SECRET}", f"telemetry.headers={{authorization: [{SECRET}]}}"])
def test_no_error_shows_what_is_sent_along_with_traces(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"telemetry\.headers") as raised:
        load(None, [text], {})
    assert SECRET not in raised.value.message
    assert SECRET not in repr(load(None, [f"telemetry.headers={{authorization: {SECRET}}}"], {}))


@pytest.mark.parametrize("value", ["[", "[" * 100_000, "'", "{a", "!!int x"])
def test_a_value_that_is_no_yaml_names_its_key(value: str) -> None:
    for overrides, environ in (([f"server.port={value}"], {}), ([], {"RECOLLECT_SERVER__PORT": value})):
        with pytest.raises(ConfigurationError, match=r"'server\.port': the value is not YAML: .*write a plain value") as raised:
            load(None, overrides, environ)
        assert raised.value.param == "server.port"
        assert len(raised.value.message) < 250


def test_a_long_wrong_value_is_shortened() -> None:
    with pytest.raises(ConfigurationError, match=r"server\.port.*…") as raised:
        load(None, ["server.port=" + "9" * 5000], {})
    assert len(raised.value.message) < 250


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"server: [", "line 1, column 10"),
        (b"- server", "must hold a mapping"),
    ],
)
def test_a_file_that_cannot_be_settings_names_the_option(tmp_path: Path, content: bytes, words: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(ConfigurationError, match=words) as raised:
        load(file, (), {})
    assert raised.value.message.startswith(f"--config {file}")
    assert "\n" not in raised.value.message


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--config .*: Is a directory; give a YAML file"):
        load(tmp_path, (), {})


def test_a_home_that_is_a_file_or_below_one_says_what_to_give(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    for home in (file, file / "deeper" / "still"):
        with pytest.raises(ConfigurationError, match=r"is a file; give a folder: --home FOLDER") as raised:
            load(None, [f"home={home}"], {})
        assert str(home) in raised.value.message
        with pytest.raises(ConfigurationError, match="RECOLLECT_HOME"):
            load(None, (), {"RECOLLECT_HOME": str(home)})
    assert load(None, [f"home={tmp_path}/[1"], {}).home == tmp_path / "[1"


@pytest.mark.parametrize("url", ["notaurl", "localhost:8000", "ftp://a", "http://", "https:///v1", "http://a:x", "'http://a b'", '""'])
def test_a_url_without_scheme_or_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'engine\.urls\.1': write a whole URL, such as http://"):
        load(None, ["engine.kind=attach", f"engine.urls=[http://a, {url}]"], {})
    if url != '""':
        with pytest.raises(ConfigurationError, match=r"'embedder\.url': write a whole URL, such as http://"):
            load(None, ["embedder.kind=endpoint", f"embedder.url={url}"], {})


def test_whole_urls_and_no_url_are_taken() -> None:
    settings = load(None, ["engine.urls=[http://127.0.0.1:11434/v1, https://a]", "embedder.url="], {})
    assert settings.engine.urls == ("http://127.0.0.1:11434/v1", "https://a")
    assert settings.embedder.url == ""
    with pytest.raises(ConfigurationError, match=r"'engine\.urls': write a list: \[a, b\]"):
        load(None, ["engine.urls=http://a"], {})
