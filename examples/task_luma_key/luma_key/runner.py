"""The runner of the luma key. It has no model to load, and learns nothing of the shot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from luma_key.definition import LumaKeyParameters
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext

if TYPE_CHECKING:
    from pipeline.tasks.contract import Array

WEIGHTS = {
    "luminance": (0.2126, 0.7152, 0.0722),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
"""Shares of R, G and B; luminance by ITU-R BT.709."""


class LumaKeyRunner:
    """A `pipeline.tasks.contract.TaskRunner`."""

    def load(self, model: ModelRef) -> None:
        """There are no weights."""

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Never called: the definition doesn't say `fits`."""
        return {}

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """The matte of each frame; it is sure where the matte is clearly on or off."""
        for frame in shot.frames:
            parameters = shot.at(frame)
            assert isinstance(parameters, LumaKeyParameters)
            matte = key(shot.linear(frame), parameters)
            shot.preview(frame, {"matte": matte})
            unsure = float((4 * matte * (1 - matte)).mean())
            yield FrameResult(frame, layers={"matte": {"A": matte}}, quality={"confidence": 1 - unsure})

    def unload(self) -> None:
        """There is nothing to give back."""


def key(rgb: Array, parameters: LumaKeyParameters) -> Array:
    """(3, height, width) scene-linear to a matte (height, width) of 0 … 1."""
    value = np.tensordot(np.array(WEIGHTS[parameters.source], np.float32), rgb, axes=1)
    if parameters.softness == 0:
        matte = (value >= parameters.threshold).astype(np.float32)
    else:
        matte = np.clip((value - parameters.threshold) / parameters.softness + 0.5, 0, 1).astype(np.float32)
    return 1 - matte if parameters.invert else matte
