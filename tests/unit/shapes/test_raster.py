"""Drawing shapes: exact areas, order, feather, crossings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frames import FrameRange
from pipeline.shapes.crossing import THOROUGH, crosses, crossing_segments, uncross
from pipeline.shapes.raster import Array, control_array, flatten, polygon_coverage, rasterise, signed_area
from pipeline.shapes.values import Point, Shape, ShapeError, ShapeSet
from tests.unit.shapes.made import example, oval

star = st.lists(st.floats(8, 30), min_size=3, max_size=30)


def polygon(radii: list[float], x: float, y: float) -> Array:
    angle = np.arange(len(radii)) * math.tau / len(radii)
    return np.stack([x + radii * np.cos(angle), y + radii * np.sin(angle)], 1)


@given(star, st.floats(31, 60), st.floats(31, 40))
def test_the_pixels_of_a_simple_polygon_add_up_to_its_area(radii: list[float], x: float, y: float) -> None:
    outline = polygon(radii, x, y)
    area, left, top = polygon_coverage(outline, 120, 80)
    assert area.sum() == pytest.approx(abs(signed_area(outline)), abs=1e-6)
    assert left >= 0 and top >= 0 and area.min() >= 0 and area.max() <= 1


@given(star, st.floats(-40, 160), st.floats(-40, 120))
@settings(max_examples=60)
def test_a_polygon_that_leaves_the_picture_covers_what_is_inside(radii: list[float], x: float, y: float) -> None:
    outline = polygon(radii, x, y)
    part, left, top = polygon_coverage(outline, 120, 80)
    whole, _, _ = polygon_coverage(outline + 100, 400, 300)  # the same one, moved to where nothing is cut off
    box = np.zeros((300, 400))
    box_left, box_top = polygon_coverage(outline + 100, 400, 300)[1:]
    box[box_top : box_top + whole.shape[0], box_left : box_left + whole.shape[1]] = whole
    drawn = np.zeros((80, 120))
    drawn[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert np.allclose(drawn, box[100:180, 100:220], atol=1e-9)


def test_half_a_pixel_is_half_covered() -> None:
    area, left, top = polygon_coverage(np.array([[2.0, 3.0], [4.5, 3.0], [4.5, 5.25], [2.0, 5.25]]), 10, 10)
    assert (left, top) == (2, 3)
    assert area == pytest.approx(np.array([[1, 1, 0.5], [1, 1, 0.5], [0.25, 0.25, 0.125]]))


def test_what_subtracts_cuts_what_lies_below_alone() -> None:
    shapes = example()
    matte = rasterise(shapes, 1005)
    without = rasterise(
        ShapeSet(
            width=shapes.width,
            height=shapes.height,
            frames=shapes.frames,
            shapes=shapes.shapes[:1],
            layers=shapes.layers,
        ),
        1005,
    )
    hole = without - matte
    assert hole.max() == pytest.approx(1.0) and hole.min() >= -1e-6
    assert matte.dtype == np.float32 and matte.shape == (120, 200)
    assert rasterise(shapes, 1001).sum() > rasterise(shapes, 1002).sum()  # the hole begins on 1002


def test_a_hidden_shape_is_not_drawn_and_comes_back() -> None:
    shapes = example(hidden=((1004, 1006),))
    sums = [float(rasterise(shapes, frame).sum()) for frame in (1003, 1004, 1006, 1007)]
    assert sums[0] > 0 and sums[3] > 0 and sums[1] == sums[2] == 0


def test_a_feather_is_a_ramp_of_its_width_with_the_outline_in_the_middle() -> None:
    corners = ((550.0, -500.0), (550.0, 600.0), (50.0, 600.0), (50.0, 100.0), (50.0, 0.0), (50.0, -500.0))
    square = tuple(Point(x, y, feather_px=20.0) for x, y in corners)
    shapes = ShapeSet(
        width=200,
        height=100,
        frames=FrameRange.of([1]),
        shapes=(Shape(name="s", object="s", keys={1: square}, first=1, last=1),),
    )
    row = rasterise(shapes, 1)[50]
    assert row[:40].max() == 0 and row[60:].min() == pytest.approx(1)
    assert row[40:60] == pytest.approx((np.arange(40, 60) + 0.5 - 40) / 20, abs=0.03)


def test_a_smaller_size_draws_the_same_matte_smaller() -> None:
    shapes = example(feather_px=4.0)
    full = rasterise(shapes, 1005)
    half = rasterise(shapes, 1005, size=(60, 100))
    assert half == pytest.approx(full.reshape(60, 2, 100, 2).mean((1, 3)), abs=0.06)


def test_an_eight_crosses_itself_and_an_oval_does_not() -> None:
    eight = tuple(Point(x, y) for x, y in ((0.0, 0.0), (50.0, 60.0), (50.0, 0.0), (0.0, 50.0)))
    assert crosses(control_array(eight))
    assert [list(pair) for pair in crossing_segments(control_array(eight))] == [[0, 2]]
    assert not crosses(control_array(oval(50, 50, 30, 20)), THOROUGH)


def test_a_loop_inside_one_segment_is_a_crossing() -> None:
    looped = (Point(0, 0, 0, 0, 90, 60), Point(30, 0, -90, 60, 0, 0), Point(15, -40))
    assert [list(pair) for pair in crossing_segments(control_array(looped))] == [[0, 0]]
    assert not crosses(uncross(control_array(looped)), (*THOROUGH, 33))


@given(st.lists(st.tuples(*[st.floats(-60, 60)] * 6), min_size=3, max_size=24), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_whatever_crosses_can_be_made_simple(rows: list[tuple[float, ...]], seed: int) -> None:
    points = tuple(Point(*row) for row in rows)
    simple = uncross(control_array(points))
    assert simple.shape == (len(points), 4, 2) and np.isfinite(simple).all()
    assert not crosses(simple, THOROUGH)


def test_a_simple_outline_is_left_as_it_is() -> None:
    control = control_array(oval(50, 40, 30, 20))
    assert np.array_equal(uncross(control), control)


def test_edges_that_bend_little_are_still_tested_against_the_others() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(40):
        radius = 100 + 6 * rng.standard_normal(20)
        angle = (np.arange(20) + 0.3 * rng.standard_normal(20)) * math.tau / 20
        vertex = np.stack([150 + radius * np.cos(angle), 150 + radius * np.sin(angle)], 1)
        along = 9 * np.stack([-np.sin(angle), np.cos(angle)], 1)
        loose = 6 * rng.standard_normal((2, 20, 2))
        control = np.stack([vertex, vertex - along + loose[0], vertex + along + loose[1]], 1)
        line = flatten(control)
        start, end = line, np.roll(line, -1, 0)
        brute = _crossings(start, end)
        assert crosses(control) == brute
        found += brute
    assert 5 < found < 38


def _crossings(start: Array, end: Array) -> bool:
    """Every edge against every other, without any shortcut."""
    d = end - start

    def side(p: Array) -> Array:
        return d[:, None, 0] * (p[None, :, 1] - start[:, None, 1]) - d[:, None, 1] * (p[None, :, 0] - start[:, None, 0])

    a, b = side(start), side(end)
    apart = ((a > 1e-9) & (b < -1e-9)) | ((a < -1e-9) & (b > 1e-9))
    return bool((apart & apart.T).any())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"keys": {}}, "no keys"),
        ({"keys": {1: oval(0, 0, 1, 1), 2: oval(0, 0, 1, 1, count=5)}}, "5 to 6 points"),
        ({"keys": {1: (Point(0, 0), Point(math.nan, 0))}}, "nan"),
        ({"keys": {1: (Point(0, 0), Point(1e9, 0))}}, "1000000000"),
        ({"keys": {1: (Point(0, 0, feather_px=-1), Point(1, 0))}}, "negative feather"),
        ({"layer": "x"}, "isn't there"),
        ({"last": 0}, "before it starts"),
    ],
)
def test_shapes_that_contradict_themselves_are_refused(change: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"name": "s", "object": "s", "keys": {1: oval(9, 9, 5, 5)}, "first": 1, "last": 1}
    with pytest.raises(ShapeError, match=says):
        ShapeSet(width=20, height=20, frames=FrameRange.of([1]), shapes=(Shape(**(values | change)),))  # type: ignore[arg-type]
