"""Shapes to mattes: exact coverage of every pixel, no supersampling.

The outline is flattened to straight edges; for each pixel the area under the polygon is summed edge by edge, as FreeType's and
AGG's smooth rasterisers do. A feathered shape is the mean of its outline at `_LEVELS` offsets across the soft edge.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.values import Points, Shape, ShapeSet, Transform

Array = NDArray[np.float64]

STEPS = 16
"""Straight edges that a Bezier is flattened to. At 100 px a segment they lie within .05 px of the curve."""
_LEVELS = 17


def control_array(points: Points) -> Array:
    """(points, 4, 2): vertex, in-handle and out-handle as absolute positions, and (feather_px, 0)."""
    flat = np.array([p.as_tuple() for p in points], np.float64)
    vertex = flat[:, 0:2]
    feather = np.stack([flat[:, 6], np.zeros(len(flat))], 1)
    return np.stack([vertex, vertex + flat[:, 2:4], vertex + flat[:, 4:6], feather], 1)


def place(control: Array, transform: Transform) -> Array:
    """Control points in the picture. The feather is a width in the picture's pixels, whatever the layer does."""
    xx, xy, dx, yx, yy, dy = transform.as_tuple()
    out = control.copy()
    out[:, :3, 0] = xx * control[:, :3, 0] + xy * control[:, :3, 1] + dx
    out[:, :3, 1] = yx * control[:, :3, 0] + yy * control[:, :3, 1] + dy
    return out


def outline_at(shapes: ShapeSet, shape: Shape, frame: float) -> Array:
    """(points, 4, 2) control points of a shape in the picture at a frame."""
    return place(control_array(shape.at(frame)), shapes.layer_of(shape).at(frame))


def bernstein(u: Array, /) -> Array:
    """(…, 4) weights of a cubic's control points at `u`."""
    v = 1 - u
    return np.stack([v * v * v, 3 * u * v * v, 3 * u * u * v, u * u * u], -1)


def flatten(control: Array, steps: int = STEPS) -> Array:
    """Closed outline as (points · steps, 2); segment k covers rows k·steps … (k + 1)·steps."""
    following = np.roll(control, -1, 0)
    hull = np.stack([control[:, 0], control[:, 2], following[:, 1], following[:, 0]], 1)
    weights = bernstein(np.arange(steps, dtype=np.float64) / steps)
    return np.asarray(np.einsum("sb,nbx->nsx", weights, hull).reshape(-1, 2))


def normals_out(control: Array) -> Array:
    """(points, 2) unit normals at the vertices that point away from the inside."""
    tangent = control[:, 2] - control[:, 1]
    chord = np.roll(control[:, 0], -1, 0) - np.roll(control[:, 0], 1, 0)
    tangent = np.where(np.linalg.norm(tangent, axis=1, keepdims=True) > 1e-6, tangent, chord)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return normal if signed_area(flatten(control, 4)) > 0 else -normal


