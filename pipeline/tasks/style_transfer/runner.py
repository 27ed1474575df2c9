"""Style transfer's runner: keys or a mood board by patch synthesis, or a diffusers model, steadied along the motion."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunnerError
from pipeline.models.loader import threads
from pipeline.motion import FlowPair, grid
from pipeline.tasks.contract import FrameResult, ModelRef, ShotContext
from pipeline.tasks.style_transfer.blend import Neighbour, steady, walk
from pipeline.tasks.style_transfer.definition import StyleParameters
from pipeline.tasks.style_transfer.fit import WORKING_HEIGHT, fit_shot, planar, upright
from pipeline.tasks.style_transfer.fitted import Fitted, MotionReader, load_facts
from pipeline.tasks.style_transfer.guides import Painted, plate_guide, pyramid
from pipeline.tasks.style_transfer.highlights import carry_highlights
from pipeline.tasks.style_transfer.painter import Made, PatchPainter
from pipeline.tasks.style_transfer.render import render
from pipeline.tasks.style_transfer.synthesis import Effort, synthesise

if TYPE_CHECKING:
    from pipeline.tasks.style_transfer.diffusion import DiffusionModel

Float = NDArray[np.float32]

_UNSTEADY = 0.05
"""Flicker at which a frame that a model drew is believed by half: it has no key to be measured by."""


class _Painter(Protocol):
    def paint(self, frame: int, plate: Float) -> Made | None:
        """A frame in its new manner; `plate` (height, width, 3) in model space at working size."""
        ...


class StyleTransferRunner:
    """Painted frames, a mood board or a model to the whole shot. Keeps `pipeline.tasks.contract.TaskRunner`.

    Computes with PLATEWRIGHT_THREADS threads (1): the same seed and machine give the same bits, whatever the chunk.
    """

    def __init__(self) -> None:
        self._model: DiffusionModel | None = None

    def load(self, model: ModelRef) -> None:
        """Compile the search, or bring a diffusers folder into memory with its LoRA and ControlNet. Raises: ModelError."""
        cv2.setNumThreads(threads())
        if model.path is None:
            _warm_up()
            return
        from pipeline.tasks.style_transfer.diffusion import DiffusionModel

        self._model = DiffusionModel(model)

    def unload(self) -> None:
        """Give the weights back."""
        self._model = None

    def fit(self, shot: ShotContext) -> Mapping[str, float | str | int | list[int]]:
        """Motion and the ways into the keys. Leaves `fitted`'s files in `shot.folder`."""
        parameters = _parameters(shot)
        began = time.perf_counter()
        if self._model is not None:
            self._model.show_early(shot, parameters)
        fitted = fit_shot(shot, parameters, patches=self._model is None)
        return {
            "seed": shot.seed,
            "keys": sorted(frame for frame, name in fitted.keys.items() if name),
            "mood_keys": sorted(frame for frame, name in fitted.keys.items() if not name),
            "working_width": fitted.width,
            "working_height": fitted.height,
            "fit_s": round(time.perf_counter() - began, 2),
        }

    def run(self, shot: ShotContext) -> Iterator[FrameResult]:
        """A result for each frame. It hangs on the fit, the frame and its context alone, so chunks join without seams."""
        parameters = _parameters(shot)
        fitted = load_facts(shot.folder)
        motion = MotionReader(shot.folder)
        try:
            painter: _Painter
            if self._model is not None:
                from pipeline.tasks.style_transfer.diffusion import DiffusionPainter

                painter = DiffusionPainter(shot, parameters, self._model)
            else:
                effort = Effort(sweeps=parameters.search, reach=parameters.reach)
                painter = PatchPainter(shot, fitted, motion, effort)
            window = _Window(shot, fitted, motion, painter)
            shot.prefetch(sorted(shot.available), WORKING_HEIGHT)
            for number, frame in enumerate(shot.frames):
                yield _result(shot, window, frame)
                shot.progress((number + 1) / len(shot.frames))
        finally:
            motion.close()


