"""Trains on a home with a scripted engine, going on with the run that is not finished if there is one. Prints the run and its version."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

from server.engines.scripted import ScriptedCall, ScriptedEngine
from tests.contract.test_training_loop import SMALL, settings
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.resuming import LAST, unfinished, unfinished_ids

CONFIG: dict[str, Any] = SMALL | {
    "iterations": 4,
    "group_size": 4,
    "publish": "always",
    "from_log": {"since": "cursor"},
    "optimisation": {"rank": 4, "alpha": 8, "rows_per_batch": 8, "threads": 1},
}


def undecided() -> ScriptedEngine:
    """Sampled answers are right half of the time whatever was learned, so that every iteration teaches; greedy ones name the policy."""
    rng = random.Random()

    def answer(call: ScriptedCall) -> str:
        if call.sampling.temperature == 0.0:
            return call.policy.name
        text = call.messages[-1].content if call.messages else call.prompt
        if "Operations:" in text:
            return "NOOP"
        return rng.choice(("gold", "lead"))

    return ScriptedEngine(answer=answer)


async def main(home: Path, base: Path) -> None:
    """One process of the run."""
    chosen = settings(home, base)
    if unfinished_ids(home):
        run = unfinished(home, LAST, chosen)
        result = await train(run.config, chosen, undecided(), pool=run.pool, resume=run)
    else:
        result = await train(TrainConfig.model_validate(CONFIG), chosen, undecided())
    print(result.run.id, result.version)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
