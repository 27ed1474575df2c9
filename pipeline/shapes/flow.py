"""Where points of an outline go from one frame to the next: DIS flow (Kroeger et al. 2016) from inside the object, spread outwards.

The flow beside an edge mixes object and background; what the object's inside says, carried out to the edge, follows the object.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.raster import Array

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_LINES = 360
"""Flow is estimated on at most so many lines."""
_SPREAD = 3.0
"""Sigma of the spreading outwards, px of the flow's grid."""
_SLOPE = 3.0
"""Sigma of the blur that gives a hard matte slopes to follow, px of the flow's grid."""
_FAINT = np.float32(1e-4)
"""Weight of the object's mean motion, where its own is too far away."""


def flow_size(height: int, width: int) -> tuple[int, int]:
    """(columns, lines) of the pictures that flow is estimated on, OpenCV's order."""
    scale = min(1.0, _LINES / height)
    return max(16, round(width * scale)), max(16, round(height * scale))


class Flow:
    """Motion of an object between neighbouring frames; computed when first asked for, kept small."""

    def __init__(self, mattes: Sequence[Float], pictures: Sequence[Float] | None, *, lines: int) -> None:
        """`mattes` and grey `pictures`, 0 … 1, of `flow_size`; points are given in a picture of `lines` lines.

        Without pictures the mattes' own slopes are followed.
        """
        self._mattes = list(mattes)
        self._scale = mattes[0].shape[0] / lines
        self._greys: list[Bytes] = []
        for grey in self._mattes if pictures is None else pictures:
            soft = cv2.GaussianBlur(grey, (0, 0), _SLOPE) if pictures is None else grey
            self._greys.append(np.clip(soft * 255 + 0.5, 0, 255).astype(np.uint8))
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._known: dict[tuple[int, int], Float] = {}

    def advect(self, points: Array, a: int, b: int) -> Array:
        """Points (n, 2) of frame `a`, in work pixels, on frame `b`, next to it."""
        field = self.field(a, b)
        at = (points * (self._scale / 2) - 0.5).astype(np.float32)[None]
        moved = cv2.remap(field, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        return np.asarray(points + moved.astype(np.float64) / self._scale)

    def carry(self, points: Array, a: int, b: int) -> Array:
        """Points of frame `a` on any frame `b`, step by step."""
        step = 1 if b > a else -1
        for frame in range(a, b, step):
            points = self.advect(points, frame, frame + step)
        return points

    def field(self, a: int, b: int) -> Float:
        """(lines, columns, 2) displacement from `a` to `b` in the flow's pixels, kept at half its size: it is smooth."""
        if (a, b) not in self._known:
            self._known[a, b] = self._estimate(a, b)
        return self._known[a, b]

    def _estimate(self, a: int, b: int) -> Float:
        raw = self._dis.calc(self._greys[a], self._greys[b], None)
        core = cv2.erode(self._mattes[a], np.ones((3, 3), np.uint8))
        mass = float(core.sum())
        if mass < 1:
            return np.zeros((core.shape[0] // 2, core.shape[1] // 2, 2), np.float32)
        mean = (raw * core[..., None]).sum((0, 1)) / np.float32(mass)
        weight = cv2.GaussianBlur(core, (0, 0), _SPREAD) + _FAINT
        spread = cv2.GaussianBlur(raw * core[..., None], (0, 0), _SPREAD)
        field = (spread + _FAINT * mean) / weight[..., None]
        half = (core.shape[1] // 2, core.shape[0] // 2)
        return np.asarray(cv2.resize(field, half, interpolation=cv2.INTER_AREA), np.float32)
