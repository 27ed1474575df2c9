"""Drop islands: pieces of a predicted matte that neither its main body nor the motion explains."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_NEAR = 25 / 480
"""A piece is near the prior within this part of the picture's height."""
_MAJOR = 0.3
"""Pieces this large against the main one belong to it when they touch the prior's surroundings."""
_MINOR = 0.009
_LEAST = 30
"""Pieces below these (part of the main one; pixels at 480 lines) are specks."""


def drop_islands(matte: Float, prior: Float) -> Float:
    """`matte` with its unexplained pieces set to 0. Both (height, width), 0 … 1; an empty prior means that motion knows nothing.

    The main piece is the largest one near the prior, or the largest of all where none is near.
    """
    solid = (matte > 0.5).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    if count <= 2:
        return matte
    areas = stats[1:, cv2.CC_STAT_AREA]
    height = matte.shape[0]
    near = _surroundings(prior, max(1, round(_NEAR * height)))
    inside = np.bincount(labels[near], minlength=count)[1:] / areas
    known = bool(near.any())
    candidates = areas[inside > 0] if known and (inside > 0).any() else areas
    main = int(candidates.max())
    major = (areas >= _MAJOR * main) & ((inside > 0) | (not known))
    least = max(_MINOR * main, _LEAST * (height / 480) ** 2)
    minor = (areas >= least) & (inside > 0.5)
    keep = major | minor
    if not keep.any():
        keep = areas == areas.max()
    dropped = np.concatenate(([False], ~keep))
    return np.where(dropped[labels], np.float32(0), matte)


def _surroundings(prior: Float, reach: int) -> NDArray[np.bool_]:
    side = 2 * reach + 1
    return np.asarray(cv2.dilate((prior > 0.3).astype(np.uint8), np.ones((side, side), np.uint8)) > 0)
