"""Edge alignment: highest on the picture's own edge, falling as the matte moves off it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.quality.edges import edge_alignment

SIZE = 160


def disc(x: float = 80.0, radius: float = 40.0, soft: float = 2.0) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.clip((radius - np.hypot(columns - x, rows - 80)) / soft + 0.5, 0, 1).astype(np.float32)


def picture(noise: float = 0.0) -> np.ndarray:
    alpha = disc()
    planes = [alpha * fore + (1 - alpha) * back for fore, back in ((0.7, 0.2), (0.5, 0.3), (0.4, 0.45))]
    grain = np.random.default_rng(0).normal(0, noise, (3, SIZE, SIZE)) if noise else 0
    return np.asarray(np.stack(planes) + grain, np.float32)


def test_a_matte_on_the_edge_is_aligned_and_off_it_is_less_so() -> None:
    scores = [edge_alignment(disc(radius=40 + off), picture()) for off in (0, 2, 3, 4)]
    assert scores[0] > 0.95
    assert scores == sorted(scores, reverse=True)
    assert scores[3] < 0.5


@pytest.mark.parametrize("noise", [0.005, 0.01])
def test_grain_changes_little(noise: float) -> None:
    assert edge_alignment(disc(), picture(noise)) > 0.85


def test_colour_counts_where_brightness_is_the_same() -> None:
    alpha = disc()
    planes = np.stack([0.5 * alpha, 0.5 * (1 - alpha), np.full(alpha.shape, 0.3)]).astype(np.float32)
    assert edge_alignment(alpha, planes) > 0.95
    assert edge_alignment(disc(radius=44), planes) < 0.5


def test_what_cannot_be_judged_is_not_blamed() -> None:
    flat = np.full((3, SIZE, SIZE), 0.4, np.float32)
    assert edge_alignment(disc(), flat) == 1.0
    assert edge_alignment(np.zeros((SIZE, SIZE), np.float32), picture()) == 1.0
