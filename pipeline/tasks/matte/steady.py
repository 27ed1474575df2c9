"""Hold an edge steady: a frame's matte averaged with its neighbours', each moved along the motion and heeded as far as it fits.

A neighbour counts where flow there and back returns (Sundaram et al. 2010), where its picture, moved, shows the same, and where the
frame's own colours leave doubt. So hair that moves is not smeared: what flow can't explain, or what the frame shows clearly, keeps the
frame's own matte. Only the unknown band changes.
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
_RETURN = 1.0
"""Squared pixels that a round trip may be off by, as a variance, at 480 lines; more on larger pictures."""
_LIKENESS = 0.003
"""Squared difference of the three channels in model space, summed, as a variance."""
_HEED = 1.5
"""A neighbour counts in full from a doubt of one over this."""
_LOCAL = 0.75
"""Gaussian over that difference, pixels of the flow's grid: one grain says nothing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame's `matte` and `doubt`, (height, width) 0 … 1, beside its picture for the flow: `grey` as `FlowEstimator.prepare` makes it,
    `colour` the same size, (height, width, 3), 8 bits of model space."""

    matte: Float
    doubt: Float
    grey: Bytes
    colour: Bytes


@dataclass(frozen=True, slots=True)
class Steadied:
    """`matte` (height, width). `off`: mean distance of the neighbours' mattes from the frame's own in the soft edge, 0 … 1."""

    matte: Float
    off: float


def moment(matte: Float, doubt: Float, picture: Float) -> Moment:
    """Of a frame whose `picture` is (3, height, width) in model space, at any size of the matte's aspect."""
    lines, columns = picture.shape[1:]
    if lines > FLOW_HEIGHT:
        size = (round(columns * FLOW_HEIGHT / lines), FLOW_HEIGHT)
        picture = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in picture])
    grey = FlowEstimator.prepare(picture)
    small = [cv2.resize(plane, grey.shape[::-1], interpolation=cv2.INTER_AREA) for plane in picture]
    return Moment(matte, doubt, grey, np.asarray(np.clip(np.dstack(small) * 255 + 0.5, 0, 255), np.uint8))


def steadied(own: Moment, neighbours: Iterable[Moment], band: Bools, flow: FlowEstimator) -> Steadied:
    """`own` averaged with its neighbours on `band`, (height, width)."""
    total = np.ones(own.matte.shape, np.float32)
    mixed = own.matte.copy()
    apart = seen = 0.0
    heed = np.minimum(own.doubt * np.float32(_HEED), 1)
    soft = band & (own.matte > 0) & (own.matte < 1)
    for other in neighbours:
        moved, weight = _moved(own, other, flow)
        apart += float((weight * np.abs(moved - own.matte))[soft].sum(dtype=np.float64))
        seen += float(weight[soft].sum(dtype=np.float64))
        weight = weight * heed
        mixed += weight * moved
        total += weight
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
    picture = cv2.remap(other.colour, small + there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    differ = np.square((picture.astype(np.float32) - own.colour) / 255).sum(-1)
    miss += cv2.GaussianBlur(differ, (0, 0), _LOCAL) / np.float32(2 * _LIKENESS)
    weight = cv2.resize(np.exp(-miss), (width, height), interpolation=cv2.INTER_LINEAR)
    step = cv2.resize(there, (width, height), interpolation=cv2.INTER_LINEAR)
    where = grid(height, width)
    where[..., 0] += step[..., 0] * np.float32(scale_x)
    where[..., 1] += step[..., 1] * np.float32(scale_y)
    moved = cv2.remap(other.matte, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32), np.asarray(weight, np.float32)
