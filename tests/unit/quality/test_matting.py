"""The matting measures: hand-made values, what each sees and what it doesn't."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.quality.matting import dtssd, mean_score, recomposite_error, score_matte

SIZE = 64


def disc(x: float = 32.0, radius: float = 18.0, soft: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(columns - x, rows - 32)
    return np.clip((radius - distance) / soft + 0.5, 0, 1).astype(np.float32)


def test_a_perfect_matte_scores_nothing() -> None:
    score = score_matte(disc(), disc())
    assert (score.sad, score.mse, score.grad, score.conn) == pytest.approx((0, 0, 0, 0), abs=1e-9)


def test_sad_and_mse_by_hand() -> None:
    truth = np.zeros((10, 20), np.float32)
    matte = truth.copy()
    matte[0, :10] = 0.5
    score = score_matte(matte, truth)
    assert score.sad == pytest.approx(10 * 0.5 / 1000)
    assert score.mse == pytest.approx(10 * 0.25 / 200 * 1000)


def test_grad_sees_a_blurred_edge_that_sad_hardly_does() -> None:
    truth = disc()
    lifted = np.clip(truth + 0.02, 0, 1)  # a film over everything: much SAD, no slope
    blurred = cv2.GaussianBlur(truth, (0, 0), 3)
    assert score_matte(lifted, truth).grad < 0.01 * score_matte(blurred, truth).grad
    assert score_matte(blurred, truth).grad > 1


def test_conn_sees_a_speck_and_not_a_soft_shift_of_the_body() -> None:
    truth = disc(radius=10)
    speck = truth.copy()
    speck[2:5, 2:5] = 1
    assert score_matte(speck, truth).conn == pytest.approx(9 / 1000)
    inside = truth.copy()
    inside[truth == 1] = 0.9  # as connected as before, within what is free
    assert score_matte(inside, truth).conn < 0.1 * score_matte(inside, truth).sad


def test_dtssd_is_of_change_not_of_error() -> None:
    truth = {f: disc(20 + 3 * f) for f in range(5)}
    wrong_alike = {f: m * np.float32(0.5) for f, m in truth.items()}
    trembling = {f: disc(20 + 3 * f + (-1) ** f) for f in range(5)}
    assert dtssd(truth, truth) == 0
    assert dtssd(trembling, truth) > dtssd(wrong_alike, truth) > 0
    by_hand = {0: np.zeros((4, 5), np.float32), 1: np.full((4, 5), 0.2, np.float32)}
    still = {f: np.zeros((4, 5), np.float32) for f in (0, 1)}
    assert dtssd(by_hand, still) == pytest.approx(20)
    assert dtssd({3: truth[3]}, truth) == 0 == dtssd({1: truth[1], 3: truth[3]}, truth)


def test_recomposite_judges_the_soft_edge_alone() -> None:
    truth = disc(soft=8)
    fore = np.full((3, SIZE, SIZE), 0.4, np.float32)
    spoiled = fore.copy()
    spoiled[:, truth == 0] = 9  # never seen
    ground = (0.01, 0.32, 0.01)
    assert recomposite_error(spoiled, truth, fore, truth, ground) == 0
    spoiled[1] += 0.2
    assert recomposite_error(spoiled, truth, fore, truth, ground) > 5
    assert recomposite_error(fore, np.clip(truth * 0.9, 0, 1), fore, truth, ground) > 1
    hard = (truth > 0.5).astype(np.float32)
    assert recomposite_error(spoiled, hard, fore, hard, ground) == 0


def test_the_mean_of_no_frame_is_refused() -> None:
    score = score_matte(disc(), disc(radius=17))
    assert mean_score([score, score]) == score
    with pytest.raises(ValueError, match="no frame"):
        mean_score([])
