"""Shapes as the text of a Nuke Roto node: paste it, or open it as a script.

Each shape lies in a layer of its own whose 4 × 4 matrix is keyed on every frame that the motion has: the entries 19 … 34 of the
layer's 35 curves, row by row, translation in the last column, as CornerPin2D's matrix is. Nuke's y runs up. A vertex is three
points: in-tangent, centre, out-tangent, tangents relative. The feather is a second curve of offsets from the first; the first
then lies at the inner end of the ramp. The first child of a layer is on top.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pipeline.shapes.nuke_text import curve, number
from pipeline.shapes.raster import Array, control_array, normals_out
from pipeline.shapes.values import Layer, Shape, ShapeSet, Transform

_LAYER_FLAGS, _SHAPE_FLAGS, _CURVE_FLAGS = 2097664, 512, 8192
_RANGE = 4
"""Lifetime: from `ltn` to `ltm`."""
_PLAIN = (0.0,) * 9 + (1.0, 1.0) + (0.0,) * 8
"""A transform's first 19 curves when nothing moves: in threes, translation from 3, scale from 9."""


def write(shapes: ShapeSet) -> str:
    """The file's text."""
    centre = f"{{t {number(shapes.width / 2)} {number(shapes.height / 2)}}}"
    children = "\n    ".join(_layer(shapes, shape, centre) for shape in reversed(shapes.shapes))
    rate = "" if shapes.rate is None else f" rate {shapes.rate}"
    title = _word("Roto_" + "_".join(shapes.objects)) or "Roto"
    return (
        f"# shapes for {shapes.width} x {shapes.height} frames {shapes.frames}{rate}\n"
        f"Roto {{\n inputs 0\n output alpha\n cliptype none\n curves {{{{{{v x3f99999a}}\n  {{f 0}}\n  {{n\n"
        f"   {{layer Root\n    {{f 2097152}}\n    {centre}\n    {{a}}\n    {children}}}}}}}}}\n name {title}\n}}\n"
    )


def _word(text: str) -> str:
    return re.sub(r"\W", "_", text)


def _layer(shapes: ShapeSet, shape: Shape, centre: str) -> str:
    layer = shapes.layer_of(shape)
    moves = f"{{t {_motion(layer, shapes.height)}}}" if layer.keys else centre
    name = _word(layer.name) or _word(shape.name) + "_layer"
    return f"{{layer {name}\n     {{f {_LAYER_FLAGS}}}\n     {moves}\n     {{a}}\n     {_shape(shapes, shape)}}}"


def _motion(layer: Layer, height: int) -> str:
    frames = sorted(layer.keys)
    rows = [_flipped(layer.keys[frame], height) for frame in frames]
    entries = [1.0 if i % 5 == 0 else 0.0 for i in range(16)]
    first = frames[0]
    parts = [f"{{{{{number(first)} {number(value)}}}}}" for value in _PLAIN]
    place = {0: 0, 1: 1, 3: 2, 4: 3, 5: 4, 7: 5}
    for entry in range(16):
        if entry in place:
            parts.append(curve(_thin([(frame, row[place[entry]]) for frame, row in zip(frames, rows, strict=True)])))
        else:
            parts.append(f"{{{{{number(first)} {number(entries[entry])}}}}}")
    return "\n      ".join(parts)


def _thin(keys: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """One key where all have one value."""
    return keys[:1] if len({number(value) for _, value in keys}) == 1 else keys


def _flipped(transform: Transform, height: int) -> tuple[float, ...]:
    """The same map where y runs up: F M F with F: y → height - y."""
    xx, xy, dx, yx, yy, dy = transform.as_tuple()
    return xx, -xy, xy * height + dx, -yx, yy, height - yy * height - dy


def _shape(shapes: ShapeSet, shape: Shape) -> str:
    frames = sorted(shape.keys)
    keyed = [_nuke_points(shape, frame, shapes.height) for frame in frames]
    body = "\n        ".join(_point(frames, [points[0][k] for points in keyed]) for k in range(3 * shape.count))
    soft = any(points[1].any() for points in keyed)
    edge = "\n        ".join(_point(frames, [points[1][k] for points in keyed]) for k in range(3 * shape.count))
    feather = f"{{cc\n       {{f {_CURVE_FLAGS}}}\n       {{p\n        {edge}}}}}" if soft else "idem"
    middle = keyed[0][0][1::3].mean(0)
    return (
        f"{{curvegroup {_word(shape.name)} {_SHAPE_FLAGS} bezier\n      {{{{cc\n       {{f {_CURVE_FLAGS}}}\n"
        f"       {{p\n        {body}}}}}     {feather}}}\n"
        f"      {{tx {number(frames[0])} {number(middle[0])} {number(middle[1])}}}\n      {{a {_attributes(shape)}}}}}"
    )


def _attributes(shape: Shape) -> str:
    colour = "r 0 g 0 b 0 a 0 " if shape.subtract else ""
    opacity = "1"
    if shape.hidden:
        steps: dict[int, float] = {shape.first: 1.0}
        for first, last in shape.hidden:
            steps.update({first - 1: 1.0, first: 0.0, last: 0.0, last + 1: 1.0})
        opacity = curve(sorted(steps.items()))
    return (
        f"{colour}osw x41200000 osf 0 str 1 sb 1 opc {opacity} ltt {number(_RANGE)} "
        f"ltn {number(shape.first)} ltm {number(shape.last)} tt x40800000"
    )


def _nuke_points(shape: Shape, frame: int, height: int) -> tuple[Array, Array]:
    """(3 · points, 2) of the curve and of the feather's offsets, y up."""
    control = control_array(shape.keys[frame])
    outward = normals_out(control) * control[:, 3, :1]
    up = np.array([1.0, -1.0])
    centre = (control[:, 0] - outward / 2) * up + (0, height)
    tangents = (control[:, 1:3] - control[:, :1]) * up
    main = np.stack([tangents[:, 0], centre, tangents[:, 1]], 1).reshape(-1, 2)
    still = np.zeros_like(centre)
    edge = np.stack([still, outward * up, still], 1).reshape(-1, 2)
    return main, edge


def _point(frames: Sequence[int], places: Sequence[Array]) -> str:
    axes = [
        _thin([(frame, float(place[axis])) for frame, place in zip(frames, places, strict=True)]) for axis in (0, 1)
    ]
    if all(len(axis) == 1 for axis in axes):
        return f"{{{number(axes[0][0][1])} {number(axes[1][0][1])}}}"
    return f"{{{curve(axes[0])}\n         {curve(axes[1])}}}"
