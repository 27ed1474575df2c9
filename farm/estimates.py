"""What a job will take, said before it is handed in, from what work like it took; and how far that was off afterwards.

Every step of a take has an effort: of a fit what its task says (`TaskDefinition.fit_effort`), of all else frames × megapixels of
what is delivered. The seconds that earlier jobs of the studio took for each unit of it are the speed, and their median
times the effort is the estimate. Jobs of the same model, pool and about the same size are asked first; while those are too
few, jobs that are less alike. Attempts that came to nothing aren't foreseen. Money is at today's prices.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from sqlalchemy import and_, case, func, select

from farm.moves import in_states
from farm.prices import Price, farm_price
from farm.records import Record
from farm.settings import FarmSettings
from farm.states import AttemptState, ChunkState, JobKind, JobState, VersionState
from farm.store import Transaction
from farm.tables import ATTEMPT, CHUNK, JOB, VERSION, WORKER
from pipeline.frames import FrameRange
from pipeline.jobs.plan import Step, StepName
from pipeline.jobs.spec import JobSpec
from pipeline.plate import Window
from pipeline.tasks.definition import TaskDefinition

NEWEST_JOBS, NEWEST_CHUNKS = 40, 8_000
"""How far back is looked."""
ENOUGH = 3
"""Takes that an answer rests on, before less alike ones are left out."""
SAME_SIZE = 4.0
"""Work up to so many times smaller or larger is of about the same size."""


@dataclass(frozen=True, slots=True)
class Estimate(Record):
    """What a job will probably take. Half of the work that it rests on would have come to between `low` and `high`."""

    machine_s: float
    gpu_s: float
    money: float
    currency: str
    low: float
    high: float
    """Machine-seconds: the quartiles."""
    jobs: int
    """How many earlier jobs it rests on."""
    alike: str
    """How alike those are in the step that takes longest: `size`, `model and pool`, `model`, or only the `task`."""
    upper: bool
    """Whether it may take less: frames may be taken over from earlier versions, or takes share a fit."""

    def as_text(self) -> str:
        """JSON, as a job keeps it."""
        return json.dumps(self.as_json())


def relative_error(estimate: Mapping[str, Any], machine_s: float) -> float | None:
    """How much more was spent than estimated, as a part of the estimate; None when nothing was estimated."""
    said = float(estimate["machine_s"])
    return round((machine_s - said) / said, 4) if said > 0 else None


def estimate_of(
    tx: Transaction, spec: JobSpec, steps: Sequence[Step], definition: TaskDefinition, settings: FarmSettings
) -> Estimate | None:
    """What a planned job will take, or None while the studio has no history of its task."""
    past = _history(tx, spec.studio, definition, settings)
    found = [_Planned.of(spec, step, definition).estimated(past) for step in steps]
    guesses = [guess for guess in found if guess is not None]
    if not guesses or len(guesses) < len(found):
        return None
    seconds = sum(guess.seconds for guess in guesses)
    main = max(guesses, key=lambda guess: guess.seconds)
    off = _off(main.sample, {guess.step: guess.speed for guess in guesses})
    quarters = statistics.quantiles(off, n=4, method="inclusive") if len(off) > 1 else [1.0, 1.0, 1.0]
    return Estimate(
        machine_s=round(seconds, 1),
        gpu_s=round(sum(guess.seconds * guess.gpus for guess in guesses), 1),
        money=round(sum(guess.seconds * guess.rate for guess in guesses), 4),
        currency=settings.currency,
        low=round(seconds * min(1.0, quarters[0]), 1),
        high=round(seconds * max(1.0, quarters[2]), 1),
        jobs=len({take.job for take in main.sample}),
        alike=main.alike,
        upper=len(spec.takes) > 1 or _has_versions(tx, spec, definition),
    )


def _has_versions(tx: Transaction, spec: JobSpec, definition: TaskDefinition) -> bool:
    """Whether the shot has versions whose frames may be taken over."""
    here = {"show": spec.show, "sequence": spec.sequence, "shot": spec.shot, "product": definition.product}
    there = select(VERSION.c.id).where(
        VERSION.c.studio == spec.studio,
        *(VERSION.c[name] == value for name, value in here.items()),
        in_states(VERSION.c.state, {VersionState.PUBLISHED}),
    )
    return tx.first(there.limit(1)) is not None


# What was done


@dataclass(slots=True)
class _Work:
    """One step of one take, as it was done."""

    effort: float = 0.0
    seconds: float = 0.0
    gpu_s: float = 0.0
    money: float = 0.0

    @property
    def speed(self) -> float:
        """Seconds for each unit of effort."""
        return self.seconds / self.effort


@dataclass(slots=True)
class _PastTake:
    """One take of an earlier job."""

    job: int
    model: str
    pool: str
    steps: dict[str, _Work] = field(default_factory=dict)


def _history(tx: Transaction, studio: str, definition: TaskDefinition, settings: FarmSettings) -> list[_PastTake]:
    """The newest takes of a task that were published, with what each of their steps took."""
    jobs = tx.rows(
        select(JOB.c.id, JOB.c.spec)
        .where(
            JOB.c.studio == studio,
            JOB.c.task == definition.name,
            JOB.c.kind == JobKind.PLATE.value,
            in_states(JOB.c.state, {JobState.SUCCEEDED}),
        )
        .order_by(JOB.c.id.desc())
        .limit(NEWEST_JOBS)
    )
    specs = {row.id: json.loads(row.spec) for row in jobs}
    if not specs:
        return []
    prices = _prices(tx, studio, settings)
    takes: dict[tuple[int, int], _PastTake] = {}
    for row in tx.rows(_done(list(specs))):
        effort = _effort_done(definition, specs[row.job], row)
        if effort <= 0 or row.ended_at <= row.started_at:
            continue
        take = takes.setdefault((row.job, row.take), _PastTake(row.job, row.model, row.pool))
        work = take.steps.setdefault(row.step, _Work())
        seconds = row.ended_at - row.started_at
        price = prices.get(row.worker) or Price(row.gpus, row.rate)
        work.effort += effort
        work.seconds += seconds
        work.gpu_s += seconds * price.gpus
        work.money += seconds * price.rate
    return list(takes.values())


def _done(jobs: Sequence[int]) -> Any:
    """The accepted attempts of some jobs, the newest first. A publish's result is long, and says nothing of its effort."""
    result = case((CHUNK.c.step != StepName.PUBLISH.value, CHUNK.c.result), else_="{}").label("result")
    facts = [CHUNK.c[name] for name in ("job", "take", "step", "frames", "model", "pool")]
    return (
        select(*facts, result, *(ATTEMPT.c[n] for n in ("worker", "started_at", "ended_at", "gpus", "rate")))
        .select_from(CHUNK.join(ATTEMPT, and_(ATTEMPT.c.chunk == CHUNK.c.id, ATTEMPT.c.number == CHUNK.c.attempt)))
        .where(
            CHUNK.c.job.in_(jobs),
            in_states(CHUNK.c.state, {ChunkState.SUCCEEDED}),
            in_states(ATTEMPT.c.state, {AttemptState.SUCCEEDED}),
        )
        .order_by(CHUNK.c.id.desc())
        .limit(NEWEST_CHUNKS)
    )


