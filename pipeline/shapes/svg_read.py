"""Shapes out of SVG: paths of cubic, quadratic and straight segments, from our own files frame by frame, from others as one still.

What isn't filled with black adds, what is subtracts. Anything that would need a renderer is refused: entities, styles by class,
`use`, clipping, arcs, text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.nuke_read import EVER
from pipeline.shapes.raster import Array
from pipeline.shapes.values import Point, Points, Shape, ShapeError, ShapeSet

_MOST_DEPTH = 60
_MOST_ELEMENTS = 1_000_000
_TOKEN = re.compile(r"[MmLlHhVvCcSsQqTtZzAa]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?|[^\s,]")
_TRANSFORM = re.compile(r"\s*(matrix|translate|scale|rotate)\s*\(([^()]{1,400})\)\s*,?")
_BLACK = {"#000", "#000000", "black", "rgb(0,0,0)", "rgb(0, 0, 0)"}
_IGNORED = {"defs", "title", "desc", "metadata", "namedview", "rect", "animate", "set", "style", "sodipodi"}
Ctm = Array


def parse(text: str) -> ShapeSet:
    """The shapes of a document. Raises: ShapeError."""
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ShapeError("the SVG declares a document type or entities", "save it as plain SVG")
    root = _tree(text)
    width, height = _size(root)
    found: dict[str, dict[int | None, tuple[ElementTree.Element, Points]]] = {}
    for element, frame, matrix in _paths(root):
        for number, outline in enumerate(subpaths(element.get("d", ""))):
            points = _points(outline, matrix, element.get("data-feather"))
            title = element.get("data-name") or element.get("id") or f"path{len(found) + 1}"
            key = title if number == 0 else f"{title}_{number + 1}"
            if frame in found.get(key, {}):
                key = f"{key}_{len(found) + 1}"
            found.setdefault(key, {})[frame] = (element, points)
    if not found:
        raise ShapeError("the SVG holds no closed path", "draw one, or save text and strokes as paths")
    try:
        frames = FrameRange.parse(root.get("data-frames", ""))
        rate = FrameRate.of(root.get("data-rate", "")) if root.get("data-rate") else None
    except ValueError as error:
        raise ShapeError(f"the SVG's frames or rate can't be read: {error}", "export it again") from error
    return ShapeSet(
        width=width,
        height=height,
        frames=frames or FrameRange.of(f for keys in found.values() for f in keys if f is not None),
        rate=rate,
        shapes=tuple(_shape(name, keys) for name, keys in sorted(found.items(), key=lambda item: _order(item[1]))),
    )


def _order(keys: dict[int | None, tuple[ElementTree.Element, Points]]) -> int:
    """Where a shape lies in the stack; drawings by others are in order already."""
    text = next(iter(keys.values()))[0].get("data-order", "0")
    return int(text) if re.fullmatch(r"\d{1,6}", text) else 0


def _tree(text: str) -> ElementTree.Element:
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(["start", "end"])
    depth = count = 0
    root: ElementTree.Element | None = None
    try:
        for start in range(0, len(text), 65536):
            parser.feed(text[start : start + 65536])
            events: Iterator[Any] = parser.read_events()
            for event, element in events:
                if event == "end":
                    depth -= 1
                    continue
                depth, count = depth + 1, count + 1
                root = element if root is None else root
                if depth > _MOST_DEPTH or count > _MOST_ELEMENTS:
                    raise ShapeError("the SVG is nested too deep or holds too many elements", "save it flatter")
        parser.close()
    except ElementTree.ParseError as error:
        raise ShapeError(f"the SVG isn't well-formed XML: {error}", "save it again") from error
    if root is None or _tag(root) != "svg":
        raise ShapeError("the file is no SVG document", "its outermost element must be svg")
    return root


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _size(root: ElementTree.Element) -> tuple[int, int]:
    """The picture's size: the view box, which must start at 0, 0, else width and height in pixels."""
    box = (root.get("viewBox") or "").replace(",", " ").split()
    sides = box[2:] if len(box) == 4 else [(root.get(n) or "").removesuffix("px") for n in ("width", "height")]
    try:
        values = [float(v) for v in sides]
        origin = [float(v) for v in box[:2]] if len(box) == 4 else [0.0, 0.0]
    except ValueError:
        values, origin = [], []
    if len(values) != 2 or any(not 0.5 <= v <= 65536 for v in values) or any(v != 0 for v in origin):
        raise ShapeError("the SVG's size isn't a picture's", "give it a viewBox of '0 0 width height' in pixels")
    return round(values[0]), round(values[1])


