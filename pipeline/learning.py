"""How a model learns, is judged and gets its place: one function a step, called by a session child.

train ► weights in the attempt's folder. score ► the candidate and what is in production, on one held-out shot each. register ►
the weights under their own hash, and the numbers of all shots together.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, RunnerError, TaskError
from pipeline.finished_shot import VersionShot
from pipeline.jobs.spec import ModelSpec
from pipeline.jobs.training import AdapterSpec, JudgedSpec, TrainingSpec
from pipeline.models.checkpoints import FolderCheckpoints, checkpoint_s
from pipeline.models.files import check_sha256, read_header, sha256_of
from pipeline.parameters import Parameters
from pipeline.paths import disk_fault, storage_error
from pipeline.tasks.contract import Cancelled
from pipeline.tasks.definition import TaskDefinition, TrainingDefinition
from pipeline.tasks.training import WEIGHTS, Checkpoints, FinishedShot, TaskTrainer

STEP_REPORT = "step.json"
SCORE_SEED = 0
"""Every model is judged with the same chance."""
_LOGGED = 10
"""So often the log of a training says how far it is."""
log = logging.getLogger("platewright.training")
Progress = Callable[[float, str], None]


@dataclass(slots=True)
class _Training:
    """Keeps `TrainingContext`."""

    parameters: Parameters
    seed: int
    shots: Sequence[FinishedShot]
    folder: Path
    checkpoints: Checkpoints
    report: Progress
    _logged: int = -1

    def progress(self, fraction: float, note: str = "") -> None:
        self.report(fraction, note)
        part = int(fraction * _LOGGED)
        if note and part != self._logged:
            self._logged = part
            log.info("%s", note)


@dataclass(slots=True)
class _Scoring:
    """Keeps `ScoringContext`. `part`: where this model's share of the chunk begins, and how much it is."""

    parameters: Parameters
    seed: int
    shot: FinishedShot
    folder: Path
    report: Progress
    part: tuple[float, float]

    def progress(self, fraction: float, note: str = "") -> None:
        begin, share = self.part
        self.report(begin + share * min(max(fraction, 0.0), 1.0), note)


def run_train(
    spec: TrainingSpec, definition: TaskDefinition, *, folder: Path, checkpoints: Path, report: Progress
) -> dict[str, Any]:
    """Have the task's trainer learn the lessons. Its weights lie in `folder` then, and facts for the card come back.

    `checkpoints`: a folder that outlives the attempt. Raises: ModelError (the base changed), PlateError, RunnerError, Cancelled.
    """
    started = time.monotonic()
    training = training_of(definition)
    base = JudgedSpec(label=spec.base.name, model=spec.base)
    _check(base)
    with ExitStack() as stack:
        shots = [stack.enter_context(VersionShot(one, definition, studio=spec.studio)) for one in spec.lessons]
        context = _Training(
            parameters=training.parameters.model_validate(spec.parameters),
            seed=spec.seed,
            shots=shots,
            folder=folder,
            checkpoints=FolderCheckpoints(checkpoints, every_s=checkpoint_s()),
            report=report,
        )
        train = partial(_trainer(training).train, context, base.ref())
        facts = dict(_told(train, f"training of {definition.name}", folder))
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise RunnerError(f"the trainer of {definition.name} left no {WEIGHTS}", "see the log; a trainer must write it")
    read_header(weights)
    _finite(facts, f"the training of {definition.name}")
    found = {"sha256": sha256_of(weights), "facts": facts, "seconds": round(time.monotonic() - started, 3)}
    (folder / STEP_REPORT).write_text(json.dumps(found, sort_keys=True))
    return found


def run_score(
    spec: TrainingSpec,
    definition: TaskDefinition,
    shot: int,
    *,
    folder: Path,
    trained: Path | None,
    report: Progress,
) -> dict[str, Any]:
    """Judge the candidate, and what it is held against, on one held-out shot by the same measure.

    `trained`: the folder of the training; None where the candidate is there already. Raises: as `run_train`.
    """
    started = time.monotonic()
    training = training_of(definition)
    lesson = spec.held_out[shot]
    judged = {"candidate": candidate_of(spec, training, trained), "present": spec.present}
    found: dict[str, dict[str, float]] = {}
    for place, (who, weights) in enumerate(judged.items()):
        _check(weights)
        inner = folder / who
        inner.mkdir()
        with VersionShot(lesson, definition, studio=spec.studio) as finished:
            context = _Scoring(
                parameters=training.parameters.model_validate(spec.parameters),
                seed=SCORE_SEED,
                shot=finished,
                folder=inner,
                report=report,
                part=(place / len(judged), 1 / len(judged)),
            )
            score = partial(_trainer(training).score, context, weights.ref())
            found[who] = _measures(training, _told(score, f"score of {finished.name}", inner))
    answer = {"shot": lesson.address, "scores": found, "seconds": round(time.monotonic() - started, 3)}
    (folder / STEP_REPORT).write_text(json.dumps(answer, sort_keys=True))
    return answer


