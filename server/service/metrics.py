"""What the server counts and times, for Prometheus. No label holds a user, a namespace, a tenant or a text.

Names follow OpenTelemetry's conventions for generative AI where there is one, with Prometheus' units and endings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.adapters import AdapterState
from server.canary_routing import CanaryState
from server.service.admission import Refusal
from server.service.exchange import Exchange
from server.service.resting import REASONS, Reason

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SEARCH_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
MEMORIES = (0, 1, 2, 4, 8, 16, 32)


class Metrics:
    """One server's. Several in one process do not share anything."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        agent = ("agent",)
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's admission to the end of its answer.",
            (*agent, "error_type"),
            buckets=SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "To the first piece of the answer.", agent, buckets=SECONDS, registry=registry
        )
        self._tokens = Counter(
            "gen_ai_client_token_usage", "Tokens of model calls.", (*agent, "gen_ai_token_type", "role"), registry=registry
        )
        self._calls = Counter("recollect_model_calls", "Model calls.", (*agent, "role"), registry=registry)
        self._shown = Histogram("recollect_memories_shown", "Memories in a prompt.", agent, buckets=MEMORIES, registry=registry)
        self._search = Histogram(
            "recollect_memory_search_seconds", "One search in the memory store.", buckets=SEARCH_SECONDS, registry=registry
        )
        self._rejected = Counter(
            "recollect_requests_rejected",
            "Requests that found no place in time.",
            ("reason",),
            registry=registry,
        )
        self._adapter = Gauge("recollect_adapter_info", "The policy that answers, by alias.", ("policy", "serving"), registry=registry)
        canary = ("policy", "canary")
        self._share = Gauge("recollect_canary_share", "The share of the sessions that a canary answers.", canary, registry=registry)
        self._rewarded = Gauge("recollect_canary_sessions", "Rewarded sessions, by side.", (*canary, "side"), registry=registry)
        self._reward = Gauge("recollect_canary_reward", "Mean reward of the sessions, by side.", (*canary, "side"), registry=registry)
        self._difference = Gauge(
            "recollect_canary_difference",
            "Mean reward of the canary less that of the version in force, with its 95 % interval.",
            (*canary, "bound"),
            registry=registry,
        )

        self._resting = Gauge("recollect_engine_resting", "Whether the engine rests, and what for.", ("reason",), registry=registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is looked up when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def answered(self, exchange: Exchange) -> None:
        """An answer has ended, one way or another."""
        agent, failure = exchange.agent.id, exchange.failure
        # Of a failure the type alone: its text may hold what a user wrote.
        self._duration.labels(agent, failure.partition(":")[0] if failure else "").observe(exchange.elapsed_s)
        if exchange.first_s is not None:
            self._first.labels(agent).observe(exchange.first_s)
        self._shown.labels(agent).observe(len(exchange.memories))
        for role, spent in exchange.spent.items():
            self._calls.labels(agent, role).inc(spent.calls)
            self._tokens.labels(agent, "input", role).inc(spent.prompt_tokens)
            self._tokens.labels(agent, "output", role).inc(spent.completion_tokens)

    def rejected(self, reason: Refusal) -> None:
        """A request was refused because too many were there."""
        self._rejected.labels(reason).inc()

    def searched(self, seconds: float) -> None:
        """The store was searched."""
        self._search.observe(seconds)

    def text(self, states: Sequence[AdapterState], resting: Reason | None = None) -> bytes:
        """Everything, as Prometheus reads it. `states` tell which versions answer, `resting` what the engine rests for."""
        for reason in REASONS:
            self._resting.labels(reason).set(reason == resting)
        for gauge in (self._adapter, self._share, self._rewarded, self._reward, self._difference):
            gauge.clear()
        for state in states:
            if state.serving is not None:
                self._adapter.labels(state.policy, state.serving).set(1)
            if state.canary is not None:
                self._tell(state.policy, state.canary)
        return generate_latest(self._registry)

    def _tell(self, policy: str, canary: CanaryState) -> None:
        figures = canary.figures
        self._share.labels(policy, canary.name).set(canary.share)
        for name, side in (("canary", figures.canary), ("in_force", figures.in_force)):
            self._rewarded.labels(policy, canary.name, name).set(side.sessions)
            if side.mean is not None:
                self._reward.labels(policy, canary.name, name).set(side.mean)
        for bound, value in (("mean", figures.difference), ("low", figures.low), ("high", figures.high)):
            if value is not None:
                self._difference.labels(policy, canary.name, bound).set(value)
