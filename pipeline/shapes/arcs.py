"""How well one cubic stands for an arc of an outline: the cost that every choice of vertices is made by.

A cubic whose ends are fixed is linear in its two handles, so with samples even in arc length the squared residual of the best
one is one product with a fixed matrix.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.raster import Array, bernstein

Index = NDArray[np.int64]

_MOST_SAMPLES = 16
NEVER = 1e9


@cache
def _operators(steps: int) -> tuple[Array, Array]:
    """For `steps` + 1 samples of an arc: to its two handles (2, samples), and to the residual (samples, samples)."""
    weights = bernstein(np.linspace(0, 1, steps + 1))
    inner = weights[:, 1:3]
    ends = np.zeros((steps + 1, steps + 1))
    ends[:, 0], ends[:, -1] = weights[:, 0], weights[:, 3]
    free = np.eye(steps + 1) - ends
    handles = np.linalg.pinv(inner) @ free
    return handles, free - inner @ handles


def handles_of(arcs: Array) -> Array:
    """(…, samples, 2) arcs to (…, 2, 2): the out-handle of the start and the in-handle of the end."""
    return np.asarray(_operators(arcs.shape[-2] - 1)[0] @ arcs)


def sample(ring: Array, position: Array) -> Array:
    """Points of a closed polyline at fractional positions, which may lie beyond its ends."""
    low = np.floor(position).astype(np.int64)
    share = (position - low)[..., None]
    return np.asarray(ring[low % len(ring)] * (1 - share) + ring[(low + 1) % len(ring)] * share)


def arc_errors(ring: Array, start: Array, length: Array, steps: int = _MOST_SAMPLES) -> Array:
    """Squared residual, summed over the samples of the outline that each arc spans. `start`, `length`: any one shape."""
    at = start[..., None] + length[..., None] * np.linspace(0, 1, steps + 1)
    residual = _operators(steps)[1] @ sample(ring, at)
    return np.asarray(np.square(residual).sum((-1, -2)) * np.maximum(length, 0) / steps)


def error_table(ring: Array, longest: int) -> Array:
    """[i, n]: error of one cubic over the samples i … i + n; a length of 0 is forbidden."""
    count = len(ring)
    table = np.full((count, longest + 1), NEVER)
    start = np.arange(count)[:, None]
    for length in range(1, longest + 1):
        steps = min(length, _MOST_SAMPLES)
        if steps < 3:
            table[:, length] = 0.0
            continue
        at = np.round(np.linspace(0, length, steps + 1)).astype(np.int64)
        window = ring[(start + at) % count]
        moved = np.tensordot(window, _operators(steps)[1], ([1], [1]))  # (count, 2, samples)
        table[:, length] = np.square(moved).sum((1, 2)) * (length / steps)
    return table


def choose(ring: Array, most: int) -> Index:
    """The best `most` vertices, or a few less: exact minimum of error + price · vertices (dynamic programming), the price
    halved or doubled until the number fits. The sharpest corner is always one."""
    count = len(ring)
    longest = min(count // 2, 140)
    before, after = ring - np.roll(ring, 4, 0), np.roll(ring, -4, 0) - ring
    corner = int(np.argmax(np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0])))
    table = np.roll(error_table(ring, longest), -corner, 0)
    cheap, dear = 1e-2, 1e4
    best = np.round(np.arange(most) * count / most).astype(np.int64)
    for _ in range(14):
        price = float(np.sqrt(cheap * dear))
        path = _cheapest(table, price, longest)
        if len(path) > most:
            cheap = price
            continue
        best, dear = path, price
        if len(path) >= most - 1:
            break
    return np.sort((best + corner) % count)


def _cheapest(table: Array, price: float, longest: int) -> Index:
    count = len(table)
    cost = np.full(count + 1, np.inf)
    cost[0] = 0
    came = np.zeros(count + 1, np.int64)
    for end in range(1, count + 1):
        length = np.arange(1, min(end, longest) + 1)
        options = cost[end - length] + table[end - length, length]
        best = int(np.argmin(options))
        cost[end] = options[best] + price
        came[end] = end - length[best]
    path, at = [], count
    while at > 0:
        at = int(came[at])
        path.append(at)
    return np.array(path[::-1])


def lengths(index: Index, count: int) -> Index:
    """Samples from each vertex to the next, round the outline; `index` (…, vertices)."""
    return np.asarray((np.roll(index, -1, -1) - index) % count)
