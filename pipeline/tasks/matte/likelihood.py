"""What a pixel's colour alone says of its α: Bayesian matting (Chuang et al. 2001) with one Gaussian a side, around every pixel.

Foreground and background each have a mean colour and a covariance near a pixel, from the pixels that are sure. Given those, α is where
the colour lies between the two means, in the metric of the mixed covariance; how far apart the means are says how much to believe it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bools = NDArray[np.bool_]

_NOISE = 5e-3
"""A camera's own variance, of squared brightness."""
_FLOOR = 1e-6
_UNSEEN = 1e-3
"""Share of sure pixels nearby, weighted by distance, below which a side is little known."""
_MOMENTS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, slots=True)
class Opinion:
    """Of the band's pixels, flat, in the order of the band: `alpha`, not clipped, and the `variance` of it."""

    alpha: Float
    variance: Float


@dataclass(frozen=True, slots=True)
class Side:
    """One side's colours around each of the band's pixels: (pixels, 3) and (pixels, 3, 3); `seen` 0 … 1, flat."""

    mean: Float
    spread: Float
    seen: Float


def side_of(rgb: Float, sure: Bools, band: Bools, reach_px: float) -> Side:
    """Colours of the `sure` pixels around each pixel of `band`, by a Gaussian of `reach_px`.

    `rgb` (height, width, 3) scene-linear. The moments are gathered on a grid as coarse as the Gaussian allows. Where none is near, wider
    ones answer.
    """
    step = max(1, int(reach_px / 3))
    height, width = band.shape
    size = (-(-width // step), -(-height // step))
    here = sure.astype(np.float32)
    planes = [here, *(rgb[..., c] * here for c in range(3))]
    planes += [rgb[..., i] * rgb[..., j] * here for i, j in _MOMENTS]
    small = np.dstack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in planes[:4]])
    more = np.dstack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in planes[4:]])
    del planes
    rows, columns = np.nonzero(band)
    near = _blurred(small, more, reach_px / step)
    seen = near[..., 0].copy()
    for wider in (4.0, 16.0):
        near += np.float32(0.02) * _blurred(small, more, reach_px / step * wider)
    x = ((columns + 0.5) * (size[0] / width) - 0.5).astype(np.float32)
    y = ((rows + 0.5) * (size[1] / height) - 0.5).astype(np.float32)
    found = np.stack([_sample(np.ascontiguousarray(near[..., k]), x, y) for k in range(10)], -1)
    share = np.clip(_sample(seen, x, y) / _UNSEEN, 0, 1)
    found /= np.maximum(found[:, :1], 1e-9)
    mean = found[:, 1:4]
    spread = np.empty((len(rows), 3, 3), np.float32)
    for k, (i, j) in enumerate(_MOMENTS):
        spread[:, i, j] = spread[:, j, i] = found[:, 4 + k] - mean[:, i] * mean[:, j]
    for i in range(3):
        spread[:, i, i] = np.maximum(spread[:, i, i], 0)
    return Side(mean, spread, share)


def opinion(colours: Float, fore: Side, back: Side, guess: Float) -> Opinion:
    """α of each of `colours` (pixels, 3), given both sides. `guess`: about what α is, which mixes the two covariances."""
    apart = fore.mean - back.mean
    a = np.clip(guess, 0, 1)[:, None, None]
    level = (np.square(fore.mean) + np.square(back.mean)).mean(1) / 2
    spread = np.square(a) * fore.spread + np.square(1 - a) * back.spread
    spread += (_NOISE * level + _FLOOR)[:, None, None] * np.eye(3, dtype=np.float32)
    turned = _solve3(np.asarray(spread, np.float32), np.asarray(apart, np.float32))
    far = np.maximum((apart * turned).sum(1), 1e-6)
    alpha = ((colours - back.mean) * turned).sum(1) / far
    doubt = 1 / np.maximum(np.minimum(fore.seen, back.seen), 1e-3)
    return Opinion(np.asarray(alpha, np.float32), np.asarray(doubt / far, np.float32))


def _blurred(small: Float, more: Float, sigma: float) -> Float:
    """All ten moments, blurred; wide Gaussians on a coarser grid still."""
    height, width = small.shape[:2]
    step = max(1, int(sigma / 3))
    size = (-(-width // step), -(-height // step))
    planes = []
    for many in (small, more):
        for k in range(many.shape[2]):
            plane = cv2.resize(np.ascontiguousarray(many[..., k]), size, interpolation=cv2.INTER_AREA)
            plane = cv2.GaussianBlur(plane, (0, 0), sigma / step, borderType=cv2.BORDER_REFLECT)
            planes.append(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.dstack(planes)


def _sample(plane: Float, x: Float, y: Float) -> Float:
    # OpenCV's remap takes pictures of at most 32767 lines: the list is folded.
    count = len(x)
    columns = 1024
    rows = -(-count // columns)
    folded = np.zeros((2, rows * columns), np.float32)
    folded[0, :count], folded[1, :count] = x, y
    map_x, map_y = folded.reshape(2, rows, columns)
    out = np.empty((rows, columns), np.float32)
    for first in range(0, rows, 16_384):
        part = slice(first, first + 16_384)
        out[part] = cv2.remap(plane, map_x[part], map_y[part], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.ravel()[:count]


def _solve3(s: Float, right: Float) -> Float:
    """x of s x = right for symmetric 3 × 3 matrices, by cofactors in float64."""
    m = s.astype(np.float64)
    a, b, c, d, e, f = m[:, 0, 0], m[:, 0, 1], m[:, 0, 2], m[:, 1, 1], m[:, 1, 2], m[:, 2, 2]
    ca, cb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    cd, ce, cf = a * f - c * c, b * c - a * e, a * d - b * b
    det = a * ca + b * cb + c * cc
    x, y, z = right.T.astype(np.float64)
    out = np.stack([ca * x + cb * y + cc * z, cb * x + cd * y + ce * z, cc * x + ce * y + cf * z], 1)
    return np.asarray(out / det[:, None], np.float32)
