"""Vertices of an outline over all its frames: the same vertex on the same feature, few of them, where the arcs need them.

Chosen on the longest outline, carried to the others, added where the whole run fits worst, then moved one at a time along the
best path through time (Viterbi) between cutting the outline well and going where the flow goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.shapes.align import carry
from pipeline.shapes.arcs import Index, arc_errors, choose, lengths
from pipeline.shapes.flow import Flow
from pipeline.shapes.raster import Array

_FIRST_SHARE = 0.6
_GOOD_PX = 0.45
"""Root mean square residual below which nine frames in ten need no further vertex."""
_PLACES = 17
_FLOWING = 0.25
"""Weight of a vertex' squared distance from where the flow takes it, px²; beyond `_LIMIT_PX` it grows linearly."""
_LIMIT_PX = 8.0
_CROWD = 0.4
"""Price of arcs shorter than a third of the mean, squared samples."""
_FEWEST = 5


def place(
    rings: Sequence[Array], flow: Flow, start: int, *, most: int, sweeps: int = 2, first: Index | None = None
) -> Index:
    """(frames, vertices) sample of each outline that a vertex lies on, in order round it. `start`: index of the first frame.

    `first`: vertices that are there already; else they are chosen.
    """
    counts = np.array([len(ring) for ring in rings])
    cap = int(min(most, max(_FEWEST + 1, counts.min() // 4)))
    index = first if first is not None else _spread(rings, flow, start, max(_FEWEST, round(cap * _FIRST_SHARE)))
    errors = _errors(rings, index)
    while index.shape[1] < cap:
        span = np.stack([lengths(row, count) for row, count in zip(index, counts, strict=True)])
        rms = np.sqrt(errors / np.maximum(span, 1))
        if np.percentile(rms, 90, axis=0).max() < _GOOD_PX and rms.max() < 3 * _GOOD_PX:
            break
        worst = int(np.argmax(errors.sum(0) + len(rings) * 0.2 * np.percentile(errors, 95, axis=0)))
        index = np.insert(index, worst + 1, 0, axis=1)
        index[:, worst + 1] = _best_path(rings, index, worst, (worst + 2) % index.shape[1], None, flow, start)
        fresh = _errors(rings, index)[:, worst : worst + 2]
        errors = np.concatenate([errors[:, :worst], fresh, errors[:, worst + 1 :]], 1)
    for _ in range(sweeps if len(rings) > 2 and index.shape[1] > 3 else 0):
        for k in range(index.shape[1]):
            count = index.shape[1]
            index[:, k] = _best_path(rings, index, (k - 1) % count, (k + 1) % count, k, flow, start)
    return index


def _spread(rings: Sequence[Array], flow: Flow, start: int, most: int) -> Index:
    """Vertices of the longest outline, carried to all others."""
    reference = int(np.argmax([len(ring) for ring in rings]))
    chosen = choose(rings[reference], most)
    index = np.zeros((len(rings), len(chosen)), np.int64)
    index[reference] = chosen
    for here in range(reference + 1, len(rings)):
        index[here] = carry(rings[here - 1], index[here - 1], rings[here], flow, start + here - 1, start + here)
    for here in range(reference - 1, -1, -1):
        index[here] = carry(rings[here + 1], index[here + 1], rings[here], flow, start + here + 1, start + here)
    return index


def _errors(rings: Sequence[Array], index: Index) -> Array:
    return np.stack(
        [
            arc_errors(ring, row.astype(np.float64), lengths(row, len(ring)).astype(np.float64))
            for ring, row in zip(rings, index, strict=True)
        ]
    )


def _best_path(
    rings: Sequence[Array], index: Index, before: int, after: int, held: int | None, flow: Flow, start: int
) -> Index:
    """The best place of one vertex between two others on every frame. `held`: the vertex' number, when it has a place already."""
    share = np.linspace(0.04, 0.96, _PLACES)
    came: list[Index] = []
    places: list[Index] = []
    cost = np.zeros(_PLACES)
    previous = np.zeros((0, 2))
    for t, ring in enumerate(rings):
        count = len(ring)
        left = int(index[t, before])
        span = int((index[t, after] - left) % count)
        step = np.clip(np.round(share * span), min(1, span), max(span - 1, 0)).astype(np.int64)
        if held is not None:
            step[_PLACES // 2] = min(int((index[t, held] - left) % count), span)
        rest = span - step
        one = arc_errors(ring, np.full(_PLACES, float(left)), step.astype(np.float64), 10)
        two = arc_errors(ring, (left + step).astype(np.float64), rest.astype(np.float64), 10)
        least = 0.35 * count / index.shape[1]
        crowd = np.maximum(least - step, 0) ** 2 + np.maximum(least - rest, 0) ** 2
        own = one + two + _CROWD * crowd
        at = ring[(left + step) % count]
        if t == 0:
            cost = own
        else:
            moved = flow.advect(previous, start + t - 1, start + t)
            gap = np.linalg.norm(at[:, None] - moved[None], axis=-1)
            drift = np.where(gap < _LIMIT_PX, gap * gap, 2 * _LIMIT_PX * gap - _LIMIT_PX**2)
            options = cost[None] + _FLOWING * drift
            came.append(options.argmin(1))
            cost = options.min(1) + own
        previous = at
        places.append((left + step) % count)
    path = [int(np.argmin(cost))]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return np.array([places[t][k] for t, k in enumerate(reversed(path))])
