"""Highlights that a painting can't hold, and the mood board's colours and brushwork."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.tasks.style_transfer.highlights import carry_highlights
from pipeline.tasks.style_transfer.mood import Board, Cloud, Palette

from .scene import HEIGHT, WIDTH, texture


def test_a_plate_painted_as_it_is_comes_back_with_its_highlights_and_negatives() -> None:
    plate = np.random.default_rng(0).normal(0.5, 1.5, (3, 20, 30)).astype(np.float32)
    plate[:, 3:6, 3:6] = 60
    held = np.clip(plate, 0, 1)
    back = carry_highlights(held, plate)
    assert np.allclose(back, plate, atol=1e-4) and back.max() > 59 and back.min() < 0
    assert np.allclose(carry_highlights(np.maximum(plate, 0), plate), plate, atol=1e-4), (
        "painted in full: not lit twice"
    )


def test_a_lamp_painted_dark_stays_a_dim_lamp() -> None:
    plate = np.full((3, 4, 4), 50, np.float32)
    bright, dim = (carry_highlights(np.full((3, 4, 4), v, np.float32), plate).max() for v in (1.0, 0.1))
    assert np.isclose(bright, 50, rtol=1e-3) and 3 < dim < 8


def test_within_the_range_nothing_is_added() -> None:
    plate = texture(1).transpose(2, 0, 1).copy()
    painted = texture(2).transpose(2, 0, 1).copy()
    assert carry_highlights(painted, plate) is painted


def test_the_palette_gives_the_plate_the_boards_colours_and_spread() -> None:
    plate = texture(1) * np.float32([0.3, 0.4, 0.6]) + np.float32([0.1, 0.2, 0.3])
    board = texture(2) * np.float32([0.5, 0.3, 0.1]) + np.float32([0.4, 0.2, 0.1])
    palette = Palette.between(Cloud.of([plate]), Cloud.of([board]))
    full = Cloud.of([palette.apply(plate, 1.0)])
    goal = Cloud.of([board])
    assert np.allclose(full.mean, goal.mean, atol=1.5)
    assert np.allclose(full.covariance, goal.covariance, atol=0.1 * np.abs(goal.covariance).max())
    half = Cloud.of([palette.apply(plate, 0.5)]).mean
    assert np.allclose(half, (Cloud.of([plate]).mean + goal.mean) / 2, atol=2)
    assert np.array_equal(palette.apply(plate, 0.0), plate)


def test_a_board_lays_on_its_brushwork_by_the_amount_asked_for() -> None:
    # A soft ramp for a plate, a board of hard stripes: the stripes must show.
    ramp = np.repeat(np.linspace(0.2, 0.8, WIDTH, dtype=np.float32)[None], HEIGHT, 0)
    plate = np.ascontiguousarray(np.repeat(ramp[..., None], 3, 2))
    stripes = np.clip(plate + 0.25 * np.sign(np.sin(np.arange(HEIGHT) * 1.5))[:, None, None], 0, 1).astype(np.float32)
    board = Board([stripes.transpose(2, 0, 1)], (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    palette = Palette.between(Cloud.of([plate]), Cloud.of([plate]))
    made = {t: board.paint(plate, plate, palette, amount=0.0, texture=t, seed=1) for t in (0.0, 0.5, 1.0)}
    detail = {t: float(np.abs(p - cv2.GaussianBlur(p, (0, 0), 3)).mean()) for t, p in made.items()}
    assert np.array_equal(made[0.0], plate)
    assert detail[1.0] > detail[0.5] > detail[0.0] + 0.02
    again = board.paint(plate, plate, palette, amount=0.0, texture=1.0, seed=1)
    assert again.tobytes() == made[1.0].tobytes()


def test_boards_of_several_sizes_and_larger_than_the_plate_serve() -> None:
    pictures = [texture(i, h, w).transpose(2, 0, 1).copy() for i, (h, w) in enumerate(((30, 200), (300, 40), (64, 96)))]
    board = Board(pictures, (HEIGHT, WIDTH), (HEIGHT, WIDTH))
    plate = texture(9)
    palette = Palette.between(Cloud.of([plate]), board.cloud)
    made = board.paint(plate, plate, palette, amount=1.0, texture=1.0, seed=1)
    assert made.shape == plate.shape and made.min() >= 0 and made.max() <= 1