def _prices(tx: Transaction, studio: str, settings: FarmSettings) -> dict[str, Price]:
    """What each worker that was heard of costs today."""
    rows = tx.rows(select(WORKER.c.name, WORKER.c.tags).where(WORKER.c.studio == studio))
    return {row.name: farm_price(json.loads(row.tags), settings) for row in rows}


def _effort_done(definition: TaskDefinition, spec: Mapping[str, Any], row: Any) -> float:
    """The effort of a chunk that was done; 0 where it was taken over from earlier work, or can't be told any more."""
    frames, result = len(FrameRange.parse(row.frames)), json.loads(row.result)
    reused = result.get("reused")
    if reused is True or result.get("shared"):
        return 0.0
    if isinstance(reused, str):
        frames -= len(FrameRange.parse(reused))
    take = spec["takes"][row.take]
    window = take["data_window"] or spec["plate"]["data_window"]
    return _effort(definition, take["parameters"], row.step, frames, Window(*window))


def _effort(definition: TaskDefinition, given: Mapping[str, Any], step: str, frames: int, window: Window) -> float:
    megapixels = window.width * window.height / 1e6
    if step != StepName.FIT:
        return frames * megapixels
    try:
        parameters = definition.parameters.model_validate(given)
    except ValidationError:
        return 0.0  # of a task that has other parameters by now
    return definition.fit_effort(parameters, frames, megapixels)


# What is to be done


@dataclass(frozen=True, slots=True)
class _Guess:
    """What one step of one take will need."""

    step: str
    seconds: float
    speed: float
    gpus: float
    rate: float
    alike: str
    sample: tuple[_PastTake, ...]


