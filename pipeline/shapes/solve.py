"""Control points by linear least squares: the curve's distance to the outline along its normal, with weak ties that keep it tidy.

Per sample of the outline one row along the normal, at the parameter where the curve is nearest now, and one along the tangent,
at the parameter that its place between the vertices gives. Per segment two rows draw the handles to the thirds of the chord.
All rows of a segment concern eight unknowns (vertex, out-handle, next in-handle, next vertex), so normal equations are kept as
one 8 × 8 block a segment and become a matrix only when solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.shapes.arcs import Index, handles_of, lengths, sample
from pipeline.shapes.contours import normals
from pipeline.shapes.raster import Array, bernstein, flatten

PER_SEGMENT = 8
_STEPS = 16
_RIDGE = 1e-5


@dataclass(frozen=True, slots=True)
class Tidiness:
    """How strongly a curve is kept in order: weights of tangential rows and of the handles' ties, against 1 along the normal."""

    tangent: float
    handle: float


FREE = Tidiness(0.15, 0.04)
"""For a key on every frame: the outline decides."""
STEADY = Tidiness(0.4, 0.12)
"""For few keys: points of different frames must mean the same."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Places of an outline that a curve should pass: (samples, 2) each, `weight` the length in px that each stands for."""

    points: Array
    normals: Array
    weight: Array


@dataclass(frozen=True, slots=True)
class Equations:
    """Least squares in blocks: `matrix` (segments, 8, 8), `right` (segments, 8); and the normal rows themselves, for scoring:
    `rows` (samples, 8) on `segment` (samples,), `target` (samples,), `weight` (samples,) px."""

    matrix: Array
    right: Array
    rows: Array
    segment: Index
    target: Array
    weight: Array


def samples_of(ring: Array, index: Index, importance: Array | None = None) -> Samples:
    """Places between the vertices `index` of an outline. `importance`: (len(ring),) factor on the weight."""
    span = lengths(index, len(ring))
    at = (index[:, None] + span[:, None] * (np.arange(PER_SEGMENT) / PER_SEGMENT)).ravel()
    nearest = np.round(at).astype(np.int64) % len(ring)
    spacing = np.linalg.norm(ring - np.roll(ring, 1, 0), axis=1).mean()
    weight = np.repeat(np.maximum(span, 0.3), PER_SEGMENT) / PER_SEGMENT * spacing
    if importance is not None:
        weight = weight * importance[nearest]
    return Samples(sample(ring, at), normals(ring)[nearest], weight)


def unknowns(count: int) -> Index:
    """(segments, 8): where each segment's eight unknowns lie in control points (count, 3, 2) laid flat."""
    here = np.arange(count) * 6
    following = np.roll(here, -1)
    return np.stack([here, here + 1, here + 4, here + 5, following + 2, following + 3, following, following + 1], 1)


def equations(samples: Samples, control: Array, tidy: Tidiness) -> Equations:
    """The system about a curve `control` (points, 3, 2), from which the nearest parameters are taken."""
    count = len(control)
    own = np.arange(count * PER_SEGMENT) // PER_SEGMENT
    segment, at = _nearest(samples.points, control, own)
    rows = (bernstein(at)[:, :, None] * samples.normals[:, None]).reshape(-1, 8)
    target = (samples.normals * samples.points).sum(1)
    tangent = np.stack([-samples.normals[:, 1], samples.normals[:, 0]], 1)
    even = bernstein(np.tile(np.arange(PER_SEGMENT) / PER_SEGMENT, count))
    along = (even[:, :, None] * tangent[:, None]).reshape(-1, 8)
    along_target = (tangent * samples.points).sum(1)
    # Rows lie in their own segment or a neighbour: sums by segment as products with a 0/1 matrix.
    member = (segment == np.arange(count)[:, None]) * samples.weight
    products = (rows[:, :, None] * rows[:, None]).reshape(-1, 64)
    matrix = (member @ products).reshape(count, 8, 8)
    right = member @ (rows * target[:, None])
    pull = (samples.weight * tidy.tangent**2).reshape(count, PER_SEGMENT, 1)
    tied = along.reshape(count, PER_SEGMENT, 8)
    matrix += (tied * pull).transpose(0, 2, 1) @ tied
    right += (tied * pull * along_target.reshape(count, PER_SEGMENT, 1)).sum(1)
    matrix += tidy.handle**2 * _handle_block() * (samples.weight.sum() / count)
    return Equations(matrix, right, rows, segment, target, samples.weight)


def _handle_block() -> Array:
    """Both handles' distance from the thirds of the chord, squared, as an 8 × 8 block."""
    rows = np.zeros((4, 8))
    for axis in (0, 1):
        rows[axis, [axis, 2 + axis, 6 + axis]] = -2 / 3, 1, -1 / 3
        rows[2 + axis, [axis, 4 + axis, 6 + axis]] = -1 / 3, 1, -2 / 3
    return rows.T @ rows


def _nearest(points: Array, control: Array, own: Index) -> tuple[Index, Array]:
    """Segment and parameter of the curve's nearest point, no further than half a segment from its own."""
    polygon = flatten(control, _STEPS)
    window = own[:, None] * _STEPS + np.arange(-_STEPS // 2, _STEPS + _STEPS // 2 + 1)[None]
    gap = ((polygon[window % len(polygon)] - points[:, None]) ** 2).sum(-1)
    best = window[np.arange(len(own)), gap.argmin(1)]
    return (best // _STEPS) % len(control), (best % _STEPS) / _STEPS


def dense(matrix: Array, right: Array, ids: Index) -> tuple[Array, Array]:
    """Blocks to one system (6 · points)."""
    size = len(ids) * 6
    cells = (ids[:, :, None] * size + ids[:, None]).ravel()
    whole = np.bincount(cells, matrix.ravel(), size * size).reshape(size, size)
    return np.asarray(whole, np.float64), np.bincount(ids.ravel(), right.ravel(), size).astype(np.float64)


def solve(matrix: Array, right: Array, start: Array) -> Array:
    """Control points (points, 3, 2) that satisfy the blocks best; `start` decides where they say nothing."""
    whole, side = dense(matrix, right, unknowns(len(start)))
    ridge = _RIDGE * np.trace(whole) / len(whole)
    whole[np.diag_indices_from(whole)] += ridge
    return np.asarray(np.linalg.solve(whole, side + ridge * start.ravel()).reshape(start.shape))


def first_guess(ring: Array, index: Index) -> Array:
    """(points, 3, 2): each arc's own best cubic through its ends."""
    span = lengths(index, len(ring)).astype(np.float64)
    arcs = sample(ring, index[:, None] + span[:, None] * np.linspace(0, 1, 17))
    handles = handles_of(arcs)
    return np.stack([ring[index], np.roll(handles[:, 1], 1, 0), handles[:, 0]], 1)


def fit_frame(samples: Samples, start: Array, *, tidy: Tidiness = FREE, rounds: int = 3) -> Array:
    """Control points (points, 3, 2) for one outline."""
    control = start
    for _ in range(rounds):
        system = equations(samples, control, tidy)
        control = solve(system.matrix, system.right, control)
    return control
