"""What a task may look at before a job is made: the plate, its frames, the weights. Faults are told, nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import Fault
from pipeline.frames import FrameRange
from pipeline.media.exr import picture_of
from pipeline.parameters import Parameters
from pipeline.plate import Plate

if TYPE_CHECKING:
    from pipeline.tasks.contract import Array, ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submission as a task's own check sees it: values that were validated, files that were found whole.

    `missing`: frames asked for that the plate hasn't. `curves`: float parameter → frame → value, where it is keyed.
    `keys`: object → frames that were painted. `paths`: parameter of a path kind → allowed absolute path.
    """

    parameters: Parameters
    plate: Plate
    frames: FrameRange
    missing: FrameRange
    keys: Mapping[str, Sequence[int]]
    curves: Mapping[str, Mapping[int, float]]
    paths: Mapping[str, Path]
    model: ModelRef
    linear: Callable[[int], Array]
    """(3, height, width) scene-linear RGB of a plate frame. Raises: PlateError."""
    cuts: Sequence[int] = ()
    """First frames of other shots inside the range."""


def in_colour(plate: Plate) -> Iterator[Fault]:
    """The fault of a plate without R, G and B, of which a task is to change the picture: what it makes has no channels to go to."""
    names = picture_of(plate.layers)
    if len(set(names)) < 3:
        yield Fault(
            "plate",
            f"this task changes the picture in colour, the plate has only {names[0]}",
            "give one with R, G and B",
        )


TaskCheck = Callable[[Submission], Iterable[Fault]]
"""A `TaskDefinition.inspect` function. `Fault.where` is `parameter NAME`, `keys`, `model` or `frames`."""
