"""A suite: sets of tasks, how answers are sampled, how often, by what they are scored, and against which baselines. YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field

from recollect.errors import ConfigurationError, NotFound
from recollect.model import Frozen
from recollect.settings_read import parse
from recollect.yaml_text import NotYaml, read_yaml
from trainer.rewards.case import Scoring

FOLDER = Path(__file__).parents[2] / "configs" / "suites"
PRESETS = "presets"
TASK = "task"
"""The metric that stands for what the task itself is rewarded by in training."""


class TaskSet(Frozen):
    """Tasks of one source. `labels` are added to each task's own; `metrics` replace the suite's where the columns are the same."""

    name: str = Field(min_length=1)
    source: str
    options: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, str] = Field(default_factory=dict)
    gold: Literal["all", "first"] = "all"
    """MemFactory compares with the first answer of a question alone."""


class SuiteSampling(Frozen):
    """How answers are sampled. `max_tokens` 0: 64 for the compact prompts, else 1,024."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int = Field(default=0, ge=0)
    seed: int = 0


class Suite(Frozen):
    """What is run. `policies` are `base`, `current` (the version that the home serves with) or `<policy>@v<number>`."""

    name: str
    about: str = ""
    sets: tuple[TaskSet, ...] = Field(min_length=1)
    agent: str = ""
    """Empty: each task names its own."""
    policies: tuple[str, ...] = Field(default=("current",), min_length=1)
    baselines: tuple[str, ...] = ()
    """Agents that answer the same tasks with the first of the policies (trainer/suites/baselines.py)."""
    repeats: int = Field(default=4, ge=1)
    sampling: SuiteSampling = SuiteSampling()
    metrics: dict[str, str] = Field(default={"score": TASK}, min_length=1)
    """A column of the report, and the metric (trainer/suites/metrics.py) or reward (docs/rewards.md) that fills it."""
    scoring: Scoring = Scoring()
    """What rewards are measured against, such as `k` of evidence_recall."""
    by: tuple[str, ...] = ("set", "type", "category", "length", "sections", "documents")
    """The labels that the report groups by."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings that the suite wants, by section; the command line overrides them."""
    needs: tuple[str, ...] = ()
    """What must be there that does not come with Recollect, in words."""

    def overrides(self) -> list[str]:
        """`settings` as `section.key=value`."""
        return [f"{section}.{key}={value}" for section, values in self.settings.items() for key, value in values.items()]


def load_suite(name: str, preset: str | None = None) -> Suite:
    """The suite called `name`, or in the file of that name; a preset replaces the keys that it has.

    Raises NotFound for an unknown name and ConfigurationError for a wrong file or preset; both list what there is.
    """
    values = _read(_file(name))
    presets = _mapping(values.pop(PRESETS, None) or {}, PRESETS)
    if presets and preset not in presets:
        said = f"no preset {preset!r}" if preset else "it has presets"
        raise ConfigurationError(f"suite {name}: {said}; give --preset, one of: {', '.join(sorted(presets))}", param="preset")
    if preset and not presets:
        raise ConfigurationError(f"suite {name} has no presets; leave --preset out", param="preset")
    chosen = _mapping(presets[preset], f"{PRESETS}.{preset}") if preset else {}
    return parse(Suite, {"name": f"{Path(name).stem}-{preset}" if preset else Path(name).stem, **values, **chosen})


def known_suites() -> list[str]:
    """The names of the suites that come with Recollect."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def _file(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in known_suites():
        raise NotFound(f"no suite {name!r}; known suites: {', '.join(known_suites())}; or give a YAML file", param="suite")
    return FOLDER / f"{name}.yaml"


def _read(file: Path) -> dict[str, Any]:
    try:
        values = read_yaml(file)
    except OSError as exc:
        raise ConfigurationError(f"suite {file} cannot be read: {exc.strerror}; give a YAML file", param="suite") from exc
    except NotYaml as exc:
        raise ConfigurationError(f"suite {file} {exc}", param="suite") from exc
    return dict(_mapping(values, str(file)))


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{what} must hold a mapping: lines of 'key: value'", param="suite")
    return cast("dict[str, Any]", value)
