"""Shapes as plain JSON: everything that a `ShapeSet` holds, in its own terms. `docs/formats.md` has the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.values import Layer, Point, Shape, ShapeError, ShapeSet, Transform

FORMAT, VERSION = "platewright.shapes", 1


def write(shapes: ShapeSet) -> str:
    """The file's text."""
    return json.dumps(as_json(shapes), separators=(",", ":"), allow_nan=False)


def as_json(shapes: ShapeSet) -> dict[str, Any]:
    """Plain values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "width": shapes.width,
        "height": shapes.height,
        "frames": str(shapes.frames),
        "rate": None if shapes.rate is None else str(shapes.rate),
        "layers": [
            {"name": layer.name, "keys": {str(f): list(t.as_tuple()) for f, t in sorted(layer.keys.items())}}
            for layer in shapes.layers
        ],
        "shapes": [
            {
                "name": shape.name,
                "object": shape.object,
                "layer": shape.layer,
                "subtract": shape.subtract,
                "first": shape.first,
                "last": shape.last,
                "hidden": [list(run) for run in shape.hidden],
                "baked": shape.baked,
                "keys": {str(f): [list(p.as_tuple()) for p in points] for f, points in sorted(shape.keys.items())},
            }
            for shape in shapes.shapes
        ],
    }


def parse(data: Mapping[str, Any]) -> ShapeSet:
    """What `as_json` gave. Raises: ShapeError."""
    try:
        if data["version"] != VERSION:
            raise ShapeError(f"shapes of version {data['version']!r}", f"this reads version {VERSION}")
        return ShapeSet(
            width=_whole(data["width"]),
            height=_whole(data["height"]),
            frames=FrameRange.parse(str(data["frames"])),
            rate=None if data.get("rate") is None else FrameRate.of(str(data["rate"])),
            layers=tuple(
                Layer(str(one["name"]), {int(f): Transform(*_numbers(row, 6)) for f, row in one["keys"].items()})
                for one in data["layers"]
            ),
            shapes=tuple(_shape(one) for one in data["shapes"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, ShapeError):
            raise
        raise ShapeError(f"the shapes can't be read: {error!r:.120}", "export them again") from error


def _shape(one: Mapping[str, Any]) -> Shape:
    return Shape(
        name=str(one["name"]),
        object=str(one["object"]),
        layer=str(one.get("layer", "")),
        subtract=bool(one.get("subtract", False)),
        first=int(one["first"]),
        last=int(one["last"]),
        hidden=tuple((int(a), int(b)) for a, b in one.get("hidden", ())),
        baked=bool(one.get("baked", False)),
        keys={int(f): tuple(Point(*_numbers(row, 7)) for row in points) for f, points in one["keys"].items()},
    )


def _numbers(row: Any, count: int) -> list[float]:
    if not isinstance(row, list) or len(row) != count or any(type(v) not in (int, float) for v in row):
        raise ShapeError(f"{row!r:.60} is not a list of {count} numbers", "export the shapes again")
    return [float(v) for v in row]


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ShapeError(f"{value!r:.40} is not a whole number of pixels", "export the shapes again")
    return value
