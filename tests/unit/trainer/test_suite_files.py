"""Suites as files: what they hold, what is wrong with a wrong one, and the tasks that they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from recollect.errors import ConfigurationError, InvalidRequest, NotFound
from recollect.settings_read import load
from server.agents import document
from trainer.suites.command import Plan
from trainer.suites.metrics import metrics_of
from trainer.suites.sources import missing_files, tasks_of
from trainer.suites.suite import PRESETS, Suite, known_suites, load_suite

DATA = Path(__file__).parents[2] / "data"


def suite(**changed: Any) -> Suite:
    values = {"name": "s", "sets": [{"name": "one", "source": "dialogue", "options": {"count": 3}}]}
    return Suite.model_validate(values | changed)


def written(folder: Path, content: object) -> str:
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(file)


def presets(name: str) -> list[str | None]:
    values = yaml.safe_load((Path("configs/suites") / f"{name}.yaml").read_text())
    return sorted(values.get(PRESETS, {})) or [None]


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name in known_suites() for preset in presets(name)])
def test_every_suite_that_comes_with_recollect_is_whole(name: str, preset: str | None) -> None:
    found = load_suite(name, preset)
    assert set(metrics_of(found)) == {one.name for one in found.sets}
    load(None, found.overrides(), {})


def test_memfactory_on_the_seed_model_has_the_papers_protocol(tmp_path: Path) -> None:
    found = load_suite("memfactory", "seed")
    assert (found.repeats, found.sampling.temperature, found.policies) == (4, 1.0, ("base", "current"))
    tasks = tasks_of(found.sets)
    sets = {name: [task for task in tasks if task.labels["set"] == name] for name in ("reading 3", "reading 6", "frequent")}
    assert {name: len(of) for name, of in sets.items()} == {"reading 3": 128, "reading 6": 128, "frequent": 128}
    assert [task.labels["domain"] for of in sets.values() for task in of[:1]] == ["in", "in", "out"]
    lengths = [len(document.told(document.split(of[0].request).document)) for of in (sets["reading 3"], sets["reading 6"])]
    assert lengths[1] > 1.5 * lengths[0]


def test_memfactory_with_the_papers_files_says_what_is_missing(tmp_path: Path) -> None:
    found = load_suite("memfactory", "paper")
    (tmp_path / "eval_100.json").write_text("[]")
    with pytest.raises(ConfigurationError) as raised:
        Plan.of(found, load(None, [f"home={tmp_path}"], {}), data=tmp_path)
    said = raised.value.message
    assert "eval_50.json" in said
    assert "eval_fwe_16384.json" in said
    assert f"{tmp_path}/eval_100.json" not in said
    assert "nworats/MemFactory" in said
    assert "give the folder as data" in said


def test_a_preset_replaces_keys_and_is_asked_for(tmp_path: Path) -> None:
    one = {"name": "one", "source": "dialogue"}
    file = written(tmp_path, {"sets": [one], "repeats": 2, "presets": {"long": {"repeats": 9}}})
    assert (load_suite(file, "long").repeats, load_suite(file, "long").name) == (9, "mine-long")
    with pytest.raises(ConfigurationError, match=r"give --preset, one of: long"):
        load_suite(file)
    with pytest.raises(ConfigurationError, match=r"no preset 'short'; give --preset, one of: long"):
        load_suite(file, "short")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sets": [{"name": "one", "source": "dialogue"}], "repeat": 3}, "did you mean 'repeats'"),
        ({"sets": []}, "sets"),
        ({"repeats": 1}, "sets"),
        ("- a\n", "must hold a mapping"),
        ("sets: [", "is not YAML"),
        ({"sets": [{"name": "one", "source": "dialogue"}], "repeats": 0}, "repeats"),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_suite(written(tmp_path, content))


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="known suites: conversations, generated, memfactory"):
        load_suite("memfactry")
    with pytest.raises(ConfigurationError, match=r"set 'one': no task source 'dialog'.*Known sources: babilong, dialogue"):
        tasks_of(suite(sets=[{"name": "one", "source": "dialog"}]).sets)
    with pytest.raises(ConfigurationError, match=r"set 'one': .*cont: .*its options: .*count"):
        tasks_of(suite(sets=[{"name": "one", "source": "dialogue", "options": {"cont": 3}}]).sets)
    with pytest.raises(ConfigurationError, match=r"known metrics: bleu1, boxed, .*evidence_recall, .*task"):
        metrics_of(suite(metrics={"score": "accuracy"}))
    with pytest.raises(ConfigurationError, match=r"no column 'ruler'; the suite has: score"):
        metrics_of(suite(sets=[{"name": "one", "source": "dialogue", "metrics": {"ruler": "f1"}}]))
    settings = load(None, [f"home={tmp_path}"], {})
    with pytest.raises(ConfigurationError, match=r"no agent 'baseline'; known agents: full-context, memory, memory-r1, no-memory"):
        Plan.of(suite(baselines=["baseline"]), settings)
    with pytest.raises(NotFound, match="write base, current or"):
        Plan.of(suite(policies=["v3"]), settings)


def test_dense_search_without_an_embedder_is_refused(tmp_path: Path) -> None:
    settings = load(None, [f"home={tmp_path}", "embedder.kind=none"], {})
    with pytest.raises(ConfigurationError, match="rag-dense needs an embedder"):
        Plan.of(suite(baselines=["rag-dense"]), settings)


def test_tasks_are_the_same_every_time_and_carry_their_labels() -> None:
    chosen = suite(sets=[{"name": "one", "source": "reading", "options": {"count": 3}, "labels": {"domain": "in"}}])
    tasks = tasks_of(chosen.sets)
    assert tasks == tasks_of(chosen.sets)
    assert len(tasks) == 3
    assert tasks_of(chosen.sets, limit=2) == tasks[:2]
    assert tasks[0].labels == {
        "set": "one",
        "type": "reading",
        "dataset": "generated",
        "sections": "3",
        "difficulty": "easy",
        "domain": "in",
    }


def test_two_sets_of_the_same_tasks_are_refused() -> None:
    one = {"source": "dialogue", "options": {"count": 3}}
    with pytest.raises(ConfigurationError, match="comes twice"):
        tasks_of(suite(sets=[{"name": "one", **one}, {"name": "two", **one}]).sets)


def rows(folder: Path, content: str, **changed: object) -> Suite:
    (folder / "rows.json").write_text(content)
    return suite(sets=[{"name": "one", "source": "prepared", "options": {"file": "rows.json"}, **changed}])


def test_rows_of_a_file_become_documents_to_read(tmp_path: Path) -> None:
    row = {"context": "A text.", "input": "What?", "answers": ["red", "blue"], "num_docs": 50, "index": 7}
    content = json.dumps([row, row | {"index": 8}])
    found = tasks_of(rows(tmp_path, content, gold="first").sets, tmp_path)
    assert [task.id for task in found] == ["prepared-rows-7", "prepared-rows-8"]
    assert document.split(found[0].request) == ("What?", ("A text.",))
    assert (found[0].gold, found[0].labels["documents"]) == (("red",), "50")
    assert tasks_of(rows(tmp_path, content).sets, tmp_path, limit=1)[0].gold == ("red", "blue")


def test_a_wrong_file_is_named_with_its_set(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"set 'one': .*rows\.json"):
        tasks_of(rows(tmp_path, '[{"context": "", "input": ""}]').sets, tmp_path)
    with pytest.raises(InvalidRequest, match=r"set 'one': .*rows\.json"):
        tasks_of(rows(tmp_path, "[{").sets, tmp_path)


def test_every_file_that_a_source_takes_is_looked_for_in_the_folder(tmp_path: Path) -> None:
    one = {"name": "one", "source": "babilong", "options": {"file": "qa1.txt", "filler": "books.txt", "length": 500}}
    assert missing_files(suite(sets=[one]).sets, tmp_path) == [tmp_path / "qa1.txt", tmp_path / "books.txt"]
    (tmp_path / "qa1.txt").write_text("")
    assert missing_files(suite(sets=[one]).sets, tmp_path / "qa1.txt") == []
    assert missing_files(suite(sets=[one]).sets, tmp_path) == [tmp_path / "books.txt"]
