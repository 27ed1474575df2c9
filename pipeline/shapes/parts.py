"""Limbs as shapes of their own: an outline is cut where it pinches, on every frame at the same feature, and each part closed again.

A cut is a chord between two places of the outline that is short beside the arc it cuts off. It is found among pairs of vertices over
the whole run, then follows the narrowest place near by through time (Viterbi). A limb reaches a little into the body, so that
their union has no seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.arcs import Index
from pipeline.shapes.contours import SPACING_PX, resample
from pipeline.shapes.flow import Flow
from pipeline.shapes.raster import Array

_PINCH = 0.3
"""Most of chord / arc, in the middle frame of its sorted values, that is a pinch."""
_LEAST_AREA, _MOST_AREA = 0.006, 0.3
"""Of the outline's own area, that a limb may have in the median frame."""
_LEAST_PX = 80.0
_MOST_LIMBS = 8
_CANDIDATES = 120
_OFFSETS = np.arange(-15, 16, 3)
"""Samples of the outline by which a cut's ends may move from their vertices."""
_NARROW, _FLOWING, _OUTSIDE = 0.05, 0.3, 400.0
"""Weights of the chord's squared length and of drift from the flow, px²; price of a chord wholly outside the outline."""
_DRIFT_PX2 = 400.0
_OVERLAP_PX = 8.0
_CAP_WEIGHT, _CHORD_WEIGHT = 0.1, 0.35
"""What closes a part is inside the whole: it needs no precision."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part over a track's frames: closed `rings`, the `weight` of each of their samples, and vertices (frames, n) known already."""

    rings: list[Array]
    weight: list[Array]
    index: Index
    limb: bool


def split(
    rings: Sequence[Array], index: Index, flow: Flow, start: int, inside: Sequence[NDArray[np.bool_]]
) -> list[Part]:
    """The parts of an outline, the body first; one part when nothing pinches. `inside`: the outline's own filled masks,
    widened by a pixel."""
    cuts: list[Index] = []
    for first, second in _candidates(rings, index):
        if len(cuts) == _MOST_LIMBS:
            break
        ends = _track(rings, index[:, [first, second]], flow, start, inside)
        if ends is None or any(_overlap(ends, other, rings) for other in cuts):
            continue
        cuts.append(ends)
    body = _body(rings, index, cuts)
    return [body, *(_limb(rings, index, ends, inside) for ends in cuts)]


def _candidates(rings: Sequence[Array], index: Index) -> list[tuple[int, int]]:
    """Ordered pairs of vertices (from, to) whose arc is a limb, the clearest pinch first."""
    places = np.stack([ring[row] for ring, row in zip(rings, index, strict=True)])
    chord = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    arc, area, whole = np.empty_like(chord), np.empty_like(chord), np.empty(len(rings))
    for t, (ring, row) in enumerate(zip(rings, index, strict=True)):
        arc[t] = ((row[None] - row[:, None]) % len(ring)) * np.linalg.norm(ring - np.roll(ring, 1, 0), axis=1).mean()
        cross = ring[:, 0] * np.roll(ring[:, 1], -1) - ring[:, 1] * np.roll(ring[:, 0], -1)
        so_far = np.concatenate([[0.0], np.cumsum(cross)])[row]
        p = places[t]
        swept = so_far[None] - so_far[:, None] + np.where(row[None] < row[:, None], cross.sum(), 0.0)
        area[t] = (swept + p[None, :, 0] * p[:, None, 1] - p[None, :, 1] * p[:, None, 0]) / 2
        whole[t] = cross.sum() / 2
    pinch = np.median(chord / np.maximum(arc, 1.0), axis=0)
    share = np.median(area / whole[:, None, None], axis=0)
    size = np.median(area, axis=0)
    good = (pinch < _PINCH) & (share > _LEAST_AREA) & (share < _MOST_AREA) & (size > _LEAST_PX)
    order = sorted((float(pinch[i, j]), int(i), int(j)) for i, j in zip(*np.nonzero(good), strict=True))
    return [(i, j) for _, i, j in order if i != j][:_CANDIDATES]