def _paths(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, int | None, Ctm]]:
    stack: list[tuple[ElementTree.Element, int | None, Ctm]] = [(root, None, np.eye(3))]
    while stack:
        element, frame, matrix = stack.pop()
        tag = _tag(element)
        if element.get("transform"):
            matrix = matrix @ _transform(element.get("transform", ""))
        if (number := element.get("data-frame")) is not None:
            if not re.fullmatch(r"-?\d{1,9}", number):
                raise ShapeError(f"{number[:20]!r} is no frame number", "export the shapes again")
            frame = int(number)
        if tag == "path":
            yield element, frame, matrix
        elif tag in ("svg", "g", "a"):
            if element.get("clip-path") or element.get("mask"):
                raise ShapeError("the SVG clips or masks its shapes", "apply that in the editor, and save it again")
            stack += [(child, frame, matrix) for child in reversed(list(element))]
        elif tag not in _IGNORED:
            raise ShapeError(f"the SVG holds a {tag[:30]!r}", "convert everything to paths, and save it again")


def _transform(text: str) -> Ctm:
    whole, at = np.eye(3), 0
    while at < len(text.rstrip()):
        match = _TRANSFORM.match(text, at)
        if match is None:
            raise ShapeError(f"the transform {text[:60]!r} can't be read", "apply it in the editor, and save it again")
        at = match.end()
        try:
            v = [float(n) for n in match[2].replace(",", " ").split()]
        except ValueError:
            v = []
        one = _one_transform(match[1], v)
        if one is None or not np.isfinite(one).all():
            raise ShapeError(f"the transform {match[0][:60]!r} can't be read", "apply it in the editor")
        whole = whole @ one
    return whole


def _one_transform(kind: str, v: list[float]) -> Ctm | None:
    if kind == "matrix" and len(v) == 6:
        return np.array([[v[0], v[2], v[4]], [v[1], v[3], v[5]], [0, 0, 1]])
    if kind == "translate" and len(v) in (1, 2):
        return np.array([[1, 0, v[0]], [0, 1, v[1] if len(v) > 1 else 0], [0, 0, 1]])
    if kind == "scale" and len(v) in (1, 2):
        return np.diag([v[0], v[-1], 1.0])
    if kind == "rotate" and len(v) in (1, 3):
        c, s = math.cos(math.radians(v[0])), math.sin(math.radians(v[0]))
        x, y = v[1:] if len(v) == 3 else (0.0, 0.0)
        return np.array([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0, 0, 1]])
    return None


def subpaths(data: str) -> list[list[tuple[float, float]]]:
    """Each subpath of a path as cubics: start, then three points a segment. An open one is closed by a straight line.

    Raises: ShapeError (a command that isn't known, arcs, a number missing).
    """
    tokens = _TOKEN.findall(data)
    found: list[list[tuple[float, float]]] = []
    at = (0.0, 0.0)
    mirror: tuple[str, tuple[float, float]] = ("", (0.0, 0.0))
    command, i = "", 0
    while i < len(tokens):
        if tokens[i].isalpha():
            command = tokens[i]
            i += 1
            if command in "Zz":
                if found:
                    _close(found[-1])
                    at = found[-1][0]
                mirror = ("", at)
                continue
        need = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2}.get(command.upper(), 0)
        try:
            numbers = [float(token) for token in tokens[i : i + need]]
        except ValueError:
            numbers = []
        if need == 0 or len(numbers) < need or not all(map(math.isfinite, numbers)):
            raise ShapeError(
                f"the path can't be read at {' '.join(tokens[max(i - 1, 0) : i + 3])[:60]!r}", "use lines and curves"
            )
        i += need
        at, mirror = _segment(found, command, numbers, at, mirror)
        command = {"M": "L", "m": "l"}.get(command, command)
    for outline in found:
        _close(outline)
    return [outline for outline in found if len(outline) >= 7]


