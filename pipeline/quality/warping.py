"""The warping error: how much a picture changes along the motion, whatever it shows (Bonneel et al. 2015; Lai et al. 2018).

The frame before is moved onto this one along the plate's own flow and compared where going there and back again returns
(Sundaram et al. 2010). A style that sticks to what it paints has the plate's own error or less; one that boils has more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float32]

_RELATIVE, _ABSOLUTE = 0.01, 0.5
"""A round trip fails from `_RELATIVE`·(|there|² + |back|²) + `_ABSOLUTE` on, squared pixels."""


def warping_error(before: Float, now: Float, out: Float, back: Float) -> float:
    """Mean absolute difference of two frames, (height, width, channels), 0 where no pixel can be followed.

    `out`: (height, width, 2) pixels from this frame to the one before, x to the right, y down; `back` the other way.
    """
    height, width = now.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    at = np.dstack([x, y]) + out
    returned = cv2.remap(back, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    limit = _RELATIVE * (np.square(out).sum(-1) + np.square(returned).sum(-1)) + _ABSOLUTE
    sure = np.square(out + returned).sum(-1) < limit
    if not sure.any():
        return 0.0
    moved = cv2.remap(before, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(now - moved).mean(-1)[sure].mean())
