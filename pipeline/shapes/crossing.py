"""Whether an outline crosses itself, and how to make it stop.

Tested on the flattened curve, every edge against every other that it could meet; touching isn't crossing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.raster import STEPS, Array, flatten

_ROUNDS = 60
_STRAIGHTEN = 8
"""Rounds of shortening handles before vertices are gathered."""
THOROUGH = (STEPS, 10, 23, 64)
"""Flattenings that a shape must pass before it is handed out: a crossing may hide between the edges of one."""


def crossing_segments(control: Array, steps: int = STEPS) -> NDArray[np.int64]:
    """(pairs, 2) segments of an outline that cross, the lower first; a segment may cross itself."""
    count = len(control)
    polygon = flatten(control, steps)
    start = polygon.reshape(count, steps, 2)
    end = np.roll(polygon, -1, 0).reshape(count, steps, 2)
    low = np.minimum(start.min(1), end.min(1))
    high = np.maximum(start.max(1), end.max(1))
    meets = (low[:, None] <= high[None]).all(-1) & (low[None] <= high[:, None]).all(-1)
    first, second = np.nonzero(np.triu(meets) & ~_too_straight(control))
    a, b = start[first][:, :, None], start[second][:, None]
    da, db = end[first][:, :, None] - a, end[second][:, None] - b
    away = b - a
    before = da[..., 0] * away[..., 1] - da[..., 1] * away[..., 0]
    after = before + da[..., 0] * db[..., 1] - da[..., 1] * db[..., 0]
    # b's ends as seen from a are `before` and `after`; a's ends as seen from b follow from the same three vectors.
    own = db[..., 1] * away[..., 0] - db[..., 0] * away[..., 1]
    other = own + db[..., 0] * da[..., 1] - db[..., 1] * da[..., 0]
    # A shared end gives a rounding error here, not a zero: what is so close touches.
    tiny = 1e-9
    hit = ((before > tiny) & (after < -tiny) | (before < -tiny) & (after > tiny)) & (
        (own > tiny) & (other < -tiny) | (own < -tiny) & (other > tiny)
    )
    found = hit.any((1, 2))
    return np.stack([first[found], second[found]], 1)


def _too_straight(control: Array) -> NDArray[np.bool_]:
    """(segments, segments): the same or neighbours, and turning by less than half a circle together, so that they can't meet again.

    A curve turns no more than its control polygon does.
    """
    count = len(control)
    following = np.roll(control, -1, 0)
    hull = np.stack([control[:, 0], control[:, 2], following[:, 1], following[:, 0]], 1)
    legs = np.diff(hull, axis=1).reshape(-1, 2)
    after = np.roll(legs, -1, 0)
    turn = np.abs(np.arctan2(legs[:, 0] * after[:, 1] - legs[:, 1] * after[:, 0], (legs * after).sum(1)))
    length = np.linalg.norm(legs, axis=1)
    turn = np.where((length > 1e-6) & (np.roll(length, -1) > 1e-6), turn, np.pi).reshape(count, 3)
    own = turn[:, 0] + turn[:, 1]
    both = own + turn[:, 2] + np.roll(own, -1)
    straight = np.zeros((count, count), np.bool_)
    number = np.arange(count)
    straight[number, number] = own < 3.0
    if count > 2:
        following_number = (number + 1) % count
        straight[number, following_number] = straight[following_number, number] = both < 3.0
    return straight


def crosses(control: Array, flattenings: tuple[int, ...] = (STEPS,)) -> bool:
    """Whether an outline crosses itself in any of the flattenings."""
    return any(len(crossing_segments(control, steps)) > 0 for steps in flattenings)


def uncross(control: Array, flattenings: tuple[int, ...] = THOROUGH) -> Array:
    """The outline without its crossings: handles of the segments concerned shrink until those run straight; if that isn't
    enough, the vertices of the shorter loop are laid on the line that closes it. Always ends: each time fewer corners are left."""
    control = control.copy()
    last = np.zeros(0, np.int64)
    for number in range(_ROUNDS):
        pairs = _first_crossings(control, flattenings)
        if len(pairs) == 0:
            if len(last) == 0:
                return control
            # Simple by a hair would cross again when a file rounds its numbers.
            _shorten(control, last)
            last = np.zeros(0, np.int64)
            continue
        last = np.unique(pairs)
        if number < _STRAIGHTEN:
            reach = (0,) if number < 4 else (-1, 0, 1)
            _shorten(control, np.unique([(pairs + r) % len(control) for r in reach]))
        else:
            _gather(control, int(pairs[0, 0]), int(pairs[0, 1]))
    control[:, :3] = control[:, :1].mean(0)  # no outline is left: a point, which covers nothing
    return control


def _first_crossings(control: Array, flattenings: tuple[int, ...]) -> NDArray[np.int64]:
    """Pairs of the first flattening that shows any."""
    for steps in flattenings:
        pairs = crossing_segments(control, steps)
        if len(pairs):
            break
    return pairs


def _shorten(control: Array, segments: NDArray[np.int64]) -> None:
    following = (segments + 1) % len(control)
    start, end = control[segments, 0], control[following, 0]
    third = (end - start) / 3
    control[segments, 2] = (control[segments, 2] + start + third) / 2
    control[following, 1] = (control[following, 1] + end - third) / 2


def _way(vertices: Array) -> float:
    return float(np.linalg.norm(np.diff(vertices, axis=0), axis=1).sum())


def _gather(control: Array, first: int, second: int) -> None:
    """Vertices after `first` up to `second`, or the others when their way is shorter, move onto the straight line between
    their neighbours, evenly: numbers that a file rounds can't bring a loop back."""
    count = len(control)
    loop = np.arange(first + 1, second + 1)
    rest = np.arange(second + 1, first + 1 + count) % count
    if len(loop) == 0:
        loop = np.array([(first + 1) % count])
    elif len(rest) and _way(control[rest, 0]) < _way(control[loop, 0]):
        loop = rest
    before, after = (loop[0] - 1) % count, (loop[-1] + 1) % count
    start, end = control[before, 0], control[after, 0]
    share = (np.arange(len(loop)) + 1) / (len(loop) + 1)
    step = (end - start) / (len(loop) + 1)
    control[loop, :3] = (start + share[:, None] * (end - start))[:, None]
    control[loop, 1] -= step / 3
    control[loop, 2] += step / 3
    control[before, 2], control[after, 1] = start + step / 3, end - step / 3
