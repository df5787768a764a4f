"""A nightly run in the user's crontab or as a systemd timer of the user: the texts, and how they are put there and taken away."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from hashlib import sha256
from pathlib import Path

from recollect.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Schedule:
    """`command` is run every day at `at`, local time, in `folder`. `name` tells homes apart."""

    command: Sequence[str]
    folder: Path
    home: Path
    at: time

    @property
    def name(self) -> str:
        """What timer and crontab line are called."""
        return f"recollect-nightly-{sha256(str(self.home).encode()).hexdigest()[:8]}"

    def cron_line(self) -> str:
        """The line of a crontab. A per cent sign means a newline there, and is escaped."""
        shell = f"cd {shlex.quote(str(self.folder))} && {shlex.join(self.command)}".replace("%", "\\%")
        return f"{self.at.minute} {self.at.hour} * * * {shell} # {self.name}"

    def units(self) -> dict[str, str]:
        """The files of a systemd timer, by name."""
        command = " ".join(_quoted(word) for word in self.command)
        service = (
            f"[Unit]\nDescription=Recollect learns from the log of {_escaped(str(self.home))}\n\n"
            f"[Service]\nType=oneshot\nWorkingDirectory={_escaped(str(self.folder))}\nExecStart={command}\n"
            # Nothing to do (3) and not good enough (4) are no failures of the unit
            "SuccessExitStatus=3 4\nNice=10\n"
        )
        timer = (
            f"[Unit]\nDescription=Recollect learns every night\n\n[Timer]\nOnCalendar=*-*-* {self.at:%H:%M}:00\nPersistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )
        return {f"{self.name}.service": service, f"{self.name}.timer": timer}


def crontab_with(before: str, schedule: Schedule | None, name: str) -> str:
    """A crontab with the schedule's line in place of the one of that name, or without it. Other lines stay as they are."""
    kept = [line for line in before.splitlines() if not line.endswith(f"# {name}")]
    return "".join(f"{line}\n" for line in [*kept, *([schedule.cron_line()] if schedule else [])])


def set_in_crontab(schedule: Schedule, *, remove: bool = False) -> None:
    """Put the line into the user's crontab, in place of an earlier one of the home. Raises ConfigurationError."""
    listed = _run("crontab", "-l", check=False)
    if listed.returncode and "no crontab" not in listed.stderr.lower():
        raise ConfigurationError(f"crontab -l failed: {listed.stderr.strip() or listed.returncode}; nothing was changed", param="by")
    before = listed.stdout if listed.returncode == 0 else ""
    _run("crontab", "-", text=crontab_with(before, None if remove else schedule, schedule.name))


def set_in_systemd(schedule: Schedule, *, remove: bool = False) -> Path:
    """Write the units, or delete them, and start or stop the timer; the folder of the units. Raises ConfigurationError."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    timer = f"{schedule.name}.timer"
    if remove:
        _run("systemctl", "--user", "disable", "--now", timer, check=False)
        for name in schedule.units():
            (folder / name).unlink(missing_ok=True)
        _run("systemctl", "--user", "daemon-reload")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schedule.units().items():
        (folder / name).write_text(text, "utf-8")
    _run("systemctl", "--user", "daemon-reload")
    _run("systemctl", "--user", "enable", "--now", timer)
    return folder


def scheduler() -> str | None:
    """What this machine has: systemd of the user, else cron; None: neither."""
    if shutil.which("systemctl") and _run("systemctl", "--user", "show-environment", check=False).returncode == 0:
        return "systemd"
    return "cron" if shutil.which("crontab") else None


def _run(*command: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"there is no {command[0]} on this machine; install it, or print the lines with --print", param="by"
        ) from exc
    if check and done.returncode:
        raise ConfigurationError(f"{shlex.join(command)} failed: {done.stderr.strip() or done.returncode}", param="by")
    return done


def _quoted(word: str) -> str:
    """A word of ExecStart: quoted, with what systemd would expand escaped."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
