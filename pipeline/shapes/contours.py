"""Outlines of a matte: closed polylines on its 0.5 level, found between the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.raster import Array, signed_area

Float = NDArray[np.float32]

SPACING_PX = 2.5
"""Between neighbouring samples of an outline, in work pixels."""
_FEWEST, _MOST = 40, 640
_SMOOTH = 0.8
"""Sigma of the blur that takes the staircase off a hard matte, px."""
_PAD = 4


@dataclass(frozen=True, slots=True)
class Ring:
    """One closed outline on one frame. `points`: (samples, 2), evenly spaced, clockwise as seen. `area` in square pixels."""

    points: Array
    hole: bool
    area: float


def rings(matte: Float, *, least_area: float = 30.0) -> list[Ring]:
    """Outer outlines and holes of a matte (height, width) that enclose at least `least_area`, largest first."""
    box = _filled_box(matte)
    if box is None:
        return []
    top, bottom, left, right = box
    cut = cv2.copyMakeBorder(matte[top:bottom, left:right], _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT, value=0)
    smooth = cv2.GaussianBlur(cut, (0, 0), _SMOOTH)
    doubled = cv2.resize(smooth, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    contours, nesting = cv2.findContours((doubled > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    found = []
    for contour, links in zip(contours, () if nesting is None else nesting[0], strict=True):
        area = cv2.contourArea(contour) / 4
        if area < least_area:
            continue
        points = (contour[:, 0].astype(np.float64) + 0.5) / 2 - 0.5
        points = _settle(_round_off(resample(points, 0.5, most=20000)), smooth)
        points = resample(points, SPACING_PX) + np.array([left - _PAD + 0.5, top - _PAD + 0.5])
        if signed_area(points) < 0:
            points = points[::-1].copy()
        found.append(Ring(points, bool(links[3] >= 0), float(area)))
    return sorted(found, key=lambda ring: -ring.area)


def _filled_box(matte: Float) -> tuple[int, int, int, int] | None:
    """Rows and columns that hold anything above a quarter, or None."""
    filled = matte > 0.25
    rows, columns = np.flatnonzero(filled.any(1)), np.flatnonzero(filled.any(0))
    if len(rows) == 0 or float(matte.max()) <= 0.5:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _round_off(points: Array) -> Array:
    """A Gaussian along the line, three quarters of a pixel wide, samples half a pixel apart."""
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    kernel /= kernel.sum()
    wrapped = np.concatenate([points[-4:], points, points[:4]])
    return np.stack([np.convolve(wrapped[:, i], kernel, mode="valid") for i in (0, 1)], 1)


def _settle(points: Array, smooth: Float) -> Array:
    """Moved along the slope of the matte onto its 0.5 level, at most half a pixel."""
    at = points.astype(np.float32)[None]
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125)
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)
    value, gx, gy = (
        cv2.remap(plane, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0].astype(np.float64)
        for plane in (smooth, slope_x, slope_y)
    )
    steep = np.maximum(gx * gx + gy * gy, 1e-3)
    step = ((0.5 - value) / steep)[:, None] * np.stack([gx, gy], 1)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return np.asarray(points + step * np.minimum(1.0, 0.5 / np.maximum(length, 1e-9)))


def resample(polygon: Array, spacing: float, *, fewest: int = _FEWEST, most: int = _MOST) -> Array:
    """A closed polyline at equal steps of arc length, about `spacing` apart."""
    closed = np.concatenate([polygon, polygon[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = int(np.clip(round(length[-1] / spacing), fewest, most))
    at = np.arange(count) * length[-1] / count
    return np.stack([np.interp(at, length, closed[:, i]) for i in (0, 1)], 1)


def perimeter(polygon: Array) -> float:
    """Length of a closed polyline."""
    return float(np.linalg.norm(polygon - np.roll(polygon, 1, 0), axis=1).sum())


def normals(ring: Array) -> Array:
    """(samples, 2) unit normals of a closed polyline, pointing out of a clockwise one."""
    along = np.roll(ring, -2, 0) - np.roll(ring, 2, 0)
    normal = np.stack([along[:, 1], -along[:, 0]], 1)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9))
