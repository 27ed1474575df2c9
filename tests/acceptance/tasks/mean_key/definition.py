"""A task for tests: a matte from how bright a frame and its neighbours are. It fits, but doesn't learn."""

from __future__ import annotations

from pipeline.parameters import Kind, Parameters, parameter
from pipeline.tasks.definition import Measure, TaskDefinition


class MeanKeyParameters(Parameters):
    """What can be set."""

    threshold: float = parameter(0.5, min=0.0, max=10.0, help="The mean value at which the matte is half solid.")
    accept: bool = parameter(False, help="Take what the bounds refuse.")
    seed: int | None = parameter(None, kind=Kind.SEED, min=0, max=2**31 - 1, help="Start of the dither.")


MEAN_KEY = TaskDefinition(
    name="mean_key",
    label="Mean key",
    help="A matte of what is bright on three frames.",
    parameters=MeanKeyParameters,
    runner="mean_key.runner:MeanKeyRunner",
    product="meankey",
    fits=True,
    learns=False,
    context_frames=lambda _: 1,
    chunk_frames=4,
    memory_mb=1000,
    default_model="mean_key-1",
    measures={"solid": Measure(label="Solid", help="Share of the picture that the matte covers.", better="lower")},
)
