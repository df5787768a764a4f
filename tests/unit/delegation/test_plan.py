"""The file that says who may be asked to do what, and how rules choose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from recollect.errors import ConfigurationError, EngineUnavailable, InvalidRequest
from server.delegation.plan import Plan, load
from server.delegation.routing import REST_S, Router, Target, Wish

PLAN: dict[str, Any] = {
    "allow": ["think"],
    "providers": {
        "ollama": {
            "kind": "ollama",
            "url": "http://127.0.0.1:11434",
            "models": {"small": {"max_chars": 100}, "eyes": {"vision": True, "cost": 1}},
        },
        "house": {"kind": "openai", "url": "http://127.0.0.1:8001/v1", "models": {"big": {"cost": 9}}},
    },
    "routing": [
        {"task": ["code"], "use": ["house", "ollama/eyes"], "prefer": "cheapest"},
        {"min_chars": 50, "use": ["ollama/small", "house"]},
        {"effort": ["high"], "use": ["house"], "max_cost": 5},
        {"use": ["ollama"]},
    ],
}


def plan(**changes: Any) -> Plan:
    return Plan.model_validate(PLAN | changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"alow": ["think"]}, "alow"),
        ({"allow": ["rm"]}, "allow.0"),
        ({"providers": {}}, "providers"),
        ({"providers": {"x": {"kind": "openai", "models": {"m": {}}}}}, "providers.x.url"),
        ({"providers": {"x": {"kind": "openai", "url": "not a url", "models": {"m": {}}}}}, "providers.x.url: write a whole URL"),
        ({"providers": {"x": {"kind": "codex", "models": {"m": {}}}}}, "providers.x.folders"),
        ({"providers": {"x": {"kind": "magic"}}}, "providers.x"),
        ({"routing": [{"use": ["nobody"]}]}, "routing.0.use: no provider 'nobody'; there are house, ollama"),
        ({"routing": [{"use": ["house/small"]}]}, "routing.0.use: house has no model 'small'; it has big"),
        ({"roots": ["relative"]}, "roots.0: write an absolute path"),
        ({"budget": {"steps": 0}}, "budget.steps"),
        ({"budget": {"seconds": float("inf")}}, "budget.seconds"),
        ({"rots": []}, "rots: unknown field; did you mean 'roots'?"),
        ({"allow": "think"}, "allow: write a list"),
        ({"roots": ["/no/such/folder"]}, "roots.0: there is no such folder"),
        ({"tenants": []}, "tenants"),
        ({"tenants": ["../x"]}, "tenants.0"),
        (
            {"providers": {"x": {"url": "http://127.0.0.1", "models": {"m": {}}}}},
            "providers.x: kind is missing; write one",
        ),
        ({"providers": {"A B": PLAN["providers"]["house"]}}, "providers.A B"),
        ({"routing": [{"use": ["house"], "min_chars": 10, "max_chars": 5}]}, "routing.0: max_chars is less than min_chars"),
        ({"types": {"x": {"instructions": "", "tools": ["reed_file"]}}}, "types.x.tools.0"),
        ({"providers": {"x": {"kind": "openai", "url": "http://u:pw@127.0.0.1", "models": {"m": {}}}}}, "api_key_env"),
        (
            {"tenants": ["a", "b"], "routing": [], "providers": {"x": {"kind": "codex", "folders": ["/tmp"], "models": {"m": {}}}}},
            "name one tenant alone",
        ),
    ],
)
def test_a_wrong_plan_is_told_with_its_field(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    file = tmp_path / "delegation.yaml"
    file.write_text(yaml.safe_dump(PLAN | changes))
    with pytest.raises(ConfigurationError) as refused:
        load(file)
    assert told in refused.value.message
    assert str(file) in refused.value.message


@pytest.mark.parametrize("content", ["[", "- a list", "\x00", "x: 2026-99-99", "a: {b: 'sk-secret'", "\tkey: 1", "x: " + "9" * 5000])
def test_what_is_no_plan_is_told(tmp_path: Path, content: str) -> None:
    file = tmp_path / "delegation.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as refused:
        load(file)
    assert "\n" not in refused.value.message
    assert "sk-secret" not in refused.value.message
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.yaml")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="no regular file"):
        load(tmp_path / "pipe")


def test_a_key_in_place_of_its_name_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "delegation.yaml"
    wrong = {"kind": "openai", "url": "http://127.0.0.1", "api_key_env": "sk-proj-secret", "models": {"m": {}}}
    file.write_text(yaml.safe_dump({"providers": {"x": wrong}}))
    with pytest.raises(ConfigurationError) as refused:
        load(file)
    assert "providers.x.api_key_env" in refused.value.message
    assert "sk-proj" not in refused.value.message


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        (Wish("think", 10, "code"), ["ollama/eyes", "house/big"]),
        (Wish("think", 60), ["ollama/small", "house/big"]),
        (Wish("think", 200), ["house/big"]),  # too long for the small one
        (Wish("think", 10), ["ollama/small"]),
        (Wish("see", 10, "code"), ["ollama/eyes"]),
        (Wish("think", 10, use="house"), ["house/big"]),
        (Wish("think", 10, use="ollama/eyes"), ["ollama/eyes"]),
    ],
)
def test_rules_choose(wish: Wish, chosen: list[str]) -> None:
    assert [str(target) for target in Router(plan()).choose(wish)] == chosen


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (Wish("think", 10, use="nobody"), "no model 'nobody'; there are ollama/small"),
        (Wish("think", 200, use="ollama/small"), "at most 100 characters, this one has 200"),
        (Wish("see", 10, use="house"), "takes no images"),
        (Wish("think", 10, effort="high"), "the rule that fits names no model"),
    ],
)
def test_what_nobody_can_do_is_told(wish: Wish, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        Router(plan()).choose(wish)


def test_who_failed_rests_and_is_asked_again_later() -> None:
    at = [0.0]
    router = Router(plan(), now=lambda: at[0])
    small, big = Target("ollama", "small"), Target("house", "big")
    router.failed(small)
    assert router.choose(Wish("think", 60)) == [big]
    router.failed(big)
    with pytest.raises(EngineUnavailable) as down:
        router.choose(Wish("think", 60))
    assert 1 <= down.value.retry_after_s <= REST_S
    at[0] = REST_S
    assert router.choose(Wish("think", 60)) == [small, big]
    router.failed(small)
    router.answered(small)
    assert router.choose(Wish("think", 60)) == [small, big]
