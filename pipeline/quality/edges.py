"""Whether a matte's edge lies where the picture has one. No truth is needed: for the report of every frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_SOFTNESS = 1.0
"""Gaussian before the gradients, pixels: grain is no edge."""
_LEAST = 0.02
"""Slope of a matte, per pixel, from which on it counts as edge."""
_FLAT = 0.004
"""Slope of a picture in model space, per pixel, that noise alone has."""
_REACH = 0.012
"""An edge that is off by more than this part of the picture's height is missed; at 480 lines, 6 pixels."""


def edge_alignment(matte: Float, picture: Float) -> float:
    """0 … 1: how well the matte's slopes follow the picture's, against the picture's slopes nearby.

    `matte` (height, width) 0 … 1; `picture` (3, height, width) in model space, the same size. Each pixel where the matte slopes says how
    steep the picture is there, across the matte's own edge, against the steepest around; the mean is weighted by the matte's slope. An
    edge of the matte where the picture is flat all round can't be judged and doesn't count. 1 when nothing can be judged.
    """
    ax, ay = _gradient(matte)
    slope = np.hypot(ax, ay)
    where = slope > _LEAST
    if not where.any():
        return 1.0
    reach = max(2, round(_REACH * matte.shape[0]))
    # Which way the edge faces is asked of the whole neighbourhood: a shifted matte must find the picture's edge beside it.
    wide_x, wide_y = (cv2.GaussianBlur(g, (0, 0), reach / 2) for g in (ax, ay))
    length = np.maximum(np.hypot(wide_x, wide_y), 1e-9)
    across = np.zeros(matte.shape, np.float32)
    for plane in picture:
        px, py = _gradient(plane)
        np.maximum(across, np.abs(px * wide_x + py * wide_y) / length, out=across)
    side = 2 * reach + 1
    steepest = cv2.dilate(across, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    near = cv2.dilate(across, np.ones((3, 3), np.uint8))  # within a pixel is as good as on it
    judged = where & (steepest > _FLAT)
    if not judged.any():
        return 1.0
    weight = slope[judged].astype(np.float64)
    return float(np.sum(weight * (near[judged] / steepest[judged])) / weight.sum())


def _gradient(plane: Float) -> tuple[Float, Float]:
    smooth = cv2.GaussianBlur(np.ascontiguousarray(plane, np.float32), (0, 0), _SOFTNESS)
    return (
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8), np.float32),
        np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8), np.float32),
    )
