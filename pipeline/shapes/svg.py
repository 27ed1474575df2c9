"""Shapes as one SVG document: a group for every frame, a path for every shape drawn on it, white on black, so that it looks like the matte.

SMIL `<set>` elements play the groups back in a browser; `data-` attributes say what a matte needs beyond the drawing. The paths are
where the shapes are in the picture: an SVG group can't hold a motion that editors keep.
"""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

import numpy as np

from pipeline.shapes.raster import Array, outline_at
from pipeline.shapes.values import ShapeSet

_DIGITS = 4


def write(shapes: ShapeSet) -> str:
    """The file's text."""
    rate = float(shapes.rate) if shapes.rate is not None else 24.0
    frames = list(shapes.frames)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{shapes.width}" height="{shapes.height}" '
        f'viewBox="0 0 {shapes.width} {shapes.height}" data-platewright="shapes" data-version="1" '
        f"data-frames={quoteattr(str(shapes.frames))}"
        + ("" if shapes.rate is None else f" data-rate={quoteattr(str(shapes.rate))}")
        + ">"
    )
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', head, '<rect width="100%" height="100%" fill="#000"/>']
    for number, frame in enumerate(frames):
        drawn = [order for order, shape in enumerate(shapes.shapes) if shape.drawn_at(frame)]
        seen = "visible" if number == 0 else "hidden"
        parts.append(f'<g id="f{frame}" data-frame="{frame}" visibility="{seen}">')
        if len(frames) > 1:
            begin, whole = number / rate, len(frames) / rate
            parts.append(
                f'<animate attributeName="visibility" calcMode="discrete" dur="{whole:.6f}s" repeatCount="indefinite" '
                f'values="hidden;visible;hidden" keyTimes="0;{begin / whole:.6f};{(number + 1) / len(frames):.6f}"/>'
                if number
                else f'<animate attributeName="visibility" calcMode="discrete" dur="{whole:.6f}s" '
                f'repeatCount="indefinite" values="visible;hidden" keyTimes="0;{1 / len(frames):.6f}"/>'
            )
        parts += [_path(shapes, order, frame) for order in drawn]
        parts.append("</g>")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _path(shapes: ShapeSet, order: int, frame: int) -> str:
    shape = shapes.shapes[order]
    control = outline_at(shapes, shape, frame)
    extra = ""
    if control[:, 3, 0].any():
        extra = f' data-feather="{" ".join(_number(v) for v in control[:, 3, 0])}"'
    if frame in shape.keys:
        extra += ' data-key="1"'
    if shape.subtract:
        extra += ' data-subtract="1"'
    if shape.baked:
        extra += ' data-baked="1"'
    return (
        f'<path data-order="{order}" data-name={quoteattr(shape.name)} data-object={quoteattr(shape.object)} '
        f'fill="{"#000" if shape.subtract else "#fff"}"{extra} d="{path_data(control)}"/>'
    )


def path_data(control: Array) -> str:
    """`M … C … Z` of control points (points, ≥ 3, 2)."""
    following = np.roll(control, -1, 0)
    segments = np.stack([control[:, 2], following[:, 1], following[:, 0]], 1).reshape(len(control), 6)
    start = f"M{_number(control[0, 0, 0])} {_number(control[0, 0, 1])}"
    return start + "".join("C" + " ".join(_number(v) for v in row) for row in segments) + "Z"


def _number(value: float) -> str:
    text = f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
