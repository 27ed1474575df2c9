"""How soft a matte's edge is at each vertex: the width of the ramp across the outline, as a feather that stays the same through time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.raster import Array, normals_out

_REACH_PX = 16.0
_STEP_PX = 0.5
_HARD_PX = 2.5
"""A ramp no wider than this is antialiasing."""


def feather_px(mattes: Sequence[NDArray[np.uint8]], fits: Array) -> Array:
    """(points,) width of the ramp in px, 0 where the edge is hard: the median over frames of twice the way from a quarter to
    three quarters, along the normal; where that finds no end, what its neighbours have.

    `mattes`: (height, width) 0 … 255; `fits`: (frames, points, 3, 2)."""
    if len(mattes) == 0:
        return np.zeros(fits.shape[1])
    steps = np.arange(-_REACH_PX, _REACH_PX + _STEP_PX, _STEP_PX)
    found = np.array([_widths(matte, control, steps) for matte, control in zip(mattes, fits, strict=True)])
    known = np.isfinite(found).sum(0) * 2 > len(found)  # a normal that runs along an edge or a tip finds no end
    if not known.any():
        return np.zeros(fits.shape[1])
    width = np.nanmedian(found[:, known], axis=0)
    width = np.interp(np.arange(len(known)), np.flatnonzero(known), width, period=len(known))
    # One vertex alone is no soft edge: the middle of three neighbours.
    width = np.median([np.roll(width, 1), width, np.roll(width, -1)], axis=0)
    return np.where(width > _HARD_PX, width, 0.0)


def _widths(matte: NDArray[np.uint8], control: Array, steps: Array) -> Array:
    at = control[:, 0, None] + normals_out(control)[:, None] * steps[:, None] - 0.5
    profile = cv2.remap(matte, at.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Only the ramp that the outline lies on: walk out from the middle until the matte leaves the range or turns back.
    inside = (profile > 64) & (profile < 192)
    middle = len(steps) // 2
    inward = np.logical_and.accumulate(inside[:, middle::-1], axis=1).sum(1)
    outward = np.logical_and.accumulate(inside[:, middle:], axis=1).sum(1)
    width = 2 * _STEP_PX * np.maximum(inward + outward - 1, 0)
    ended = (inward <= middle) & (outward < len(steps) - middle)
    return np.where(ended, width, np.nan)