def run_register(
    spec: TrainingSpec, definition: TaskDefinition, *, scored: Sequence[Path], trained: Path | None
) -> dict[str, Any]:
    """Put finished weights under their hash into the studio's folder, and the shots' scores together.

    Returns `{"model": {sha256, path, family, facts} or None, "candidate", "against", "protocol", "measure", "scores": {who: {value,
    shots}}}`.
    Raises: StorageError, ModelError, RunnerError (a step's folder is broken).
    """
    training = training_of(definition)
    if len(scored) != len(spec.held_out):
        # The protocol names every held-out shot: a mean over fewer would say more than was measured.
        message = f"{len(scored)} of {len(spec.held_out)} held-out shots have a score"
        raise RunnerError(message, "retry the scores that are missing, or cancel the job")
    shots: dict[str, dict[str, dict[str, float]]] = {"candidate": {}, "present": {}}
    for folder in scored:
        facts = _facts(folder)
        for who, measures in facts["scores"].items():
            shots[who][facts["shot"]] = measures
    scores = {
        who: {"value": math.fsum(m[training.measure] for m in by_shot.values()) / len(by_shot), "shots": by_shot}
        for who, by_shot in shots.items()
    }
    model = None
    if trained is not None:
        facts = _facts(trained)
        path = _put(trained / WEIGHTS, Path(spec.models_folder) / definition.name, facts["sha256"])
        model = {
            "sha256": facts["sha256"],
            "path": str(path),
            "family": training.makes,
            "facts": {**facts["facts"], "train_s": facts["seconds"], "bytes": path.stat().st_size},
        }
    return {
        "model": model,
        "candidate": spec.name if spec.candidate is None else spec.candidate.label,
        "against": spec.present.label,
        "protocol": spec.protocol,
        "measure": training.measure,
        "scores": scores,
    }


def training_of(definition: TaskDefinition) -> TrainingDefinition:
    """How a task learns. Raises: TaskError (it doesn't)."""
    if definition.training is None:
        raise TaskError(f"{definition.label} has nothing that learns", "its models are given by path")
    return definition.training


def candidate_of(spec: TrainingSpec, training: TrainingDefinition, trained: Path | None) -> JudgedSpec:
    """What is judged: weights that were just trained, or those of a card."""
    if spec.candidate is not None:
        return spec.candidate
    assert trained is not None  # a job without a candidate has trained one
    weights = AdapterSpec(path=str(trained / WEIGHTS), sha256=str(_facts(trained)["sha256"]))
    if training.parameter:
        return JudgedSpec(label=spec.name, model=spec.base, adapters={training.parameter: weights})
    model = ModelSpec(name=spec.name, path=weights.path, family=training.makes, sha256=weights.sha256)
    return JudgedSpec(label=spec.name, model=model)


def _trainer(training: TrainingDefinition) -> TaskTrainer:
    module, _, name = training.trainer.partition(":")
    try:
        trainer: TaskTrainer = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise TaskError(
            f"the trainer {training.trainer} can't be loaded: {error}", "see TrainingDefinition.trainer"
        ) from error
    return trainer


def _check(judged: JudgedSpec) -> None:
    """Raises: ModelError when something else lies there than when the job was submitted."""
    for path, sha256 in judged.files():
        check_sha256(path, sha256)


def _put(weights: Path, folder: Path, sha256: str) -> Path:
    """Weights under their hash: whole or not at all, and the same ones only once."""
    path = folder / f"{sha256}.safetensors"
    part = folder / f".{path.name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not (path.is_file() and sha256_of(path) == sha256):
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            os.link(weights, part)
            part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    check_sha256(path, sha256)
    return path


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / STEP_REPORT).read_text())
    except (OSError, ValueError) as error:
        raise RunnerError(f"{folder / STEP_REPORT} is gone or broken", "retry the step that wrote it") from error
    return facts


def _measures(training: TrainingDefinition, found: Mapping[str, float]) -> dict[str, float]:
    """Raises: RunnerError when a measure that was declared is missing, or isn't a number."""
    lacking = sorted(set(training.measures) - set(found))
    if lacking:
        raise RunnerError(f"the trainer gave no {', '.join(lacking)}", "score() must give every declared measure")
    measures = {name: float(found[name]) for name in training.measures}
    _finite(measures, "the score")
    return measures


def _finite(facts: Mapping[str, object], what: str) -> None:
    for name, value in facts.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RunnerError(
                f"{what} gave {name} = {value}", "the training diverged: try a lower rate or another seed"
            )


def _told(call: Callable[[], Mapping[str, Any]], what: str, folder: Path) -> Mapping[str, Any]:
    """Call into a trainer; whatever it raises becomes a RunnerError that names the place. A disk's fault isn't the trainer's:
    it becomes a StorageError, which counts as no try."""
    try:
        return call()
    except (PipelineError, Cancelled, MemoryError):
        raise
    except Exception as error:
        if (fault := disk_fault(error)) is not None:
            raise storage_error(fault, folder / WEIGHTS) from error
        raise RunnerError(f"{what} failed: {type(error).__name__}: {error}", "the log has the traceback") from error
