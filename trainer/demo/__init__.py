"""`recollect demo`: the whole loop in one terminal, through the doors that users use (HTTP, MCP, the command line)."""

from trainer.demo.command import main

__all__ = ["main"]
