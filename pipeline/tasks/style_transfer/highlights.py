"""What a painting can't hold of an HDR plate: light above the range and colours outside the gamut, carried over to the result.

A painting mostly ends at 1. With c = clip(plate, 0, max(1, painting)) in scene-linear light, the rest r = plate − c is added
to what was painted, scaled by how bright the painting is there against c, at most 1: a lamp painted dark stays a dim lamp, one
painted at its full light isn't lit twice, and a plate that is painted as it is comes back as it is, to the last highlight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)[:, None, None]
_DARK = np.float32(1e-3)
"""Light below this is as good as none: the ratio is held there."""


def carry_highlights(painted: Float, plate: Float) -> Float:
    """`painted` with the plate's own light that lies beyond 0 … 1 and isn't painted. Both (3, height, width) scene-linear."""
    held = np.clip(plate, 0, np.maximum(painted, 1))
    rest = plate - held
    if not rest.any():
        return painted
    bright = (_LUMA * held).sum(0) + _DARK
    share = np.clip(((_LUMA * painted).sum(0) + _DARK) / bright, 0, 1)
    return np.asarray(painted + rest * share, np.float32)
