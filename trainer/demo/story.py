"""What happens in the demo, in its order. Each part says what it does, shows what came of it, and fails by its name."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAIError
from rich.console import Console
from tokenizers import Tokenizer

from memory_store.embedders.choose import choose
from recollect.errors import RecollectError
from recollect.settings import SEED_MODEL, EmbedderSettings
from trainer.demo import summary
from trainer.demo.one_user import one_user
from trainer.demo.serving import Serving, interrupted
from trainer.demo.swap import promote_under_load
from trainer.demo.users import give_feedback, live_all
from trainer.environments.generated import dialogue_task, reading_task
from trainer.environments.tasks import Task
from trainer.seed.world import Part

ProgressBar = Callable[[str, int | None], AbstractContextManager[Callable[..., None]]]


OWN_MEASURE = ("held_out_tasks=32", "samples_per_task=2")
"""Of the training run: small, because the demo measures through the served endpoint before and after."""


class DemoFailed(RecollectError):
    """A part of the demo did not do what it promises; the message names the part."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many users, documents and held-out tasks."""

    dialogues: int
    documents: int
    held_out: int


async def tell(
    home: Path,
    sizes: Sizes,
    console: Console,
    *,
    progress: ProgressBar,
    train_overrides: Sequence[str],
    serve_overrides: Sequence[str],
    before_training: Callable[[], None] | None,
    keep: bool,
) -> dict[str, Any]:
    """Tell the whole story; returns the figures. Raises RecollectError naming the part that failed."""
    settings = ["agents.writing=operations"]
    if not any(override.startswith("embedder.") for override in serve_overrides):
        settings.append(f"embedder.model={await prepared_embedder(home.parent, console)}")
    serving = Serving(home, [*settings, *serve_overrides])
    try:
        console.rule("[bold]1. Serve[/]")
        console.print(
            "Starting `recollect serve` with vLLM as its child on the bundled seed model. This demo sets "
            "[bold]agents.writing=operations[/]: the model itself decides what to add, update and delete in memory. "
            "(The default, `episodic`, keeps what users say and calls no model.)"
        )
        with progress("loading", None) as show:
            await asyncio.to_thread(serving.start, show)
        console.print(f"The server is at {serving.url}, its files are under {home}")

        console.rule("[bold]2. Remember[/]")
        await one_user(serving.url, "ada", console)
        tasks = drawn(sizes.dialogues, sizes.documents, "train")
        with progress(f"{sizes.dialogues} more users tell and ask, {sizes.documents} documents are read", len(tasks)) as advance:
            asked = await live_all(serving.url, tasks, "demo", advance)
        console.print(f"{sum(a.right for a in asked)} of {len(asked)} questions were answered rightly")

        console.rule("[bold]3. Correct[/]")
        accepted, corrected = await give_feedback(serving.url, asked)
        console.print(f"Feedback by POST /v1/feedback: {accepted} answers accepted, {corrected} corrected")

        console.rule("[bold]4. Measure, before[/]")
        exam = drawn(sizes.held_out // 2, sizes.held_out - sizes.held_out // 2, "held_out")
        with progress("held-out users and documents, asked through the server", len(exam)) as advance:
            before = await live_all(serving.url, exam, "before", advance)
        console.print(f"{summary.share(before):.0%} of {len(before)} held-out questions right, sampled at temperature 1 as served")

        console.rule("[bold]5. Train on the log[/]")
        if before_training:
            before_training()
        report = await train(home, [*settings, *train_overrides])

        console.rule("[bold]6. Swap while requests are streaming[/]")
        swap = await promote_under_load(serving, home, report["version"], exam)
        console.print(swap.sentence())

        console.rule("[bold]7. Measure, after[/]")
        with progress("the same questions again, as new users", len(exam)) as advance:
            after = await live_all(serving.url, exam, "after", advance)
        await one_user(serving.url, "bea", console)
        figures = summary.figures(before, after, report, swap)
        summary.show(console, figures, home)
        if figures["difference"]["low"] <= 0:
            raise DemoFailed("measure, after: held-out accuracy did not rise for certain (the interval's lower end is not above 0)")
        if keep:
            await _left_running(serving, console)
        return figures
    except OpenAIError as exc:
        raise DemoFailed(f"a request failed: {type(exc).__name__}: {exc}; the server's log ends with\n{serving.log_tail()}") from exc
    finally:
        await asyncio.to_thread(serving.stop)


def drawn(dialogues: int, documents: int, part: Part, *, name: str = "demo") -> list[Task]:
    """Generated tasks, others for another name; what is asked for in the held-out part occurs in no training text of the seed model."""
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))

    def length(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    told = [dialogue_task(f"{name}-{i}", part) for i in range(dialogues)]
    return told + [reading_task(f"{name}-{i}", part, length) for i in range(documents)]


async def prepared_embedder(shared: Path, console: Console) -> Path:
    """MiniLM as ONNX, exported once (half a minute) and kept beside the homes of all demos."""
    folder = (shared / "embedders" / "minilm").resolve()
    if not (folder / "manifest.json").is_file():
        console.print("Preparing the embedder (MiniLM as ONNX), once ...")
        await choose(EmbedderSettings(), shared)
    return folder


async def train(home: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run `recollect train` as a process of its own; returns its report. Raises DemoFailed when it fails or has nothing to do."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recollect", "--home", str(home), "train", "--json", "make_current=false", *OWN_MEASURE, *overrides),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise DemoFailed(f"train on the log: `recollect train` ended with status {process.returncode}")
    return json.loads(out)


async def _left_running(serving: Serving, console: Console) -> None:
    console.rule("[bold]The server goes on (Ctrl-C ends it)[/]")
    console.print(
        f"claude mcp add --transport http recollect {serving.url}/mcp\n"
        f"curl -s {serving.url}/v1/chat/completions -H 'content-type: application/json' "
        '-d \'{"model": "memory", "user": "bea", "messages": [{"role": "user", "content": "What is my dog?"}]}\'',
        soft_wrap=True,
        markup=False,
    )
    await interrupted()
