"""How far an engine's start has come, read from its log."""

from __future__ import annotations

import re
from pathlib import Path

_PHASES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"non-default args"), "reading the model's configuration"),
    (re.compile(r"Resolved architecture: (\w+)"), "architecture {0}"),
    (re.compile(r"Initializing a V1 LLM engine"), "starting the engine core"),
    (re.compile(r"Starting to load model"), "loading weights"),
    (re.compile(r"checkpoint shards: +(\d+)% Completed"), "loading weights, {0} %"),
    (re.compile(r"Loading weights took ([\d.]+) s"), "weights loaded in {0} s"),
    (re.compile(r"torch\.compile takes|Start compiling|Dynamo bytecode"), "compiling"),
    (re.compile(r"KV cache size: ([\d,]+) tokens"), "room for {0} tokens"),
    (re.compile(r"Capturing CUDA graphs"), "capturing CUDA graphs"),
    (re.compile(r"Starting vLLM server"), "opening the port"),
)
_ERROR = re.compile(r"(?:^|[\s\]])((?:[\w.]+Error|[\w.]+Exception|error):? .+)$")


LOG_LIMIT = 8 * 2**20


class StartLog:
    """Reads what a log has gained since this was made. A log beyond 8 MB is moved to `<log>.1` first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_name(path.name + ".1"))
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = ""
        self.error = ""
        """The last line that told of an error."""

    def phases(self) -> list[str]:
        """The phases that new lines tell of, in order, each once in a row."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        self._offset += len(data)
        *lines, self._rest = re.split(r"[\r\n]", self._rest + data.decode("utf-8", "replace"))
        found: list[str] = []
        for line in lines:
            if match := _ERROR.search(line):
                self.error = match[1]
            phase = _phase(line)
            if phase and found[-1:] != [phase]:
                found.append(phase)
        return found


def _phase(line: str) -> str | None:
    for pattern, text in _PHASES:
        if match := pattern.search(line):
            return text.format(*match.groups())
    return None
