"""`python -m benchmarks.iteration_ours JOB`: Recollect's side of `iteration`, a run with an engine or updates alone. Prints JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.child import peak_of_tree, peak_resident
from benchmarks.trained import documents, iterations, prompts_by_iteration
from recollect.settings import EngineSettings
from server.engines.child import VllmChild
from trainer.config import Optimisation
from trainer.samples import Sample
from trainer.trl_bridge import Learner


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """A run on a vLLM of its own. The prompts that it recorded are left in `job["prompts"]`."""
    folder = Path(job["folder"])
    config = documents(tasks=job["tasks"], group=job["group"], sections=job["sections"], measured=job["measured"])
    engine = VllmChild(EngineSettings(), folder)
    await engine.start()
    try:
        await engine.ready(600)
        found, rolled = await iterations(engine, folder / "home", config)
        engine_peak = peak_of_tree(engine.pid or 0)
    finally:
        await engine.close()
    prompts = prompts_by_iteration(rolled, multiple=max(1, config.optimisation.rows_per_batch // job["group"]))
    await asyncio.to_thread(Path(job["prompts"]).write_text, json.dumps(prompts))
    return {"iterations": [asdict(one) for one in found], "peak": peak_resident(), "engine_peak": engine_peak}


def updates(job: dict[str, Any]) -> dict[str, Any]:
    """One update for each list of prompts in `job["prompts"]`, after one that is not measured."""
    optimisation = Optimisation(rows_per_batch=job["rows_per_batch"])
    learner = Learner(job["model"], optimisation, output=Path(job["folder"]))
    found: list[dict[str, float]] = []
    by_update: list[list[list[int]]] = json.loads(Path(job["prompts"]).read_text())
    for prompts in [by_update[0], *by_update]:
        made = samples(prompts, job["group"], job["max_tokens"], vocabulary=learner.model.config.vocab_size)
        began = time.perf_counter()
        learner.update(made)
        seconds = time.perf_counter() - began
        found.append({"calls": len(made), "trained": len(made), "rows": len(made), "seconds": seconds, "update_s": seconds})
    return {"iterations": found[1:], "peak": peak_resident()}


def samples(prompts: list[list[int]], group: int, num_tokens: int, *, vocabulary: int) -> list[Sample]:
    """`group` calls of each prompt with different completions of `num_tokens` ids and advantages of both signs."""
    made: list[Sample] = []
    for place, prompt in enumerate(prompts):
        for sibling in range(group):
            completion = tuple((7 * place + 31 * sibling + 3 * i) % (vocabulary - 3) + 3 for i in range(num_tokens))
            advantage = 1.0 if sibling % 2 else -1.0
            made.append(Sample(tuple(prompt), completion, (-7.0,) * num_tokens, advantage, "base", f"{place}/{sibling}", 0))
    return made


def main() -> None:
    job = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(run(job)) if job["kind"] == "run" else updates(job)))


if __name__ == "__main__":
    main()