def signed_area(polygon: Array) -> float:
    """Positive when it runs clockwise as seen, y being down."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def offset(control: Array, distance_px: Array) -> Array:
    """Control points moved along the outward normal of their vertex, by so many pixels each."""
    out = control.copy()
    out[:, :3] += (normals_out(control) * distance_px[:, None])[:, None]
    return out


def polygon_coverage(polygon: Array, width: int, height: int) -> tuple[NDArray[np.float64], int, int]:
    """Exact area of each pixel inside a closed polygon: the covered box, and its left and top pixel in the picture.

    Where a polygon winds twice the same way a pixel counts once; where it winds back it is outside.
    """
    low = np.floor(polygon.min(0)).astype(np.int64)
    high = np.ceil(polygon.max(0)).astype(np.int64)
    left, top = int(np.clip(low[0], 0, width)), int(np.clip(low[1], 0, height))
    right, bottom = int(np.clip(high[0], left, width)), int(np.clip(high[1], top, height))
    columns, rows = right - left, bottom - top
    if columns == 0 or rows == 0:
        return np.zeros((0, 0)), left, top
    start = polygon - (left, top)
    x0, y0, x1, y1 = _clip(start, np.roll(start, -1, 0), columns, rows)
    x0, y0, x1, y1 = _split(x0, y0, x1, y1)
    fall = y1 - y0
    middle = (x0 + x1) / 2
    column = np.clip(np.floor(middle), 0, columns - 1).astype(np.int64)
    row = np.clip(np.floor((y0 + y1) / 2), 0, rows - 1).astype(np.int64)
    share = middle - column
    stride = columns + 1
    cell = row * stride + column
    size = rows * stride
    sums = np.bincount(cell, fall * (1 - share), size) + np.bincount(cell + 1, fall * share, size)[:size]
    area = np.abs(np.cumsum(sums.reshape(rows, stride), axis=1))[:, :columns]
    return np.minimum(area, 1.0), left, top


def _clip(start: Array, end: Array, columns: int, rows: int) -> tuple[Array, Array, Array, Array]:
    """Edges cut to the box. What lies above or below is dropped; what lies left or right stands on the side it is beyond."""
    x0, y0, x1, y1 = start[:, 0], start[:, 1], end[:, 0], end[:, 1]
    kept = (np.maximum(y0, y1) > 0) & (np.minimum(y0, y1) < rows) & (y0 != y1)
    x0, y0, x1, y1 = x0[kept], y0[kept], x1[kept], y1[kept]
    slope = (x1 - x0) / (y1 - y0)
    a, b = np.clip(y0, 0, rows), np.clip(y1, 0, rows)
    x0, x1 = x0 + (a - y0) * slope, x1 + (b - y1) * slope
    y0, y1 = a, b
    for side in (0.0, float(columns)):
        crosses = (x0 - side) * (x1 - side) < 0
        if crosses.any():
            t = (side - x0[crosses]) / (x1[crosses] - x0[crosses])
            y = y0[crosses] + t * (y1[crosses] - y0[crosses])
            x = np.full(len(y), side)
            x0, x1 = np.concatenate([x0, x]), np.concatenate([np.where(crosses, side, x1), x1[crosses]])
            ends = y1.copy()
            ends[crosses] = y
            y0, y1 = np.concatenate([y0, y]), np.concatenate([ends, y1[crosses]])
    return np.clip(x0, 0, columns), y0, np.clip(x1, 0, columns), y1


def _split(x0: Array, y0: Array, x1: Array, y1: Array) -> tuple[Array, Array, Array, Array]:
    """Edges cut at every whole x and y, so that each piece lies in one pixel."""
    at = [np.zeros(len(x0)), np.ones(len(x0))]
    owner = [np.arange(len(x0))] * 2
    for a, b in ((x0, x1), (y0, y1)):
        low, high = np.minimum(a, b), np.maximum(a, b)
        first = np.floor(low).astype(np.int64) + 1
        count = np.maximum(np.ceil(high).astype(np.int64) - first, 0)
        edge = np.repeat(np.arange(len(a)), count)
        line = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        at.append((line - a[edge]) / (b[edge] - a[edge]))
        owner.append(edge)
    t, edge = np.concatenate(at), np.concatenate(owner)
    order = np.lexsort((t, edge))
    t, edge = t[order], edge[order]
    same = edge[1:] == edge[:-1]
    edge, t0, t1 = edge[:-1][same], t[:-1][same], t[1:][same]
    dx, dy = (x1 - x0)[edge], (y1 - y0)[edge]
    return x0[edge] + t0 * dx, y0[edge] + t0 * dy, x0[edge] + t1 * dx, y0[edge] + t1 * dy


def shape_coverage(control: Array, width: int, height: int) -> tuple[NDArray[np.float64], int, int]:
    """Matte of one outline, feather included: the box it fills, and that box's left and top pixel."""
    feather = control[:, 3, 0]
    if feather.max() <= 0:
        return polygon_coverage(flatten(control), width, height)
    total: NDArray[np.float64] = np.zeros((height, width))
    normal = normals_out(control)
    for level in (np.arange(_LEVELS) + 0.5) / _LEVELS - 0.5:
        moved = control.copy()
        moved[:, :3] += (normal * (feather * level)[:, None])[:, None]
        area, left, top = polygon_coverage(flatten(moved), width, height)
        total[top : top + area.shape[0], left : left + area.shape[1]] += area / _LEVELS
    return np.minimum(total, 1.0), 0, 0


def rasterise(
    shapes: ShapeSet, frame: float, *, objects: Iterable[str] | None = None, size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """The matte of a frame, (height, width), 0 … 1: shapes over each other, those that subtract cut out of what lies below.

    `objects`: only theirs. `size`: (height, width) to draw at, instead of the set's own; the shapes are scaled to it.
    """
    height, width = size or (shapes.height, shapes.width)
    scale = np.array([width / shapes.width, height / shapes.height])
    wanted = None if objects is None else set(objects)
    matte = np.zeros((height, width))
    for shape in shapes.shapes:
        if not shape.drawn_at(frame) or (wanted is not None and shape.object not in wanted):
            continue
        control = outline_at(shapes, shape, frame)
        control[:, :3] *= scale
        control[:, 3] *= scale.mean()
        area, left, top = shape_coverage(control, width, height)
        part = matte[top : top + area.shape[0], left : left + area.shape[1]]
        if shape.subtract:
            part *= 1 - area
        else:
            part += area - part * area
    return matte.astype(np.float32)
