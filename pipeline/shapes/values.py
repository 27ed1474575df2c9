"""Keyed Bezier shapes as plain values: what the fit makes, what the writers write and the readers give back.

Coordinates are pixels of the picture, x to the right, y down; pixel (i, j) covers i … i + 1 and j … j + 1, so the picture's top
left corner is (0, 0). Between two keys every number runs linearly; before the first key and after the last it stays.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.errors import KeyframeError
from pipeline.frames import FrameRange
from pipeline.rate import FrameRate

MOST_SHAPES = 2_000
MOST_POINTS = 5_000
"""Of one shape."""
MOST_KEYED_POINTS = 4_000_000
"""Points times keys over a whole set: a long shot with a key on every frame stays below a tenth of it."""
LARGEST = 1e6
"""No coordinate lies further out, in pixels."""


class ShapeError(KeyframeError):
    """Shapes that contradict themselves, or a file of shapes that can't be read."""


@dataclass(frozen=True, slots=True)
class Point:
    """A vertex with its tangents relative to it, in pixels.

    `feather_px`: the width over which the matte falls from 1 to 0 across the outline, half of it on either side; 0 is a hard edge.
    """

    x: float
    y: float
    in_x: float = 0.0
    in_y: float = 0.0
    out_x: float = 0.0
    out_y: float = 0.0
    feather_px: float = 0.0

    def as_tuple(self) -> tuple[float, float, float, float, float, float, float]:
        """In the order of the fields."""
        return self.x, self.y, self.in_x, self.in_y, self.out_x, self.out_y, self.feather_px


Points = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Transform:
    """An affine map of the plane: x' = xx·x + xy·y + dx, y' = yx·x + yy·y + dy."""

    xx: float = 1.0
    xy: float = 0.0
    dx: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    dy: float = 0.0

    def as_tuple(self) -> tuple[float, float, float, float, float, float]:
        """Row by row."""
        return self.xx, self.xy, self.dx, self.yx, self.yy, self.dy


@dataclass(frozen=True, slots=True)
class Layer:
    """Moves its shapes as one body: `keys` frame → map from the layer's plane to the picture. No keys: it stands still."""

    name: str
    keys: Mapping[int, Transform] = field(default_factory=dict)

    def at(self, frame: float) -> Transform:
        """The map at a frame, entry by entry linear between keys."""
        if not self.keys:
            return Transform()
        a, b, mix = bracket(sorted(self.keys), frame)
        if mix == 0:
            return self.keys[a]
        return Transform(*_mix(self.keys[a].as_tuple(), self.keys[b].as_tuple(), mix))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One closed outline of cubic Beziers. `keys`: frame → points in the plane of its layer, the same number on every key.

    It lives from `first` to `last`, both included, but is not drawn on frames inside `hidden` (inclusive runs): it is then behind
    something and comes back. `subtract` cuts it out of what lies below. `baked`: keyed on every frame because fewer keys didn't hold.
    """

    name: str
    object: str
    keys: Mapping[int, Points]
    first: int
    last: int
    layer: str = ""
    subtract: bool = False
    hidden: tuple[tuple[int, int], ...] = ()
    baked: bool = False

    @property
    def count(self) -> int:
        """Points on every key."""
        return len(next(iter(self.keys.values())))

    def drawn_at(self, frame: float) -> bool:
        """Whether it is seen on a frame."""
        return self.first <= frame <= self.last and not any(a <= frame <= b for a, b in self.hidden)

    def drawn_frames(self, frames: Iterable[int]) -> list[int]:
        """Those of `frames` on which it is seen."""
        return [frame for frame in frames if self.drawn_at(frame)]

    def at(self, frame: float) -> Points:
        """Its points in the plane of its layer at a frame."""
        a, b, mix = bracket(sorted(self.keys), frame)
        if mix == 0:
            return self.keys[a]
        return tuple(
            Point(*_mix(p.as_tuple(), q.as_tuple(), mix)) for p, q in zip(self.keys[a], self.keys[b], strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeSet:
    """The shapes of a shot, bottom to top: what is added later lies over, and is cut by, what comes after it.

    Raises: ShapeError (a shape without keys, of changing point counts, on an unknown layer, with numbers that are none, too much).
    """

    width: int
    height: int
    frames: FrameRange
    shapes: tuple[Shape, ...]
    layers: tuple[Layer, ...] = ()
    rate: FrameRate | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 65536 and 1 <= self.height <= 65536):
            raise ShapeError(f"shapes for a picture of {self.width}x{self.height}", "sides go from 1 to 65536 pixels")
        if len(self.shapes) > MOST_SHAPES:
            raise ShapeError(f"{len(self.shapes)} shapes are too many", f"the most is {MOST_SHAPES}")
        if sum(len(s.keys) * (s.count if s.keys else 0) for s in self.shapes) > MOST_KEYED_POINTS:
            raise ShapeError("the shapes have too many keyed points", f"the most is {MOST_KEYED_POINTS}")
        layers = {layer.name for layer in self.layers}
        if len(layers) != len(self.layers):
            raise ShapeError("two layers have the same name", "give each a name of its own")
        for layer in self.layers:
            _check_numbers(f"layer {layer.name!r}", (t.as_tuple() for t in layer.keys.values()))
        for shape in self.shapes:
            _check_shape(shape, layers)

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that have shapes, in order of appearance."""
        return tuple(dict.fromkeys(shape.object for shape in self.shapes))

    def layer_of(self, shape: Shape) -> Layer:
        """The layer a shape lies on; one that stands still when it lies on none."""
        return next((layer for layer in self.layers if layer.name == shape.layer), Layer(shape.layer))