@dataclass(frozen=True, slots=True)
class _Planned:
    """One step of one take that is to be done."""

    step: str
    effort: float
    model: str
    pool: str

    @classmethod
    def of(cls, spec: JobSpec, step: Step, definition: TaskDefinition) -> _Planned:
        """A step of a plan."""
        take = spec.takes[step.take]
        frames = sum(len(chunk.frames) for chunk in step.chunks)
        window, _ = take.windows(spec.plate.plate())
        effort = _effort(definition, take.parameters, step.name, frames, window)
        return cls(str(step.name), effort, f"{spec.task}:{take.identity}", spec.pool)

    def estimated(self, past: Sequence[_PastTake]) -> _Guess | None:
        """What it will need, from the takes that are most alike; None when its like was never done."""
        known = [take for take in past if self.step in take.steps]
        if not known:
            return None
        if self.effort <= 0:
            return _Guess(self.step, 0.0, 0.0, 0.0, 0.0, "task", tuple(known))
        alike, sample = self._sample(known)
        works = [take.steps[self.step] for take in sample]
        speed = statistics.median(work.speed for work in works)
        return _Guess(
            self.step,
            self.effort * speed,
            speed,
            statistics.median(work.gpu_s / work.seconds for work in works),
            statistics.median(work.money / work.seconds for work in works),
            alike,
            tuple(sample),
        )

    def _sample(self, known: Sequence[_PastTake]) -> tuple[str, list[_PastTake]]:
        """Those that are most alike and enough; when no kind is enough, the most alike there are."""
        samples = [(name, [take for take in known if is_alike(take)]) for name, is_alike in self._ways()]
        enough = [(name, takes) for name, takes in samples if len(takes) >= ENOUGH]
        return next(iter(enough or [(name, takes) for name, takes in samples if takes]))

    def _ways(self) -> Iterator[tuple[str, Callable[[_PastTake], bool]]]:
        def of_model(take: _PastTake) -> bool:
            return take.model == self.model

        def of_place(take: _PastTake) -> bool:
            return of_model(take) and take.pool == self.pool

        def of_size(take: _PastTake) -> bool:
            ratio = take.steps[self.step].effort / self.effort
            return of_place(take) and 1 / SAME_SIZE <= ratio <= SAME_SIZE

        yield "size", of_size
        yield "model and pool", of_place
        yield "model", of_model
        yield "task", lambda _: True


def _off(sample: Sequence[_PastTake], speeds: Mapping[str, float]) -> list[float]:
    """What each take of the sample took, as a part of what these speeds would have said of it."""
    parts = []
    for take in sample:
        said = sum(work.effort * speeds.get(step, 0.0) for step, work in take.steps.items())
        took = sum(work.seconds for step, work in take.steps.items() if step in speeds)
        if said > 0:
            parts.append(took / said)
    return parts


# How far it was off


@dataclass(frozen=True, slots=True)
class Accuracy(Record):
    """How far the estimates of a task's jobs were off, as parts of the estimate. Above 0: they took longer."""

    task: str
    jobs: int
    typical: float
    """The median without its sign."""
    bias: float
    """The median with its sign."""


def accuracy(
    tx: Transaction, studio: str, *, since: float | None = None, until: float | None = None, show: str | None = None
) -> tuple[Accuracy, ...]:
    """How good the estimates of jobs were that were handed in since then and succeeded: by task, then `task` empty for all."""
    seconds = func.sum(ATTEMPT.c.ended_at - ATTEMPT.c.started_at)
    statement = (
        select(JOB.c.task, JOB.c.estimate, seconds.label("machine_s"))
        .select_from(JOB.join(CHUNK, CHUNK.c.job == JOB.c.id).join(ATTEMPT, ATTEMPT.c.chunk == CHUNK.c.id))
        .where(JOB.c.studio == studio, JOB.c.estimate != "", in_states(JOB.c.state, {JobState.SUCCEEDED}))
        .group_by(JOB.c.id, JOB.c.task, JOB.c.estimate)
    )
    for bound in (
        None if since is None else JOB.c.created_at >= since,
        None if until is None else JOB.c.created_at < until,
        None if show is None else JOB.c.show == show,
    ):
        if bound is not None:
            statement = statement.where(bound)
    errors: dict[str, list[float]] = {}
    for row in tx.rows(statement):
        error = relative_error(json.loads(row.estimate), row.machine_s)
        if error is not None:
            errors.setdefault(row.task, []).append(error)
    every = {**dict(sorted(errors.items())), "": [error for some in errors.values() for error in some]}
    return tuple(_accuracy(task, some) for task, some in every.items() if some)


def _accuracy(task: str, errors: Sequence[float]) -> Accuracy:
    typical = statistics.median(abs(error) for error in errors)
    return Accuracy(task, len(errors), round(typical, 4), round(statistics.median(errors), 4))
