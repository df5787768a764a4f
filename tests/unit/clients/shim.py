"""The shim, with the small server instead of `recollect serve`. Run as a module; the home is $RECOLLECT_HOME."""

from __future__ import annotations

import asyncio
import sys

from clients.mcp_stdio import run
from recollect.settings_read import load

if __name__ == "__main__":
    asyncio.run(run(load(), serve=(sys.executable, "-m", "tests.unit.clients.small_server")))
