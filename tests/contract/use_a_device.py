"""Uses the device that the engine of a home's server shares, prints `used` and goes on until it is ended."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from trainer.device import Shared


async def nothing() -> None:
    """Nothing is loaded again."""


def work() -> None:
    """An update that does not end."""
    print("used", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    asyncio.run(Shared(Path(sys.argv[1]), [], nothing).use(work))
