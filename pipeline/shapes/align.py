"""Which sample of one outline is which of the next frame's: cyclic dynamic time warping (Sakoe and Chiba 1978) on place and normal,
then the vertices carried over so that they stay on their feature and still cut the new outline well."""

from __future__ import annotations

import numpy as np

from pipeline.shapes.arcs import NEVER, Index, error_table
from pipeline.shapes.contours import normals
from pipeline.shapes.flow import Flow
from pipeline.shapes.raster import Array

_STEP = 1.0
"""Price of a match that moves on one outline only."""
_PLACE, _TURN = 0.15, 6.0
"""Weights of squared distance (px²) and of 1 - cosine between the normals."""
_FAR = 900.0
_WINDOW = 10
"""Samples either side of the guess among which a vertex may settle."""
_LOYAL = 0.6
"""Weight of a vertex' squared distance from where the flow took it, against squared residuals."""


def warp(a: Array, b: Array) -> Array:
    """For each sample of `a` its position on `b`, fractional, rising, unwrapped. `a` already lies where it should be on `b`."""
    cost = np.minimum(((a[:, None] - b[None]) ** 2).sum(-1), _FAR) * _PLACE + _TURN * (1 - normals(a) @ normals(b).T)
    surest = int(np.argmin(cost.min(1) - 0.02 * np.partition(cost, 8, 1)[:, 8]))
    partner = int(np.argmin(cost[surest]))
    cost = np.roll(cost, (-surest, -partner), (0, 1))
    cost = np.pad(cost, ((0, 1), (0, 1)), mode="wrap")
    low, high = _extent(cost, _accumulate(cost))
    middle = (low + high) / 2.0
    position = np.empty(len(a))
    position[(np.arange(len(a)) + surest) % len(a)] = middle[:-1] + partner
    return position


def _accumulate(cost: Array) -> Array:
    """Least cost to every cell. Within a row the running minimum of (cost so far - cost of walking) does the steps along it."""
    total = np.empty_like(cost)
    previous = np.full(cost.shape[1], np.inf)
    for row in range(len(cost)):
        walk = np.cumsum(cost[row] + _STEP)
        enter = np.minimum(np.concatenate([[np.inf], previous[:-1]]), previous + _STEP) + cost[row]
        if row == 0:
            enter[0] = cost[0, 0]
        previous = walk + np.minimum.accumulate(enter - walk)
        total[row] = previous
    return total


def _extent(cost: Array, total: Array) -> tuple[Array, Array]:
    """First and last column that the best path meets in each row."""
    row, column = len(cost) - 1, cost.shape[1] - 1
    low, high = np.full(row + 1, np.inf), np.full(row + 1, -np.inf)
    while True:
        low[row], high[row] = min(low[row], column), max(high[row], column)
        if row == 0 and column == 0:
            return low, high
        down = total[row - 1, column] + _STEP if row else np.inf
        left = total[row, column - 1] + _STEP if column else np.inf
        both = total[row - 1, column - 1] if row and column else np.inf
        if both <= down and both <= left:
            row, column = row - 1, column - 1
        elif down <= left:
            row -= 1
        else:
            column -= 1


def carry(ring: Array, index: Index, target: Array, flow: Flow, a: int, b: int) -> Index:
    """Vertices `index` of frame `a`'s outline on frame `b`'s: the flow and the warp say where, the fit of the arcs refines it."""
    moved = flow.advect(ring, a, b)
    position = warp(moved, target)[index]
    count = len(target)
    guess = np.round(position[0] + np.concatenate([[0.0], np.cumsum(np.diff(position) % count)])).astype(np.int64)
    if guess[-1] - guess[0] >= count:  # went round twice: by share of the length instead
        guess = guess[0] + np.round((index - index[0]) % len(ring) * count / len(ring)).astype(np.int64)
    gaps = np.diff(np.append(guess, guess[0] + count))
    longest = int(min(count - 1, max(gaps.max() + 2 * _WINDOW, 8)))
    table = error_table(target, longest)
    place = target[(guess[:, None] + np.arange(-_WINDOW, _WINDOW + 1)) % count]
    prior = _LOYAL * np.minimum(((place - moved[index][:, None]) ** 2).sum(-1), 400.0)
    settled = _settle(table, guess, prior, _WINDOW)
    # The first vertex had to stay: once more, opened at the other side.
    half = len(guess) // 2
    turned = np.concatenate([guess[half:], guess[:half] + count])
    start = int(np.clip(settled[half] - guess[half] + _WINDOW, 0, 2 * _WINDOW))
    settled = _settle(table, turned, np.concatenate([prior[half:], prior[:half]]), start)
    settled = np.concatenate([settled[len(guess) - half :] - count, settled[: len(guess) - half]])
    for k in range(1, len(settled)):
        settled[k] = max(settled[k], settled[k - 1] + 1)
    return np.asarray(settled % count)


def _settle(table: Array, guess: Index, prior: Array, fixed: int) -> Index:
    """Least sum of arc errors and priors over all vertices, each within its window, the first at offset `fixed`."""
    count, longest = len(table), table.shape[1] - 1
    offsets = np.arange(-_WINDOW, _WINDOW + 1)
    cost = np.full(len(offsets), np.inf)
    cost[fixed] = 0.0
    came = []
    for k in range(1, len(guess) + 1):
        end = guess[k] if k < len(guess) else guess[0] + count
        start = guess[k - 1] + offsets
        length = (end + offsets)[:, None] - start[None]
        allowed = (length >= 1) & (length <= longest)
        options = np.where(allowed, table[start[None] % count, np.clip(length, 0, longest)], NEVER) + cost
        if k == len(guess):
            best = int(np.argmin(options[fixed]))
        else:
            came.append(np.argmin(options, 1))
            cost = options.min(1) + prior[k]
    path = [best]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return np.asarray(guess + offsets[np.array(path[::-1])])
