"""A nightly run in crontab or systemd: the texts, and that what else is there stays."""

from __future__ import annotations

import os
import subprocess
from datetime import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from recollect.cli_init import init
from recollect.schedule import Schedule, crontab_with

OTHERS = "MAILTO=ada\n0 1 * * * backup # nightly\n"
CRONTAB = """#!/bin/sh
if [ "$1" = -l ]; then cat "$CRONTAB_FILE"; else cat > "$CRONTAB_FILE"; fi
"""
"""Stands for the program where cron is not installed: it lists and takes a table as that one does."""


def schedule(home: str = "/srv/a home", *options: str) -> Schedule:
    return Schedule(["/usr/bin/python3", "-m", "recollect", "--home", home, "nightly", *options], Path("/srv/100%"), Path(home), time(3, 7))


def test_the_crontab_line_is_a_shell_command_that_names_its_home() -> None:
    line = schedule().cron_line()
    assert line == f"7 3 * * * cd /srv/100\\% && /usr/bin/python3 -m recollect --home '/srv/a home' nightly # {schedule().name}"
    assert schedule("/srv/b").name != schedule().name


def test_a_second_call_replaces_the_line_of_its_home_and_no_other() -> None:
    once = crontab_with(OTHERS, schedule(), schedule().name)
    other = crontab_with(once, schedule("/srv/b"), schedule("/srv/b").name)
    again = crontab_with(other, schedule("/srv/a home", "--nice", "5"), schedule().name)
    assert again.startswith(OTHERS)
    assert again.count("\n") == 4
    assert again.count("--nice 5") == 1
    removed = crontab_with(again, None, schedule().name)
    assert removed == OTHERS + schedule("/srv/b").cron_line() + "\n"


def test_the_units_quote_what_systemd_would_expand() -> None:
    units = schedule("/srv/a home", "policy=$x%y").units()
    service = units[f"{schedule().name}.service"]
    assert 'ExecStart="/usr/bin/python3" "-m" "recollect" "--home" "/srv/a home" "nightly" "policy=$$x%%y"' in service
    assert "WorkingDirectory=/srv/100%%\n" in service
    assert "SuccessExitStatus=3 4" in service
    assert "OnCalendar=*-*-* 03:07:00" in units[f"{schedule().name}.timer"]


def test_the_command_puts_the_line_there_and_takes_it_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, table = tmp_path / "crontab", tmp_path / "table"
    program.write_text(CRONTAB)
    program.chmod(0o700)
    table.write_text(OTHERS)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CRONTAB_FILE", str(table))
    monkeypatch.setenv("RECOLLECT_HOME", str(tmp_path / "home"))
    app = typer.Typer()
    app.command()(init)
    said = CliRunner().invoke(app, ["--nightly", "--by", "cron", "--at", "23:05", "--", "--max-minutes", "60"])
    assert said.exit_code == 0, said.output
    line = table.read_text().removeprefix(OTHERS)
    assert line.startswith("5 23 * * * cd ")
    assert "nightly --max-minutes 60 # recollect-nightly-" in line
    command = line.split(" * * * ")[1].rpartition(" # ")[0].replace("\\%", "%").replace("nightly --max-minutes 60", "nightly --help")
    assert "what is new in the log" in subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert CliRunner().invoke(app, ["--nightly", "--by", "cron", "--remove"]).exit_code == 0
    assert table.read_text() == OTHERS
    assert "no time of the day" in str(CliRunner().invoke(app, ["--nightly", "--at", "25:00"]).exception)
    assert "--nightly" in str(CliRunner().invoke(app, []).exception)
