"""What the fit found, as shapes in the pixels of the mattes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.raster import Array
from pipeline.shapes.reduce import Keyed
from pipeline.shapes.solve import unknowns
from pipeline.shapes.values import Layer, Point, Points, Shape, ShapeSet, ShapeSummary, Transform


@dataclass(slots=True)
class Fitted:
    """A shape with its keys, at work size. `feather`: (points,) px; `frames`: the section's frame numbers."""

    keyed: Keyed
    subtract: bool
    limb: bool
    feather: Array
    frames: list[int] = field(default_factory=list)


def emit(
    fitted: Sequence[Fitted],
    name: str,
    frames: FrameRange,
    size: tuple[int, int],
    scale: float,
    rate: FrameRate | None,
) -> ShapeSet:
    """The set, in the order given, bottom first. `size`: (height, width); `scale`: work size over it."""
    shapes, layers = [], []
    counts = {"body": 0, "part": 0, "hole": 0}
    for one in fitted:
        kind = "hole" if one.subtract else "part" if one.limb else "body"
        counts[kind] += 1
        title = f"{name}_{kind}{counts[kind]}"
        shapes.append(_shape(one, title, name, scale))
        layers.append(_layer(one, f"{title}_motion", scale))
    height, width = size
    return ShapeSet(width=width, height=height, frames=frames, shapes=tuple(shapes), layers=tuple(layers), rate=rate)


def _shape(one: Fitted, title: str, name: str, scale: float) -> Shape:
    keyed = one.keyed
    own = one.frames[keyed.start : keyed.start + keyed.motion.frames]
    keys = {
        own[k]: _points(points / scale, one.feather / scale) for k, points in zip(keyed.keys, keyed.points, strict=True)
    }
    away = [frame for frame, shown in zip(own, keyed.shown, strict=True) if not shown]
    return Shape(
        name=title,
        object=name,
        keys=keys,
        first=own[0],
        last=own[-1],
        layer=f"{title}_motion",
        subtract=one.subtract,
        hidden=tuple(FrameRange.of(away).runs()),
        baked=keyed.baked,
    )


def _points(control: Array, feather: Array) -> Points:
    # Float32 is what hosts keep; rounding here makes every format hold the same numbers.
    vertex = control[:, 0].astype(np.float32).astype(np.float64)
    tangent_in = (control[:, 1] - vertex).astype(np.float32).astype(np.float64)
    tangent_out = (control[:, 2] - vertex).astype(np.float32).astype(np.float64)
    return tuple(
        Point(*(float(v) for v in (*vertex[k], *tangent_in[k], *tangent_out[k], round(float(feather[k]), 2))))
        for k in range(len(control))
    )


def _layer(one: Fitted, title: str, scale: float) -> Layer:
    keys = {}
    for i, map_ in enumerate(one.keyed.motion.maps):
        (xx, xy, dx), (yx, yy, dy) = map_
        keys[one.frames[one.keyed.start + i]] = Transform(
            *(float(np.float32(v)) for v in (xx, xy, dx / scale, yx, yy, dy / scale))
        )
    return Layer(title, keys)


def summarise(one: Fitted, shape: Shape) -> ShapeSummary:
    """What the report says of a shape. Its error is in the pixels of the work size."""
    motion = one.keyed.motion
    controls = one.keyed.evaluate(range(motion.frames))
    errors = []
    for frame, control in enumerate(controls):
        if one.keyed.shown[frame]:
            system = motion.systems[frame]
            own = (control - motion.maps[frame][:, 2]) @ np.linalg.inv(motion.maps[frame][:, :2]).T
            ids = unknowns(len(control))
            off = np.abs((system.rows * own.ravel()[ids][system.segment]).sum(1) - system.target)
            errors.append(float(off @ system.weight) / max(float(system.weight.sum()), 1e-9))
    away = sum(not shown for shown in one.keyed.shown)
    return ShapeSummary(
        name=shape.name,
        object=shape.object,
        points=shape.count,
        keys=tuple(sorted(shape.keys)),
        frames=motion.frames - away,
        subtract=shape.subtract,
        baked=shape.baked,
        hidden_frames=away,
        feather_px=max(p.feather_px for points in shape.keys.values() for p in points),
        edge_error_px=float(np.mean(errors)) if errors else 0.0,
    )
