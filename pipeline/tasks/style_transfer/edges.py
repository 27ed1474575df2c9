"""The drawing of a plate, for a ControlNet: hard lines (Canny 1986) or soft ones."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_LOW, _HIGH = 60, 140
"""Thresholds of the gradient, of 8-bit values, between which a line goes on but doesn't begin."""
_SOFT_GAIN = 3.0


def drawing(rgb: Float, kind: Literal["canny", "soft"]) -> Float:
    """(height, width, 3) in model space to white lines on black, the same size, 0 … 1."""
    luma = np.clip(rgb, 0, 1) @ _LUMA
    if kind == "canny":
        grey = np.asarray(cv2.GaussianBlur(luma, (0, 0), 1.0) * 255 + 0.5, np.uint8)
        lines = cv2.Canny(grey, _LOW, _HIGH).astype(np.float32) / 255
    else:
        smooth = cv2.GaussianBlur(luma, (0, 0), 1.5)
        slope = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        lines = np.clip(slope * np.float32(_SOFT_GAIN), 0, 1)
    return np.ascontiguousarray(np.repeat(lines[..., None], 3, axis=2), np.float32)
