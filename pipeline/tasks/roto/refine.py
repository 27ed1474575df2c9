"""From a matte at working resolution to one at the plate's, its edge led by the plate.

The matte is enlarged as a logit, which keeps its edge about as steep as it was, and then follows the picture by a colour
guided filter (He, Sun & Tang 2013) at full resolution, in tiles and only where there is an edge.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_RADIUS = 3 / 480
"""The filter's radius as a part of the picture's height."""
_EPSILON = 1e-4
"""Regularisation: contrast below its root (1 % in model space) is no edge."""
_CLEAR = 0.02
"""Values this close to 0 or 1 count as empty and full."""
_STEEPEN = 2.5
"""The filter finds an edge well but leaves a haze as wide as itself beside it: contrast about one half takes it away."""
_TILE = 256
_LIMIT = 1e-4


def enlarge(matte: Float, height: int, width: int) -> Float:
    """(h, w) 0 … 1 to (height, width). The same size comes back unchanged."""
    if matte.shape == (height, width):
        return matte
    p = np.clip(matte, _LIMIT, 1 - _LIMIT)
    logit = cv2.resize(np.log(p / (1 - p)), (width, height), interpolation=cv2.INTER_LINEAR)
    large = 1 / (1 + np.exp(-logit))
    return np.asarray(np.clip((large - 2 * _LIMIT) / (1 - 4 * _LIMIT), 0, 1), np.float32)


def follow_edges(matte: Float, rgb: Float) -> Float:
    """`matte` (height, width) drawn to the edges of `rgb` (3, height, width) in model space. Far from an edge it is 0 or 1."""
    height, width = matte.shape
    radius = max(1, round(_RADIUS * height))
    halo = 2 * radius
    out = _clear(matte)
    edge = ((matte > _CLEAR) & (matte < 1 - _CLEAR)).astype(np.uint8)
    edge |= cv2.morphologyEx((matte > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    band = cv2.dilate(edge, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)) > 0
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            tile = np.s_[top : min(top + _TILE, height), left : min(left + _TILE, width)]
            inside = band[tile]
            if not inside.any():
                continue
            y0, x0 = max(0, top - halo), max(0, left - halo)
            wide = np.s_[y0 : min(top + _TILE + halo, height), x0 : min(left + _TILE + halo, width)]
            filtered = _guided(rgb[:, wide[0], wide[1]], matte[wide], radius)
            h, w = inside.shape
            part = filtered[top - y0 : top - y0 + h, left - x0 : left - x0 + w]
            out[tile] = np.where(inside, np.clip((part - 0.5) * np.float32(_STEEPEN) + 0.5, 0, 1), out[tile])
    return out


def feather(matte: Float, pixels: float) -> Float:
    """Soften the edge over about `pixels` to either side."""
    if pixels <= 0:
        return matte
    return np.asarray(np.clip(cv2.GaussianBlur(matte, (0, 0), pixels / 2), 0, 1), np.float32)


def _clear(matte: Float) -> Float:
    return np.asarray(np.clip((matte - np.float32(_CLEAR)) * np.float32(1 / (1 - 2 * _CLEAR)), 0, 1), np.float32)


def _guided(rgb: Float, p: Float, radius: int) -> Float:
    """Colour guided filter, the paper's equations 14 and 15: I is `rgb` (3, h, w), p the matte, Σ + εU inverted in closed form."""
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Float) -> Float:
        return np.asarray(cv2.blur(x, side), np.float32)

    planes = [np.ascontiguousarray(plane) for plane in rgb]
    mu = [mean(plane) for plane in planes]
    mean_p = mean(p)
    cov = [mean(plane * p) - m * mean_p for plane, m in zip(planes, mu, strict=True)]
    s = {(i, j): mean(planes[i] * planes[j]) - mu[i] * mu[j] for i in range(3) for j in range(i, 3)}
    a, b, c = s[0, 0] + _EPSILON, s[0, 1], s[0, 2]
    d, e, f = s[1, 1] + _EPSILON, s[1, 2], s[2, 2] + _EPSILON
    c00, c01, c02 = d * f - e * e, c * e - b * f, b * e - c * d
    c11, c12, c22 = a * f - c * c, b * c - a * e, a * d - b * b
    scale = 1 / (a * c00 + b * c01 + c * c02)
    x, y, z = cov
    slope = [
        (c00 * x + c01 * y + c02 * z) * scale,
        (c01 * x + c11 * y + c12 * z) * scale,
        (c02 * x + c12 * y + c22 * z) * scale,
    ]
    offset = mean_p - sum(k * m for k, m in zip(slope, mu, strict=True))
    total = mean(np.asarray(offset, np.float32))
    for k, plane in zip(slope, planes, strict=True):
        total = total + mean(np.asarray(k, np.float32)) * plane
    return total
