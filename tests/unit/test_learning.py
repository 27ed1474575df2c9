"""The steps of a training: what they leave, what they refuse to go on with, and that a disk's fault is nobody's try."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from farm.folders import job_folder, models_folder
from farm.session import failure_kind
from farm.states import FailureKind
from pipeline import learning
from pipeline.errors import ModelError, RunnerError, StorageError
from pipeline.jobs.training import TrainingSpec
from pipeline.learning import run_register, run_score, run_train
from pipeline.models.checkpoints import FolderCheckpoints, checkpoint_s
from pipeline.models.files import sha256_of
from pipeline.parameters import Parameters
from pipeline.paths import disk_fault
from pipeline.tasks.contract import Cancelled, ModelRef
from pipeline.tasks.definition import Measure, TrainingDefinition
from pipeline.tasks.registry import task
from pipeline.tasks.training import WEIGHTS, ScoringContext, TrainingContext
from tests.unit.farm.test_registering import training_spec

ROTO = task("roto")


class Small:
    """A trainer whose weights are one number; `wrong` is what it does otherwise."""

    wrong: Callable[[Path], object] = staticmethod(lambda folder: None)
    measures: Mapping[str, float] = {"jf": 0.5}

    def train(self, training: TrainingContext, base: ModelRef) -> Mapping[str, float | str | int]:
        save_file({"a": torch.full((3,), float(training.seed))}, training.folder / WEIGHTS)
        type(self).wrong(training.folder)
        return {"steps": 1}

    def score(self, scoring: ScoringContext, model: ModelRef) -> Mapping[str, float]:
        type(self).wrong(scoring.folder)
        return self.measures


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> type[Small]:
    """A trainer of its own for each test."""

    class Own(Small):
        pass

    monkeypatch.setattr(learning, "_trainer", lambda training: Own())
    return Own


DEFINITION = replace(
    ROTO,
    training=TrainingDefinition(
        trainer="tests.unit.test_learning:Small", parameters=Parameters, products=("roto",), makes="net", measure="jf",
        measures={"jf": Measure(label="J", help="h", better="higher")},
    ),
)  # fmt: skip


def spec_in(folder: Path, **more: Any) -> TrainingSpec:
    given = {"parameters": {}, "publish_root": str(folder), "models_folder": str(models_folder(folder, studio="local"))}
    return training_spec(**{**given, **more})


def trained(folder: Path, spec: TrainingSpec | None = None) -> Path:
    made = job_folder(folder, studio="local", job=1) / "train"
    made.mkdir(parents=True)
    run_train(
        spec or spec_in(folder), DEFINITION, folder=made, checkpoints=folder / "states", report=lambda part, note: None
    )
    return made


def scored(folder: Path, spec: TrainingSpec, shot: int, made: Path) -> Path:
    own = folder / f"score-{shot}"
    own.mkdir()
    run_score(spec, DEFINITION, shot, folder=own, trained=made, report=lambda part, note: None)
    return own


def test_a_training_leaves_weights_under_their_hash_that_outlive_the_jobs_folder(
    small: type[Small], tmp_path: Path
) -> None:
    spec = spec_in(tmp_path)
    made = trained(tmp_path, spec)
    found = run_register(spec, DEFINITION, scored=[scored(tmp_path, spec, i, made) for i in (0, 1)], trained=made)
    path = Path(found["model"]["path"])
    assert path.name == f"{found['model']['sha256']}.safetensors" and sha256_of(path) == found["model"]["sha256"]
    assert (found["protocol"], found["scores"]["candidate"]["value"]) == (spec.protocol, 0.5)
    for file in sorted(job_folder(tmp_path, studio="local", job=1).rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    assert sha256_of(path) == found["model"]["sha256"]
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing half-written beside it"


def test_registering_twice_and_over_a_damaged_copy_gives_whole_weights(small: type[Small], tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    made = trained(tmp_path, spec)
    folders = [scored(tmp_path, spec, i, made) for i in (0, 1)]
    first = run_register(spec, DEFINITION, scored=folders, trained=made)
    assert run_register(spec, DEFINITION, scored=folders, trained=made) == first
    path = Path(first["model"]["path"])
    path.unlink()
    path.write_bytes(b"half")
    assert run_register(spec, DEFINITION, scored=folders, trained=made) == first
    assert sha256_of(path) == first["model"]["sha256"]


@pytest.mark.parametrize("shots", [[], [0], [1]])
def test_a_mean_over_fewer_shots_than_the_protocol_names_is_refused(
    small: type[Small], tmp_path: Path, shots: list[int]
) -> None:
    spec = spec_in(tmp_path)
    made = trained(tmp_path, spec)
    with pytest.raises(RunnerError, match=f"{len(shots)} of 2 held-out shots have a score"):
        run_register(spec, DEFINITION, scored=[scored(tmp_path, spec, i, made) for i in shots], trained=made)


def test_a_score_that_is_no_number_or_lacks_a_measure_is_refused(small: type[Small], tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    made = trained(tmp_path, spec)
    for measures, words in (({"jf": float("nan")}, "diverged"), ({}, "gave no jf"), ({"other": 1.0}, "gave no jf")):
        small.measures = measures
        with pytest.raises(RunnerError) as refused:
            scored(tmp_path, spec, 0, made)
        assert words in f"{refused.value.message} {refused.value.hint}"
        (tmp_path / "score-0" / "candidate").rmdir()
        (tmp_path / "score-0").rmdir()


def test_weights_that_changed_since_the_job_was_submitted_are_not_learned_from(
    small: type[Small], tmp_path: Path
) -> None:
    base = tmp_path / "base.safetensors"
    save_file({"a": torch.zeros(2)}, base)
    model = {"name": "old@v001", "path": str(base), "sha256": sha256_of(base), "family": "net"}
    spec = spec_in(tmp_path, base=model)
    trained(tmp_path, spec)
    save_file({"a": torch.ones(2)}, base)
    with pytest.raises(ModelError, match="have the sha256"):
        trained(tmp_path / "again", spec)


def test_a_trainer_that_leaves_nothing_or_half_a_file_is_told(small: type[Small], tmp_path: Path) -> None:
    small.wrong = staticmethod(lambda folder: (folder / WEIGHTS).unlink())
    with pytest.raises(RunnerError, match=f"left no {WEIGHTS}"):
        trained(tmp_path / "a")
    small.wrong = staticmethod(lambda folder: os.truncate(folder / WEIGHTS, 20))
    with pytest.raises(ModelError, match="no whole safetensors"):
        trained(tmp_path / "b")


def raise_(error: BaseException) -> Callable[[Path], object]:
    def raising(folder: Path) -> object:
        raise error

    return staticmethod(raising)  # type: ignore[return-value]


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_IN_WORDS = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("error", [FULL, FULL_IN_WORDS], ids=["plain", "in words"])
def test_a_full_disk_is_the_storages_fault_however_the_trainer_learns_of_it(
    small: type[Small], tmp_path: Path, error: Exception
) -> None:
    made = trained(tmp_path / "a")
    small.wrong = raise_(error)
    with pytest.raises(StorageError, match="is full") as refused:
        trained(tmp_path / "b")
    assert failure_kind(refused.value) is FailureKind.STORAGE
    with pytest.raises(StorageError):
        scored(tmp_path, spec_in(tmp_path), 0, made)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("a bug"), FailureKind.ERROR),
        (FileNotFoundError(errno.ENOENT, "gone", "x"), FailureKind.ERROR),
        (SafetensorError("invalid header"), FailureKind.ERROR),
        (MemoryError(), FailureKind.MEMORY),
    ],
)
def test_what_a_trainer_itself_gets_wrong_counts_against_it(
    small: type[Small], tmp_path: Path, error: Exception, kind: FailureKind
) -> None:
    small.wrong = raise_(error)
    with pytest.raises((RunnerError, MemoryError)) as refused:
        trained(tmp_path)
    assert failure_kind(refused.value) is kind


def test_a_cancelled_training_stays_cancelled(small: type[Small], tmp_path: Path) -> None:
    small.wrong = raise_(Cancelled())
    with pytest.raises(Cancelled):
        trained(tmp_path)


def test_only_faults_of_the_disk_itself_are_its() -> None:
    assert disk_fault(FULL) is FULL
    found = disk_fault(FULL_IN_WORDS)
    assert found is not None and found.errno == errno.ENOSPC
    for other in (ValueError("os error 28"), FileNotFoundError(errno.ENOENT, "x"), SafetensorError("(os error 2)")):
        assert disk_fault(other) is None


# Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((4,), value)}


def states_in(folder: Path) -> FolderCheckpoints:
    return FolderCheckpoints(folder, every_s=0)


def test_the_newest_state_that_can_be_read_is_gone_on_from_whatever_else_lies_there(tmp_path: Path) -> None:
    states = states_in(tmp_path)
    assert states.newest() is None and states_in(tmp_path / "none").newest() is None
    states.keep(5, tensors(5), {"at": 5})
    states.keep(10, tensors(10), {"at": 10})
    whole = (tmp_path / "000000010.safetensors").read_bytes()
    (tmp_path / "000000020.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "000000030.safetensors").write_bytes(b"")
    save_file(tensors(40), tmp_path / "000000040.safetensors")  # without facts
    save_file(tensors(50), tmp_path / "000000050.safetensors", metadata={"platewright.facts": "{"})
    (tmp_path / "000000060.safetensors").mkdir()
    (tmp_path / "000000070.safetensors").symlink_to(tmp_path / "gone")
    save_file(tensors(99), tmp_path / "zz.safetensors", metadata={"platewright.facts": "{}"})
    found = states_in(tmp_path).newest()
    assert found is not None
    assert (found[0], float(found[1]["a"][0]), found[2]) == (10, 10.0, {"at": 10})


def test_files_of_others_are_neither_taken_for_states_nor_make_them_go(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        save_file(tensors(0), tmp_path / f"{name}.safetensors")
    states = states_in(tmp_path)
    for step in (1, 2, 3):
        states.keep(step, tensors(step), {})
    kept = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert kept == ["000000002", "000000003", "x", "y", "z"]
    found = states.newest()
    assert found is not None and found[0] == 3


def test_a_full_disk_while_a_state_is_kept_is_the_storages_fault_and_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    states = states_in(tmp_path)
    states.keep(1, tensors(1), {})

    def full(_: object, path: Path, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise FULL_IN_WORDS

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StorageError, match="is full") as refused:
        states.keep(2, tensors(2), {})
    assert failure_kind(refused.value) is FailureKind.STORAGE
    assert [path.name for path in tmp_path.iterdir()] == ["000000001.safetensors"]


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf"])
def test_a_worker_that_can_not_tell_how_often_leaves_the_training_to_another(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PLATEWRIGHT_CHECKPOINT_S", text)
    with pytest.raises(RunnerError, match="PLATEWRIGHT_CHECKPOINT_S") as refused:
        checkpoint_s()
    assert failure_kind(refused.value) is FailureKind.ERROR


def test_a_step_report_that_is_broken_says_which_to_retry(small: type[Small], tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    made = trained(tmp_path, spec)
    folders = [scored(tmp_path, spec, i, made) for i in (0, 1)]
    (folders[1] / "step.json").write_text(json.dumps({})[:1])
    with pytest.raises(RunnerError, match="is gone or broken"):
        run_register(spec, DEFINITION, scored=folders, trained=made)