def _track(
    rings: Sequence[Array], ends: Index, flow: Flow, start: int, inside: Sequence[NDArray[np.bool_]]
) -> Index | None:
    """(frames, 2) positions of the cut's ends, the second after the first; None when it leaves the outline on some frame."""
    a, b = (grid.ravel() for grid in np.meshgrid(_OFFSETS, _OFFSETS, indexing="ij"))
    cost = np.zeros(len(a))
    came: list[Index] = []
    places: list[Index] = []
    before: tuple[Array, Array] | None = None
    for t, ring in enumerate(rings):
        count = len(ring)
        span = int((ends[t, 1] - ends[t, 0]) % count)
        first, second = ends[t, 0] + a, ends[t, 0] + span + b
        p, q = ring[first % count], ring[second % count]
        own = _NARROW * ((p - q) ** 2).sum(1) + _OUTSIDE * _outside(p, q, inside[t])
        own = own + np.where((second - first < 2) | (second - first > count - 4), 1e6, 0.0)
        unique_p, unique_q = ring[(ends[t, 0] + _OFFSETS) % count], ring[(ends[t, 0] + span + _OFFSETS) % count]
        if before is not None:
            drift_p = _drift(flow.advect(before[0], start + t - 1, start + t), unique_p)
            drift_q = _drift(flow.advect(before[1], start + t - 1, start + t), unique_q)
            drift = drift_p[:, None, :, None] + drift_q[None, :, None, :]
            options = cost[:, None] + _FLOWING * drift.reshape(len(a), len(a))
            came.append(options.argmin(0))
            cost = options.min(0)
        cost = cost + own
        before = unique_p, unique_q
        places.append(np.stack([first, second], 1))
    best = int(np.argmin(cost))
    path = [best]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    found = np.stack([places[t][k] for t, k in enumerate(reversed(path))])
    for t, ring in enumerate(rings):
        p, q = ring[found[t] % len(ring)]
        if _outside(p[None], q[None], inside[t])[0] > 0.15 or _cuts_outline(ring, found[t]):
            return None
    return found


