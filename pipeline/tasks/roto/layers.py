"""Objects as layers, at the sizes that previews and the working resolution want."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

WORKING_HEIGHT = 480
"""Lines at which flow and net work."""
PREVIEW_HEIGHT = 270
MATTE = "matte"
"""Layer of the objects' union, and the only one when there is one object."""


def layers_of(mattes: Mapping[str, Float]) -> dict[str, Float]:
    """Objects to layers: `matte` alone for one, `matte` as the union and each by name for several."""
    values = list(mattes.values())
    if len(values) == 1:
        return {MATTE: values[0]}
    return {MATTE: np.max(values, axis=0), **mattes}


def fit_to(matte: Float, shape: tuple[int, int]) -> Float:
    """A matte at another resolution, (height, width) = `shape`."""
    if matte.shape == shape:
        return matte
    return np.asarray(cv2.resize(matte, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.float32)


def small(matte: Float) -> Float:
    """A matte at the size of a preview."""
    height, width = matte.shape
    if height <= PREVIEW_HEIGHT:
        return matte
    return fit_to(matte, (PREVIEW_HEIGHT, max(1, round(width * PREVIEW_HEIGHT / height))))
