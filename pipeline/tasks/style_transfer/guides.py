"""What the search compares: the plate's colours and edges, and the painting's own colours, packed for the inner loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.style_transfer.patchmatch import CHANNELS, RADIUS

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LEVELS = 3
"""Resolutions of the search, each half of the one before."""
_PLATE, _EDGE, _PAINT = 1.0, 0.7, 0.55
"""What a difference in the plate's colour, in its edges and in the painting's colour counts, as factors of the value."""
_EDGE_GAIN = 4.0
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)


def pyramid(picture: Float) -> list[Float]:
    """(height, width, channels) at `LEVELS` sizes, the full one first."""
    out = [picture]
    for _ in range(LEVELS - 1):
        height, width = out[-1].shape[:2]
        size = (max(2 * RADIUS + 1, (width + 1) // 2), max(2 * RADIUS + 1, (height + 1) // 2))
        out.append(np.asarray(cv2.resize(out[-1], size, interpolation=cv2.INTER_AREA), np.float32))
    return out


def plate_guide(rgb: Float) -> Bytes:
    """(height, width, 3) in model space to the four guide channels, (height, width, 4): highlights above 1 count as 1."""
    shown = np.clip(rgb, 0, 1)
    luma = shown @ _LUMA
    edges = luma - cv2.GaussianBlur(luma, (0, 0), 2.0)
    out = np.empty((*luma.shape, 4), np.uint8)
    out[..., :3] = shown * np.float32(255 * _PLATE) + np.float32(0.5)
    out[..., 3] = np.clip((edges * _EDGE_GAIN * _EDGE + 0.5) * 255, 0, 255)
    return out


def pack(guide: Bytes, painting: Float) -> Bytes:
    """Guide and painting, both of one size, as the inner loops take them."""
    height, width = guide.shape[:2]
    out = np.zeros((height, width, CHANNELS), np.uint8)
    out[..., :4] = guide
    out[..., 4:7] = np.clip(painting, 0, 1) * np.float32(255 * _PAINT) + np.float32(0.5)
    padded = np.pad(out, ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode="edge")
    return np.ascontiguousarray(padded.reshape(height + 2 * RADIUS, -1))


@dataclass(frozen=True, slots=True)
class Painted:
    """A painted frame, ready to be taken from: per level the guide of its plate with the painting, and the painting alone;
    `plain` is the coarsest guide without the painting."""

    packed: Sequence[Bytes]
    paintings: Sequence[Float]
    plain: Bytes

    @classmethod
    def of(cls, plate: Float, painting: Float) -> Painted:
        """Both (height, width, 3) in model space at working resolution."""
        paintings = pyramid(painting)
        guides = [plate_guide(level) for level in pyramid(plate)]
        packed = [pack(guide, paint) for guide, paint in zip(guides, paintings, strict=True)]
        return cls(packed, paintings, pack(guides[-1], np.zeros_like(paintings[-1])))
