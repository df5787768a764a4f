"""A scripted model that calls tools: it looks up the weather, and then tells it."""

from __future__ import annotations

import json

from recollect.tools import ToolCall
from server.engines.scripted import ScriptedCall, ScriptedEngine, Spoken

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def weather(call: ScriptedCall) -> str | Spoken:
    """Calls `weather` twice for two cities; with the results it tells them."""
    results = [message.content for message in call.messages if message.role == "tool"]
    if results:
        return f"It is {' and '.join(results)}."
    if call.tools is None:
        return "I cannot look."
    cities = [city for city in ("Oslo", "Lima") if city in call.prompt]
    return Spoken(tuple(ToolCall(id=f"call_{city}", name="weather", arguments=json.dumps({"city": city})) for city in cities), "I look.")


def engine() -> ScriptedEngine:
    """It answers so."""
    return ScriptedEngine(answer=weather)