def _check_shape(shape: Shape, layers: set[str]) -> None:
    where = f"shape {shape.name!r}"
    if not shape.keys:
        raise ShapeError(f"{where} has no keys", "key it on at least one frame, or leave it out")
    counts = {len(points) for points in shape.keys.values()}
    if len(counts) > 1:
        raise ShapeError(f"{where} has {min(counts)} to {max(counts)} points on its keys", "keep the number the same")
    if not 2 <= shape.count <= MOST_POINTS:
        raise ShapeError(f"{where} has {shape.count} points", f"a closed shape has 2 to {MOST_POINTS}")
    if shape.layer and shape.layer not in layers:
        raise ShapeError(f"{where} lies on {shape.layer!r}, which isn't there", "add the layer, or leave it empty")
    if shape.last < shape.first:
        raise ShapeError(f"{where} ends on frame {shape.last}, before it starts on {shape.first}")
    _check_numbers(where, (point.as_tuple() for points in shape.keys.values() for point in points))
    if any(point.feather_px < 0 for points in shape.keys.values() for point in points):
        raise ShapeError(f"{where} has a negative feather", "feather is a width in pixels, 0 or more")


def _check_numbers(where: str, rows: Iterable[Sequence[float]]) -> None:
    for row in rows:
        for value in row:
            if not math.isfinite(value) or abs(value) > LARGEST:
                raise ShapeError(f"{where} has a coordinate of {value}", f"coordinates are numbers up to {LARGEST:.0f}")


def bracket(keys: Sequence[int], frame: float) -> tuple[int, int, float]:
    """The keys around a frame and the share of the second: (a, b, 0 … 1); the nearest key and 0 outside, and on a key."""
    index = bisect_right(keys, frame)
    if index == 0:
        return keys[0], keys[0], 0.0
    a = keys[index - 1]
    if index == len(keys) or a == frame:
        return a, a, 0.0
    b = keys[index]
    return a, b, (frame - a) / (b - a)


def _mix(a: Sequence[float], b: Sequence[float], mix: float) -> tuple[float, ...]:
    return tuple(p + (q - p) * mix for p, q in zip(a, b, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeSummary:
    """What a report says of one shape. `frames`: on how many it is drawn. `edge_error_px`: mean over its frames."""

    name: str
    object: str
    points: int
    keys: tuple[int, ...]
    frames: int
    subtract: bool
    baked: bool
    hidden_frames: int
    feather_px: float
    edge_error_px: float

    @property
    def keyed(self) -> float:
        """Share of its frames that are keys."""
        return len(self.keys) / max(self.frames + self.hidden_frames, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """An outline that was not made a shape, and why. `area_px`: at most, in the picture's pixels."""

    first: int
    last: int
    area_px: float
    subtract: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeReport:
    """How well the shapes stand for the mattes. `iou`: frame → intersection over union of the whole matte at 0.5."""

    bar: float
    shapes: tuple[ShapeSummary, ...]
    dropped: tuple[Dropped, ...]
    iou: Mapping[int, float]
    below_bar: tuple[int, ...]
    holes_closed: int
    holes_joined: int
    crossing_frames: tuple[int, ...]
    seconds: float

    @property
    def keyed(self) -> float:
        """Share of shape-frames that are keys, over all shapes."""
        drawn = sum(s.frames + s.hidden_frames for s in self.shapes)
        return sum(len(s.keys) for s in self.shapes) / max(drawn, 1)

    @property
    def baked(self) -> tuple[str, ...]:
        """Names of the shapes that are keyed on every frame because fewer keys didn't hold."""
        return tuple(shape.name for shape in self.shapes if shape.baked)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a sidecar."""
        scores = sorted(self.iou.values())
        return {
            "bar": self.bar,
            "iou": {
                "median": scores[len(scores) // 2] if scores else None,
                "worst": scores[0] if scores else None,
                "frames": {str(frame): round(value, 5) for frame, value in sorted(self.iou.items())},
            },
            "below_bar": list(self.below_bar),
            "crossing_frames": list(self.crossing_frames),
            "keyed": round(self.keyed, 4),
            "holes_closed": self.holes_closed,
            "holes_joined": self.holes_joined,
            "shapes": [{**_plain(shape), "keyed": round(shape.keyed, 4)} for shape in self.shapes],
            "dropped": [_plain(dropped) for dropped in self.dropped],
            "seconds": round(self.seconds, 3),
        }


def _plain(value: Any) -> dict[str, Any]:
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return {
        name: list(item) if isinstance(item, tuple) else round(item, 4) if isinstance(item, float) else item
        for name, item in found.items()
    }
