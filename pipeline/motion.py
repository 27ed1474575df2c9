"""Dense motion between two frames, and what it does to a picture: what every task that knows of time stands on.

DIS flow (Kroeger et al. 2016) is estimated at half the working resolution, where DIS MEDIUM works anyway, and kept as float16.
Flow is (height, width, 2) in pixels of its own grid: x(b) = x(a) + flow_ab(x(a)), x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.dense_flow import DenseFlow

Float = NDArray[np.float32]
Half = NDArray[np.float16]
Bytes = NDArray[np.uint8]

DECAY = 0.98
"""What a frame of distance costs of the confidence."""
_BROKEN = 0.5
"""What a failed round trip leaves of the confidence."""
_RELATIVE, _ABSOLUTE = 0.01, 0.125
"""A round trip fails above `_RELATIVE`·|flow|² + `_ABSOLUTE`, squared pixels at half resolution."""


@dataclass(frozen=True, slots=True)
class FlowPair:
    """Flow between a frame and the next, both ways, at half the working resolution."""

    forward: Half
    backward: Half


class FlowEstimator:
    """Flow between two frames of one size."""

    def __init__(self) -> None:
        self._flow = DenseFlow()  # the frames are halved already

    @staticmethod
    def prepare(rgb: Float) -> Bytes:
        """(3, height, width) in model space to what `pair` takes: grey, half size, 8 bit; highlights clip."""
        grey = np.tensordot(np.array((0.299, 0.587, 0.114), np.float32), rgb, 1)
        height, width = grey.shape
        small = cv2.resize(grey, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        return np.asarray(np.clip(small * 255 + 0.5, 0, 255), np.uint8)

    def pair(self, a: Bytes, b: Bytes) -> FlowPair:
        """Both flows between two prepared frames."""
        return FlowPair(self._one(a, b), self._one(b, a))

    def _one(self, a: Bytes, b: Bytes) -> Half:
        return self._flow.between(a, b).astype(np.float16)


class Warp:
    """What one step against a flow does to pictures of the working resolution."""

    def __init__(self, out: Half, back: Half, shape: tuple[int, int]) -> None:
        """`out` leads from the frame that is made to the one that is known, `back` the other way."""
        small = out.astype(np.float32)
        own = _grid(small.shape[0], small.shape[1])
        returned = small + cv2.remap(
            back.astype(np.float32), own + small, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        limit = _RELATIVE * 2 * _squared(small) + _ABSOLUTE
        self._kept = np.where(_squared(returned) < limit, np.float32(DECAY), np.float32(DECAY * _BROKEN))
        self._small_map = own + small
        height, width = shape
        self._map = _grid(height, width) + cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR) * 2

    def matte(self, known: Float) -> Float:
        """The known frame's matte, (height, width), on the made frame."""
        return np.asarray(
            cv2.remap(known, self._map, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
        )

    def confidence(self, known: Float) -> Float:
        """The known frame's confidence at half resolution, on the made frame."""
        moved = cv2.remap(known, self._small_map, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved * self._kept, np.float32)


def _squared(flow: Float) -> Float:
    """Squared length of each vector. NumPy's sum over an axis of two takes several times as long."""
    x, y = flow[..., 0], flow[..., 1]
    return np.asarray(x * x + y * y, np.float32)


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> Float:
    """`grid`, made once a size and never changed."""
    made = grid(height, width)
    made.flags.writeable = False
    return made


def grid(height: int, width: int) -> Float:
    """(height, width, 2): each pixel's own x and y."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])