def _segment(
    found: list[list[tuple[float, float]]],
    command: str,
    v: list[float],
    at: tuple[float, float],
    mirror: tuple[str, tuple[float, float]],
) -> tuple[tuple[float, float], tuple[str, tuple[float, float]]]:
    x, y = at if command.islower() else (0.0, 0.0)
    kind = command.upper()
    if kind == "M":
        found.append([(x + v[0], y + v[1])])
        return found[-1][0], ("", found[-1][0])
    if not found:
        raise ShapeError("a path starts without a place", "it must begin with M")
    end = {"H": (x + v[0], at[1]), "V": (at[0], y + v[0])}.get(kind, (x + v[-1 if len(v) < 2 else -2], y + v[-1]))
    one, two, handle = at, end, ("", end)
    if kind == "C":
        one, two = (x + v[0], y + v[1]), (x + v[2], y + v[3])
        handle = ("C", two)
    elif kind == "S":
        one = (2 * at[0] - mirror[1][0], 2 * at[1] - mirror[1][1]) if mirror[0] == "C" else at
        two = (x + v[0], y + v[1])
        handle = ("C", two)
    elif kind in "QT":
        turn = (x + v[0], y + v[1]) if kind == "Q" else at
        if kind == "T" and mirror[0] == "Q":
            turn = (2 * at[0] - mirror[1][0], 2 * at[1] - mirror[1][1])
        one = (at[0] + 2 / 3 * (turn[0] - at[0]), at[1] + 2 / 3 * (turn[1] - at[1]))
        two = (end[0] + 2 / 3 * (turn[0] - end[0]), end[1] + 2 / 3 * (turn[1] - end[1]))
        handle = ("Q", turn)
    found[-1] += [one, two, end]
    return end, handle


def _close(outline: list[tuple[float, float]]) -> None:
    if outline[-1] != outline[0]:
        outline += [outline[-1], outline[0], outline[0]]


def _points(outline: list[tuple[float, float]], matrix: Ctm, feather: str | None) -> Points:
    flat = np.array(outline) @ matrix[:2, :2].T + matrix[:2, 2]
    vertex = flat[:-1:3]
    out = flat[1::3] - vertex
    into = np.roll(flat[2::3], 1, 0) - vertex
    widths = [0.0] * len(vertex)
    if feather:
        try:
            widths = [float(v) for v in feather.split()]
        except ValueError:
            widths = []
        if len(widths) != len(vertex):
            raise ShapeError("a path's feather isn't a number for each of its points", "export the shapes again")
    return tuple(Point(*(float(n) for n in (*vertex[k], *into[k], *out[k], widths[k]))) for k in range(len(vertex)))


def _shape(name: str, keys: dict[int | None, tuple[ElementTree.Element, Points]]) -> Shape:
    element = next(iter(keys.values()))[0]
    frames = sorted(frame for frame in keys if frame is not None)
    if frames and None in keys:
        raise ShapeError(f"the path {name[:60]!r} lies both inside and outside of a frame", "export the shapes again")
    fill = element.get("fill") or next(iter(re.findall(r"(?:^|;)\s*fill\s*:\s*([^;]+)", element.get("style", ""))), "")
    subtract = element.get("data-subtract") == "1" or (bool(frames) and fill.strip().lower() in _BLACK)
    points = {frame or 0: points for frame, (_, points) in keys.items()} if frames else {0: keys[None][1]}
    away = sorted(set(range(frames[0], frames[-1] + 1)) - set(frames)) if frames else []
    return Shape(
        name=name,
        object=element.get("data-object") or name,
        keys=points,
        first=frames[0] if frames else -EVER,
        last=frames[-1] if frames else EVER,
        subtract=subtract,
        hidden=tuple(FrameRange.of(away).runs()),
        baked=element.get("data-baked") == "1",
    )
