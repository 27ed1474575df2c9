"""How a job becomes work: fit → infer in chunks → publish. Pure: a spec in, steps out, no database.

The shape is Open Job Description's: named steps with dependencies, one of them over a chunked frame parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.frames import FrameRange
from pipeline.jobs.chunks import Chunk, Chunks
from pipeline.jobs.spec import JobSpec
from pipeline.parameters import Parameters
from pipeline.tasks.definition import TaskDefinition


class StepName(StrEnum):
    """The steps, in the order in which they run."""

    FIT = "fit"
    INFER = "infer"
    PUBLISH = "publish"
    COMPARE = "compare"
    """In place of a publish: a replay is held against the version that it repeats."""
    TRAIN = "train"
    SCORE = "score"
    REGISTER = "register"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one take. It starts when every chunk of the steps in `after` (of the same take) has succeeded or was skipped."""

    name: StepName
    take: int
    chunks: Sequence[Chunk]
    after: tuple[StepName, ...] = ()


def plan(spec: JobSpec, definition: TaskDefinition) -> tuple[Step, ...]:
    """The steps of every take, in an order in which they could run one by one.

    A fit sees the whole shot in one chunk: its flow runs from key to key. Infer frames are cut so that each is written
    once and none crosses a gap or a cut; a task that makes frames which the plate hasn't reads the nearest that it has.
    Publish is one chunk over all frames, because a version appears whole or not at all. A replay compares instead.
    """
    last = StepName.PUBLISH if spec.replays is None else StepName.COMPARE
    frames = FrameRange.parse(spec.frames)
    beside = FrameRange.parse(spec.beside)
    readable = (frames - FrameRange.parse(spec.missing)) | beside if spec.missing else None
    whole = [Chunk(0, frames, beside)]
    steps: list[Step] = []
    for take in spec.takes:
        parameters: Parameters = definition.parameters.model_validate(take.parameters)
        before: tuple[StepName, ...] = ()
        if definition.fits:
            steps.append(Step(StepName.FIT, take.index, whole))
            before = (StepName.FIT,)
        chunks = Chunks(
            frames,
            size=spec.chunk_frames or definition.chunk_frames,
            context=definition.context_frames(parameters),
            cuts=spec.cuts,
            readable=readable,
        )
        steps.append(Step(StepName.INFER, take.index, chunks, before))
        steps.append(Step(last, take.index, whole, (StepName.INFER,)))
    return tuple(steps)
