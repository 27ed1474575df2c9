"""What a training or a judgement will take, from what those before it took.

The effort of a training is what its task says (`TrainingDefinition.effort`), that of a judgement its held-out shots times what
its parameters ask of each (`TrainingDefinition.score_effort`). The median of the seconds that earlier jobs of the studio and task
took for a unit of it is the speed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, and_, func, select

from farm.estimates import NEWEST_JOBS, Estimate
from farm.moves import in_states
from farm.settings import FarmSettings
from farm.states import AttemptState, ChunkState, JobKind, JobState
from farm.store import Transaction
from farm.tables import ATTEMPT, CHUNK, JOB
from pipeline.jobs.plan import StepName
from pipeline.jobs.training import TrainingSpec
from pipeline.tasks.definition import TrainingDefinition

_STEPS = (StepName.TRAIN, StepName.SCORE)


@dataclass(slots=True)
class _Done:
    """One step of an earlier job: what a unit of its effort took."""

    job: int
    seconds: float
    gpu_s: float
    money: float


@dataclass(slots=True)
class _Past:
    """What was found, by step."""

    steps: dict[str, list[_Done]] = field(default_factory=dict)


def training_estimate(
    tx: Transaction,
    studio: str,
    task: str,
    training: TrainingDefinition,
    settings: FarmSettings,
    *,
    parameters: Mapping[str, Any],
    lessons: int,
    held_out: int,
) -> Estimate | None:
    """What it will take, or None while the studio has no history of one of its steps. Money is at the prices of then.

    `lessons` 0: a model that is there already is judged.
    """
    efforts = _efforts(training, parameters, lessons, held_out)
    wanted = {step: effort for step, effort in efforts.items() if effort > 0}
    past = _history(tx, studio, task, training).steps
    if any(step not in past for step in wanted):
        return None
    seconds = {step: effort * statistics.median(d.seconds for d in past[step]) for step, effort in wanted.items()}
    main = max(seconds, key=lambda step: seconds[step])
    speeds = [done.seconds for done in past[main]]
    low, _, high = statistics.quantiles(speeds, n=4, method="inclusive") if len(speeds) > 1 else speeds * 3
    middle, total = statistics.median(speeds), sum(seconds.values())
    return Estimate(
        machine_s=round(total, 1),
        gpu_s=round(sum(e * statistics.median(d.gpu_s for d in past[s]) for s, e in wanted.items()), 1),
        money=round(sum(e * statistics.median(d.money for d in past[s]) for s, e in wanted.items()), 4),
        currency=settings.currency,
        low=round(total * min(1.0, low / middle), 1),
        high=round(total * max(1.0, high / middle), 1),
        jobs=len({done.job for done in past[main]}),
        alike="task",
        upper=False,
    )


def _efforts(
    training: TrainingDefinition, given: Mapping[str, Any], lessons: int, held_out: int
) -> Mapping[str, float]:
    parameters = training.parameters.model_validate(given)
    return {
        StepName.TRAIN: training.effort(parameters, lessons) if lessons else 0.0,
        StepName.SCORE: training.score_effort(parameters) * held_out,
    }


def _history(tx: Transaction, studio: str, task: str, training: TrainingDefinition) -> _Past:
    """The newest trainings and judgements of the task that succeeded. One whose parameters are no longer known says nothing."""
    jobs = tx.rows(
        select(JOB.c.id, JOB.c.spec)
        .where(
            JOB.c.studio == studio,
            JOB.c.task == task,
            JOB.c.kind.in_([JobKind.TRAINING.value, JobKind.SCORING.value]),
            in_states(JOB.c.state, {JobState.SUCCEEDED}),
        )
        .order_by(JOB.c.id.desc())
        .limit(NEWEST_JOBS)
    )
    efforts: dict[int, Mapping[str, float]] = {}
    for row in jobs:
        try:
            spec = TrainingSpec.model_validate_json(row.spec)
            efforts[row.id] = _efforts(training, spec.parameters, len(spec.lessons), len(spec.held_out))
        except ValueError:
            continue
    past = _Past()
    for row in tx.rows(_seconds(list(efforts))) if efforts else ():
        effort = efforts[row.job].get(row.step, 0.0)
        if effort > 0 and row.seconds > 0:
            done = _Done(row.job, row.seconds / effort, row.gpu_s / effort, row.money / effort)
            past.steps.setdefault(row.step, []).append(done)
    return past


def _seconds(jobs: Sequence[int]) -> Select[Any]:
    """What each step of some jobs took, in the attempts that were accepted."""
    seconds = ATTEMPT.c.ended_at - ATTEMPT.c.started_at
    return (
        select(
            CHUNK.c.job,
            CHUNK.c.step,
            func.sum(seconds).label("seconds"),
            func.sum(seconds * ATTEMPT.c.gpus).label("gpu_s"),
            func.sum(seconds * ATTEMPT.c.rate).label("money"),
        )
        .select_from(CHUNK.join(ATTEMPT, and_(ATTEMPT.c.chunk == CHUNK.c.id, ATTEMPT.c.number == CHUNK.c.attempt)))
        .where(
            CHUNK.c.job.in_(jobs),
            CHUNK.c.step.in_([step.value for step in _STEPS]),
            in_states(CHUNK.c.state, {ChunkState.SUCCEEDED}),
            in_states(ATTEMPT.c.state, {AttemptState.SUCCEEDED}),
        )
        .group_by(CHUNK.c.job, CHUNK.c.step)
    )
