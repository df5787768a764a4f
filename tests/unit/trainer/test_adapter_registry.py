"""The adapter registry: versions, the pointer, and what a crash in the middle leaves behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recollect.errors import AdapterRefused, Conflict, InvalidRequest, NotFound
from recollect.learned import LEARNED, UNREADABLE, affected, hashes_of
from recollect.manifest import Fingerprint, Manifest
from recollect.quarantine import drop_quarantined
from recollect.registry import CONFIG, WEIGHTS, Registry, file_sha256
from recollect.retired import RETIRED, Retired


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


def adapter(folder: Path, text: str = "weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_text(text)
    (folder / CONFIG).write_text('{"r": 16}')
    return folder


def manifest(folder: Path, version: int, *, parent: int | None = None, policy: str = "memory") -> Manifest:
    return Manifest(
        policy=policy,
        version=version,
        parent=parent,
        base="seed",
        run_id="r1",
        rank=16,
        alpha=32,
        target_modules=["q_proj"],
        fingerprint=Fingerprint(probes=[]),
        sha256=file_sha256(folder / WEIGHTS),
    )


def published(registry: Registry, folder: Path, count: int) -> None:
    for version in range(1, count + 1):
        made = adapter(folder, f"weights {version}")
        registry.publish(made, manifest(made, version, parent=version - 1 or None))


def test_a_registry_never_written_has_no_versions_and_answers_with_the_base(registry: Registry) -> None:
    assert registry.policies() == []
    assert registry.versions("memory") == []
    assert registry.current("memory") is None
    assert registry.next_version("memory") == 1


def test_a_published_version_is_current_and_whole(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 2)
    assert registry.versions("memory") == [1, 2]
    assert registry.current("memory") == 2
    assert registry.policies() == ["memory"]
    assert registry.verify("memory", 2).parent == 1
    assert sorted(path.name for path in registry.path("memory", 2).iterdir()) == [CONFIG, WEIGHTS, "manifest.json"]


def test_a_version_can_be_published_without_becoming_current(registry: Registry, tmp_path: Path) -> None:
    made = adapter(tmp_path / "made")
    registry.publish(made, manifest(made, 1), make_current=False)
    assert registry.versions("memory") == [1]
    assert registry.current("memory") is None


def test_a_version_is_published_once(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 1)
    with pytest.raises(Conflict, match="next version of 'memory' is 2, not 1"):
        registry.publish(tmp_path / "made", manifest(tmp_path / "made", 1))


def test_weights_other_than_the_manifests_are_refused(registry: Registry, tmp_path: Path) -> None:
    made = adapter(tmp_path / "made")
    said = manifest(made, 1)
    (made / WEIGHTS).write_text("others")
    with pytest.raises(AdapterRefused, match="sha256"):
        registry.publish(made, said)
    assert registry.versions("memory") == []


def test_a_missing_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    made = adapter(tmp_path / "made")
    said = manifest(made, 1)
    (made / CONFIG).unlink()
    with pytest.raises(AdapterRefused, match="adapter_config"):
        registry.publish(made, said)


def test_weights_that_changed_on_disk_are_found(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 1)
    (registry.path("memory", 1) / WEIGHTS).write_text("rot")
    with pytest.raises(AdapterRefused, match="publish it again"):
        registry.verify("memory", 1)


def test_promotion_and_rollback_follow_parents(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 3)
    registry.set_current("memory", 1)
    assert registry.current("memory") == 1
    registry.set_current("memory", 3)
    assert [registry.rollback("memory") for _ in range(3)] == [2, 1, None]
    assert registry.current("memory") is None
    with pytest.raises(Conflict, match="base model already"):
        registry.rollback("memory")
    with pytest.raises(NotFound):
        registry.set_current("memory", 9)


def test_pools_see_nothing_of_each_other(registry: Registry, tmp_path: Path) -> None:
    made = adapter(tmp_path / "made")
    registry.publish(made, manifest(made, 1), pool="acme")
    assert registry.versions("memory") == []
    assert registry.versions("memory", "acme") == [1]
    assert registry.policies("acme") == ["memory"]


@pytest.mark.parametrize("policy", ["", "../x", "Memory", "a/b", "v1 "])
def test_names_that_are_no_policies_are_refused(registry: Registry, policy: str) -> None:
    with pytest.raises(InvalidRequest, match="no policy"):
        registry.versions(policy)


@pytest.mark.parametrize("pool", ["", "..", "A", "a/b"])
def test_names_that_are_no_pools_are_refused(registry: Registry, pool: str) -> None:
    with pytest.raises(InvalidRequest, match="no pool"):
        registry.versions("memory", pool)


@pytest.mark.parametrize("dies_at", ["copying", "moving", "pointing"])
def test_a_crash_while_publishing_leaves_the_old_state_or_the_new_one(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    published(registry, tmp_path / "made", 1)
    made = adapter(tmp_path / "made", "weights 2")
    real_rename, real_replace, real_copy = Path.rename, Path.replace, Registry.publish.__globals__["shutil"].copyfile

    class Died(BaseException):
        """The process ends here."""

    def rename(self: Path, target: Path) -> Path:
        if dies_at == "moving":
            raise Died
        return real_rename(self, target)

    def replace(self: Path, target: Path) -> Path:
        if dies_at == "pointing":
            raise Died
        return real_replace(self, target)

    def copy(source: Path, target: Path) -> object:
        if dies_at == "copying" and target.name == CONFIG:
            raise Died
        return real_copy(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        patched.setattr(Path, "replace", replace)
        patched.setattr("recollect.registry.shutil.copyfile", copy)
        with pytest.raises(Died):
            registry.publish(made, manifest(made, 2, parent=1))

    assert registry.current("memory") == 1
    assert registry.versions("memory") == ([1, 2] if dies_at == "pointing" else [1])
    for version in registry.versions("memory"):
        registry.verify("memory", version)
    following = registry.next_version("memory")
    registry.publish(made, manifest(made, following, parent=1))
    assert registry.current("memory") == following
    assert not [name for name in os.listdir(registry.path("memory", 1).parent) if name.startswith(".incoming")]


def test_a_pointer_that_says_nothing_known_is_an_error_and_not_the_base(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 1)
    (registry.path("memory", 1).parent / "current").write_text("latest")
    with pytest.raises(AdapterRefused, match="promote a version"):
        registry.current("memory")


def forgotten(reason: str = LEARNED) -> Retired:
    return Retired(certificate="c1", reason=reason)


def test_a_retired_version_gives_way_to_its_nearest_ancestor_and_cannot_come_back(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 4)
    registry.retire("memory", {2: forgotten(), 4: forgotten("descends from v2")})
    assert registry.current("memory") == 3
    for refused in (lambda: registry.set_current("memory", 4), lambda: registry.verify("memory", 4)):
        with pytest.raises(AdapterRefused, match=r"v4 is retired: descends from v2 \(certificate c1\); promote another"):
            refused()
    assert registry.rollback("memory") == 1
    registry.retire("memory", {1: forgotten()})
    assert registry.current("memory") is None
    assert (registry.versions("memory"), registry.next_version("memory")) == ([1, 2, 3, 4], 5)


def test_the_weights_of_retired_versions_are_deleted_and_what_they_were_stays(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 2)
    assert registry.retired_weights() == []
    with pytest.raises(Conflict, match="v1 is not retired"):
        registry.drop_weights("memory", 1)
    registry.retire("memory", {1: forgotten()})
    assert registry.retired_weights() == [("memory", 1)]
    registry.drop_weights("memory", 1)
    assert registry.retired_weights() == []
    assert sorted(path.name for path in registry.path("memory", 1).iterdir()) == [CONFIG, "manifest.json", "retired.json"]
    found = registry.retired("memory", 1)
    assert found is not None
    assert (found.certificate, found.reason) == ("c1", LEARNED)
    assert registry.verify("memory", 2).version == 2


def test_a_mark_that_cannot_be_read_retires_too(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 1)
    (registry.path("memory", 1) / RETIRED).write_text("{")
    with pytest.raises(AdapterRefused, match=r"retired\.json cannot be read"):
        registry.verify("memory", 1)


def test_what_was_trained_from_a_retired_version_or_fails_the_last_check_is_not_published(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 1)
    made = adapter(tmp_path / "made")

    def check() -> None:
        raise AdapterRefused("forgotten meanwhile")

    with pytest.raises(AdapterRefused, match="meanwhile"):
        registry.publish(made, manifest(made, 2), check=check)
    registry.retire("memory", {1: forgotten()})
    with pytest.raises(AdapterRefused, match="v1 is retired"):
        registry.publish(made, manifest(made, 2, parent=1))
    registry.publish(made, manifest(made, 2))
    assert registry.current("memory") == 2


def test_whatever_descends_from_what_learned_is_affected(registry: Registry, tmp_path: Path) -> None:
    data: dict[int, tuple[int | None, list[str]]] = {
        1: (None, []),
        2: (1, ["a"]),
        3: (2, ["b"]),
        4: (3, []),
        5: (1, ["b"]),
    }
    for version, (parent, ids) in data.items():
        made = adapter(tmp_path / "made", f"weights {version}")
        said = manifest(made, version, parent=parent).model_copy(update={"trajectory_ids": sorted(hashes_of(set(ids)))})
        registry.publish(made, said)
    assert affected(registry, hashes_of({"a"}), "local") == {"memory": {2: LEARNED, 3: "descends from v2", 4: "descends from v2"}}
    assert affected(registry, hashes_of({"b"}), "local") == {"memory": {3: LEARNED, 4: "descends from v3", 5: LEARNED}}
    assert affected(registry, hashes_of({"c"}), "local") == affected(registry, hashes_of(set()), "local") == {}
    (registry.path("memory", 1) / "manifest.json").write_text("{")
    assert affected(registry, hashes_of({"c"}), "local") == {"memory": {1: UNREADABLE} | dict.fromkeys((2, 3, 4, 5), "descends from v1")}


def test_quarantined_candidates_that_learned_from_it_are_deleted(registry: Registry, tmp_path: Path) -> None:
    published(registry, tmp_path / "made", 2)
    for run, (parent, ids) in {"r1": (None, {"a"}), "r2": (2, {"b"}), "r3": (1, {"b"})}.items():
        folder = adapter(registry.root / "local" / "memory" / "quarantine" / run)
        said = manifest(folder, 3, parent=parent).model_copy(update={"trajectory_ids": sorted(hashes_of(ids))})
        (folder / "manifest.json").write_text(said.model_dump_json())
    assert drop_quarantined(registry, frozenset(), {}, "local") == []
    assert drop_quarantined(registry, hashes_of({"a"}), {"memory": {2: LEARNED}}, "local") == ["memory@runr1", "memory@runr2"]
    assert [path.name for path in (registry.root / "local" / "memory" / "quarantine").iterdir()] == ["r3"]
