"""Luma key: a matte from how bright the plate is. The smallest whole task: see docs/extending.md."""

from __future__ import annotations

from typing import Literal

from pipeline.parameters import Parameters, parameter
from pipeline.tasks.definition import TaskDefinition


class LumaKeyParameters(Parameters):
    """What an artist can set for a luma key."""

    source: Literal["luminance", "red", "green", "blue"] = parameter(
        "luminance", group="Key", help="What is compared with the threshold."
    )
    threshold: float = parameter(
        0.5, min=0.0, max=1000.0, group="Key", help="The scene-linear value at which the matte is half solid."
    )
    softness: float = parameter(
        0.1, min=0.0, max=1000.0, group="Key", help="How far the values reach from empty to solid; 0 gives a hard edge."
    )
    invert: bool = parameter(False, group="Edge", help="Key what is dark instead.")


LUMA_KEY = TaskDefinition(
    name="luma_key",
    label="Luma key",
    help="A matte of what is brighter than a threshold, on every frame, without keyframes.",
    parameters=LumaKeyParameters,
    runner="luma_key.runner:LumaKeyRunner",
    product="lumakey",
    chunk_frames=24,
    memory_mb=1000,
    default_model="luma_key-1",
)
