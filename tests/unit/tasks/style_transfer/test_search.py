from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.motion import grid
from pipeline.tasks.style_transfer.guides import Painted, plate_guide, pyramid
from pipeline.tasks.style_transfer.render import render
from pipeline.tasks.style_transfer.synthesis import Effort, Synthesis, synthesise

from .scene import HEIGHT, WIDTH, texture

Float = NDArray[np.float32]


def solve(
    key: Float, painting: Float, frame: Float, *, sure: float, seed: int = 1, effort: Effort | None = None
) -> Synthesis:
    guides = [plate_guide(level) for level in pyramid(frame)]
    confidence = np.full((HEIGHT, WIDTH), sure, np.float32)
    return synthesise(
        Painted.of(key, painting), guides, grid(HEIGHT, WIDTH), confidence, seed=seed, effort=effort or Effort(sweeps=3)
    )


def test_the_search_finds_where_each_pixel_was_painted_when_motion_says_nothing() -> None:
    key, painting = texture(3), texture(4)
    frame, truth = np.roll(key, 7, axis=1), np.roll(painting, 7, axis=1)
    found = solve(key, painting, frame, sure=0.0)
    made = render(painting, found, (HEIGHT, WIDTH))
    inner = np.s_[4:-4, 14:-4]
    assert np.abs(made - truth)[inner].mean() < 0.03
    assert np.abs(painting - truth)[inner].mean() > 0.15, "motion alone would have been wrong"
    right = np.abs(found.field - (grid(HEIGHT, WIDTH) - (7, 0))).max(-1) <= 1
    assert right[inner].mean() > 0.9


def test_where_motion_fits_its_own_places_stay_untouched() -> None:
    key, painting = texture(3), texture(4)
    found = solve(key, painting, key, sure=1.0)
    assert np.array_equal(found.field, grid(HEIGHT, WIDTH))
    assert not found.error.any() and not found.searched.any()
    assert np.array_equal(render(painting, found, (HEIGHT, WIDTH)), painting)


def test_without_search_the_strokes_are_taken_where_motion_leads() -> None:
    key, painting = texture(3), texture(4)
    found = solve(key, painting, np.roll(key, 7, axis=1), sure=0.0, effort=Effort(sweeps=0))
    assert np.array_equal(found.field, grid(HEIGHT, WIDTH))


def test_a_seed_gives_the_same_bits_and_another_seed_others() -> None:
    key, painting = texture(3), texture(4)
    frame = np.roll(texture(5), 3, axis=0)
    first, again, other = (solve(key, painting, frame, sure=0.0, seed=seed).field for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_what_was_uncovered_is_filled_from_anywhere_in_the_painting() -> None:
    # Left half green ground painted yellow, right half a red thing painted blue; on the frame the thing is gone.
    ground, thing = np.array((0.1, 0.6, 0.1), np.float32), np.array((0.8, 0.1, 0.1), np.float32)
    left = (np.arange(WIDTH) < WIDTH // 3)[None, :, None]
    grain = (texture(6) - 0.5) * 0.1
    key = np.asarray(np.where(left, ground, thing) + grain, np.float32)
    painting = np.where(left, np.float32([0.9, 0.9, 0.1]), np.float32([0.1, 0.1, 0.9])) + grain
    frame = np.asarray(ground + np.roll(grain, 5, axis=0), np.float32)
    made = render(np.asarray(painting, np.float32), solve(key, painting, frame, sure=0.2), (HEIGHT, WIDTH))
    assert np.abs(made[:, WIDTH // 2 :] - (0.9, 0.9, 0.1)).mean() < 0.1


@pytest.mark.parametrize("factor", [2, 3])
def test_strokes_keep_the_paintings_own_pixels_at_full_size(factor: int) -> None:
    painting = texture(8, HEIGHT * factor, WIDTH * factor, soft=0.7)
    field = grid(HEIGHT, WIDTH) + np.float32([2, 1])  # the working size, moved by whole pixels
    still = Synthesis(field, np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.bool_))
    made = render(painting, still, painting.shape[:2])
    moved = np.roll(painting, (-factor, -2 * factor), (0, 1))
    inner = np.s_[: -4 * factor, : -4 * factor]
    assert np.abs(made - moved)[inner].max() < 1e-5


def test_patches_that_disagree_vote_and_stay_within_what_was_painted() -> None:
    painting = texture(8)
    torn = grid(HEIGHT, WIDTH)
    torn[::2] = torn[::2, ::-1]
    found = Synthesis(torn, np.zeros((HEIGHT, WIDTH), np.float32), np.ones((HEIGHT, WIDTH), np.bool_))
    made = render(painting, found, (HEIGHT, WIDTH))
    assert painting.min() <= made.min() and made.max() <= painting.max()
    half = (painting + painting[:, ::-1]) / 2
    assert np.abs(made - half).mean() < 0.5 * np.abs(painting - half).mean()
