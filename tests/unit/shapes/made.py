"""Shapes and mattes that the tests make for themselves."""

from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.frames import FrameRange
from pipeline.rate import FrameRate
from pipeline.shapes.values import Layer, Point, Points, Shape, ShapeSet, Transform

WIDTH, HEIGHT = 200, 120


def oval(
    x: float, y: float, a: float, b: float, *, count: int = 6, feather_px: float = 0.0, turn: float = 0.0
) -> Points:
    """A smooth closed outline about a centre."""
    reach = 4 / 3 * math.tan(math.tau / count / 4)
    points = []
    for k in range(count):
        angle = math.tau * k / count + turn
        c, s = math.cos(angle), math.sin(angle)
        points.append(
            Point(x + a * c, y + b * s, a * s * reach, -b * c * reach, -a * s * reach, b * c * reach, feather_px)
        )
    return tuple(points)


def example(*, feather_px: float = 0.0, hidden: tuple[tuple[int, int], ...] = ()) -> ShapeSet:
    """An object with a hole, on moving layers, keyed on a few frames, in 24000/1001."""
    body = {f: oval(70.37 + 3 * i, 60.21, 40 + i, 30, feather_px=feather_px) for i, f in enumerate((1001, 1004, 1010))}
    hole = {1002: oval(70.3, 60.4, 12, 9, count=5), 1009: oval(84.1, 62.3, 10, 11, count=5)}
    c, s = math.cos(0.1), math.sin(0.1)
    return ShapeSet(
        width=WIDTH,
        height=HEIGHT,
        frames=FrameRange.span(1001, 1010),
        rate=FrameRate(Fraction(24000, 1001)),
        layers=(
            Layer("hero_body1_motion", {f: Transform(c, -s, 0.5 * (f - 1001), s, c, 4.0) for f in range(1001, 1011)}),
            Layer("hero_hole1_motion"),
        ),
        shapes=(
            Shape(
                name="hero_body1",
                object="hero",
                keys=body,
                first=1001,
                last=1010,
                layer="hero_body1_motion",
                hidden=hidden,
            ),
            Shape(
                name="hero_hole1",
                object="hero",
                keys=hole,
                first=1002,
                last=1009,
                layer="hero_hole1_motion",
                subtract=True,
            ),
        ),
    )


@st.composite
def shape_sets(draw: st.DrawFn) -> ShapeSet:
    """Any few shapes that a person could have drawn: 3 to 7 points, 1 to 3 keys, moving layers, feathers, holes, gaps."""
    first = draw(st.integers(-20, 1200))
    count = draw(st.integers(1, 8))
    frames = list(range(first, first + count))
    place = st.floats(-30, 230, allow_nan=False, width=32)
    small = st.floats(-25, 25, allow_nan=False, width=32)
    layers, shapes = [], []
    for number in range(draw(st.integers(1, 3))):
        points = draw(st.integers(3, 7))
        soft = draw(st.booleans())
        keys = {}
        for frame in draw(st.lists(st.sampled_from(frames), min_size=1, max_size=3, unique=True)):
            turn = draw(st.floats(0, 6, allow_nan=False))
            base = oval(draw(place), draw(place) / 2, 40, 30, count=points, turn=turn)
            keys[frame] = tuple(
                Point(
                    p.x, p.y, p.in_x + draw(small), p.in_y, p.out_x, p.out_y + draw(small),
                    draw(st.floats(0.5, 9, allow_nan=False)) if soft else 0.0,
                )
                for p in base
            )  # fmt: skip
        name = f"a_part{number + 1}"
        moves = {}
        if draw(st.booleans()):
            for frame in frames:
                angle, size = draw(st.floats(-0.3, 0.3)), draw(st.floats(0.7, 1.4))
                c, s = size * math.cos(angle), size * math.sin(angle)
                moves[frame] = Transform(c, -s, draw(small), s, c, draw(small))
        layers.append(Layer(f"{name}_motion", moves))
        start = draw(st.sampled_from(frames))
        end = draw(st.sampled_from([f for f in frames if f >= start]))
        hidden = ((start + 1, start + 1),) if end - start >= 2 and draw(st.booleans()) else ()
        shapes.append(
            Shape(
                name=name,
                object="a",
                keys=keys,
                first=start,
                last=end,
                layer=f"{name}_motion",
                subtract=number > 0 and draw(st.booleans()),
                hidden=hidden,
            )
        )
    rate = draw(st.sampled_from([None, FrameRate.of(24), FrameRate.of(23.976)]))
    return ShapeSet(
        width=WIDTH,
        height=HEIGHT,
        frames=FrameRange.of(frames),
        rate=rate,
        shapes=tuple(shapes),
        layers=tuple(layers),
    )


def walker(index: int, *, lines: int = 240) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A trunk with two swinging legs and a head that moves across: (matte, grey picture), antialiased."""
    fine = 4 if lines <= 480 else 1
    scale = lines / 240 * fine
    canvas = np.zeros((lines * fine, lines * fine * 3 // 2), np.uint8)
    x = 110 + 3.0 * index
    swing = 0.25 * math.sin(index * 0.35)
    cv2.ellipse(canvas, _at(x, 95, scale), _at(55, 30, scale), 0, 0, 360, 255, -1, cv2.LINE_AA)
    for root, angle in ((x - 36, swing), (x + 36, -swing)):
        foot = (root + 95 * math.sin(angle), 105 + 95 * math.cos(angle))
        cv2.line(canvas, _at(root, 105, scale), _at(*foot, scale), 255, round(15 * scale), cv2.LINE_AA)
    cv2.circle(canvas, _at(x + 62, 62 + 4 * math.sin(index * 0.3), scale), round(24 * scale), 255, -1, cv2.LINE_AA)
    matte = cv2.resize(canvas, None, fx=1 / fine, fy=1 / fine, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    rows, columns = np.indices(matte.shape, np.float32)
    texture = 0.5 + 0.25 * np.sin((columns - 3.0 * index * lines / 240) / 5) * np.sin(rows / 6)
    ground = 0.3 + 0.1 * np.sin(columns / 9)
    return matte, (matte * texture + (1 - matte) * ground).astype(np.float32)


def _at(x: float, y: float, scale: float) -> tuple[int, int]:
    return round(x * scale), round(y * scale)


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of two mattes, soft: sum of the lesser over sum of the greater."""
    union = float(np.maximum(a, b).sum())
    return float(np.minimum(a, b).sum()) / union if union > 0 else 1.0
