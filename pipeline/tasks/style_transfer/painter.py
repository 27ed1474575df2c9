"""Paints single frames by patch synthesis from what a fit left; a frame is the same whoever asks for it and when."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import DECAY
from pipeline.tasks.contract import ShotContext
from pipeline.tasks.style_transfer.blend import Side, blend_sides
from pipeline.tasks.style_transfer.fitted import Fitted, MotionReader
from pipeline.tasks.style_transfer.guides import Painted, plate_guide, pyramid
from pipeline.tasks.style_transfer.render import render, stretch
from pipeline.tasks.style_transfer.synthesis import Effort, Synthesis, synthesise

Float = NDArray[np.float32]

_HALVING = 600.0
"""Patch error, in squared bytes, at which a pixel's confidence is half of its flow's."""
_KEYS_HELD = 3
"""Painted frames that are kept ready: the two round a frame, and the next."""


@dataclass(frozen=True, slots=True)
class Made:
    """A frame in its new manner. `picture`: (height, width, 3) in model space at full size; `confidence`: (height, width) 0 … 1 at working
    size; `error`: 0 … 1, root of the mean patch error; `distance`: frames to the nearest key, -1 where there is none."""

    picture: Float
    confidence: Float
    error: float
    distance: int


class PatchPainter:
    """Frames of one shot, in the manner of its keys."""

    def __init__(self, shot: ShotContext, fitted: Fitted, motion: MotionReader, effort: Effort) -> None:
        self._shot, self._fitted, self._motion, self._effort = shot, fitted, motion, effort
        self._ready: OrderedDict[int, tuple[Painted, Float]] = OrderedDict()

    def paint(self, frame: int, plate: Float) -> Made | None:
        """`plate`: (height, width, 3) in model space at working size. None for a frame that no key reaches."""
        if frame in self._fitted.keys:
            sure = np.ones(plate.shape[:2], np.float32)
            return Made(self._painting(frame), sure, 0.0, 0)
        keys = self._fitted.ways.get(frame, ())
        if not keys:
            return None
        guides = [plate_guide(level) for level in pyramid(plate)]
        sides, errors = [], []
        for key in keys:
            found, sure = self._synthesis(frame, key, guides)
            painting = self._key(key)[1]
            picture = render(painting, found, (painting.shape[0], painting.shape[1]))
            sides.append(Side(picture, sure * _fits(found.error), abs(frame - key)))
            errors.append(found.error)
        confidence = np.max([side.worth for side in sides], axis=0)
        error = float(np.sqrt(np.min(errors, axis=0).mean())) / 255
        return Made(blend_sides(sides), confidence, min(error, 1.0), min(side.distance for side in sides))

    def _synthesis(self, frame: int, key: int, guides: list[NDArray[np.uint8]]) -> tuple[Synthesis, Float]:
        way = self._motion.way(frame, key)
        rows, columns = guides[0].shape[:2]
        lines, across = way.offset.shape[:2]
        expected = stretch(way.offset, (rows, columns), (rows / lines, columns / across))
        sure = np.asarray(cv2.resize(way.confidence, (columns, rows)), np.float32)
        kept = np.minimum(sure / np.float32(DECAY ** abs(frame - key)), 1)  # far is no reason to search, lost is
        # The same chance on every frame: what looks alike is then filled alike.
        seed = self._shot.seed % (1 << 31)
        return synthesise(self._key(key)[0], guides, expected, kept, seed=seed, effort=self._effort), sure

    def _key(self, key: int) -> tuple[Painted, Float]:
        """A key ready to take from, and its painting at full size."""
        if key not in self._ready:
            painting = self._painting(key)
            size = (self._fitted.width, self._fitted.height)
            small = (
                painting if painting.shape[1::-1] == size else cv2.resize(painting, size, interpolation=cv2.INTER_AREA)
            )
            self._ready[key] = Painted.of(self._motion.plate(key), np.asarray(small, np.float32)), painting
            while len(self._ready) > _KEYS_HELD:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key]

    def _painting(self, key: int) -> Float:
        name = self._fitted.keys[key]
        if not name:
            return self._motion.painting(key)
        return np.ascontiguousarray(self._shot.keys[name][key].transpose(1, 2, 0))


def _fits(error: Float) -> Float:
    return np.asarray(1 / (1 + error / np.float32(_HALVING)), np.float32)
