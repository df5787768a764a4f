"""Trains on a home with a scripted engine, in as many processes as torchrun starts. Prints the run and its version."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.contract.test_training_loop import settings
from tests.contract.train_until_killed import CONFIG, undecided
from trainer.config import TrainConfig
from trainer.loop import train
from trainer.ranks import led


@led
def main() -> None:
    """The run, in the first process; its updates, in the others."""
    home, base = map(Path, sys.argv[1:3])
    config = TrainConfig.model_validate(CONFIG | {"optimisation": CONFIG["optimisation"] | {"loss": sys.argv[3], "rows_per_batch": 3}})
    result = asyncio.run(train(config, settings(home, base), undecided()))
    print(result.run.id, result.version)


if __name__ == "__main__":
    main()
