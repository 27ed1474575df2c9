"""From an assignment to a step of a training: which folders of earlier steps it reads, and where its checkpoints lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm.folders import checkpoints_folder
from farm.wire import Assignment
from pipeline.jobs.training import TrainingSpec
from pipeline.learning import run_register, run_score, run_train
from pipeline.plate_shot import Reporter
from pipeline.tasks.registry import task


def do_training_step(assignment: Assignment, spec: TrainingSpec, report: Reporter) -> dict[str, Any]:
    """Train, score one shot, or register. Raises: PipelineError, Cancelled."""
    definition = task(spec.task)
    folder = Path(assignment.folder)
    trained = next((Path(i.folder) for i in assignment.inputs if i.step == "train"), None)
    if assignment.step == "train":
        checkpoints = checkpoints_folder(spec.publish_root, studio=spec.studio, job=assignment.job_id)
        return run_train(spec, definition, folder=folder, checkpoints=checkpoints, report=report.progress)
    if assignment.step == "score":
        return run_score(spec, definition, assignment.index, folder=folder, trained=trained, report=report.progress)
    scored = [Path(i.folder) for i in assignment.inputs if i.step == "score"]
    return run_register(spec, definition, scored=scored, trained=trained)
