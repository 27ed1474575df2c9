"""Hold an edge steady: a frame's matte averaged with its neighbours', each moved along the motion and heeded as far as it fits.

A neighbour counts where flow there and back returns (Sundaram et al. 2010) and where its picture, moved, shows the same. So hair that
moves is never smeared: what flow can't explain keeps the frame's own matte. Only the unknown band changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.motion import FlowEstimator, grid

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

FLOW_HEIGHT = 1080
"""Flow is found on pictures of at most so many lines."""
_RETURN = 4.0
"""Squared pixels that a round trip may be off by, as a variance, at 480 lines; more on larger pictures."""
_LIKENESS = 0.0033
"""Squared difference of grey in model space, as a variance."""
_LOCAL = 0.75
"""Gaussian over that difference, pixels of the flow's grid: one grain says nothing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame's matte, (height, width), beside its picture as `FlowEstimator.prepare` makes it."""

    matte: Float
    grey: Bytes


@dataclass(frozen=True, slots=True)
class Steadied:
    """`matte` (height, width). `off`: mean distance of the neighbours' mattes from the frame's own in the soft edge, 0 … 1."""

    matte: Float
    off: float


def steadied(own: Moment, neighbours: Iterable[Moment], band: Bools, flow: FlowEstimator) -> Steadied:
    """`own` averaged with its neighbours on `band`, (height, width)."""
    total = np.ones(own.matte.shape, np.float32)
    mixed = own.matte.copy()
    apart = seen = 0.0
    soft = band & (own.matte > 0) & (own.matte < 1)
    for other in neighbours:
        moved, weight = _moved(own, other, flow)
        mixed += weight * moved
        total += weight
        apart += float((weight * np.abs(moved - own.matte))[soft].sum(dtype=np.float64))
        seen += float(weight[soft].sum(dtype=np.float64))
    mixed /= total
    return Steadied(np.where(band, mixed, own.matte), apart / seen if seen > 0 else 0.0)


def _moved(own: Moment, other: Moment, flow: FlowEstimator) -> tuple[Float, Float]:
    """The other frame's matte on this one, and how far to heed it, both (height, width)."""
    pair = flow.pair(own.grey, other.grey)
    there, back = pair.forward.astype(np.float32), pair.backward.astype(np.float32)
    small = grid(*own.grey.shape)
    returned = there + cv2.remap(back, small + there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    height, width = own.matte.shape
    scale_x, scale_y = width / own.grey.shape[1], height / own.grey.shape[0]
    allowed = 2 * _RETURN * max(1.0, height / 480) ** 2
    miss = (np.square(returned[..., 0] * scale_x) + np.square(returned[..., 1] * scale_y)) / np.float32(allowed)
    picture = cv2.remap(other.grey, small + there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    differ = np.square((picture.astype(np.float32) - own.grey) / 255)
    miss += cv2.GaussianBlur(differ, (0, 0), _LOCAL) / np.float32(2 * _LIKENESS)
    weight = cv2.resize(np.exp(-miss), (width, height), interpolation=cv2.INTER_LINEAR)
    step = cv2.resize(there, (width, height), interpolation=cv2.INTER_LINEAR)
    where = grid(height, width)
    where[..., 0] += step[..., 0] * np.float32(scale_x)
    where[..., 1] += step[..., 1] * np.float32(scale_y)
    moved = cv2.remap(other.matte, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32), np.asarray(weight, np.float32)
