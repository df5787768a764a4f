"""`recollect trajectories list`, `show`, `reverify`: what the agents did and what it is worth, for a terminal or as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from recollect.cli_screen import Screen, harmless
from recollect.errors import InvalidRequest, NotFound
from recollect.events import LoggedTrajectory
from recollect.invocation import Invocation
from recollect.log import LogContents, read_log
from recollect.trajectory import Feedback, MemoryOp, Reward, Step, Trajectory, Usage

app = typer.Typer(help="What the agents did: list it, show one in full, compute its rewards.", no_args_is_help=True, add_completion=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
GAP = 2
LEAST = {"error": 10, "namespace": 7}
"""Columns that are shortened on a narrow terminal, and the letters that each keeps."""
MOST = {"agent": 10, "policy": 16, "feedback": 13, "namespace": 24}
"""The widest that columns become where not all fit. Those that are never left out so fit 80 letters, with id and time."""
DISPENSABLE = ("session", "tokens", "steps", "reward", "namespace")
"""Columns that a narrow terminal does without, the first to go first."""


@app.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Trajectories, newest first."""
    contents = _read(ctx)
    found = [logged for logged in contents.trajectories if agent is None or logged.trajectory.agent == agent]
    found.sort(key=lambda logged: logged.trajectory.created_at, reverse=True)
    rows = [summary(logged) for logged in found[:limit]]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        console = Screen()
        console.print(table(rows, width=console.width) if rows else "no trajectories yet: they appear here when an agent has answered")


@app.command()
def show(
    ctx: typer.Context,
    trajectory_id: Annotated[str, typer.Argument(metavar="ID", help="The id, or its first letters.")],
    as_json: AsJson = False,
) -> None:
    """One trajectory: request, steps, memories, answer, feedback, rewards."""
    logged = matching(_read(ctx).trajectories, trajectory_id)
    if as_json:
        typer.echo(logged.model_dump_json(indent=1))
    else:
        Screen().print(page(logged))


