from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.quality.seams import GRAIN_MOST, LIGHT_MOST, SHIFT_MOST, Seam, space_seam, time_seam

Float = NDArray[np.float32]

HEIGHT, WIDTH, SIDE = 200, 320, 60
PLATE = (SIDE, 0, WIDTH - 2 * SIDE, HEIGHT)


def scene(shift: float = 0.0, *, grain: float = 0.01, seed: int = 1) -> Float:
    """Blobs and edges, moved right by `shift`, with grain of its own."""
    rng = np.random.default_rng(0)
    picture = np.full((HEIGHT, WIDTH + 80, 3), 0.5, np.float32)
    for size in (16, 5):
        noise = cv2.GaussianBlur(rng.standard_normal(picture.shape).astype(np.float32), (0, 0), size)
        picture += 0.09 * noise / noise.std()
    move = np.array([[1, 0, shift - 40], [0, 1, 0]], np.float32)
    shown = cv2.warpAffine(picture, move, (WIDTH, HEIGHT))
    return shown + grain * np.random.default_rng(seed).standard_normal(shown.shape).astype(np.float32)


def with_sides(sides: Float) -> Float:
    """The true middle between other sides."""
    out = sides.copy()
    out[:, SIDE:-SIDE] = scene()[:, SIDE:-SIDE]
    return out


def test_the_truth_has_no_seam() -> None:
    found = space_seam(with_sides(scene(seed=2)), PLATE)
    assert found.score < 0.5


def test_no_join_no_seam() -> None:
    assert space_seam(scene(), (0, 0, WIDTH, HEIGHT)) == Seam()


def test_a_step_in_light_is_found_and_only_that() -> None:
    found = space_seam(with_sides(scene(seed=2) + 0.1), PLATE)
    assert found.light == pytest.approx(0.1, abs=0.03)
    assert found.score > 1
    assert found.grain < GRAIN_MOST and found.shift < SHIFT_MOST


def test_sides_that_slipped_are_found() -> None:
    slipped = np.roll(scene(seed=2), 6, axis=0)
    found = space_seam(with_sides(slipped), PLATE)
    assert found.shift > SHIFT_MOST


@pytest.mark.parametrize("grain", [0.0, 0.04])
def test_grain_that_is_missing_or_too_strong_is_found(grain: float) -> None:
    found = space_seam(with_sides(scene(grain=grain, seed=2)), PLATE)
    assert found.grain > GRAIN_MOST
    assert found.light < LIGHT_MOST


def test_an_edge_of_the_plate_along_the_join_costs_nothing() -> None:
    """A dark bar that begins six pixels inside the plate is the plate's own step, not the join's."""
    picture = scene(seed=2)
    picture[:, : SIDE + 6] -= 0.2
    assert space_seam(picture, PLATE).light < LIGHT_MOST


def test_a_steady_pan_joins_in_time() -> None:
    originals = [scene(-4.0 * k, seed=k) for k in range(3)]
    found = time_seam(scene(4.0, seed=9), originals, steps=1, spans=[1, 1])
    assert found.score < 0.5


def test_a_frame_that_stops_is_found() -> None:
    originals = [scene(-6.0 * k, seed=k) for k in range(3)]
    found = time_seam(scene(0.0, seed=9), originals, steps=1, spans=[1, 1])
    assert found.shift > SHIFT_MOST


def test_a_shaky_shot_may_shake_at_the_join() -> None:
    originals = [scene(0.0, seed=1), scene(6.0, seed=2), scene(0.0, seed=3)]
    found = time_seam(scene(6.0, seed=9), originals, steps=1, spans=[1, 1])
    assert found.shift < SHIFT_MOST


def test_a_frame_of_other_light_or_without_grain_is_found() -> None:
    originals = [scene(-4.0 * k, seed=k) for k in range(3)]
    assert time_seam(scene(4.0, seed=9) + 0.1, originals, steps=1, spans=[1, 1]).light > LIGHT_MOST
    assert time_seam(scene(4.0, grain=0.0), originals, steps=1, spans=[1, 1]).grain > GRAIN_MOST


def test_the_score_is_the_worst_part_of_a_bound() -> None:
    assert Seam(light=LIGHT_MOST / 2, shift=SHIFT_MOST, grain=0.0).score == pytest.approx(1.0)
    assert Seam(0.1, 0.0, 0.2).worst(Seam(0.0, 1.0, 0.5)) == Seam(0.1, 1.0, 0.5)


def test_a_frame_in_a_gap_may_change_speed_as_the_plate_does_across_it() -> None:
    """The plate stands, and has moved by twelve pixels beyond the gap: half of that in the middle is no slip."""
    originals = [scene(0.0, seed=k) for k in range(3)]
    alone = time_seam(scene(6.0, seed=9), originals, steps=1, spans=[1, 1])
    inside = time_seam(scene(6.0, seed=9), originals, steps=1, spans=[1, 1], across=(scene(12.0, seed=7), 2))
    assert alone.shift > SHIFT_MOST
    assert inside.shift < SHIFT_MOST / 3
