from __future__ import annotations

import cv2
import numpy as np

from pipeline.quality.warping import warping_error

rng = np.random.default_rng(4)
PICTURE = cv2.GaussianBlur(rng.random((40, 60, 3), dtype=np.float32), (0, 0), 2)


def constant(x: float, y: float) -> np.ndarray:
    return np.broadcast_to(np.array((x, y), np.float32), (40, 60, 2)).copy()


def test_what_moves_with_the_flow_has_no_error_and_what_boils_has() -> None:
    moved = np.roll(PICTURE, (0, 3), (0, 1))
    away, home = constant(-3, 0), constant(3, 0)
    still = warping_error(PICTURE, moved, away, home)
    noisy = warping_error(PICTURE, moved + rng.normal(0, 0.05, moved.shape).astype(np.float32), away, home)
    assert still < 0.02 < 0.035 < noisy < 0.06
    assert warping_error(PICTURE, moved, constant(0, 0), constant(0, 0)) > 2 * still


def test_only_what_can_be_followed_counts() -> None:
    away, home = constant(-3, 0), constant(3, 0)
    home[:, 20:] = 30  # the way back leads elsewhere
    changed = PICTURE.copy()
    changed[:, 30:50] += 1
    assert warping_error(PICTURE, np.roll(changed, (0, 3), (0, 1)), away, home) < 0.1
    assert warping_error(PICTURE, changed, away, np.full_like(home, 30)) == 0