@app.command()
def reverify(
    ctx: typer.Context,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the training configuration.")] = None,
    rewards: Annotated[
        str, typer.Option(help="Which, by name, with commas: feedback, citation_marks, valid_operation, next_turn, match, judge, ...")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="A YAML file of the training configuration: weights, judge.")] = None,
    hints: Annotated[bool, typer.Option("--hints", help="Take words such as 'no, it is' for how a user took an answer.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Append nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compute rewards from the log anew, without generating; append those that differ. Without names: what users and memory said."""
    from trainer.cli import training_config
    from trainer.reverify import command

    invocation: Invocation = ctx.obj
    names = [name.strip() for name in rewards.split(",") if name.strip()]
    chosen = training_config(config, overrides or [])
    report = asyncio.run(command.reverify(invocation.settings(), chosen, names, hints=hints, write=not dry))
    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    for line in report["corrupt_lines"]:
        print(f"warning: skipped a corrupt line, {harmless(line)}", file=sys.stderr)
    screen = Screen()
    screen.print(command.table(report))
    screen.print(command.summary(report))


def _read(ctx: typer.Context) -> LogContents:
    invocation: Invocation = ctx.obj
    contents = read_log(invocation.settings().home / "trajectories")
    for line in contents.corrupt_lines:
        print(f"warning: skipped a corrupt line, {harmless(str(line))}", file=sys.stderr)
    return contents


def matching(trajectories: list[LoggedTrajectory], prefix: str) -> LoggedTrajectory:
    """The one whose id is, or begins with, `prefix`. Raises NotFound, InvalidRequest if several do."""
    # A completion's id, as clients see it, is the trajectory's with this in front.
    prefix = prefix.removeprefix("chatcmpl-")
    found = [logged for logged in trajectories if logged.trajectory.id.startswith(prefix)]
    exact = [logged for logged in found if logged.trajectory.id == prefix]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise NotFound(f"no trajectory has an id that begins with {prefix!r}; see recollect trajectories list", param="id")
    several = ", ".join(logged.trajectory.id for logged in found[:5])
    raise InvalidRequest(f"{len(found)} trajectories begin with {prefix!r}: {several}; give more letters", param="id")


def summary(logged: LoggedTrajectory) -> dict[str, Any]:
    """One row of the list."""
    trajectory = logged.trajectory
    return {
        "id": trajectory.id,
        "created_at": trajectory.created_at.isoformat(),
        "agent": trajectory.agent,
        "policies": policies(trajectory),
        "session": trajectory.session,
        "tenant": trajectory.tenant,
        "namespace": trajectory.namespace,
        "steps": len(trajectory.steps),
        "tokens": sum((step.usage for step in trajectory.steps), Usage()).total_tokens,
        "feedback": [verdict(feedback) for feedback in logged.feedback],
        "reward": trajectory.reward,
        "error": trajectory.error,
        "redacted": logged.redacted,
    }


def policies(trajectory: Trajectory) -> list[str]:
    """The names of the policies that sampled, each once, in order of first use."""
    return list(dict.fromkeys(step.policy.name for step in trajectory.steps if step.policy))


def verdict(feedback: Feedback) -> str:
    """A feedback in a word: up, down, corrected, a score, or a comment."""
    if feedback.correction is not None:
        return "corrected"
    if feedback.label:
        return feedback.label
    return "comment" if feedback.score is None else f"{feedback.score:g}"


def table(rows: list[dict[str, Any]], *, width: int) -> Table:
    """The list for a terminal: 16 letters of each id, which `show` takes, and no column that is empty in all rows.

    Where `width` does not hold it, columns of DISPENSABLE are left out, and error and namespace shortened.
    """
    cells = [_cells(row) for row in rows]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    widths = _widths(cells, width)
    for name, cell_width in widths.items():
        right = name in ("steps", "tokens", "reward")
        shown.add_column(name, justify="right" if right else "left", no_wrap=True, width=cell_width)
    for row in cells:
        shown.add_row(*(row[name] for name in widths))
    return shown


def _widths(cells: list[dict[str, Text]], width: int) -> dict[str, int]:
    """The columns to show, with the width of each."""
    kept = {
        name: max(cell_len(name), *(cell_len(row[name].plain) for row in cells))
        for name in (cells[0] if cells else ())
        if any(row[name].plain for row in cells)
    }
    if sum(kept.values()) + GAP * (len(kept) - 1) <= width:
        return kept
    kept = {name: min(cell_width, MOST.get(name, width)) for name, cell_width in kept.items()}
    for name in DISPENSABLE:
        if sum(min(cell_width, LEAST.get(name, cell_width)) + GAP for name, cell_width in kept.items()) - GAP > width:
            kept.pop(name, None)
    over = max(0, sum(kept.values()) + GAP * (len(kept) - 1) - width)
    for name, least in LEAST.items():
        if name in kept:
            given = min(over, max(0, kept[name] - least))
            kept[name] -= given
            over -= given
    if "error" in kept:
        kept["error"] = max(1, kept["error"] - over)
    return kept


def _cells(row: dict[str, Any]) -> dict[str, Text]:
    return {
        "id": Text(row["id"][:16], style="dim" if row["redacted"] else "cyan"),
        "time": Text(row["created_at"][5:16].replace("T", " ")),
        "agent": Text(row["agent"]),
        "policy": Text(", ".join(row["policies"])),
        "session": Text(row["session"][:8]),
        "namespace": Text(row["namespace"]),
        "steps": Text(str(row["steps"])),
        "tokens": Text(f"{row['tokens']:,}"),
        "feedback": Text(", ".join(row["feedback"])),
        "reward": Text("" if row["reward"] is None else f"{row['reward']:g}"),
        "error": Text(" ".join((row["error"] or "").split()), style="red"),
    }


def page(logged: LoggedTrajectory) -> Group:
    """One trajectory for a terminal."""
    trajectory = logged.trajectory
    parts: list[RenderableType] = [_head(logged)]
    parts += [_titled(f"{message.role} says", message.content) for message in trajectory.request]
    parts += [_step(step) for step in trajectory.steps]
    parts.append(_titled("answer", trajectory.answer, style="green"))
    parts += [_titled("feedback", _feedback(feedback), style="yellow") for feedback in logged.feedback]
    parts += [
        Text(f"reward {reward.name}: {'not scored' if reward.score is None else f'{reward.score:g}'} ({_whence(reward)})")
        for reward in trajectory.rewards
    ]
    if trajectory.error:
        parts.append(_titled("error", trajectory.error, style="red"))
    if trajectory.memory_error:
        parts.append(_titled("memory was not written", trajectory.memory_error, style="red"))
    return Group(*parts)


def _whence(reward: Reward) -> str:
    known = [f"{name} {reward.metadata[name]}" for name in ("source", "reason") if name in reward.metadata]
    return ", ".join([*known, f"weight {reward.weight:g}"])


def _head(logged: LoggedTrajectory) -> Table:
    trajectory = logged.trajectory
    total = sum((step.usage for step in trajectory.steps), Usage())
    before, after = trajectory.memory_seq_before, trajectory.memory_seq_after
    facts = {
        "trajectory": trajectory.id + (" (forgotten: its text is gone)" if logged.redacted else ""),
        "time": trajectory.created_at.isoformat(" ", "seconds"),
        "agent": f"{trajectory.agent} ({trajectory.agent_config_hash[:12]})",
        "policy": ", ".join(policies(trajectory)) or "none",
        "where": f"tenant {trajectory.tenant}, {trajectory.namespace}, session {trajectory.session}",
        "memory seq": f"{_seqs(before)} → {'unknown' if after is None else _seqs(after)}",
        "tokens": f"{total.prompt_tokens:,} in, {total.completion_tokens:,} out",
        "consent": trajectory.consent + ("" if trajectory.trainable else ", not trainable (no exact tokens)"),
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(Text(name, style="bold"), Text(value))
    return grid


def _seqs(seqs: dict[str, int]) -> str:
    return ", ".join(f"{seq}" if len(seqs) == 1 else f"{namespace} {seq}" for namespace, seq in seqs.items()) or "0"


def _titled(title: str, text: str, style: str = "cyan") -> Panel:
    return Panel(Text(text), title=title, title_align="left", border_style=style)


def _step(step: Step) -> Panel:
    lines = [Text(step.text)] if step.text else []
    lines += [Text(f"retrieved {ref.id}{_score(ref.score)}", style="dim") for ref in step.retrieved]
    if step.cited:
        lines.append(Text(f"cited {', '.join(step.cited)}", style="dim"))
    lines += [_operation(operation) for operation in step.memory_ops]
    if step.error:
        lines.append(Text(step.error, style="red"))
    facts = [step.policy.name if step.policy else None, _seconds(step.duration_s), _tokens(step), step.finish_reason]
    title = " · ".join([f"{step.index} {step.role}", *(fact for fact in facts if fact)])
    return Panel(Group(*lines), title=Text(title), title_align="left", border_style="red" if step.error else "blue")


def _score(score: float | None) -> str:
    return "" if score is None else f" ({score:.3f})"


def _seconds(duration: float | None) -> str | None:
    return None if duration is None else f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def _tokens(step: Step) -> str | None:
    return f"{step.usage.prompt_tokens:,} → {step.usage.completion_tokens:,} tokens" if step.usage.total_tokens else None


def _operation(operation: MemoryOp) -> Text:
    words = [operation.op.upper(), operation.id or "", operation.text, "" if operation.applied else "(not applied)"]
    return Text(" ".join(word for word in words if word), style="magenta" if operation.applied else "dim")


def _feedback(feedback: Feedback) -> str:
    lines = [verdict(feedback)]
    if feedback.correction is not None:
        lines.append(f"correction: {feedback.correction}")
    if feedback.citations is not None:
        lines.append(f"citations: {', '.join(feedback.citations) or 'none'}")
    if feedback.comment:
        lines.append(f"comment: {feedback.comment}")
    return "\n".join(lines)