def _cuts_outline(ring: Array, ends: Index) -> bool:
    """Whether the chord between two samples meets the outline anywhere else."""
    count = len(ring)
    if ends[1] - ends[0] < 2:
        return True
    p, q = ring[ends % count]
    numbers = np.arange(count)
    clear = np.abs((numbers[:, None] - ends[None] + count // 2) % count - count // 2).min(1) > 1
    clear &= np.roll(clear, -1)
    a, b = ring[clear], np.roll(ring, -1, 0)[clear]
    side_a = (q[0] - p[0]) * (a[:, 1] - p[1]) - (q[1] - p[1]) * (a[:, 0] - p[0])
    side_b = (q[0] - p[0]) * (b[:, 1] - p[1]) - (q[1] - p[1]) * (b[:, 0] - p[0])
    along = b - a
    side_p = along[:, 0] * (p[1] - a[:, 1]) - along[:, 1] * (p[0] - a[:, 0])
    side_q = along[:, 0] * (q[1] - a[:, 1]) - along[:, 1] * (q[0] - a[:, 0])
    return bool(((side_a * side_b <= 0) & (side_p * side_q <= 0)).any())


def _drift(moved: Array, places: Array) -> Array:
    return np.asarray(np.minimum(((moved[:, None] - places[None]) ** 2).sum(-1), _DRIFT_PX2))


def _outside(p: Array, q: Array, inside: NDArray[np.bool_]) -> Array:
    """Share of each chord that lies outside."""
    at = p[:, None] + (q - p)[:, None] * np.linspace(0.08, 0.92, 9)[None, :, None]
    x = np.clip(at[..., 0].astype(np.int64), 0, inside.shape[1] - 1)
    y = np.clip(at[..., 1].astype(np.int64), 0, inside.shape[0] - 1)
    return np.asarray(1.0 - inside[y, x].mean(1))


def _overlap(one: Index, other: Index, rings: Sequence[Array]) -> bool:
    """Whether two arcs share a sample on any frame."""
    for t, ring in enumerate(rings):
        count = len(ring)
        if (other[t, 0] - one[t, 0]) % count <= one[t, 1] - one[t, 0] or (one[t, 0] - other[t, 0]) % count <= other[
            t, 1
        ] - other[t, 0]:
            return True
    return False


def _body(rings: Sequence[Array], index: Index, cuts: Sequence[Index]) -> Part:
    """What is left when the arcs of all cuts are replaced by their chords."""
    kept = _outside_cuts(rings, index, cuts)
    made, weight, vertices = [], [], []
    for t, ring in enumerate(rings):
        count = len(ring)
        pieces, marks = [], []
        arcs = sorted((int(c[t, 0] % count), int(c[t, 1] - c[t, 0])) for c in cuts) or [(0, 0)]
        first = (arcs[0][0] + arcs[0][1]) % count if cuts else 0
        at = first
        for begin, span in [*arcs[1:], arcs[0]] if cuts else []:
            steps = int((begin - at) % count)
            pieces.append(ring[(at + np.arange(steps + 1)) % count])
            marks.append(np.ones(steps + 1))
            chord = _chord(ring[begin], ring[(begin + span) % count], 0.0)
            pieces.append(chord)
            marks.append(np.full(len(chord), _CHORD_WEIGHT))
            at = (begin + span) % count
        polygon = np.concatenate(pieces) if cuts else ring
        mark = np.concatenate(marks) if cuts else np.ones(count)
        # Corners of the cuts come first in each arc, then the old vertices, all by place.
        wanted = [ring[index[t, k]] for k in kept]
        wanted += [ring[int(c[t, e]) % count] for c in cuts for e in (0, 1)]
        one, share, found = _even(polygon, mark, np.array(wanted))
        made.append(one)
        weight.append(share)
        vertices.append(found)
    return Part(made, weight, _in_order(vertices, made), limb=False)


def _outside_cuts(rings: Sequence[Array], index: Index, cuts: Sequence[Index]) -> list[int]:
    """Numbers of the vertices that lie inside no arc on any frame."""
    kept = []
    for k in range(index.shape[1]):
        clear = all(
            (index[t, k] - c[t, 0]) % len(ring) > c[t, 1] - c[t, 0] for c in cuts for t, ring in enumerate(rings)
        )
        if clear:
            kept.append(k)
    return kept


def _limb(rings: Sequence[Array], index: Index, ends: Index, inside: Sequence[NDArray[np.bool_]]) -> Part:
    """The arc of a cut, closed by a cap that reaches into the body."""
    within = [
        k
        for k in range(index.shape[1])
        if all(0 < (index[t, k] - ends[t, 0]) % len(ring) < ends[t, 1] - ends[t, 0] for t, ring in enumerate(rings))
    ]
    made, weight, vertices = [], [], []
    for t, ring in enumerate(rings):
        count = len(ring)
        arc = ring[(ends[t, 0] + np.arange(ends[t, 1] - ends[t, 0] + 1)) % count]
        cap = _cap(arc[-1], arc[0], inside[t])
        polygon = np.concatenate([arc, cap])
        mark = np.concatenate([np.ones(len(arc)), np.full(len(cap), _CAP_WEIGHT)])
        wanted = [arc[0], *(ring[index[t, k]] for k in within), arc[-1], cap[len(cap) // 2]]
        one, share, found = _even(polygon, mark, np.array(wanted))
        made.append(one)
        weight.append(share)
        vertices.append(found)
    return Part(made, weight, _in_order(vertices, made), limb=True)


def _chord(a: Array, b: Array, depth: float) -> Array:
    """Points strictly between `a` and `b`, bulging by `depth` to the side that is outward for a clockwise outline."""
    steps = max(4, round(float(np.linalg.norm(b - a)) / SPACING_PX) + 1)
    at = np.linspace(0, 1, steps + 1)[1:-1, None]
    along = b - a
    outward = np.array([along[1], -along[0]]) / max(float(np.linalg.norm(along)), 1e-9)
    return np.asarray(a + at * along + np.sin(np.pi * at) * depth * outward)


def _cap(a: Array, b: Array, inside: NDArray[np.bool_]) -> Array:
    depth = min(_OVERLAP_PX, 2.0 + 0.35 * float(np.linalg.norm(b - a)))
    while depth > 0.5:
        cap = _chord(a, b, depth)
        x = np.clip(cap[:, 0].astype(np.int64), 0, inside.shape[1] - 1)
        y = np.clip(cap[:, 1].astype(np.int64), 0, inside.shape[0] - 1)
        if inside[y, x].all():
            return cap
        depth *= 0.6
    return _chord(a, b, 0.0)


def _even(polygon: Array, mark: Array, wanted: Array) -> tuple[Array, Array, Index]:
    """A closed polyline resampled evenly, with its marks, and the samples nearest to `wanted` points."""
    made = resample(polygon, SPACING_PX)
    gap = ((made[:, None] - polygon[None]) ** 2).sum(-1).argmin(1)
    nearest = ((wanted[:, None] - made[None]) ** 2).sum(-1).argmin(1)
    return made, mark[gap], nearest.astype(np.int64)


def _in_order(vertices: Sequence[Index], rings: Sequence[Array]) -> Index:
    """The vertices of every frame in the order that they have round the longest outline; a place that would break it moves up."""
    longest = int(np.argmax([len(ring) for ring in rings]))
    order = np.argsort(vertices[longest], kind="stable")
    found = np.stack(vertices)[:, order]
    for t, ring in enumerate(rings):
        row = found[t]
        turn = (row - row[0]) % len(ring)
        # Rounding can put a vertex just before the first: that is 0, not a whole turn.
        turn = np.where(turn > len(ring) - 3, 0, turn)
        found[t] = (row[0] + np.maximum.accumulate(turn)) % len(ring)
    return found
