"""A field of working size to a picture of full size, out of the painting at its own size: strokes keep their own pixels.

Where neighbouring patches agree, their one position is sampled; where they don't, they vote, which is overlapped block
motion compensation (Orchard & Sullivan 1994).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import grid
from pipeline.tasks.style_transfer.patchmatch import RADIUS, vote
from pipeline.tasks.style_transfer.synthesis import Synthesis, places

Float = NDArray[np.float32]

_AGREE_PX = 0.35
"""Patches agree when their offsets differ by less, in working pixels."""


def render(painting: Float, found: Synthesis, shape: tuple[int, int]) -> Float:
    """`painting`: (height, width, 3) at any size; the result has (height, width) = `shape`."""
    field = found.field
    rows, columns = field.shape[:2]
    offset = field - grid(rows, columns)
    full = stretch(offset, shape, (painting.shape[0] / rows, painting.shape[1] / columns))
    out = sample(painting, full)
    torn = _spread(offset) > _AGREE_PX
    if torn.any():
        mask = cv2.resize(torn.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0
        vote(painting, field, found.error, places(mask), out)
    return out


def stretch(offset: Float, shape: tuple[int, int], scale: tuple[float, float]) -> Float:
    """Offsets (height, width, 2) of a small picture as positions at full size; `scale` (down, across) makes pixels of them."""
    height, width = shape
    large = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR)
    large *= np.array((scale[1], scale[0]), np.float32)
    large += grid(height, width)
    return np.asarray(large, np.float32)


def sample(picture: Float, at: Float) -> Float:
    """The picture, (height, width[, channels]), at positions (h, w, 2); its border goes on outside."""
    return np.asarray(cv2.remap(picture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _spread(offset: Float) -> Float:
    """By how much offsets differ within a patch, (height, width)."""
    side = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8)
    return np.asarray((cv2.dilate(offset, side) - cv2.erode(offset, side)).max(-1), np.float32)
