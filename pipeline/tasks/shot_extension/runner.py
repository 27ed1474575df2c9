"""Shot extension's runner: a look through the shot, then each delivered frame from its own sources."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping

import cv2
import numpy as np

from pipeline.errors import ModelError, RunnerError
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext
from pipeline.tasks.shot_extension.definition import ExtensionParameters, in_space, in_time
from pipeline.tasks.shot_extension.fitted import load, save
from pipeline.tasks.shot_extension.making import Maker
from pipeline.tasks.shot_extension.plan import split
from pipeline.tasks.shot_extension.reading import Reader
from pipeline.tasks.shot_extension.survey import Survey

PREVIEW_HEIGHT = 180


class ExtensionRunner:
    """Missing frames and a wider picture. Keeps `pipeline.tasks.contract.TaskRunner`.

    Gives the picture over the delivered window, the plate's pixels untouched in it, and the layer `extension` with the channels
    `coverage` (1 where the plate or another of its frames shows the pixel, 0 where it was made up) and `confidence` (0 … 1).
    """

    def load(self, model: ModelRef) -> None:
        """Nothing to load for the default. Raises: ModelError (weights of a family that isn't known)."""
        cv2.setNumThreads(_threads())
        if model.path is not None:
            raise ModelError(
                f"shot extension can't use weights of family {model.family or 'unknown'!r}", "give a diffusers folder"
            )

    def unload(self) -> None:
        """Nothing is kept."""

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Cameras, what moves, grain and surroundings of the whole shot, into `shot.folder`."""
        _check(shot)
        began = time.perf_counter()
        _first_preview(shot)
        reader = Reader(shot)
        fitted = Survey(shot, reader).run(shot.progress)
        save(shot.folder, fitted)
        missing = sorted(set(shot.frames) - set(shot.available))
        return {
            "seed": shot.seed,
            "missing": len(missing),
            "plate_frames_read": sum(len(scene.frames) for scene in fitted.scenes),
            "surroundings": len(fitted.canvases),
            "grain": round(float(fitted.grain.sigma.mean()), 5),
            "grain_correlation": round(fitted.grain.correlation, 3),
            "fit_s": round(time.perf_counter() - began, 2),
        }

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """A result for each frame. A frame's hangs on its own sources and the fit alone, so chunks join without seams."""
        _check(shot)
        fitted = load(shot.folder, set(shot.available))
        maker = Maker(shot, fitted, Reader(shot))
        for number, frame in enumerate(shot.frames):
            yield maker.make(frame)
            shot.progress((number + 1) / len(shot.frames))


def _check(shot: ShotContext) -> None:
    """Raises: RunnerError (foreign parameters, a scene without a frame, or more frames than may be made)."""
    parameters = shot.parameters
    if not isinstance(parameters, ExtensionParameters):
        raise RunnerError(f"a shot extension can't work with {type(parameters).__name__}", "give ExtensionParameters")
    have = frozenset(shot.available)
    missing = [frame for frame in shot.frames if frame not in have]
    if missing and not in_time(parameters):
        raise RunnerError(
            f"the plate has no frame {missing[0]}", "set mode to both, or ask for frames that the plate has"
        )
    for own, wanted in split(shot.available, shot.frames, shot.cuts):
        if not own:
            raise RunnerError(
                f"between its cuts, frame {wanted[0]} has no plate frame to go on",
                "ask for frames next to the plate's own",
            )


def _first_preview(shot: ShotContext) -> None:
    """Something to look at before anything slow: the nearest frame, with its edge carried outwards."""
    have = sorted(shot.available)
    missing = [frame for frame in shot.frames if frame not in set(have)]
    frame = missing[0] if missing and in_time(shot.parameters) else shot.frames[0]
    nearest = min(have, key=lambda other: (abs(other - frame), other))
    small = shot.display(nearest, PREVIEW_HEIGHT)
    if in_space(shot.parameters):
        scale = small.shape[1] / shot.plate_window.height
        plate, window = shot.plate_window, shot.window
        left, top = round((plate.x_min - window.x_min) * scale), round((plate.y_min - window.y_min) * scale)
        right, bottom = round((window.x_max - plate.x_max) * scale), round((window.y_max - plate.y_max) * scale)
        small = np.pad(small, ((0, 0), (top, bottom), (left, right)), mode="edge")
    shot.preview(frame, {"picture": np.ascontiguousarray(small, np.float32)})


def _threads() -> int:
    """PLATEWRIGHT_THREADS, 1 unless it says more: sessions share a machine. Raises: ModelError (not a number)."""
    text = os.environ.get("PLATEWRIGHT_THREADS", "1")
    if not text.isdigit() or int(text) < 1:
        raise ModelError(f"PLATEWRIGHT_THREADS is {text!r}", "set it to a whole number from 1, or leave it out")
    return int(text)
