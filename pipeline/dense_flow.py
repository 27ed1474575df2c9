"""DIS optical flow (Kroeger et al. 2016) between two grey pictures of any size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LEAST, _LEAST_OF_ONE = 8, 12
"""OpenCV's DIS refuses a picture with a side below the first, or with both below the second."""


class DenseFlow:
    """DIS at its preset MEDIUM, but down to the pictures' own scale. The preset stops a scale earlier, and there OpenCV reads beyond
    a picture that is wide and of less than 16 lines."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)

    def between(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 2) from `a` to `b`, two pictures (height, width) of one size. What is too small has its edges carried on."""
        height, width = a.shape
        if min(a.shape) < _LEAST or max(a.shape) < _LEAST_OF_ONE:
            bottom, right = max(0, _LEAST_OF_ONE - height), max(0, _LEAST_OF_ONE - width)
            a, b = (np.pad(one, ((0, bottom), (0, right)), mode="edge") for one in (a, b))
        return np.asarray(self._dis.calc(a, b, None), np.float32)[:height, :width]
