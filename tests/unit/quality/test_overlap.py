from __future__ import annotations

import numpy as np
import pytest

from pipeline.quality.overlap import contour, contour_accuracy, region_similarity, score_mattes


def box(y0: int, x0: int, y1: int, x1: int, shape: tuple[int, int] = (100, 100)) -> np.ndarray:
    matte = np.zeros(shape, np.float32)
    matte[y0:y1, x0:x1] = 1
    return matte


def test_region_similarity_is_intersection_over_union() -> None:
    a = box(10, 10, 30, 30)
    assert region_similarity(a, a) == 1
    assert region_similarity(a, box(10, 20, 30, 40)) == pytest.approx(200 / 600)
    assert region_similarity(a, box(50, 50, 70, 70)) == 0
    assert region_similarity(a * 0, a * 0) == 1
    assert region_similarity(a * 0, a) == 0


def test_a_half_covered_pixel_is_outside() -> None:
    assert region_similarity(box(0, 0, 10, 10) * np.float32(0.5), np.zeros((100, 100))) == 1


def test_the_contour_is_the_last_pixel_before_each_change() -> None:
    edge = contour(box(10, 10, 20, 20))
    assert edge.sum() == 10 * 4 + 1 - 1 + 3 - 3, "two sides of the inside, two outside, corners once"
    assert edge[9, 15] and edge[19, 15] and edge[15, 9] and edge[15, 19]
    assert not edge[10, 15] and not edge[15, 15]
    assert not contour(np.ones((5, 5))).any()


def test_contour_accuracy_forgives_within_the_tolerance_and_not_beyond() -> None:
    a = box(20, 20, 60, 60)  # the diagonal is 141.4 pixels, so 0.8 % reach 2
    assert contour_accuracy(a, a) == 1
    assert contour_accuracy(box(20, 22, 60, 62), a) == 1
    shifted = contour_accuracy(box(20, 30, 60, 70), a)
    assert 0 < shifted < 0.8
    assert contour_accuracy(box(20, 30, 60, 70), a, tolerance=0.08) == 1


def test_contour_accuracy_is_the_harmonic_mean_of_precision_and_recall() -> None:
    """Two of the same boxes found where one is true: precision 1/2, recall 1."""
    one = box(10, 10, 30, 30)
    assert contour_accuracy(np.maximum(one, box(60, 60, 80, 80)), one) == pytest.approx(2 / 3)


def test_an_empty_matte_matches_only_an_empty_truth() -> None:
    empty, full = np.zeros((50, 50)), box(10, 10, 30, 30, (50, 50))
    assert contour_accuracy(empty, empty) == 1
    assert contour_accuracy(empty, full) == contour_accuracy(full, empty) == 0


def test_keys_are_not_scored_and_the_worst_frame_is_named() -> None:
    truth = {f: box(10, 10, 30, 30) for f in (1, 2, 3, 4)}
    pred = {1: truth[1] * 0, 2: box(10, 10, 30, 28), 3: truth[3], 4: box(10, 10, 30, 20)}
    score = score_mattes(pred, truth, [1])
    assert set(score.frames) == {2, 3, 4}
    assert score.worst == 4 and score.frames[4].j == 0.5
    assert score.j == pytest.approx((0.9 + 1 + 0.5) / 3)
    assert score.jf == pytest.approx((score.j + score.f) / 2)


def test_sizes_that_differ_and_nothing_to_score_are_errors() -> None:
    with pytest.raises(ValueError, match="against truth"):
        score_mattes({1: np.zeros((4, 4))}, {1: np.zeros((4, 5))}, [])
    with pytest.raises(ValueError, match="no frame"):
        score_mattes({1: np.zeros((4, 4))}, {1: np.zeros((4, 4))}, [1])
