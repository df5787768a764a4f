"""The hash that tells two configurations of an agent apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from server.agents.prompts import Prompt


def config_hash(agent: str, settings: Mapping[str, object], prompts: Mapping[str, Prompt]) -> str:
    """sha256, in hex, of the agent's id, its resolved settings and the prompts that it uses."""
    texts = {name: prompt.model_dump(mode="json") for name, prompt in prompts.items()}
    document = json.dumps({"agent": agent, "settings": settings, "prompts": texts}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(document.encode()).hexdigest()
