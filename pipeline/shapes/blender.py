"""Shapes as Blender's masks, in JSON that a short Blender script turns into mask layers with keyed splines.

A mask layer of Blender holds no transform that can be keyed, so each shape is given where it is, on every frame of its life;
`artist_keys` says which of them the shape was keyed on. Blender measures masks in units of the longer side, from the lower left,
the picture centred: x = .5 + (px - W/2) / m, y = .5 + (H/2 - py) / m with m = max(W, H).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.raster import Array, outline_at
from pipeline.shapes.values import Point, Shape, ShapeError, ShapeSet

FORMAT, VERSION = "platewright.blender_mask", 1


def write(shapes: ShapeSet) -> str:
    """The file's text."""
    return json.dumps(as_json(shapes), separators=(",", ":"), allow_nan=False)


def as_json(shapes: ShapeSet) -> dict[str, Any]:
    """Plain values: one mask layer a shape, bottom first, each with one cyclic spline."""
    frames = list(shapes.frames)
    return {
        "format": FORMAT,
        "version": VERSION,
        "width": shapes.width,
        "height": shapes.height,
        "frames": str(shapes.frames),
        "rate": None if shapes.rate is None else str(shapes.rate),
        "layers": [_layer(shapes, shape, frames) for shape in shapes.shapes],
    }


def _layer(shapes: ShapeSet, shape: Shape, frames: list[int]) -> dict[str, Any]:
    life = [frame for frame in frames if shape.first <= frame <= shape.last] or [shape.first]
    alpha: list[list[float]] = []
    for frame in life:
        seen = 1.0 if shape.drawn_at(frame) else 0.0
        if not alpha or alpha[-1][1] != seen:
            alpha.append([frame, seen])
    return {
        "name": shape.name,
        "object": shape.object,
        "blend": "MERGE_SUBTRACT" if shape.subtract else "MERGE_ADD",
        "first": shape.first,
        "last": shape.last,
        "alpha": alpha,
        "artist_keys": sorted(shape.keys),
        "baked": shape.baked,
        "spline": {
            "use_cyclic": True,
            "handle_type": "FREE",
            "keys": [{"frame": frame, "points": _points(shapes, shape, frame)} for frame in life],
        },
    }


def _points(shapes: ShapeSet, shape: Shape, frame: int) -> list[dict[str, Any]]:
    control = outline_at(shapes, shape, frame)
    longer = max(shapes.width, shapes.height)
    at = to_blender(control[:, :3], shapes.width, shapes.height)
    return [
        {
            "co": [round(float(v), 9) for v in one[0]],
            "handle_left": [round(float(v), 9) for v in one[1]],
            "handle_right": [round(float(v), 9) for v in one[2]],
            "feather": round(float(feather) / longer, 9),
        }
        for one, feather in zip(at, control[:, 3, 0], strict=True)
    ]


def to_blender(points: Array, width: int, height: int) -> Array:
    """Pixels (…, 2) to Blender's mask units."""
    out = (points - np.array([width / 2, height / 2])) / max(width, height)
    return np.asarray(out * np.array([1.0, -1.0]) + 0.5)


def from_blender(points: Array, width: int, height: int) -> Array:
    """Blender's mask units (…, 2) to pixels."""
    out = (points - 0.5) * np.array([1.0, -1.0])
    return np.asarray(out * max(width, height) + np.array([width / 2, height / 2]))


def parse(data: Mapping[str, Any]) -> ShapeSet:
    """Shapes as `as_json` wrote them: a key on every frame, on no layer. Raises: ShapeError."""
    try:
        if data["version"] != VERSION:
            raise ShapeError(f"a mask file of version {data['version']!r}", f"this reads version {VERSION}")
        width, height = data["width"], data["height"]
        if type(width) is not int or type(height) is not int or not (0 < width <= 65536 and 0 < height <= 65536):
            raise ShapeError(f"a mask for a picture of {width!r:.20} x {height!r:.20}", "export the shapes again")
        frames = FrameRange.parse(str(data["frames"]))
        return ShapeSet(
            width=width,
            height=height,
            frames=frames,
            rate=None if data.get("rate") is None else FrameRate.of(str(data["rate"])),
            shapes=tuple(_shape(one, width, height, frames) for one in data["layers"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(f"the mask can't be read: {error!r:.120}", "export it again") from error


def _shape(one: Mapping[str, Any], width: int, height: int, frames: FrameRange) -> Shape:
    keys = {int(key["frame"]): _read_points(key["points"], width, height) for key in one["spline"]["keys"]}
    first, last = int(one["first"]), int(one["last"])
    steps = sorted((int(frame), float(alpha)) for frame, alpha in one.get("alpha", ()))
    away = []
    for frame in frames:
        if first <= frame <= last:
            before = [alpha for at, alpha in steps if at <= frame]
            if before and before[-1] < 0.5:
                away.append(frame)
    return Shape(
        name=str(one["name"]),
        object=str(one.get("object", one["name"])),
        keys=keys,
        first=first,
        last=last,
        subtract=one.get("blend") in ("MERGE_SUBTRACT", "SUBTRACT"),
        hidden=tuple(FrameRange.of(away).runs()),
        baked=bool(one.get("baked", False)),
    )


def _read_points(rows: list[Mapping[str, Any]], width: int, height: int) -> tuple[Point, ...]:
    at = np.array([[row["co"], row["handle_left"], row["handle_right"]] for row in rows], np.float64)
    if at.shape != (len(rows), 3, 2):
        raise ShapeError("a point of the mask isn't co, handle_left, handle_right of two numbers", "export it again")
    pixels = from_blender(at, width, height)
    longer = max(width, height)
    found = []
    for (co, left, right), row in zip(pixels, rows, strict=True):
        into, out = left - co, right - co
        soft = float(row.get("feather", 0.0)) * longer
        found.append(Point(*(float(v) for v in (*co, *into, *out, soft))))
    return tuple(found)
