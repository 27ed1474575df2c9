"""The motion of a shape as a whole: per frame the affine map that takes the shape's mean form to it, the keyed layer of a tracked part.

Generalised Procrustes analysis (Gower 1975) with robust weights: what bends doesn't drag along what only moves.
"""

from __future__ import annotations

import numpy as np

from pipeline.shapes.raster import Array

_ROUNDS = 3
_REWEIGH = 6
_SOFT_PX = 2.0
"""Residuals below weigh alike; above, as their root."""
_AFFINE_POINTS = 8
_MOST_STRETCH = 4.0
_LEAST_SIZE = 0.2
"""A map that shrinks or stretches more is no motion of a body; a plainer one is taken."""


def body_motion(vertices: Array) -> Array:
    """(frames, 2, 3) maps from the layer's plane to the picture, for vertices (frames, points, 2). One frame: it stands still."""
    frames = len(vertices)
    if frames < 2:
        return np.tile(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (frames, 1, 1))
    mean = vertices[frames // 2]
    maps = np.stack([fit_map(mean, now) for now in vertices])
    for _ in range(_ROUNDS):
        back = to_layer(maps, vertices)
        fresh = np.median(back, axis=0)
        # The mean must not drift or shrink: hold it to the middle frame's place and size.
        hold = fit_map(fresh, vertices[frames // 2], affine=False)
        mean = fresh @ hold[:, :2].T + hold[:, 2]
        maps = np.stack([fit_map(mean, now) for now in vertices])
    return maps


def fit_map(source: Array, target: Array, *, affine: bool = True) -> Array:
    """(2, 3) robust map of points (n, 2): affine, else turn and scale, else a shift, the first that is a plausible motion."""
    if affine and len(source) >= _AFFINE_POINTS:
        found = _reweighted(source, target, affine=True)
        size = np.linalg.svd(found[:, :2], compute_uv=False)
        if size[1] > _LEAST_SIZE and size[0] < _MOST_STRETCH * size[1] and np.linalg.det(found[:, :2]) > 0:
            return found
    if len(source) >= 3:
        found = _reweighted(source, target, affine=False)
        if _LEAST_SIZE < np.hypot(*found[:, 0]) < 1 / _LEAST_SIZE:
            return found
    shift = np.median(target - source, axis=0)
    return np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])


def _reweighted(source: Array, target: Array, *, affine: bool) -> Array:
    weight = np.ones(len(source))
    found = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    for _ in range(_REWEIGH):
        total = weight.sum()
        a, b = weight @ source / total, weight @ target / total
        p, q = (source - a) * weight[:, None], target - b
        if affine:
            spread = p.T @ (source - a)
            linear = np.linalg.solve(spread + 1e-3 * total * np.eye(2), p.T @ q + 1e-3 * total * found[:, :2].T).T
        else:
            size = max(float((p * (source - a)).sum()), 1e-9)
            c = float((p * q).sum()) / size
            s = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / size
            linear = np.array([[c, -s], [s, c]])
        found = np.concatenate([linear, (b - linear @ a)[:, None]], 1)
        residual = np.linalg.norm(source @ linear.T + found[:, 2] - target, axis=1)
        weight = 1 / np.sqrt(np.maximum(residual, _SOFT_PX))
    return found


def to_layer(maps: Array, points: Array) -> Array:
    """Picture to layer, frame by frame: maps (frames, 2, 3), points (frames, …, 2)."""
    extra = (slice(None),) + (None,) * (points.ndim - 2)
    inverse = np.linalg.inv(maps[:, :, :2])
    return np.asarray(np.einsum("tij,t...j->t...i", inverse, points - maps[:, :, 2][extra]))


def from_layer(maps: Array, points: Array) -> Array:
    """Layer to picture, frame by frame."""
    extra = (slice(None),) + (None,) * (points.ndim - 2)
    return np.asarray(np.einsum("tij,t...j->t...i", maps[:, :, :2], points) + maps[:, :, 2][extra])
