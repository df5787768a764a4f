"""The metrics of OpenTelemetry's conventions for generative AI. Their attributes are few and bounded, and name no user."""

from __future__ import annotations

from opentelemetry.metrics import Histogram, Meter

from recollect.trajectory import Usage
from server.tracing import Attributes

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


class Instruments:
    """What is measured of model calls, and of answers."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, text: str, bounds: tuple[float, ...] = SECONDS) -> Histogram:
            return meter.create_histogram(name, unit="s", description=text, explicit_bucket_boundaries_advisory=bounds)

        self._call = seconds("gen_ai.client.operation.duration", "One call of a model.")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", unit="{token}", description="Of one call of a model.", explicit_bucket_boundaries_advisory=TOKENS
        )
        self._request = seconds("gen_ai.server.request.duration", "From a request's admission to the end of its answer.")
        self._first = seconds("gen_ai.server.time_to_first_token", "To the first piece of the answer.", FIRST_SECONDS)

    def called(self, seconds: float, usage: Usage, attributes: Attributes, error: str | None) -> None:
        """A call of a model has ended."""
        self._call.record(seconds, attributes if error is None else {**attributes, "error.type": error})
        self._tokens.record(usage.prompt_tokens, {**attributes, "gen_ai.token.type": "input"})
        self._tokens.record(usage.completion_tokens, {**attributes, "gen_ai.token.type": "output"})

    def answered(self, agent: str, seconds: float, first_s: float | None, error: str | None) -> None:
        """An agent's answer has ended, one way or another."""
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "recollect", "gen_ai.request.model": agent}
        if first_s is not None:
            self._first.record(first_s, attributes)
        self._request.record(seconds, attributes if error is None else {**attributes, "error.type": error})
