"""Shapes out of a Nuke script: Bezier shapes of Roto and RotoPaint nodes, with their layers' motion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.nuke_text import Tree, keys_of, tree, value_of
from pipeline.shapes.raster import Array
from pipeline.shapes.values import Layer, Point, Shape, ShapeError, ShapeSet, Transform

_CURVES = re.compile(r"\bcurves\s+(?:\{?AddMode[^{]*)?(?=\{\{\{?v\s)")
_OURS = re.compile(r"^# shapes for (\d{1,5}) x (\d{1,5}) frames (\S{1,100000})(?: rate (\S+))?$", re.MULTILINE)
_PART = re.compile(r"(.+?)_(?:body|part|hole)\d+")
_MOST_FRAMES = 20_000
EVER = 1_000_000
"""A shape without a lifetime lives this long either way."""

Curve = list[tuple[float | None, float, float | None, float | None]]


@dataclass(frozen=True, slots=True)
class _Found:
    """A shape as the file has it, before its y is turned. `motions`: curves of the layers that it lies in, outermost first."""

    group: list[Tree]
    motions: tuple[Mapping[int, Curve], ...]


def parse(text: str) -> ShapeSet:
    """All Bezier shapes of the script's Roto nodes, bottom first. Strokes and open splines are passed over.

    Raises: ShapeError (no Roto node, a shape that isn't Bezier, a layer that is turned by its own knobs, hostile text).
    """
    match = _CURVES.search(text)
    if match is None:
        raise ShapeError("the script holds no Roto node with curves", "save a Roto or RotoPaint node with shapes")
    found: list[_Found] = []
    width = height = 0
    while match is not None:
        top, end = tree(text, match.end())
        for node in _lists(top):
            for item in _lists(node) if node and node[0] != "n" else iter([node]):
                if item and item[0] == "n":
                    for root in _lists(item):
                        width, height = _size(root) if not width else (width, height)
                        found += list(_walk(root, ()))
        match = _CURVES.search(text, end)
    frames, rate = FrameRange(), None
    if ours := _OURS.search(text):
        width, height = int(ours[1]), int(ours[2])
        frames = FrameRange.parse(ours[3])
        rate = None if ours[4] is None else FrameRate.of(ours[4])
    if not (width > 0 and height > 0):
        raise ShapeError("the Roto node doesn't say which format it is for", "save it from a script with a format")
    return _assemble(found[::-1], width, height, frames, rate)


def _lists(node: Tree) -> Iterator[list[Tree]]:
    return (item for item in node if isinstance(item, list)) if isinstance(node, list) else iter(())


def _size(root: list[Tree]) -> tuple[int, int]:
    """The format's size: the root layer turns about its centre."""
    for item in _lists(root):
        if item and item[0] == "t" and len(item) == 3:
            return round(2 * value_of(item[1])), round(2 * value_of(item[2]))
    return 0, 0


def _walk(node: list[Tree], motions: tuple[Mapping[int, Curve], ...]) -> Iterator[_Found]:
    if not node or node[0] not in ("layer", "curvegroup"):
        return
    if node[0] == "curvegroup":
        yield _Found(node, motions)
        return
    own = next((_motion(item) for item in _lists(node) if item and item[0] == "t"), {})
    for item in _lists(node):
        yield from _walk(item, (*motions, own) if own else motions)


def _motion(item: list[Tree]) -> Mapping[int, Curve]:
    """Entries of the layer's matrix that aren't the identity's, 0 … 15; from its 35 curves."""
    if len(item) != 36:
        return {}
    curves = [keys_of(token) for token in item[1:]]
    entries: dict[int, Curve] = {}
    for place, keys in enumerate(curves):
        plain = 1.0 if place in (9, 10) or (place >= 19 and (place - 19) % 5 == 0) else 0.0
        if all(key[1] == plain for key in keys):
            continue
        if place >= 19:
            entries[place - 19] = keys
        elif place in (3, 4):
            entries[100 + place - 3] = keys
        else:
            raise ShapeError(
                "a layer of the Roto node is turned, scaled or skewed by its own knobs",
                "bake the motion into the shapes or into the layer's matrix, and save it again",
            )
    if any(entry in (12, 13) for entry in entries):
        raise ShapeError("a layer of the Roto node has perspective", "bake it into the shapes, and save it again")
    return entries


def _assemble(found: list[_Found], width: int, height: int, frames: FrameRange, rate: FrameRate | None) -> ShapeSet:
    shapes, layers, names = [], [], set[str]()
    for one in found:
        name = str(one.group[1])
        while name in names:
            name += "_"
        names.add(name)
        shape = _shape(one.group, name, height, frames)
        if shape is None:
            continue
        motion = _layer(one.motions, f"{name}_motion", height)
        if motion is not None:
            layers.append(motion)
        shapes.append(shape if motion is None else _on(shape, motion.name))
    if not shapes:
        raise ShapeError("the Roto node holds no closed Bezier shape", "draw one, or bake the strokes to a matte")
    if not frames:
        keyed = {frame for shape in shapes for frame in shape.keys}
        frames = FrameRange.of(keyed)
    return ShapeSet(width=width, height=height, frames=frames, shapes=tuple(shapes), layers=tuple(layers), rate=rate)


def _on(shape: Shape, layer: str) -> Shape:
    return Shape(
        name=shape.name,
        object=shape.object,
        keys=shape.keys,
        first=shape.first,
        last=shape.last,
        layer=layer,
        subtract=shape.subtract,
        hidden=shape.hidden,
        baked=shape.baked,
    )


def _layer(motions: tuple[Mapping[int, Curve], ...], name: str, height: int) -> Layer | None:
    """All motions above a shape, as one layer, y down."""
    if not motions:
        return None
    times = _times([keys for motion in motions for keys in motion.values()])
    made = {}
    for time in times or [0]:
        whole = np.eye(3)
        for motion in motions:
            values = {entry: _at(keys, time) for entry, keys in motion.items()}
            row = [values.get(e, d) for e, d in ((0, 1.0), (1, 0.0), (3, 0.0), (4, 0.0), (5, 1.0), (7, 0.0))]
            shift = np.array([[1, 0, values.get(100, 0.0)], [0, 1, values.get(101, 0.0)], [0, 0, 1]])
            whole = whole @ shift @ np.array([row[:3], row[3:], [0, 0, 1]])
        (xx, xy, dx), (yx, yy, dy) = whole[:2]
        made[time] = Transform(
            float(xx), float(-xy), float(dx + xy * height), float(-yx), float(yy), float(height - dy - yy * height)
        )
    return Layer(name, made)


def _shape(group: list[Tree], name: str, height: int, frames: FrameRange) -> Shape | None:
    if len(group) < 5 or group[3] != "bezier":
        raise ShapeError(f"the shape {name[:60]!r} isn't a Bezier shape", "convert it to Bezier in Nuke")
    curves = list(_lists(group[4]))
    main = _points(curves[0]) if curves else []
    edge = _points(curves[1]) if len(curves) > 1 else []
    if len(main) < 6 or len(main) % 3 or (edge and len(edge) != len(main)):
        return None
    attributes = next((item for item in _lists(group) if item and item[0] == "a"), [])
    first, last, hidden, subtract = _life(attributes)
    times = _times([axis for point in (*main, *edge) for axis in point])
    if not times:
        times = [first if first > -EVER else (frames.first if frames else 0)]
    keys = {time: _read(main, edge, time, height) for time in times}
    part = _PART.fullmatch(name)
    return Shape(
        name=name,
        object=part[1] if part else name,
        keys=keys,
        first=first,
        last=last,
        subtract=subtract,
        hidden=hidden,
    )


def _points(cc: list[Tree]) -> list[tuple[Curve, Curve]]:
    """(x curve, y curve) of each control point; `{}` is 0, 0. `px` gives the frames first, then values without."""
    rows = next((item for item in _lists(cc) if item and item[0] in ("p", "px")), [])
    found: list[tuple[Curve, Curve]] = []
    for row in rows[2 if rows and rows[0] == "px" else 1 :]:
        parts = [] if isinstance(row, str) else [p for p in row if not (isinstance(p, list) and p and p[0] == "a")]
        still: Curve = [(None, 0.0, None, None)]
        if len(parts) >= 2:
            found.append((keys_of(parts[0]), keys_of(parts[1])))
        else:
            found.append((still, still))
    if rows and rows[0] == "px" and isinstance(rows[1], list) and len(rows[1]) > 1:
        raise ShapeError("the shape's keys are stored packed", "bake the animation, and save the Roto node again")
    return found


def _life(attributes: list[Tree]) -> tuple[int, int, tuple[tuple[int, int], ...], bool]:
    known = {str(a): b for a, b in zip(attributes[1::2], attributes[2::2], strict=False) if isinstance(a, str)}
    kind = value_of(known.get("ltt", "0"))
    begin, end = round(value_of(known.get("ltn", "0"))), round(value_of(known.get("ltm", "0")))
    first = begin if kind in (2, 3, 4) else -EVER
    last = end if kind in (1, 4) else begin if kind == 2 else EVER
    opacity = keys_of(known.get("opc", "1"))
    times = _times([opacity])
    away = [time for time in times if first <= time <= last and _at(opacity, time) < 0.5]
    if not times and opacity[0][1] < 0.5:
        away = [first]
    spans = []
    for time in away:
        later = [t for t in times if t > time]
        spans += list(range(time, min(later[0] if later else time + 1, time + _MOST_FRAMES)))
    subtract = "a" in known and value_of(known["a"]) == 0
    return first, last, tuple(FrameRange.of(spans).runs()), subtract


def _times(curves: list[Curve]) -> list[int]:
    """Frames to key: those of the keys, and every frame between where a curve doesn't run straight."""
    keyed = {key[0] for curve in curves for key in curve if key[0] is not None}
    if not keyed:
        return []
    low, high = round(min(keyed)), round(max(keyed))
    if high - low > _MOST_FRAMES:
        raise ShapeError(f"the keys span {high - low} frames", f"the most is {_MOST_FRAMES}")
    if any(not _straight(curve) for curve in curves) or any(time != round(time) for time in keyed):
        return list(range(low, high + 1))
    return sorted(round(time) for time in keyed)


def _straight(curve: Curve) -> bool:
    for (t0, v0, _, right), (t1, v1, left, _) in pairwise(curve):
        if t0 is None or t1 is None or t1 <= t0:
            continue
        slope = (v1 - v0) / (t1 - t0)
        room = 1e-3 * max(1.0, abs(slope))
        if right is None or left is None or abs(right - slope) > room or abs(left - slope) > room:
            return False
    return True


def _at(curve: Curve, time: float) -> float:
    """A curve's value: cubic Hermite between keys, as Nuke's slopes say; straight where a key has none."""
    if curve[0][0] is None or time <= curve[0][0]:
        return curve[0][1]
    for (t0, v0, _, right), (t1, v1, left, _) in pairwise(curve):
        assert t0 is not None
        if t1 is not None and t0 <= time <= t1 and t1 > t0:
            span = t1 - t0
            slope = (v1 - v0) / span
            a, b = (slope if right is None else right), (slope if left is None else left)
            u = (time - t0) / span
            bend = u * (1 - u) * ((1 - u) * (a - slope) - u * (b - slope)) * span
            return v0 + u * (v1 - v0) + bend
    return curve[-1][1]


def _read(
    main: list[tuple[Curve, Curve]], edge: list[tuple[Curve, Curve]], time: int, height: int
) -> tuple[Point, ...]:
    at = np.array([[_at(x, time), _at(y, time)] for x, y in main]).reshape(-1, 3, 2)
    out: Array = np.zeros((len(at), 2))
    if edge:
        out = np.array([[_at(x, time), _at(y, time)] for x, y in edge[1::3]])
    centre = at[:, 1] + out / 2
    return tuple(
        Point(
            float(c[0]), float(height - c[1]), float(p[0, 0]), float(-p[0, 1]), float(p[2, 0]), float(-p[2, 1]),
            float(np.hypot(*o)),
        )
        for c, p, o in zip(centre, at, out, strict=True)
    )  # fmt: skip
