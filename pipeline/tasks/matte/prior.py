"""What is known of a matte before the picture is looked at: where it is sure, what it is about elsewhere, and how far to believe that.

From a roto: an edge is about as wide as the artist says, somewhere near the outline. From a trimap: sure is sure, and the band is open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

_REACH = 5.0
"""How far from the outline the band goes, of the edge's width: hair reaches out five times its usual length."""
_INNER, _OUTER = 0.7, 1.2
"""From this far inside and outside, of the edge's width, a pixel's colour is a sample of its side."""
_VARIANCE = 0.3
_LEAST_VARIANCE = 1e-3
_OPEN = 0.25
"""Variance of what nobody knows."""
_NOTHING = 1e4
"""Of what isn't even guessed: the solver alone decides."""


@dataclass(frozen=True, slots=True)
class Prior:
    """All (height, width). `known`: 0 or 1 outside the band. `unknown`: the band. `mean`, `variance` of α, on the band. `fore`, `back`:
    whose colours are samples of the two sides. `reach_px`: how far around a pixel its samples lie."""

    known: Float
    unknown: Bools
    mean: Float
    variance: Float
    fore: Bools
    back: Bools
    reach_px: float

    def cropped(self, part: tuple[slice, slice]) -> Prior:
        """The same of a part of the picture."""
        return Prior(
            known=self.known[part],
            unknown=self.unknown[part],
            mean=self.mean[part],
            variance=self.variance[part],
            fore=self.fore[part],
            back=self.back[part],
            reach_px=self.reach_px,
        )


def from_roto(matte: Float, edge_px: float, hair: Bools | None = None) -> Prior:
    """From a matte, (height, width) 0 … 1, hard or soft, whose edge is wrong by about `edge_px` or that wide. `hair`: open whatever the
    matte says there."""
    solid = matte > 0.5
    inside = _distance(solid)
    outside = _distance(~solid)
    mean = np.asarray(cv2.GaussianBlur(np.ascontiguousarray(matte, np.float32), (0, 0), edge_px), np.float32)
    variance = np.maximum(_VARIANCE * mean * (1 - mean), np.float32(_LEAST_VARIANCE))
    reach = _REACH * edge_px
    unknown = (inside <= reach) & (outside <= reach)
    fore, back = inside > _INNER * edge_px, outside > _OUTER * edge_px
    if hair is not None:
        unknown |= hair
        variance[hair] = _OPEN
        fore &= ~hair
        back &= ~hair
    return Prior(solid.astype(np.float32), unknown, mean, variance, fore, back, 2 * edge_px)


def from_trimap(trimap: Float, roto: Prior | None = None, hair: Bools | None = None) -> Prior:
    """From an artist's trimap, (height, width): below ¼ background, above ¾ foreground, unknown between.

    With a `roto`'s prior for the same frame its outline says where in the band the edge is likely; without one every α is as likely, and
    colours of the sides are no witness: across a band as wide as artists draw them they belong to other things.
    """
    fore, back = trimap > 0.75, trimap < 0.25
    if hair is not None:
        fore, back = fore & ~hair, back & ~hair
    unknown = ~(fore | back)
    known = fore.astype(np.float32)
    if roto is not None:
        return Prior(known, unknown, roto.mean, roto.variance, roto.fore & ~back, roto.back & ~fore, roto.reach_px)
    to_fore, to_back = _distance(~fore), _distance(~back)
    mean = np.asarray(to_back / np.maximum(to_fore + to_back, 1e-6), np.float32)
    nothing = np.zeros(trimap.shape, np.bool_)
    return Prior(known, unknown, mean, np.full(trimap.shape, _NOTHING, np.float32), nothing, nothing, 1.0)


def brushed(shape: tuple[int, int], strokes: Iterable[Iterable[tuple[float, float]]], radius_px: float) -> Bools:
    """Where strokes went over, (height, width): each a run of x, y in pixels of the plane, drawn by a round brush."""
    canvas = np.zeros(shape, np.uint8)
    for stroke in strokes:
        points = np.round(np.array(list(stroke), np.float64).reshape(-1, 1, 2) * 16).astype(np.int32)
        if len(points) == 1:
            cv2.circle(canvas, points[0, 0], max(1, round(radius_px * 16)), 1, -1, cv2.LINE_8, 4)
        elif len(points):
            cv2.polylines(canvas, [points], False, 1, max(1, round(2 * radius_px)), cv2.LINE_8, 4)
    return canvas > 0


def _distance(where: Bools) -> Float:
    """Pixels from each place in `where` to the nearest outside it; far when there is none."""
    if where.all():
        return np.full(where.shape, 1e6, np.float32)
    return np.asarray(cv2.distanceTransform(where.astype(np.uint8), cv2.DIST_L2, 5), np.float32)
