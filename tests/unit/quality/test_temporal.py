"""Flicker is what goes out and comes back; motion, of any speed, is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.quality.temporal import Flicker, FlickerMeter

SIZE = 120


def disc(x: float, y: float = 60, radius: float = 20) -> np.ndarray:
    """A soft disc, its edge one pixel wide, as 8 bits."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(columns - x, rows - y)
    return (np.clip(radius - distance + 0.5, 0, 1) * 255 + 0.5).astype(np.uint8)


def measure(matte: Callable[[int], np.ndarray], count: int = 12) -> Flicker:
    meter = FlickerMeter()
    for frame in range(count):
        meter.add(frame, matte(frame))
    return meter.result()


def test_a_still_matte_has_none() -> None:
    assert measure(lambda f: disc(60)).score == 0


@pytest.mark.parametrize("speed", [0.3, 1.0, 4.0])
def test_steady_motion_has_next_to_none(speed: float) -> None:
    assert measure(lambda f: disc(30 + speed * f)).score < 0.06


def test_growing_and_shrinking_have_next_to_none() -> None:
    assert measure(lambda f: disc(60, radius=15 + 1.5 * f)).score < 0.06
    assert measure(lambda f: disc(60, radius=40 - 1.5 * f)).score < 0.06


@pytest.mark.parametrize("pixels", [0.25, 0.5, 1.0, 3.0])
def test_an_edge_that_jumps_out_and_back_is_measured_in_pixels(pixels: float) -> None:
    # Every frame jumps to the other side: the median leaves the whole jump behind.
    found = measure(lambda f: disc(60, radius=20 + pixels * (f % 2)))
    assert found.score == pytest.approx(pixels, rel=0.15)


def test_a_jumping_edge_is_measured_while_it_moves_slower_than_it_jumps() -> None:
    still = measure(lambda f: disc(50 + 0.4 * f)).score
    assert measure(lambda f: disc(50 + 0.4 * f, radius=20 + 2 * (f % 2))).score == pytest.approx(2.0, rel=0.2)
    assert still < 0.06


def test_a_hole_that_pops_up_for_one_frame_is_found_where_it_is() -> None:
    def matte(frame: int) -> np.ndarray:
        out = disc(60)
        if frame == 7:
            out[55:65, 55:65] = 0
        return out

    found = measure(matte)
    assert found.worst == 7
    # 100 pixels over the mean boundary of frames 6 to 8: 2π·20, and a square of 40 × π/4 on one of the three.
    assert found.per_frame[7] == pytest.approx(100 / (2 * np.pi * 20 + 40 * np.pi / 4 / 3), rel=0.05)
    assert found.per_frame[3] == 0


def test_one_bad_frame_in_a_long_shot_does_not_speak_for_it() -> None:
    found = measure(lambda f: disc(60, radius=20 + 5 * (f == 50)), count=100)
    assert found.score == 0
    assert found.worst in (49, 50, 51)
    assert max(found.per_frame.values()) > 3


def test_empty_frames_and_short_shots_have_none() -> None:
    assert measure(lambda f: np.zeros((8, 8), np.uint8)).score == 0
    assert measure(lambda f: disc(60), count=2) == Flicker({})
    assert Flicker({}).score == 0
    assert Flicker({}).worst is None


def test_a_matte_that_blinks_on_an_empty_shot_is_found() -> None:
    found = measure(lambda f: disc(60) if f % 2 else np.zeros((SIZE, SIZE), np.uint8))
    assert found.score > 5


def test_frames_beyond_a_gap_are_no_neighbours() -> None:
    meter = FlickerMeter()
    for frame, radius in ((1, 20), (2, 20), (10, 40), (11, 40), (12, 40)):
        meter.add(frame, disc(60, radius=radius))
    assert dict(meter.result().per_frame) == {11: 0.0}