class _Window:
    """The frames round the one that is made, each painted once while it is near."""

    def __init__(self, shot: ShotContext, fitted: Fitted, motion: MotionReader, painter: _Painter) -> None:
        self._shot, self._fitted, self._motion, self._painter = shot, fitted, motion, painter
        self._order = sorted(shot.available)
        self._made: dict[int, tuple[Made | None, Float]] = {}

    def steadied(self, frame: int, parameters: StyleParameters) -> tuple[Made, Float, float] | None:
        """A frame, its picture (height, width, 3) averaged with its neighbours, and its flicker. None where no key reaches."""
        made, plate = self._paint(frame)
        if made is None:
            return None
        count = max(1, parameters.blend_frames)
        neighbours = [*self._side(frame, count, ahead=False), *self._side(frame, count, ahead=True)]
        amount = (
            parameters.flow_blend if parameters.blend_frames and made.distance != 0 else 0.0
        )  # a key stays as painted
        picture, flicker = steady(made.picture, plate, neighbours, amount)
        self._forget(frame, count)
        return made, made.picture if amount == 0 else picture, flicker

    def _side(self, frame: int, count: int, *, ahead: bool) -> list[Neighbour]:
        near = self._near(frame, count, ahead=ahead)
        pairs = self._pairs(frame, near, ahead=ahead)
        found = []
        for path, other in zip(walk(pairs, ahead=ahead), near, strict=True):
            made, plate = self._paint(other)
            if made is None:
                break
            found.append(Neighbour(path, made.picture, plate))
        return found

    def _near(self, frame: int, count: int, *, ahead: bool) -> list[int]:
        """The nearest frames on one side, up to a cut."""
        at = self._order.index(frame)
        near: list[int] = []
        for other in self._order[at + 1 : at + 1 + count] if ahead else reversed(self._order[max(0, at - count) : at]):
            low, high = sorted((frame, other))
            if any(low < cut <= high for cut in self._fitted.breaks):
                break
            near.append(other)
        return near

    def _pairs(self, frame: int, near: Sequence[int], *, ahead: bool) -> list[FlowPair]:
        """Flows from the frame outwards: each is kept under the earlier of its two frames."""
        steps = [frame, *near]
        return [self._motion.flow(frame) for frame in (steps[:-1] if ahead else steps[1:])]

    def _paint(self, frame: int) -> tuple[Made | None, Float]:
        if frame not in self._made:
            plate = upright(self._shot.display(frame, WORKING_HEIGHT))
            self._made[frame] = self._painter.paint(frame, plate), plate
        return self._made[frame]

    def _forget(self, frame: int, count: int) -> None:
        """What the next frames won't ask for."""
        at = self._order.index(frame)
        keep = set(self._order[max(0, at + 1 - count) :])
        self._made = {f: made for f, made in self._made.items() if f in keep}


def _result(shot: ShotContext, window: _Window, frame: int) -> FrameResult:
    parameters = _parameters_at(shot, frame)
    plate = shot.linear(frame)
    weight = _weight(shot, frame, parameters, plate.shape[1:])
    changed = weight > 0
    if not changed.any():
        return _untouched(frame, plate, confidence=1.0, distance=-1)
    found = window.steadied(frame, parameters)
    if found is None:
        return _untouched(frame, plate, confidence=0.0, distance=-1)
    made, picture, flicker = found
    rgb = _finish(shot, frame, plate, planar(picture), weight, keep_highlights=parameters.keep_highlights)
    rgb = np.where(changed, rgb, plate)
    if made.distance < 0:
        confidence = 1 / (1 + flicker / _UNSTEADY)
    else:
        counts = cv2.resize(weight, made.confidence.shape[::-1], interpolation=cv2.INTER_AREA) + np.float32(1e-6)
        confidence = float(np.average(made.confidence, weights=counts))
    quality = {
        "confidence": confidence,
        "patch_error": made.error,
        "flicker": flicker,
        "key_distance": float(made.distance),
        "coverage": float(changed.mean()),
    }
    return FrameResult(frame=frame, layers={}, quality=quality, rgb=rgb, changed=changed)


def _finish(
    shot: ShotContext, frame: int, plate: Float, picture: Float, weight: Float, *, keep_highlights: bool
) -> Float:
    """The painted picture over the plate, scene-linear: mixed in model space, where equal steps look equal."""
    shown = shot.display(frame)
    if not keep_highlights:
        return shot.from_display(shown + weight * (picture - shown))
    held = np.clip(shown, 0, 1)
    mixed = shot.from_display(held + weight * (picture - held))
    return carry_highlights(mixed, plate)


def _untouched(frame: int, plate: Float, *, confidence: float, distance: int) -> FrameResult:
    quality = {
        "confidence": confidence,
        "patch_error": 0.0,
        "flicker": 0.0,
        "key_distance": float(distance),
        "coverage": 0.0,
    }
    changed = np.zeros(plate.shape[1:], np.bool_)
    return FrameResult(frame=frame, layers={}, quality=quality, rgb=plate, changed=changed)


def _weight(shot: ShotContext, frame: int, parameters: StyleParameters, shape: tuple[int, ...]) -> Float:
    """How much of the style each pixel gets, (height, width). Raises: RunnerError (the mask has no such frame)."""
    strength = np.float32(parameters.strength)
    if parameters.mask is None:
        return np.full(shape, strength, np.float32)
    mask = shot.mask("mask", frame)
    if mask is None:
        raise RunnerError(f"the mask has no frame {frame}", "give a mask for every frame, or one still")
    return np.asarray(np.clip(mask, 0, 1) * strength, np.float32)


def _parameters(shot: ShotContext) -> StyleParameters:
    return _own(shot.parameters)


def _parameters_at(shot: ShotContext, frame: int) -> StyleParameters:
    return _own(shot.at(frame))


def _own(parameters: object) -> StyleParameters:
    if not isinstance(parameters, StyleParameters):
        raise RunnerError(f"style transfer can't work with {type(parameters).__name__}", "give StyleParameters")
    return parameters


def _warm_up() -> None:
    """Compile the inner loops, or read them from their cache, so that the first frame isn't the slow one."""
    rgb = np.random.default_rng(0).random((24, 32, 3), np.float32)
    guides = [plate_guide(level) for level in pyramid(rgb)]
    nowhere = np.zeros((24, 32), np.float32)
    found = synthesise(Painted.of(rgb, rgb), guides, grid(24, 32), nowhere, seed=1, effort=Effort())
    render(rgb, found, (24, 32))
