"""The runner of the mean key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mean_key.definition import MeanKeyParameters
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext

DITHER = 1 / 64


class MeanKeyRunner:
    """A `pipeline.tasks.contract.TaskRunner`. Its fit shows a picture, and leaves a file by which a test can tell that it ran."""

    def load(self, model: ModelRef) -> None:
        """There are no weights."""

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Show the first frame's brightness."""
        first = shot.available[0]
        shot.preview(first, {"matte": np.clip(shot.linear(first).mean(axis=0), 0, 1)})
        return {"frames": len(shot.frames)}

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """The matte of each frame, dithered by the seed."""
        for frame in shot.frames:
            parameters = shot.at(frame)
            assert isinstance(parameters, MeanKeyParameters)
            near = [f for f in (frame - 1, frame, frame + 1) if f in shot.available]
            value = np.mean([shot.linear(f).mean(axis=0) for f in near], axis=0)
            dither = np.random.default_rng([shot.seed, abs(frame)]).random(value.shape, np.float32) * DITHER
            matte = np.clip((value - parameters.threshold) * 4 + 0.5 + dither, 0, 1).astype(np.float32)
            solid = float((matte > 0.5).mean())
            yield FrameResult(frame, layers={"matte": {"A": matte}}, quality={"confidence": 0.75, "solid": solid})

    def unload(self) -> None:
        """There is nothing to give back."""
