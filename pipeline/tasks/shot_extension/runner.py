"""Shot extension's runner: a look through the shot, then each delivered frame from its own sources."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, RunnerError
from pipeline.models.facts import DIFFUSERS, WORDS
from pipeline.models.loader import threads
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext
from pipeline.tasks.shot_extension.definition import ExtensionParameters, in_space, in_time
from pipeline.tasks.shot_extension.fill import fill
from pipeline.tasks.shot_extension.fitted import Fitted, load, save
from pipeline.tasks.shot_extension.making import Maker
from pipeline.tasks.shot_extension.painter import LINES, LONGEST_CLIP, Painter
from pipeline.tasks.shot_extension.plan import split
from pipeline.tasks.shot_extension.reading import TINY_HEIGHT, Reader, shrunk
from pipeline.tasks.shot_extension.survey import Survey

Float = NDArray[np.float32]

PREVIEW_HEIGHT = 180
_LEAD = 4
"""Plate frames that a video model sees before those it repaints."""


class ExtensionRunner:
    """Missing frames and a wider picture. Keeps `pipeline.tasks.contract.TaskRunner`.

    Gives the picture over the delivered window, the plate's pixels untouched in it, and the layer `extension` with the channels
    `coverage` (1 where the plate or another of its frames shows the pixel, 0 where it was made up) and `confidence` (0 … 1).
    """

    def __init__(self) -> None:
        self._painter: Painter | None = None

    def load(self, model: ModelRef) -> None:
        """A diffusers folder where `model` names one; the default has no weights. Raises: ModelError (another family, changed, damaged)."""
        cv2.setNumThreads(threads())
        if model.path is None:
            return
        if model.family not in ("", DIFFUSERS):
            raise ModelError(
                f"a shot extension can't use {WORDS.get(model.family, model.family)}", "give a diffusers folder"
            )
        self._painter = Painter(model)

    def unload(self) -> None:
        """Give the model back."""
        self._painter = None

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Cameras, what moves, grain and surroundings of the whole shot, into `shot.folder`."""
        _check(shot)
        began = time.perf_counter()
        _first_preview(shot)
        painter = self._painter
        reader = Reader(shot, tiny_lines=LINES if painter and painter.kind == "inpaint" else TINY_HEIGHT)
        parameters = shot.parameters
        assert isinstance(parameters, ExtensionParameters)

        def invent(picture: Float, known: NDArray[np.bool_]) -> Float:
            if painter is not None and painter.kind == "inpaint" and not known.all():
                return painter.paint(picture, known, parameters, seed=shot.seed)
            return fill(picture, known, seed=shot.seed)

        fitted = Survey(shot, reader, invent).run(shot.progress)
        if painter is not None and painter.kind == "video":
            fitted = replace(fitted, changes=repainted(shot, fitted, reader, painter))
        save(shot.folder, fitted)
        missing = sorted(set(shot.frames) - set(shot.available))
        return {
            "seed": shot.seed,
            "missing": len(missing),
            "plate_frames_read": sum(len(scene.frames) for scene in fitted.scenes),
            "surroundings": len(fitted.canvases),
            "grain": round(float(fitted.grain.sigma.mean()), 5),
            "grain_correlation": round(fitted.grain.correlation, 3),
            "repainted": len(fitted.changes),
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


def repainted(shot: ShotContext, fitted: Fitted, reader: Reader, painter: Painter) -> dict[int, Float]:
    """Missing frame → what a video model changes about it: each run of them with a few of the plate's frames before it, or after it
    where there are none before."""
    maker = Maker(shot, fitted, reader)
    parameters = shot.parameters
    assert isinstance(parameters, ExtensionParameters)
    changes: dict[int, Float] = {}
    have = frozenset(shot.available)
    for scene, asked in zip(fitted.scenes, fitted.asked, strict=True):
        missing = [frame for frame in sorted(asked) if frame not in have]
        if not missing:
            continue
        step = LONGEST_CLIP - _LEAD
        for at in range(0, len(missing), step):
            part = missing[at : at + step]
            before = [f for f in scene.frames if f < part[0]][-_LEAD:]
            after = [] if before else [f for f in scene.frames if f > part[-1]][:_LEAD]
            clip = [*before, *part, *after]
            small = [_at_most(maker.clean(f) if f in part else _in_window(maker, reader, f), LINES) for f in clip]
            found = painter.repaint(small, parameters, seed=shot.seed)
            changes |= {f: change for f, change in zip(clip, found, strict=True) if f in part}
            shot.progress(1.0, f"video model {at + len(part)}/{len(missing)}")
    return changes


def _in_window(maker: Maker, reader: Reader, frame: int) -> Float:
    """A plate frame over the window, its edge carried outwards."""
    layout = maker.layout
    x, y = layout.offset
    height, width = layout.size
    right, bottom = layout.window[1] - width - x, layout.window[0] - height - y
    return np.asarray(cv2.copyMakeBorder(reader.picture(frame), y, bottom, x, right, cv2.BORDER_REPLICATE), np.float32)


def _at_most(picture: Float, lines: int) -> Float:
    height, width = picture.shape[:2]
    if height <= lines:
        return picture
    return shrunk(picture, (lines, max(1, round(width * lines / height))))


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
