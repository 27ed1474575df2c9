"""Mattes to shapes on shots that are made here: close, simple, few keys, parts, holes, feathers, sizes."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.shapes.crossing import crosses
from pipeline.shapes.fit import MOST_POINTS, shapes_of
from pipeline.shapes.raster import outline_at, rasterise
from pipeline.shapes.values import ShapeError, ShapeReport, ShapeSet
from tests.unit.shapes.made import overlap, walker

Mattes = dict[int, NDArray[np.float32]]


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    one, two = a >= 0.5, b >= 0.5
    union = np.count_nonzero(one | two)
    return float(np.count_nonzero(one & two) / union) if union else 1.0


def holds(shapes: ShapeSet, report: ShapeReport, mattes: Mattes, bar: float) -> None:
    """What is true of every result: the bar on each frame, no crossing anywhere, few points, a report that says the same."""
    for frame, matte in mattes.items():
        found = iou(rasterise(shapes, frame), matte)
        assert found >= bar, f"frame {frame}: {found:.4f}"
        assert report.iou[frame] == pytest.approx(found, abs=0.01)
        for shape in shapes.shapes:
            if shape.drawn_at(frame):
                assert not crosses(outline_at(shapes, shape, frame), (16, 23, 64))
    assert max(s.points for s in report.shapes) <= MOST_POINTS
    assert report.crossing_frames == () and report.below_bar == ()
    assert [s.count for s in shapes.shapes] == [s.points for s in report.shapes]


def disc(x: float, y: float, r: float, *, hole: float = 0.0, soft: float = 0.0) -> NDArray[np.float32]:
    rows, columns = np.indices((120, 180)) + 0.5
    distance = np.hypot(columns - x, rows - y)
    width = max(soft, 1.0)
    matte = np.clip((r - distance) / width + 0.5, 0, 1)
    if hole:
        matte *= 1 - np.clip((hole - distance) / width + 0.5, 0, 1)
    return matte.astype(np.float32)


def walk(count: int, *, lines: int = 240, first: int = 1001) -> tuple[Mattes, Mattes]:
    made = {first + i: walker(i, lines=lines) for i in range(count)}
    return {f: m for f, (m, _) in made.items()}, {f: p for f, (_, p) in made.items()}


def test_a_walker_is_followed_with_few_keys() -> None:
    mattes, pictures = walk(8)
    shapes, report = shapes_of(mattes, name="hero", pictures=pictures)
    holds(shapes, report, mattes, 0.95)
    assert report.keyed <= 0.6
    for summary in report.shapes:
        assert summary.baked == (len(summary.keys) == 8)


def test_legs_and_head_become_shapes_of_their_own() -> None:
    mattes, pictures = walk(5)
    shapes, report = shapes_of(mattes, name="hero", pictures=pictures, few_keys=False)
    holds(shapes, report, mattes, 0.97)
    assert report.keyed == 1.0
    limbs = [s for s in shapes.shapes if "_part" in s.name]
    assert len(limbs) >= 2
    for limb in limbs:  # each reaches into what it was cut from: no seam
        assert all(limb.keys[f] for f in mattes)
    whole = rasterise(shapes, 1005)
    inside = cv2.erode(mattes[1005], np.ones((7, 7)))
    assert whole[inside > 0.99].min() > 0.98


def test_what_only_moves_needs_one_key_and_its_layer_carries_the_motion() -> None:
    mattes = {f: disc(50 + 6 * f, 60 + 2 * f, 30) for f in range(12)}
    shapes, report = shapes_of(mattes, name="ball")
    holds(shapes, report, mattes, 0.95)
    (shape,) = shapes.shapes
    assert len(shape.keys) <= 2
    layer = shapes.layer_of(shape)
    assert len(layer.keys) == 12
    assert layer.at(11).dx - layer.at(1).dx == pytest.approx(60, abs=6)


def test_the_bar_decides_how_many_keys() -> None:
    mattes = {f: disc(70 + f, 60, 30 + 8 * math.sin(f * 1.1)) for f in range(9)}
    for f in mattes:  # a bump that comes and goes: no layer carries it
        mattes[f] = np.maximum(mattes[f], disc(70 + f, 30 - 6 * math.sin(f * 0.9), 14))
    loose = shapes_of(mattes, name="hero", bar=0.9)[1]
    tight = shapes_of(mattes, name="hero", bar=0.98)[1]
    assert sum(len(s.keys) for s in loose.shapes) < sum(len(s.keys) for s in tight.shapes)
    assert not loose.below_bar


def test_a_hole_subtracts_and_one_that_flickers_is_closed() -> None:
    mattes = {f: disc(60 + f, 60, 40, hole=14.0 if f >= 2 else 4.0 if f == 1 else 0.0) for f in range(10)}
    shapes, report = shapes_of(mattes, name="ring")
    assert [s.subtract for s in shapes.shapes] == [False, True]
    assert (shapes.shapes[1].first, shapes.shapes[1].last) in ((1, 9), (2, 9))
    holds(shapes, report, mattes, 0.95)
    once = {f: disc(60 + f, 60, 40, hole=4.0 if f == 4 else 0.0) for f in range(9)}
    shapes, report = shapes_of(once, name="ring")
    assert [s.subtract for s in shapes.shapes] == [False]
    assert report.holes_closed == 1 and report.dropped[0].first == 4 and "flickers" in report.dropped[0].reason
    holds(shapes, report, once, 0.95)


def test_a_hole_that_is_gone_for_a_moment_stays_one_shape() -> None:
    mattes = {f: disc(60 + f, 60, 40, hole=0.0 if f in (4, 5) else 14.0) for f in range(10)}
    shapes, report = shapes_of(mattes, name="ring")
    holds(shapes, report, mattes, 0.95)
    (hole,) = [s for s in shapes.shapes if s.subtract]
    assert hole.hidden == ((4, 5),) and (hole.first, hole.last) == (0, 9)
    assert report.holes_joined == 1


def test_a_small_shape_behind_something_for_a_moment_comes_back_as_itself() -> None:
    mattes = {}
    for f in range(12):
        ball = disc(40 + 3 * f, 30, 9)
        mattes[f] = np.maximum(disc(90, 85, 28), 0 * ball if f in (5, 6) else ball)
    shapes, report = shapes_of(mattes, name="two")
    holds(shapes, report, mattes, 0.95)
    assert len(shapes.shapes) == 2
    small = min(report.shapes, key=lambda s: s.points)
    assert small.hidden_frames == 2


def test_a_soft_edge_becomes_a_feather_of_its_width() -> None:
    soft = {f: disc(60 + 2 * f, 60, 36, soft=12.0) for f in range(4)}
    shapes, report = shapes_of(soft, name="soft")
    assert report.shapes[0].feather_px == pytest.approx(12, abs=2.5)
    for frame, matte in soft.items():
        assert overlap(rasterise(shapes, frame), matte) > 0.97
    hard = shapes_of({f: disc(60 + 2 * f, 60, 36) for f in range(4)}, name="hard")[1]
    assert hard.shapes[0].feather_px == 0


def test_large_mattes_are_worked_on_small_and_given_back_large() -> None:
    mattes, pictures = walk(2, lines=2160)
    shapes, report = shapes_of(mattes, name="hero", pictures=pictures, few_keys=False)
    assert (shapes.width, shapes.height) == (3240, 2160)
    for frame, matte in mattes.items():
        assert iou(rasterise(shapes, frame), matte) > 0.975
    assert report.crossing_frames == ()


def test_nothing_crosses_a_cut_or_a_gap() -> None:
    mattes = {f: disc(50 + f, 60, 30) for f in range(6)} | {f: disc(120 - f, 50, 26) for f in range(20, 26)}
    shapes, report = shapes_of(mattes, name="a", cuts=(3,))
    holds(shapes, report, mattes, 0.95)
    assert sorted((s.first, s.last) for s in shapes.shapes) == [(0, 2), (3, 5), (20, 25)]


def test_the_same_mattes_give_the_same_shapes() -> None:
    mattes, pictures = walk(3)
    one, _ = shapes_of(mattes, name="hero", pictures=pictures)
    two, _ = shapes_of(mattes, name="hero", pictures=pictures)
    assert one == two


def test_empty_frames_have_no_shapes_and_no_mattes_are_an_error() -> None:
    nothing = np.zeros((40, 60), np.float32)
    shapes, report = shapes_of({1: nothing, 2: nothing}, name="none")
    assert shapes.shapes == () and report.iou == {1: 1.0, 2: 1.0}
    with pytest.raises(ShapeError, match="no mattes"):
        shapes_of({}, name="none")
    with pytest.raises(ShapeError, match=r"not \(40, 60\)"):
        shapes_of({1: nothing, 2: np.zeros((9, 9), np.float32)}, name="none")
    with pytest.raises(ShapeError, match="NaN"):
        shapes_of({1: np.full((40, 60), math.nan, np.float32)}, name="none")


def test_the_report_is_plain_json_and_names_what_falls_below() -> None:
    import json

    rng = np.random.default_rng(1)
    noise = {
        f: (cv2.GaussianBlur(rng.random((60, 90)).astype(np.float32), (0, 0), 2) > 0.52).astype(np.float32)
        for f in range(2)
    }
    shapes, report = shapes_of(noise, name="noise", bar=0.99)
    data = json.loads(json.dumps(report.as_json()))
    assert data["below_bar"] == list(report.below_bar) and report.below_bar
    assert data["iou"]["worst"] < 0.99 and data["crossing_frames"] == []
    assert len(data["shapes"]) == len(shapes.shapes)
    assert all(s["keys"] for s in data["shapes"])
