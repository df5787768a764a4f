"""How a policy is recognised in an engine: what it answers, greedily, to eight fixed prompts.

Taken when a candidate is loaded for the gate and again after it was loaded for serving: a mismatch means other weights.
"""

from __future__ import annotations

import asyncio

from recollect.manifest import Fingerprint, FingerprintProbe
from recollect.policy import Policy
from server.engines.base import Engine, Sampling, collect

TEXTS = (
    "Question: Where does Ada live?\nMemory: none\nSection: Ada moved to Lisbon in May.\nNew memory:",
    "Memories:\n[1] Ben has a dog called Rex.\nTurn: My dog is called Max now.\nOperations:",
    "The capital of France is",
    "One, two, three, four,",
    "Q: What is 17 + 25?\nA:",
    "User: Please remember that my sister's birthday is on 3 June.\nAssistant:",
    "Turn: I work at the harbour and start at 7.\nFacts:",
    "Question: Who wrote the letter?\nMemory: Mira wrote the letter on Monday.\nAnswer:",
)
NUM_TOKENS = 16
TOLERANCE = 1e-3


async def fingerprint(engine: Engine, policy: Policy) -> Fingerprint:
    """Greedy ids and log-probabilities of 16 tokens after each of the eight texts. Raises what the engine raises."""
    return Fingerprint(probes=list(await asyncio.gather(*(_probe(engine, policy, text) for text in TEXTS))))


def difference(expected: Fingerprint, found: Fingerprint) -> str | None:
    """What tells two fingerprints apart, in words; None if ids are equal and log-probabilities within 1e-3."""
    if len(expected.probes) != len(found.probes):
        return f"{len(found.probes)} probes instead of {len(expected.probes)}"
    for number, (one, other) in enumerate(zip(expected.probes, found.probes, strict=True), 1):
        if one.prompt_ids != other.prompt_ids:
            return f"probe {number}: the prompt's token ids differ, so the tokenizer is another one"
        if one.completion_ids != other.completion_ids:
            return f"probe {number}: the greedy tokens differ"
        if len(one.logprobs) != len(other.logprobs):
            return f"probe {number}: {len(other.logprobs)} log-probabilities instead of {len(one.logprobs)}"
        largest = max((abs(a - b) for a, b in zip(one.logprobs, other.logprobs, strict=True)), default=0.0)
        if not largest <= TOLERANCE:
            return f"probe {number}: log-probabilities differ by {largest:.2g}, more than {TOLERANCE:g}"
    return None


async def _probe(engine: Engine, policy: Policy, text: str) -> FingerprintProbe:
    prompt_ids = await engine.encode(text)
    sampling = Sampling(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)
    [completion] = await collect(engine.complete(prompt_ids, policy=policy, sampling=sampling))
    return FingerprintProbe(prompt_ids=prompt_ids, completion_ids=completion.token_ids or [], logprobs=completion.logprobs or [])
